use super::checks::CheckResult;
use super::{count, size};
use crate::models::Network;
use crate::train::Evaluation;
use serde::Serialize;
use std::fmt::Write as _;

/// How good a network is, how large, and how fast.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct EvaluateReport {
    /// The version of the report's form.
    pub schema_version: u32,
    /// Always `evaluate`.
    pub command: &'static str,
    /// The program, with its version.
    pub tool: &'static str,
    /// The checkpoint.
    pub input: String,
    /// What network it is.
    pub architecture: String,
    /// The data.
    pub data: String,
    /// Layers that are factored, and layers with a weight.
    pub factored_layers: usize,
    /// Layers with a weight.
    pub layers: usize,
    /// Trained parameters.
    pub parameters: usize,
    /// Multiply-adds for one picture.
    pub multiply_adds: u64,
    /// Bytes of all tensors.
    pub size_bytes: u64,
    /// What was measured.
    #[serde(flatten)]
    pub evaluation: Evaluation,
    /// Samples a second.
    pub images_per_sec: f64,
    /// What must hold, and whether it does.
    pub checks: Vec<CheckResult>,
}

impl EvaluateReport {
    pub(crate) fn new(
        input: String,
        network: &Network,
        data: String,
        size_bytes: u64,
        multiply_adds: u64,
        evaluation: &Evaluation,
    ) -> Self {
        Self {
            schema_version: super::SCHEMA_VERSION,
            command: "evaluate",
            tool: crate::TOOL,
            input,
            architecture: network.architecture().to_string(),
            data,
            factored_layers: network.layers().iter().filter(|layer| layer.weight.chain().is_some()).count(),
            layers: network.layers().len(),
            parameters: network.parameters().count(),
            multiply_adds,
            size_bytes,
            evaluation: *evaluation,
            images_per_sec: evaluation.images_per_sec(),
            checks: Vec::new(),
        }
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
        let mut text = String::new();
        let form = match (self.factored_layers, self.layers) {
            (0, _) => "dense".to_owned(),
            (factored, layers) => format!("{factored} of {layers} layers factored"),
        };
        let _ = writeln!(text, "network        {}, {form}", self.architecture);
        let _ = writeln!(
            text,
            "parameters     {} ({}), {} multiply-adds an image",
            count(self.parameters as u64),
            size(self.size_bytes),
            count(self.multiply_adds)
        );
        let _ = writeln!(text, "data           {}, {images} test images", self.data);
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
