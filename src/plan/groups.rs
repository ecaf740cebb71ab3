use super::architecture::Architecture;
use super::catalog::CatalogEntry;
use super::kind::Kind;
use indexmap::IndexMap;

/// What is known of a convolution's place in its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Groups {
    Known(usize),
    First,
    Depthwise,
    Unknown { channels: usize, expected: usize },
}

/// The groups of every convolution, as far as config.json or the network around it tell.
///
/// A kernel stores `in / groups` input channels. Where config.json doesn't say the groups, the layer
/// before it in the same block, and every layer's outputs, show how many channels could reach it.
pub(super) fn of_convolutions(
    entries: &IndexMap<String, CatalogEntry>,
    architecture: &Architecture,
) -> Vec<(String, Groups)> {
    let kernels: Vec<&CatalogEntry> = entries
        .values()
        .filter(|entry| matches!(entry.kind, Kind::Conv1d | Kind::Conv2d) && entry.elements() > 0)
        .collect();
    let first = first_convolution(&kernels, entries);
    kernels
        .iter()
        .map(|entry| {
            let groups = if Some(entry.name.as_str()) == first {
                Groups::First
            } else if let Some(groups) = architecture.groups(&entry.layer, &entry.shape) {
                if groups > 1 && entry.shape[1] == 1 { Groups::Depthwise } else { Groups::Known(groups) }
            } else if entry.shape[1] == 1 {
                Groups::Depthwise
            } else {
                from_neighbours(entry, &kernels, entries)
            };
            (entry.name.clone(), groups)
        })
        .collect()
}

/// The convolution that sees the input: few channels that no other layer gives, or the first by name.
fn first_convolution<'a>(
    kernels: &[&'a CatalogEntry],
    entries: &IndexMap<String, CatalogEntry>,
) -> Option<&'a str> {
    let depthwise = |entry: &CatalogEntry| {
        entry.shape[1] == 1
            && kernels.iter().any(|other| other.name != entry.name && other.shape[0] == entry.shape[0])
    };
    // Three channels are colours.
    let grouped = |entry: &CatalogEntry| {
        entry.shape[1] != 3 && matches!(from_neighbours(entry, kernels, entries), Groups::Unknown { .. })
    };
    let sees_input = |entry: &&&'a CatalogEntry| entry.shape[1] <= 4 && !depthwise(entry) && !grouped(entry);
    let first = kernels.iter().find(sees_input).or_else(|| kernels.first())?;
    Some(&first.name)
}

fn from_neighbours(
    entry: &CatalogEntry,
    kernels: &[&CatalogEntry],
    entries: &IndexMap<String, CatalogEntry>,
) -> Groups {
    let (out, channels) = (entry.shape[0], entry.shape[1]);
    let grouped = |expected: usize| {
        expected > channels && expected.is_multiple_of(channels) && out.is_multiple_of(expected / channels)
    };
    let before = kernels.iter().rev().find(|other| comes_before(&other.layer, &entry.layer));
    match before {
        Some(before) if before.shape[0] == channels => return Groups::Known(1),
        Some(before) if grouped(before.shape[0]) => {
            return Groups::Unknown { channels, expected: before.shape[0] };
        }
        _ => {}
    }
    // A grouped convolution mostly keeps the number of channels: where no layer gives as many as the kernel
    // stores, but one gives as many as it puts out, what is stored is one group's part of those.
    let gives = |channels: usize| {
        entries.values().any(|other| {
            let given =
                if other.kind == Kind::TransposedLinear { other.shape.get(1) } else { other.shape.first() };
            other.name != entry.name && other.is_candidate() && given == Some(&channels)
        })
    };
    if grouped(out) && gives(out) && !gives(channels) {
        return Groups::Unknown { channels, expected: out };
    }
    Groups::Known(1)
}

/// A layer's block, and its own name.
fn parted(layer: &str) -> (&str, &str) {
    layer.rsplit_once('.').unwrap_or(("", layer))
}

/// Whether a layer comes before another one of the same block: `b1.conv1` before `b1.conv2`, and where each has a block of its own
/// `b1.conv1.conv` before `b1.conv2.conv`.
fn comes_before(other: &str, own: &str) -> bool {
    let ((other_block, other_last), (block, last)) = (parted(other), parted(own));
    if other_block == block {
        return follows(other_last, last);
    }
    let ((other_outer, other_inner), (outer, inner)) = (parted(other_block), parted(block));
    other_last == last && other_outer == outer && inner.starts_with("conv") && follows(other_inner, inner)
}

/// A name without the number at its end, and that number.
fn numbered(name: &str) -> Option<(&str, usize)> {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    name[stem.len()..].parse().ok().map(|number| (stem, number))
}

/// Whether `own` is the next of a numbered row after `other`: `conv2` after `conv1`, `3` after `0`.
fn follows(other: &str, own: &str) -> bool {
    match (numbered(other), numbered(own)) {
        (Some((one, before)), Some((two, after))) => one == two && before < after,
        _ => false,
    }
}
