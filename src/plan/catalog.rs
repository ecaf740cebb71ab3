use super::architecture::Architecture;
use super::exclusion::{Exclusion, exclusion};
use super::groups::{self, Groups};
use super::kind::{Kind, kind_of};
use super::ties;
use crate::checkpoint::{Checkpoint, CheckpointError, Dtype};
use indexmap::IndexMap;
use serde::Serialize;
use std::collections::BTreeSet;

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

/// The element type of that safetensors name, among those that can be factored.
pub(crate) fn floating_dtype(name: &str) -> Option<Dtype> {
    [Dtype::F64, Dtype::F32, Dtype::F16, Dtype::BF16]
        .into_iter()
        .find(|&dtype| crate::checkpoint::dtype_name(dtype) == name)
}
