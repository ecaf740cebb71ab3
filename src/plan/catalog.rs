use super::architecture::Architecture;
use super::groups::{self, Groups};
use super::kind::{Kind, kind_of};
use super::ties;
use crate::checkpoint::{Checkpoint, CheckpointError, Dtype};
use indexmap::IndexMap;
use serde::Serialize;
use std::collections::BTreeSet;
use std::ops::Bound;

/// What every tensor of a checkpoint is, in natural order of names.
///
/// It is told from names, shapes and config.json, without a model class; only tensors that look tied are
/// read, to compare their bytes.
#[derive(Clone, Debug)]
pub struct Catalog {
    entries: IndexMap<String, CatalogEntry>,
    model_type: Option<String>,
}

/// One tensor of a [`Catalog`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CatalogEntry {
    /// The tensor's name.
    pub name: String,
    /// The layer that it belongs to: the name without `.weight`, or the whole name of other parameters.
    pub layer: String,
    /// What it is.
    pub kind: Kind,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its element type, as safetensors writes it.
    pub dtype: &'static str,
    /// Its size in the file.
    pub size_bytes: u64,
    /// The other tensors that hold the same weight.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tied_with: Vec<String>,
    /// Why it is left dense unless it is targeted, or at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclusion: Option<Exclusion>,
    /// The groups of a convolution, where something says so; 1 otherwise.
    #[serde(skip_serializing_if = "is_one")]
    pub groups: usize,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_one(groups: &usize) -> bool {
    *groups == 1
}

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

impl Catalog {
    /// Catalogs a checkpoint.
    ///
    /// # Errors
    ///
    /// - [`CheckpointError`] when a tensor that looks tied cannot be read.
    pub fn new(checkpoint: &Checkpoint) -> Result<Self, CheckpointError> {
        let architecture = Architecture::from_config(checkpoint.config());
        let mut entries: IndexMap<String, CatalogEntry> = checkpoint
            .tensors()
            .iter()
            .map(|tensor| {
                let kind = kind_of(&tensor.name, &tensor.shape, tensor.dtype);
                let layer = tensor.name.strip_suffix(".weight").unwrap_or(&tensor.name).to_owned();
                let entry = CatalogEntry {
                    name: tensor.name.clone(),
                    layer,
                    kind,
                    shape: tensor.shape.clone(),
                    dtype: crate::checkpoint::dtype_name(tensor.dtype),
                    size_bytes: tensor.len,
                    tied_with: Vec::new(),
                    exclusion: None,
                    groups: 1,
                };
                (tensor.name.clone(), entry)
            })
            .collect();
        mark_transposed(&mut entries, &architecture);
        mark_transposed_convolutions(&mut entries);
        for group in ties::find(checkpoint, &entries)? {
            for name in &group {
                if let Some(entry) = entries.get_mut(name) {
                    entry.tied_with = group.iter().filter(|other| *other != name).cloned().collect();
                }
            }
        }
        // In the order of their bytes what lies inside of a layer comes after it.
        let names: BTreeSet<&str> = entries.keys().map(String::as_str).collect();
        let exclusions: Vec<_> =
            entries.values().map(|entry| exclusion(entry, &entries, &names, &architecture)).collect();
        for (entry, exclusion) in entries.values_mut().zip(exclusions) {
            entry.exclusion = exclusion;
        }
        let convolutions = groups::of_convolutions(&entries, &architecture);
        for (name, groups) in convolutions {
            let Some(entry) = entries.get_mut(&name) else { continue };
            match groups {
                Groups::Known(groups) => entry.groups = groups,
                Groups::First => entry.exclusion = Some(Exclusion::FirstConvolution),
                Groups::Depthwise => entry.exclusion = Some(Exclusion::Depthwise),
                Groups::Unknown { channels, expected } => {
                    entry.exclusion = Some(Exclusion::UnknownGroups { channels, expected });
                }
            }
        }
        Ok(Self { entries, model_type: architecture.model_type })
    }

