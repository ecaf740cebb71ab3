use super::checks::CheckResult;
use super::evaluated::Evaluated;
use crate::train::Evaluation;
use serde::Serialize;
use std::fmt::Write as _;

/// How good a network is, how large, and how fast.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct EvaluateReport {
    /// Of what.
    #[serde(flatten)]
    pub network: Evaluated,
    /// What was measured.
    #[serde(flatten)]
    pub evaluation: Evaluation,
    /// Samples a second.
    pub images_per_sec: f64,
    /// What must hold, and whether it does.
    pub checks: Vec<CheckResult>,
}

impl EvaluateReport {
    pub(crate) fn new(network: Evaluated, evaluation: &Evaluation) -> Self {
        let images_per_sec = evaluation.images_per_sec();
        Self { network, evaluation: *evaluation, images_per_sec, checks: Vec::new() }
    }

    /// Asks for an accuracy.
    pub fn require_accuracy(&mut self, least: f64) {
        self.checks.push(CheckResult::accuracy(self.evaluation.accuracy, least));
    }

    /// Whether all that must hold does.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.passed)
    }

    /// One JSON document.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// A few lines for people.
    #[must_use]
    pub fn to_text(&self) -> String {
        let Evaluation { loss, accuracy, top5_accuracy, images, elapsed_secs, .. } = self.evaluation;
        let mut text = self.network.to_text("an image");
        let _ = writeln!(text, "data           {}, {images} test images", self.network.data);
        let _ = writeln!(
            text,
            "accuracy       {:.2} %, top five {:.2} %",
            100.0 * accuracy,
            100.0 * top5_accuracy
        );
        let _ = writeln!(text, "loss           {loss:.4}");
        let _ = writeln!(text, "speed          {:.0} images/s, {elapsed_secs:.1} s", self.images_per_sec);
        text
    }
}
