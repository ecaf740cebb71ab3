use super::checks::CheckResult;
use crate::decompose::{Certainty, Ranks};
use crate::linalg::{Spectrum, SvdPath};
use crate::plan::{Alternative, Plan, Save, TensorPlan, Totals};
use serde::Serialize;

/// The version of the JSON reports' schema, `docs/report.schema.json`.
pub const SCHEMA_VERSION: u32 = 1;

/// What a compression did, or with a dry run would do.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct CompressReport {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Name and version of the program.
    pub tool: String,
    /// `compress`.
    pub command: &'static str,
    /// The input as it was named.
    pub input: String,
    /// The output, none for a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// Sums.
    pub totals: Summary,
    /// The factored layers, in natural order.
    pub layers: Vec<LayerReport>,
    /// The weights left dense, in natural order.
    pub dense: Vec<LeftDense>,
    /// What happened to every tensor of the input.
    pub tensors: Vec<TensorPlan>,
    /// The checks that were asked for.
    pub checks: Vec<CheckResult>,
    /// Files of the input that are not in the output: pickled duplicates of the weights.
    pub files_left_out: Vec<String>,
    /// Files that were copied beside the weights: the next output may replace them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// The recipe, which repeats the run.
    pub recipe: serde_json::Value,
}

/// The sums of a [`CompressReport`].
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Summary {
    /// Parameters, bytes and multiply-adds, before and after.
    #[serde(flatten)]
    pub totals: Totals,
    /// All parameters after / before.
    pub keep: f64,
    /// The factored layers' parameters after / before.
    pub layer_keep: f64,
    /// The largest relative error and its layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worst_error: Option<WorstError>,
    /// The largest degeneracy of components and its layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worst_degeneracy: Option<WorstDegeneracy>,
    /// The mean of the layers' relative errors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_error: Option<f64>,
    /// How that relates to the factors' own, in a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_certainty: Option<Certainty>,
    /// Bytes of working memory that were planned for at most.
    pub peak_memory_bytes: u64,
    /// How long it took to run the model over calibration data, or to read what was known of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration_secs: Option<f64>,
    /// How long it took in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elapsed_secs: Option<f64>,
}

/// The layer with the largest error.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WorstError {
    /// Its name.
    pub layer: String,
    /// `|W - A B| / |W|`.
    pub relative_error: f64,
    /// How that relates to the factors' own, in a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certainty: Option<Certainty>,
}

/// The layer whose components cancel each other most.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WorstDegeneracy {
    /// Its name.
    pub layer: String,
    /// The components' squared norms, summed, over the weight's.
    pub degeneracy: f64,
}

/// One factored layer.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct LayerReport {
    /// The layer's name.
    pub layer: String,
    /// What its weight is.
    pub kind: &'static str,
    /// The dense weight's shape.
    pub shape: Vec<usize>,
    /// The dense weight's element type.
    pub dtype: &'static str,
    /// How it was factored.
    pub scheme: &'static str,
    /// Groups of a convolution.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<usize>,
    /// The factors' rank; where each mode has its own, the largest.
    pub rank: usize,
    /// The rank of each mode, where each has its own.
    #[serde(skip_serializing_if = "Ranks::is_one")]
    pub ranks: Ranks,
    /// The largest possible rank.
    pub max_rank: usize,
    /// The largest rank at which the factors are smaller than the weight.
    pub break_even_rank: usize,
    /// Parameters of the dense weight.
    pub parameters_before: u64,
    /// Parameters of what stands in its place.
    pub parameters_after: u64,
    /// Multiply-adds of the dense layer for one token or output position.
    pub multiply_adds_before: u64,
    /// The same of the factored layer.
    pub multiply_adds_after: u64,
    /// `|W - A B| / |W|` of what was written; in a dry run what the spectrum promises, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relative_error: Option<f64>,
    /// How that relates to the factors' own, in a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certainty: Option<Certainty>,
    /// The same of what the layer does with calibration data, in the metric of the method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_error: Option<f64>,
    /// How the decomposition of matrices was computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub svd: Option<SvdPath>,
    /// The components' squared norms, summed, over the weight's: far above 1 they cancel each other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub degeneracy: Option<f64>,
    /// What other formats would be at no more parameters, or multiply-adds, than the layer was given, the best first, where
    /// formats were compared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alternatives: Vec<Alternative>,
    /// Other layers with the same weight.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tied_with: Vec<String>,
    /// Bytes that factoring it holds at most, as planned.
    pub memory_bytes: u64,
    /// How long it took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elapsed_secs: Option<f64>,
    /// All singular values, where they were computed; for the page.
    #[serde(skip)]
    pub spectrum: Option<Spectrum>,
}

