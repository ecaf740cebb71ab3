use super::compress::{CompressReport, WorstError};
use super::units;
use serde::Serialize;
use std::fmt::Write as _;

/// Something that must hold for the result, asked for by the user.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Check {
    /// No layer's relative error is larger.
    MaxError(f64),
    /// All parameters after / before are no more.
    MaxKeep(f64),
    /// At least one layer was factored.
    FailIfUnchanged,
}

/// Whether a [`Check`] holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CheckResult {
    /// The check's name, that of its flag.
    pub check: &'static str,
    /// The number asked for, if the check has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
    /// What was found in its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<f64>,
    /// Whether it holds.
    pub passed: bool,
    /// The layer that breaks it, or comes nearest to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer: Option<String>,
    /// A sentence for people.
    pub message: String,
}

impl CheckResult {
    /// Whether a network is good enough.
    pub(crate) fn accuracy(found: f64, least: f64) -> Self {
        let passed = found >= least;
        let comparison = if passed { "at least" } else { "less than" };
        let message = format!("the accuracy is {:.2} %, {comparison} {:.2} %", 100.0 * found, 100.0 * least);
        Self { check: "min_accuracy", limit: Some(least), found: Some(found), passed, layer: None, message }
    }

    /// Whether cosines of sentences agree well enough with people.
    pub(crate) fn spearman(found: f64, least: f64) -> Self {
        let passed = found >= least;
        let comparison = if passed { "at least" } else { "less than" };
        let message = format!("Spearman's correlation is {found:.4}, {comparison} {least}");
        Self { check: "min_spearman", limit: Some(least), found: Some(found), passed, layer: None, message }
    }

    /// Whether translations agree well enough with references.
    pub(crate) fn bleu(found: f64, least: f64) -> Self {
        let passed = found >= least;
        let comparison = if passed { "at least" } else { "less than" };
        let message = format!("BLEU is {found:.2}, {comparison} {least}");
        Self { check: "min_bleu", limit: Some(least), found: Some(found), passed, layer: None, message }
    }

    /// Whether a text is foretold well enough.
    pub(crate) fn perplexity(found: f64, most: f64) -> Self {
        let passed = found <= most;
        let comparison = if passed { "at most" } else { "more than" };
        let message = format!("the perplexity is {found:.3}, {comparison} {most}");
        Self { check: "max_perplexity", limit: Some(most), found: Some(found), passed, layer: None, message }
    }
}

impl CompressReport {
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
                // Layers without a known error are no proof of anything.
                let passed = self.layers.is_empty() || found.is_some_and(|found| found <= limit);
                let message = match worst {
                    None if passed => "no layer was factored".to_owned(),
                    None => "no layer's error is known".to_owned(),
                    Some(WorstError { layer, relative_error, .. }) if passed => {
                        format!(
                            "the largest relative error is {relative_error:.4}, of `{layer}`, at most {limit}"
                        )
                    }
                    Some(WorstError { layer, relative_error, .. }) => {
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
}
