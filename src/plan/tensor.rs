use super::catalog::CatalogEntry;
use super::error::Reason;
use super::floating_dtype;
use super::kind::Kind;
use super::recipe::{OutputDtype, Recipe, Save};
use crate::checkpoint::{Dtype, OutputTensor, dtype_from_name, dtype_name};
use crate::decompose::{Format, Ranks};
use serde::Serialize;
use std::collections::BTreeMap;

/// What happens to one tensor.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct TensorPlan {
    /// The input tensor.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its element type.
    pub dtype: &'static str,
    /// What is done with it.
    pub action: TensorAction,
    /// For weights that stay dense: a word that says why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// The same as a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// What is written for it.
    #[serde(serialize_with = "names")]
    pub outputs: Vec<OutputTensor>,
}

fn names<S: serde::Serializer>(outputs: &[OutputTensor], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(outputs.iter().map(|output| &output.name))
}

/// What is done with a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TensorAction {
    /// Its bytes are written under its name.
    Copied,
    /// Its bytes are written under another name: the bias of a factored layer.
    Renamed,
    /// Its elements are written in another type.
    Converted,
    /// Factors are written in its place.
    Factored,
    /// Its best approximation of some rank is written in its place.
    Collapsed,
}

/// The element type that a parameter of type `own` is written in.
pub(super) fn written_dtype(own: Dtype, asked: OutputDtype) -> Dtype {
    match asked {
        OutputDtype::Keep => own,
        OutputDtype::F32 => Dtype::F32,
        OutputDtype::F16 => Dtype::F16,
        OutputDtype::Bf16 => Dtype::BF16,
    }
}

/// Decides about one tensor, given the layers that are factored and why the others are not.
pub(super) fn tensor_plan(
    entry: &CatalogEntry,
    factored: &BTreeMap<String, (Ranks, Format)>,
    dense: &BTreeMap<String, Reason>,
    moved: &BTreeMap<String, String>,
    recipe: &Recipe,
) -> TensorPlan {
    let reason = dense.get(&entry.name);
    let own = floating_dtype(entry.dtype);
    let converted = own.filter(|_| entry.kind.is_parameter() && entry.kind != Kind::Quantized);
    let written = converted.map(|own| written_dtype(own, recipe.dtype));
    let plan = |action, outputs| TensorPlan {
        name: entry.name.clone(),
        kind: entry.kind,
        shape: entry.shape.clone(),
        dtype: entry.dtype,
        action,
        reason: reason.map(Reason::code),
        detail: reason.map(ToString::to_string),
        outputs,
    };
    let output = |name: &str, shape: &[usize]| OutputTensor {
        name: name.to_owned(),
        dtype: written.or(own).unwrap_or_else(|| dtype_from_name(entry.dtype).unwrap_or(Dtype::U8)),
        shape: shape.to_vec(),
    };
    if let Some((ranks, format)) = factored.get(&entry.name) {
        return match recipe.save {
            Save::Collapsed => plan(TensorAction::Collapsed, vec![output(&entry.name, &entry.shape)]),
            Save::Factored => {
                let shapes = format.factor_shapes(ranks);
                let names = format.factor_names(&entry.layer);
                let outputs = names.iter().zip(&shapes).map(|(name, shape)| output(name, shape)).collect();
                plan(TensorAction::Factored, outputs)
            }
        };
    }
    let changes_dtype = written.is_some_and(|written| dtype_name(written) != entry.dtype);
    let (name, renamed) = match moved.get(&entry.name) {
        Some(name) => (name.as_str(), true),
        None => (entry.name.as_str(), false),
    };
    let action = match (changes_dtype, renamed) {
        (true, _) => TensorAction::Converted,
        (false, true) => TensorAction::Renamed,
        (false, false) => TensorAction::Copied,
    };
    plan(action, vec![output(name, &entry.shape)])
}