impl LayerReport {
    /// Whether it is a tensor, of which the spectrum of a matrix says little.
    pub(super) fn is_tensor(&self) -> bool {
        crate::decompose::Scheme::from_name(self.scheme).is_some_and(crate::decompose::Scheme::is_tensor)
    }

    /// The formats that come after the one chosen, with the errors to expect.
    pub(super) fn next_best(&self) -> Option<String> {
        let named = |other: &Alternative| {
            format!(
                "{} {}",
                other.scheme,
                super::units::foreseen(other.relative_error, Some(other.certainty))
            )
        };
        let named: Vec<String> = self.alternatives.iter().take(2).map(named).collect();
        (!named.is_empty()).then(|| named.join(", "))
    }
}

/// A weight that has factors and stays dense.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct LeftDense {
    /// The layer.
    pub layer: String,
    /// What its weight is.
    pub kind: &'static str,
    /// The weight's shape.
    pub shape: Vec<usize>,
    /// Its parameters.
    pub parameters: u64,
    /// A word that says why.
    pub reason: &'static str,
    /// The same as a sentence.
    pub detail: String,
}

/// What carrying a plan out measured on one layer.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) relative_error: f64,
    pub(crate) output_error: Option<f64>,
    pub(crate) svd: Option<SvdPath>,
    pub(crate) degeneracy: Option<f64>,
    pub(crate) elapsed_secs: f64,
    pub(crate) spectrum: Option<Spectrum>,
}

impl CompressReport {
    /// The report of a plan, with what was measured where it was carried out.
    pub(crate) fn new(
        input: String,
        plan: &Plan,
        outcomes: Option<&[Outcome]>,
        recipe: serde_json::Value,
    ) -> Self {
        let mut layers = Vec::new();
        for (index, layer) in plan.layers.iter().enumerate() {
            let outcome = outcomes.and_then(|outcomes| outcomes.get(index));
            let uses: Vec<_> = std::iter::once((&layer.layer, &layer.format))
                .chain(layer.tied.iter().map(|(_, name, format)| (name, format)))
                .collect();
            for (name, format) in &uses {
                let after = match plan.recipe.save {
                    Save::Factored => format.factored_parameters(&layer.ranks) as u64,
                    Save::Collapsed => format.parameters() as u64,
                };
                let spectrum = outcome.and_then(|o| o.spectrum.clone()).or_else(|| layer.spectrum.clone());
                let foreseen = layer.foreseen.filter(|_| outcome.is_none());
                let expected = foreseen.map(|foreseen| foreseen.error_squared.sqrt());
                let (foreseen_error, foreseen_output) =
                    if layer.metric.is_some() { (None, expected) } else { (expected, None) };
                layers.push(LayerReport {
                    layer: (*name).clone(),
                    kind: layer.kind.name(),
                    shape: format.shape().to_vec(),
                    dtype: crate::checkpoint::dtype_name(layer.dtypes.0),
                    scheme: format.scheme().name(),
                    groups: (format.groups() > 1).then(|| format.groups()),
                    rank: layer.ranks.largest(),
                    ranks: layer.ranks,
                    max_rank: format.max_ranks().largest(),
                    break_even_rank: format.break_even_rank(),
                    parameters_before: format.parameters() as u64,
                    parameters_after: after,
                    multiply_adds_before: format.multiply_adds() as u64,
                    multiply_adds_after: match plan.recipe.save {
                        Save::Factored => layer.multiply_adds_after(format),
                        Save::Collapsed => format.multiply_adds() as u64,
                    },
                    relative_error: outcome.map(|outcome| outcome.relative_error).or(foreseen_error),
                    certainty: foreseen.filter(|_| layer.metric.is_none()).map(|foreseen| foreseen.certainty),
                    output_error: outcome.and_then(|outcome| outcome.output_error).or(foreseen_output),
                    svd: outcome.and_then(|outcome| outcome.svd),
                    degeneracy: outcome.and_then(|outcome| outcome.degeneracy),
                    alternatives: layer.alternatives.clone(),
                    tied_with: uses
                        .iter()
                        .filter(|(o, _)| o != name)
                        .map(|(other, _)| (*other).clone())
                        .collect(),
                    memory_bytes: layer.memory_bytes,
                    elapsed_secs: outcome.map(|outcome| outcome.elapsed_secs),
                    spectrum,
                });
            }
        }
        Self {
            schema_version: SCHEMA_VERSION,
            tool: crate::TOOL.to_owned(),
            command: "compress",
            input,
            output: None,
            dry_run: outcomes.is_none(),
            totals: summary(plan, &layers),
            layers,
            dense: left_dense(plan),
            tensors: plan.tensors.clone(),
            checks: Vec::new(),
            files_left_out: Vec::new(),
            files: Vec::new(),
            recipe,
        }
    }

