//! Which tensors are not factored, or not unless they are targeted, and why.

use super::architecture::Architecture;
use super::catalog::CatalogEntry;
use super::kind::Kind;
use indexmap::IndexMap;
use serde::Serialize;
use std::collections::BTreeSet;
use std::ops::Bound;

/// Why a tensor is not factored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Exclusion {
    /// Not a weight that has factors: a bias, a buffer, a normalization.
    NotAWeight,
    /// A weight in a quantized format.
    Quantized,
    /// The kernel of a transposed convolution.
    TransposedConvolution,
    /// A weight of more axes than those of layers that have factors, such as that of many experts.
    ManyAxes,
    /// A lookup table; factored when targeted.
    Embedding,
    /// The layer that gives the model's output; factored when targeted.
    OutputHead,
    /// One weight with several uses; factored for all of them when targeted.
    Tied,
    /// The convolution that sees the input; factored when targeted.
    FirstConvolution,
    /// A kernel with one input channel for each group.
    Depthwise,
    /// A kernel whose input channels contradict the network around it.
    UnknownGroups {
        /// The kernel's input channels.
        channels: usize,
        /// What the layers before it give.
        expected: usize,
    },
    /// A parameter that no runtime runs factored; factored when targeted and the result is collapsed.
    OnlyCollapsed,
    /// The layer holds further parameters, so it is not an ordinary layer.
    MoreParameters {
        /// One of them.
        other: String,
    },
    /// The names that the factors would get are taken.
    NamesTaken {
        /// One of them.
        other: String,
    },
    /// A tensor without elements.
    Empty,
}

impl Exclusion {
    /// Whether the tensor is a weight that a user would look for among the layers.
    pub(super) fn is_told(&self) -> bool {
        matches!(self, Self::Quantized | Self::TransposedConvolution | Self::ManyAxes)
    }

    /// Whether naming the layer as a target lifts the exclusion.
    #[must_use]
    pub fn yields_to_targets(&self) -> bool {
        matches!(
            self,
            Self::Embedding | Self::OutputHead | Self::Tied | Self::FirstConvolution | Self::OnlyCollapsed
        )
    }
}

impl std::fmt::Display for Exclusion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotAWeight => f.write_str("not a weight"),
            Self::Quantized => f.write_str("quantized: its elements are no plain numbers"),
            Self::TransposedConvolution => f.write_str("transposed convolution"),
            Self::ManyAxes => f.write_str("more axes than a linear layer or a convolution has"),
            Self::Embedding => f.write_str("embedding, not targeted"),
            Self::OutputHead => f.write_str("output head, not targeted"),
            Self::Tied => f.write_str("tied, not targeted"),
            Self::FirstConvolution => f.write_str("first convolution, not targeted"),
            Self::Depthwise => f.write_str("depthwise convolution"),
            Self::UnknownGroups { channels, expected } => write!(
                f,
                "{channels} input channels where the network shows {expected}: groups unknown, a recipe can say"
            ),
            Self::OnlyCollapsed => {
                f.write_str("no runtime runs it factored; target it with --save collapsed")
            }
            Self::MoreParameters { other } => write!(f, "the layer also holds `{other}`"),
            Self::NamesTaken { other } => write!(f, "`{other}` is taken"),
            Self::Empty => f.write_str("no elements"),
        }
    }
}

