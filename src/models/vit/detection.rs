//! What a checkpoint's names and shapes tell of a transformer for pictures.

use super::config::VitConfig;
use crate::layers::State;
use crate::models::{Architecture, ArchitectureError, Family};

/// The width of a head in published networks.
const HEAD: usize = 64;
/// Where the tensors are, with and without a head.
const PREFIXES: [&str; 2] = ["vit.", ""];

/// The dense shape of a layer's weight.
type Shapes<'a> = &'a dyn Fn(&str) -> Option<Vec<usize>>;

/// Classes and channels.
pub(in crate::models) fn ends(shape: Shapes<'_>) -> Option<(usize, usize)> {
    let patches = PREFIXES.iter().find_map(|prefix| shape(&patches(prefix)))?;
    Some((shape("classifier")?.first().copied()?, patches.get(1).copied()?))
}

fn patches(prefix: &str) -> String {
    format!("{prefix}embeddings.patch_embeddings.projection")
}

/// The architecture where the names are such a network's. Heads are not seen in tensors, and taken to be as wide as in
/// published networks where the width allows it.
pub(in crate::models) fn detect(
    state: &State,
    shape: Shapes<'_>,
    count: &dyn Fn(&dyn Fn(usize) -> String) -> usize,
) -> Option<Result<Architecture, ArchitectureError>> {
    let undetected = |reason: &str| Some(Err(ArchitectureError::Undetected { reason: reason.to_owned() }));
    let prefix = PREFIXES.iter().find(|prefix| shape(&patches(prefix)).is_some())?;
    let Some((classes, channels)) = ends(shape) else {
        return undetected("there is no `classifier` at the end");
    };
    let kernel = shape(&patches(prefix))?;
    let positions = state.tensors.get(&format!("{prefix}embeddings.position_embeddings"));
    let (&[width, _, patch, _], Some(&[_, tokens, _])) =
        (kernel.as_slice(), positions.map(crate::layers::Stored::shape))
    else {
        return undetected("its patches and positions are not those of a transformer for pictures");
    };
    if width == 0 || !width.is_multiple_of(HEAD) {
        return undetected(
            "a transformer's tensors do not show its heads, which config.json beside them does",
        );
    }
    let layer = |index: usize, name: &str| format!("{prefix}encoder.layer.{index}.{name}");
    let layers = count(&|index| layer(index, "intermediate.dense"));
    let inner = shape(&layer(0, "intermediate.dense")).and_then(|shape| shape.first().copied()).unwrap_or(0);
    let side = tokens.saturating_sub(1).isqrt() * patch;
    // A factored layer's bias is that of its second factor.
    let has =
        |name: &str| state.tensors.contains_key(&layer(0, &format!("attention.attention.query.{name}")));
    let biases = has("bias") || has("1.bias") || has("2.bias");
    let config = VitConfig { biases, ..VitConfig::new([width, layers, width / HEAD, inner, patch, side]) };
    match config.to_string().parse::<Architecture>() {
        Ok(known) if known.family == Family::Vit(config) => {
            Some(Ok(known.with_classes(classes).with_channels(channels)))
        }
        _ => undetected("its layers are not those of a transformer for pictures"),
    }
}