    /// What the marks before errors mean, where there are any.
    pub(super) fn marks(&self) -> Option<String> {
        let marked = |of: Certainty| {
            let next = self.layers.iter().flat_map(|layer| layer.alternatives.iter().take(2));
            let mut all = self.layers.iter().filter_map(|l| l.certainty).chain(next.map(|o| o.certainty));
            all.any(|certainty| certainty == of)
        };
        let marks = [(Certainty::AtMost, "<: at most"), (Certainty::Estimated, "~: about, most often less")];
        let marks: Vec<&str> =
            marks.into_iter().filter(|(of, _)| marked(*of)).map(|(_, text)| text).collect();
        (!marks.is_empty()).then(|| format!("errors that were not measured: {}", marks.join("; ")))
    }

    /// The report as one JSON document.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// The report without what differs from run to run, as it is saved with the output.
    #[must_use]
    pub fn reproducible(&self) -> Self {
        let mut report = self.clone();
        report.totals.elapsed_secs = None;
        report.totals.calibration_secs = None;
        report.totals.peak_memory_bytes = 0;
        report.output = None;
        for layer in &mut report.layers {
            layer.elapsed_secs = None;
        }
        report
    }
}

/// The weights that stay dense, and why.
fn left_dense(plan: &Plan) -> Vec<LeftDense> {
    plan.tensors
        .iter()
        .filter_map(|tensor| {
            Some(LeftDense {
                layer: tensor.name.strip_suffix(".weight").unwrap_or(&tensor.name).to_owned(),
                kind: tensor.kind.name(),
                shape: tensor.shape.clone(),
                parameters: tensor.shape.iter().map(|&axis| axis as u64).product(),
                reason: tensor.reason?,
                detail: tensor.detail.clone()?,
            })
        })
        .collect()
}

/// The sums of a plan and what is known of its layers.
fn summary(plan: &Plan, layers: &[LayerReport]) -> Summary {
    let errors: Vec<(&LayerReport, f64)> =
        layers.iter().filter_map(|layer| Some((layer, layer.relative_error?))).collect();
    let worst = errors.iter().max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.layer.cmp(&a.0.layer)));
    let degenerate = layers.iter().filter_map(|layer| Some((&layer.layer, layer.degeneracy?)));
    let degenerate = degenerate.max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(a.0)));
    Summary {
        totals: plan.totals,
        keep: plan.totals.keep(),
        layer_keep: plan.totals.layer_keep(),
        worst_error: worst.map(|&(layer, relative_error)| WorstError {
            layer: layer.layer.clone(),
            relative_error,
            certainty: layer.certainty,
        }),
        worst_degeneracy: degenerate
            .map(|(layer, degeneracy)| WorstDegeneracy { layer: layer.clone(), degeneracy }),
        mean_error: (!errors.is_empty())
            .then(|| errors.iter().map(|(_, error)| error).sum::<f64>() / errors.len() as f64),
        mean_certainty: errors.iter().filter_map(|(layer, _)| layer.certainty).max(),
        peak_memory_bytes: plan.peak_memory_bytes,
        calibration_secs: None,
        elapsed_secs: None,
    }
}

pub(crate) fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}