    /// The tensors, in natural order of names.
    #[must_use]
    pub fn entries(&self) -> impl ExactSizeIterator<Item = &CatalogEntry> {
        self.entries.values()
    }

    /// The tensor of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&CatalogEntry> {
        self.entries.get(name)
    }

    /// Says the groups of a convolution, which lifts what was excluded for not knowing them.
    pub(super) fn set_groups(&mut self, name: &str, groups: usize) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        entry.groups = groups;
        let unknown = matches!(entry.exclusion, Some(Exclusion::UnknownGroups { .. } | Exclusion::Depthwise));
        if unknown {
            let depthwise = groups > 1 && entry.shape.get(1) == Some(&1);
            entry.exclusion = depthwise.then_some(Exclusion::Depthwise);
        }
    }

    /// What config.json calls the architecture, if it does.
    #[must_use]
    pub fn model_type(&self) -> Option<&str> {
        self.model_type.as_deref()
    }

    /// Number of elements that are trained parameters.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        self.entries().filter(|entry| entry.kind.is_parameter()).map(CatalogEntry::elements).sum()
    }
}

impl CatalogEntry {
    /// Number of elements.
    #[must_use]
    pub fn elements(&self) -> u64 {
        self.shape.iter().map(|&axis| axis as u64).product()
    }

    /// Whether the tensor is a weight that factors could stand for, in some layout.
    #[must_use]
    pub fn is_candidate(&self) -> bool {
        self.kind.layout().is_some()
            && matches!(self.dtype, "F64" | "F32" | "F16" | "BF16")
            && (self.kind.forms_chain() || self.shape.len() == 2)
    }
}

/// GPT-2's `Conv1D` layers: told by `model_type`, or by a bias as long as the weight's second axis.
fn mark_transposed(entries: &mut IndexMap<String, CatalogEntry>, architecture: &Architecture) {
    let last = |layer: &str| layer.rsplit('.').next().unwrap_or_default().to_owned();
    let named = |layer: &str| matches!(last(layer).as_str(), "c_attn" | "c_proj" | "c_fc" | "q_attn");
    let shown_by_bias = |entry: &CatalogEntry| match (
        entry.shape.as_slice(),
        entries.get(&format!("{}.bias", entry.layer)),
    ) {
        (&[rows, cols], Some(bias)) => rows != cols && bias.shape == [cols],
        _ => false,
    };
    let told = architecture.transposed_linear
        || (architecture.model_type.is_none()
            && entries.values().any(|e| e.kind == Kind::Linear && named(&e.layer) && shown_by_bias(e)));
    let transposed: Vec<String> = entries
        .values()
        .filter(|entry| entry.kind == Kind::Linear && ((told && named(&entry.layer)) || shown_by_bias(entry)))
        .map(|entry| entry.name.clone())
        .collect();
    for name in transposed {
        if let Some(entry) = entries.get_mut(&name) {
            entry.kind = Kind::TransposedLinear;
        }
    }
}

/// A bias as long as a kernel's second axis, and not as its first, shows a transposed convolution.
fn mark_transposed_convolutions(entries: &mut IndexMap<String, CatalogEntry>) {
    let shown: Vec<String> = entries
        .values()
        .filter(|entry| matches!(entry.kind, Kind::Conv1d | Kind::Conv2d))
        .filter(|entry| {
            entries
                .get(&format!("{}.bias", entry.layer))
                .is_some_and(|bias| bias.shape != [entry.shape[0]] && bias.shape == [entry.shape[1]])
        })
        .map(|entry| entry.name.clone())
        .collect();
    for name in shown {
        if let Some(entry) = entries.get_mut(&name) {
            entry.kind = Kind::ConvTranspose;
        }
    }
}

fn exclusion(
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

/// The element type of that safetensors name, among those that can be factored.
pub(crate) fn floating_dtype(name: &str) -> Option<Dtype> {
    [Dtype::F64, Dtype::F32, Dtype::F16, Dtype::BF16]
        .into_iter()
        .find(|&dtype| crate::checkpoint::dtype_name(dtype) == name)
}
