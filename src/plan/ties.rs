use super::catalog::CatalogEntry;
use crate::checkpoint::{Checkpoint, CheckpointError};
use indexmap::IndexMap;

/// Bytes compared first, so that different weights of equal shape are told apart without reading them whole.
const SAMPLE: usize = 4096;

/// Groups of weights that are equal byte for byte, each group in natural order.
///
/// A constant tensor, such as a freshly initialized one, is not tied to others like it.
pub(super) fn find(
    checkpoint: &Checkpoint,
    entries: &IndexMap<String, CatalogEntry>,
) -> Result<Vec<Vec<String>>, CheckpointError> {
    let mut alike: IndexMap<_, Vec<&str>> = IndexMap::new();
    let mut shapes: IndexMap<(&[usize], &str), Vec<&str>> = IndexMap::new();
    for entry in entries.values().filter(|entry| entry.is_candidate() && entry.elements() > 0) {
        shapes.entry((&entry.shape, entry.dtype)).or_default().push(&entry.name);
    }
    for ((shape, dtype), names) in shapes {
        if names.len() < 2 {
            continue;
        }
        for name in names {
            let sample = sample(checkpoint, name)?;
            if !is_constant(&sample) {
                alike.entry((shape, dtype, sample)).or_default().push(name);
            }
        }
    }
    let mut groups: Vec<Vec<String>> = Vec::new();
    for names in alike.into_values().filter(|names| names.len() > 1) {
        let mut rest = names;
        while let Some((&first, others)) = rest.split_first() {
            let mut group = vec![first.to_owned()];
            let mut unequal = Vec::new();
            for &other in others {
                if equal(checkpoint, first, other)? {
                    group.push(other.to_owned());
                } else {
                    unequal.push(other);
                }
            }
            if group.len() > 1 {
                groups.push(group);
            }
            rest = unequal;
        }
    }
    Ok(groups)
}

fn sample(checkpoint: &Checkpoint, name: &str) -> Result<Vec<u8>, CheckpointError> {
    let Some(tensor) = checkpoint.get(name) else { return Ok(Vec::new()) };
    let bytes = checkpoint.bytes(tensor)?;
    let middle = bytes.len() / 2;
    let mut sample = bytes[..bytes.len().min(SAMPLE)].to_vec();
    sample.extend_from_slice(&bytes[middle..bytes.len().min(middle + SAMPLE)]);
    Ok(sample)
}

fn is_constant(bytes: &[u8]) -> bool {
    bytes.chunks(8).all(|chunk| chunk == &bytes[..chunk.len()])
}

fn equal(checkpoint: &Checkpoint, one: &str, other: &str) -> Result<bool, CheckpointError> {
    match (checkpoint.get(one), checkpoint.get(other)) {
        (Some(one), Some(other)) => Ok(*checkpoint.bytes(one)? == *checkpoint.bytes(other)?),
        _ => Ok(false),
    }
}
