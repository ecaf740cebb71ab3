use super::checks::{Check, CheckResult};
use super::table::{Align, Table};
use super::units;
use crate::plan::tuple as shape;
use crate::linalg::{Spectrum, SvdPath};
use crate::plan::{Plan, Save, TensorPlan, Totals};
use serde::Serialize;
use std::fmt::Write as _;

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
    /// The mean of the layers' relative errors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_error: Option<f64>,
    /// Bytes of working memory that were planned for at most.
    pub peak_memory_bytes: u64,
    /// How long it took.
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
    /// The factors' rank.
    pub rank: usize,
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
    /// How the decomposition was computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub svd: Option<SvdPath>,
    /// Other layers with the same weight.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tied_with: Vec<String>,
    /// How long it took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elapsed_secs: Option<f64>,
    /// All singular values, where they were computed; for the page.
    #[serde(skip)]
    pub spectrum: Option<Spectrum>,
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
    pub(crate) svd: SvdPath,
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
            let uses: Vec<_> = std::iter::once((&layer.layer, &layer.unfolding))
                .chain(layer.tied.iter().map(|(_, name, unfolding)| (name, unfolding)))
                .collect();
            for (name, unfolding) in &uses {
                let after = match plan.recipe.save {
                    Save::Factored => (layer.rank * unfolding.parameters_per_rank()) as u64,
                    Save::Collapsed => unfolding.parameters() as u64,
                };
                let spectrum = outcome.and_then(|o| o.spectrum.clone()).or_else(|| layer.spectrum.clone());
                let foreseen = layer.spectrum.as_ref().map(|spectrum| spectrum.relative_error(layer.rank));
                layers.push(LayerReport {
                    layer: (*name).clone(),
                    kind: layer.kind.name(),
                    shape: unfolding.shape().to_vec(),
                    dtype: crate::checkpoint::dtype_name(layer.dtypes.0),
                    scheme: unfolding.scheme().name(),
                    groups: (unfolding.groups() > 1).then(|| unfolding.groups()),
                    rank: layer.rank,
                    max_rank: unfolding.max_rank(),
                    break_even_rank: unfolding.break_even_rank(),
                    parameters_before: unfolding.parameters() as u64,
                    parameters_after: after,
                    multiply_adds_before: unfolding.multiply_adds() as u64,
                    multiply_adds_after: match plan.recipe.save {
                        Save::Factored => layer.multiply_adds_after(unfolding),
                        Save::Collapsed => unfolding.multiply_adds() as u64,
                    },
                    relative_error: outcome.map(|outcome| outcome.relative_error).or(foreseen),
                    svd: outcome.map(|outcome| outcome.svd),
                    tied_with: uses
                        .iter()
                        .filter(|(o, _)| o != name)
                        .map(|(other, _)| (*other).clone())
                        .collect(),
                    elapsed_secs: outcome.map(|outcome| outcome.elapsed_secs),
                    spectrum,
                });
            }
        }
        let dense = plan
            .tensors
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
            .collect();
        let errors: Vec<(&str, f64)> =
            layers.iter().filter_map(|layer| Some((layer.layer.as_str(), layer.relative_error?))).collect();
        let worst = errors.iter().max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(a.0)));
        let totals = Summary {
            totals: plan.totals,
            keep: plan.totals.keep(),
            layer_keep: plan.totals.layer_keep(),
            worst_error: worst
                .map(|&(layer, relative_error)| WorstError { layer: layer.to_owned(), relative_error }),
            mean_error: (!errors.is_empty())
                .then(|| errors.iter().map(|(_, error)| error).sum::<f64>() / errors.len() as f64),
            peak_memory_bytes: plan.peak_memory_bytes,
            elapsed_secs: None,
        };
        Self {
            schema_version: SCHEMA_VERSION,
            tool: crate::TOOL.to_owned(),
            command: "compress",
            input,
            output: None,
            dry_run: outcomes.is_none(),
            totals,
            layers,
            dense,
            tensors: plan.tensors.clone(),
            checks: Vec::new(),
            files_left_out: Vec::new(),
            recipe,
        }
    }

    /// Holds checks against the result.
    pub fn check(&mut self, checks: &[Check]) {
        self.checks = checks.iter().map(|check| self.result_of(*check)).collect();
    }

    /// Whether every check holds.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.passed)
    }

    fn result_of(&self, check: Check) -> CheckResult {
        match check {
            Check::MaxError(limit) => {
                let worst = self.totals.worst_error.as_ref();
                let found = worst.map(|worst| worst.relative_error);
                let passed = found.is_none_or(|found| found <= limit);
                let message = match worst {
                    None => "no layer has an error".to_owned(),
                    Some(WorstError { layer, relative_error }) if passed => {
                        format!(
                            "the largest relative error is {relative_error:.4}, of `{layer}`, at most {limit}"
                        )
                    }
                    Some(WorstError { layer, relative_error }) => {
                        format!("`{layer}` has relative error {relative_error:.4}, more than {limit}")
                    }
                };
                let layer = worst.map(|worst| worst.layer.clone());
                CheckResult { check: "max_error", limit: Some(limit), found, passed, layer, message }
            }
            Check::MaxKeep(limit) => {
                let found = self.totals.keep;
                let passed = found <= limit;
                let biggest = self
                    .dense
                    .iter()
                    .map(|dense| (&dense.layer, dense.parameters))
                    .chain(self.layers.iter().map(|layer| (&layer.layer, layer.parameters_after)))
                    .max_by_key(|&(_, parameters)| parameters);
                let layer = biggest.map(|(layer, _)| layer.clone());
                let comparison = if passed { "at most" } else { "more than" };
                let mut message = format!("{found:.4} of the parameters are kept, {comparison} {limit}");
                if let (false, Some((layer, parameters))) = (passed, biggest) {
                    let _ =
                        write!(message, "; the largest layer is `{layer}` with {}", units::count(parameters));
                }
                CheckResult {
                    check: "max_keep",
                    limit: Some(limit),
                    found: Some(found),
                    passed,
                    layer,
                    message,
                }
            }
            Check::FailIfUnchanged => {
                let passed = !self.layers.is_empty();
                let nearest = self.dense.iter().max_by_key(|dense| dense.parameters);
                let message = match (passed, nearest) {
                    (true, _) => format!("{} layers were factored", self.layers.len()),
                    (false, Some(dense)) => format!(
                        "no layer was factored; the largest, `{}`, stays dense: {}",
                        dense.layer, dense.detail
                    ),
                    (false, None) => {
                        "no layer was factored: the checkpoint has no weight with factors".to_owned()
                    }
                };
                let layer = nearest.filter(|_| !passed).map(|dense| dense.layer.clone());
                CheckResult { check: "fail_if_unchanged", limit: None, found: None, passed, layer, message }
            }
        }
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
        report.totals.peak_memory_bytes = 0;
        report.output = None;
        for layer in &mut report.layers {
            layer.elapsed_secs = None;
        }
        report
    }

    /// The table of layers, what was left dense and why, and the totals.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let mut table = Table::new(&[
            ("layer", Align::Left),
            ("kind", Align::Left),
            ("shape", Align::Left),
            ("scheme", Align::Left),
            ("rank", Align::Right),
            ("before", Align::Right),
            ("after", Align::Right),
            ("error", Align::Right),
            ("time", Align::Right),
        ]);
        for layer in &self.layers {
            table.row([
                layer.layer.clone(),
                layer.kind.to_owned(),
                shape(&layer.shape),
                layer.scheme.to_owned(),
                layer.rank.to_string(),
                units::count(layer.parameters_before),
                units::count(layer.parameters_after),
                layer.relative_error.map_or_else(|| "-".to_owned(), units::error),
                layer.elapsed_secs.map_or_else(|| "-".to_owned(), units::seconds),
            ]);
        }
        if !table.is_empty() {
            let _ = writeln!(text, "{table}");
        }
        if !self.dense.is_empty() {
            let mut table = Table::new(&[
                ("left dense", Align::Left),
                ("kind", Align::Left),
                ("shape", Align::Left),
                ("parameters", Align::Right),
                ("why", Align::Left),
            ]);
            for dense in &self.dense {
                table.row([
                    dense.layer.clone(),
                    dense.kind.to_owned(),
                    shape(&dense.shape),
                    units::count(dense.parameters),
                    dense.detail.clone(),
                ]);
            }
            let _ = writeln!(text, "{table}");
        }
        text + &self.totals_text()
    }

    /// The plan of every tensor, for a dry run.
    #[must_use]
    pub fn tensors_text(&self) -> String {
        let mut table = Table::new(&[
            ("tensor", Align::Left),
            ("kind", Align::Left),
            ("dtype", Align::Left),
            ("shape", Align::Left),
            ("action", Align::Left),
            ("written", Align::Left),
        ]);
        for tensor in &self.tensors {
            let written: Vec<String> = tensor
                .outputs
                .iter()
                .map(|output| {
                    let same = output.name == tensor.name && output.shape == tensor.shape;
                    let dtype = crate::checkpoint::dtype_name(output.dtype);
                    match (same, dtype == tensor.dtype) {
                        (true, true) => "as it is".to_owned(),
                        (true, false) => format!("as {dtype}"),
                        (false, true) => format!("{} {}", output.name, shape(&output.shape)),
                        (false, false) => format!("{} {} as {dtype}", output.name, shape(&output.shape)),
                    }
                })
                .collect();
            let action = serde_json::to_value(tensor.action).unwrap_or_default();
            table.row([
                tensor.name.clone(),
                tensor.kind.name().to_owned(),
                tensor.dtype.to_owned(),
                shape(&tensor.shape),
                action.as_str().unwrap_or_default().to_owned(),
                written.join(", "),
            ]);
        }
        table.to_string()
    }

    fn totals_text(&self) -> String {
        let totals = &self.totals.totals;
        let mut table = Table::new(&[
            ("total", Align::Left),
            ("before", Align::Right),
            ("after", Align::Right),
            ("kept", Align::Right),
        ]);
        let mut row = |name: &str, before: u64, after: u64, show: fn(u64) -> String| {
            let kept = if before == 0 { 100.0 } else { 100.0 * after as f64 / before as f64 };
            table.row([name.to_owned(), show(before), show(after), format!("{kept:.1} %")]);
        };
        row("parameters", totals.parameters_before, totals.parameters_after, units::count);
        row(
            "in factored layers",
            totals.layer_parameters_before,
            totals.layer_parameters_after,
            units::count,
        );
        row("bytes", totals.bytes_before, totals.bytes_after, units::size);
        row("multiply-adds", totals.multiply_adds_before, totals.multiply_adds_after, units::count);
        let mut text = format!("{table}\n");
        let _ = write!(
            text,
            "{} factored, {} left dense",
            plural(totals.layers_factored, "layer"),
            totals.layers_dense
        );
        if let (Some(worst), Some(mean)) = (&self.totals.worst_error, self.totals.mean_error) {
            let (worst_error, mean) = (units::error(worst.relative_error), units::error(mean));
            let _ = write!(text, "; relative error: mean {mean}, worst {worst_error} (`{}`)", worst.layer);
        }
        text.push('\n');
        if self.dry_run {
            let _ = writeln!(text, "working memory: at most {}", units::size(self.totals.peak_memory_bytes));
        }
        for file in &self.files_left_out {
            let _ = writeln!(text, "not copied: {file}, a pickled duplicate of the weights");
        }
        match (&self.output, self.totals.elapsed_secs) {
            (Some(output), Some(elapsed)) => {
                let _ = writeln!(text, "written to {output} in {}", units::seconds(elapsed));
            }
            _ if self.dry_run => text.push_str("dry run: nothing written\n"),
            _ => {}
        }
        text
    }
}

pub(crate) fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}