/// Why an entry is excluded, if it is. `names` are those of all entries, in the order of their bytes.
pub(super) fn exclusion(
    entry: &CatalogEntry,
    entries: &IndexMap<String, CatalogEntry>,
    names: &BTreeSet<&str>,
    architecture: &Architecture,
) -> Option<Exclusion> {
    if !entry.is_candidate() {
        let is_weight = entry.name.ends_with(".weight") || !entry.shape.contains(&1);
        return Some(match entry.kind {
            Kind::Quantized if entry.shape.len() > 1 => Exclusion::Quantized,
            Kind::ConvTranspose => Exclusion::TransposedConvolution,
            Kind::Parameter if entry.shape.len() > 2 && is_weight => Exclusion::ManyAxes,
            _ => Exclusion::NotAWeight,
        });
    }
    if entry.elements() == 0 {
        return Some(Exclusion::Empty);
    }
    if !entry.kind.forms_chain() {
        return Some(Exclusion::OnlyCollapsed);
    }
    // Packed attention multiplies by its output projection's weight itself, without calling the layer.
    let packed = entry
        .layer
        .rsplit_once('.')
        .map_or("in_proj_weight".to_owned(), |(parent, _)| format!("{parent}.in_proj_weight"));
    if entry.layer.ends_with("out_proj") && entries.contains_key(&packed) {
        return Some(Exclusion::OnlyCollapsed);
    }
    let inside = format!("{}.", entry.layer);
    let from = names.range::<str, _>((Bound::Included(inside.as_str()), Bound::Unbounded));
    for &other in from.take_while(|name| name.starts_with(&inside)).filter(|name| **name != entry.name) {
        let rest = &other[inside.len()..];
        let first = rest.split('.').next().unwrap_or_default();
        if first.parse::<usize>().is_ok() {
            return Some(Exclusion::NamesTaken { other: other.to_owned() });
        }
        if !rest.contains('.') && rest != "bias" {
            return Some(Exclusion::MoreParameters { other: other.to_owned() });
        }
    }
    if entry.kind == Kind::Embedding && entries.contains_key(&format!("{}.bias", entry.layer)) {
        return Some(Exclusion::MoreParameters { other: format!("{}.bias", entry.layer) });
    }
    if !entry.tied_with.is_empty() {
        return Some(Exclusion::Tied);
    }
    if entry.kind == Kind::Embedding {
        let is_vocabulary = architecture.vocabulary == entry.shape.first().copied();
        return Some(if architecture.tied_embeddings && is_vocabulary {
            Exclusion::Tied
        } else {
            Exclusion::Embedding
        });
    }
    is_output_head(entry, entries, architecture).then_some(Exclusion::OutputHead)
}

/// Whether a linear layer, or a `1 x 1` convolution, gives the model's output.
fn is_output_head(
    entry: &CatalogEntry,
    entries: &IndexMap<String, CatalogEntry>,
    architecture: &Architecture,
) -> bool {
    let outputs = match entry.kind {
        Kind::TransposedLinear => entry.shape[1],
        _ => entry.shape[0],
    };
    let mut segments: Vec<&str> = entry.layer.split('.').collect();
    let mut last = segments.pop().unwrap_or_default();
    // The last of a numbered sequence named like a head is one: `classifier.6`.
    if let (Ok(number), Some(&parent)) = (last.parse::<usize>(), segments.last()) {
        let prefix = format!("{}.", segments.join("."));
        let later = entries.values().any(|other| {
            other.kind == entry.kind
                && other.layer.strip_prefix(&prefix).and_then(|rest| rest.parse::<usize>().ok())
                    > Some(number)
        });
        if later {
            return false;
        }
        last = parent;
        segments.pop();
    }
    let inside_a_stack = segments.iter().any(|segment| segment.parse::<usize>().is_ok());
    if inside_a_stack {
        return false;
    }
    let named = matches!(
        last,
        "lm_head"
            | "embed_out"
            | "classifier"
            | "score"
            | "head"
            | "heads"
            | "logits"
            | "logit"
            | "qa_outputs"
            | "output_projection"
            | "out_proj_head"
            | "seq_relationship"
            | "cls_head"
            | "classification_head"
            | "vocab_proj"
            | "vocab_projector"
            | "generator"
            | "final_conv"
            | "final_layer"
            | "predictor"
    ) || (matches!(last, "decoder") && segments.last() == Some(&"predictions"))
        || (segments.iter().any(|segment| matches!(*segment, "head" | "classification_head" | "classifier")))
            && matches!(last, "fc" | "l" | "out_proj" | "decoder" | "fc2");
    // A lone linear layer at the root of a network of convolutions or blocks: `fc`, `linear`, `output`.
    let root =
        segments.is_empty() && matches!(last, "fc" | "linear" | "output" | "out" | "dense" | "last_linear");
    let as_many = |count: Option<usize>| count.is_some_and(|count| count > 1 && count == outputs);
    named || root || (entry.kind == Kind::Linear && as_many(architecture.vocabulary)) || {
        let labels = architecture.labels.filter(|_| segments.is_empty());
        entry.kind == Kind::Linear && as_many(labels)
    }
}
