use super::compress::plural;
use super::table::{Align, Table};
use super::units;
use crate::decompose::Ranks;
use serde::Serialize;
use std::fmt::Write as _;

/// What a verification found.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct VerifyReport {
    /// The version of the schema.
    pub schema_version: u32,
    /// Name and version of the program.
    pub tool: String,
    /// `verify`.
    pub command: &'static str,
    /// The factored checkpoint.
    pub factored: String,
    /// The dense checkpoint that it was compared with.
    pub against: String,
    /// Every module of the record.
    pub layers: Vec<VerifiedLayer>,
    /// How many tensors that were not factored were compared.
    pub tensors_compared: usize,
    /// What does not hold of them.
    pub problems: Vec<String>,
    /// Whether everything holds.
    pub passed: bool,
    /// How long it took.
    pub elapsed_secs: f64,
}

/// One module of a [`VerifyReport`].
#[derive(Clone, Debug, Serialize)]
pub struct VerifiedLayer {
    /// Its name.
    pub layer: String,
    /// How it was factored.
    pub scheme: String,
    /// Its rank; where each mode has its own, the largest.
    pub rank: usize,
    /// The rank of each mode, where each has its own.
    #[serde(skip_serializing_if = "Ranks::is_one")]
    pub ranks: Ranks,
    /// The relative error in the record.
    pub recorded: f64,
    /// The relative error of the files, where it could be computed.
    pub found: Option<f64>,
    /// Whether the two agree.
    pub passed: bool,
    /// What is wrong, if they do not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl VerifyReport {
    pub(crate) fn new(
        factored: String,
        against: String,
        layers: Vec<VerifiedLayer>,
        tensors_compared: usize,
        problems: Vec<String>,
        elapsed_secs: f64,
    ) -> Self {
        let passed = problems.is_empty() && layers.iter().all(|layer| layer.passed);
        Self {
            schema_version: super::SCHEMA_VERSION,
            tool: crate::TOOL.to_owned(),
            command: "verify",
            factored,
            against,
            layers,
            tensors_compared,
            problems,
            passed,
            elapsed_secs,
        }
    }

    /// Whether every layer's error is the recorded one and every other tensor is the dense checkpoint's.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.passed
    }

    /// Why nothing holds, where that can be guessed.
    #[must_use]
    pub fn guess(&self) -> Option<&'static str> {
        let differs = |layer: &VerifiedLayer| !layer.passed && layer.found.is_some();
        let all = !self.layers.is_empty() && self.layers.iter().all(differs);
        all.then_some(
            "every layer differs: the factors were trained after they were made, which the record does not follow, or \
             this is another dense checkpoint",
        )
    }

    /// What does not hold, a sentence each.
    pub fn failures(&self) -> impl Iterator<Item = String> + '_ {
        let layers = self
            .layers
            .iter()
            .filter_map(|layer| Some(format!("`{}`: {}", layer.layer, layer.problem.as_ref()?)));
        layers.chain(self.problems.iter().cloned())
    }

    /// The report as one JSON document.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// The table of layers and a line of totals.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut table = Table::new(&[
            ("layer", Align::Left),
            ("scheme", Align::Left),
            ("rank", Align::Right),
            ("recorded", Align::Right),
            ("found", Align::Right),
            ("", Align::Left),
        ]);
        for layer in &self.layers {
            table.row([
                layer.layer.clone(),
                layer.scheme.clone(),
                layer.ranks.to_string(),
                format!("{:.6}", layer.recorded),
                layer.found.map_or_else(|| "-".to_owned(), |found| format!("{found:.6}")),
                if layer.passed { "holds" } else { "DOES NOT HOLD" }.to_owned(),
            ]);
        }
        let mut text = if table.is_empty() { String::new() } else { format!("{table}\n") };
        let failed = self.failures().count();
        let verdict = if self.passed { "all hold".to_owned() } else { plural(failed, "problem") };
        let _ = writeln!(
            text,
            "{} and {} compared in {}: {verdict}",
            plural(self.layers.len(), "factored layer"),
            plural(self.tensors_compared, "other tensor"),
            units::seconds(self.elapsed_secs)
        );
        text
    }
}

/// What a collapse did.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct CollapseReport {
    /// The version of the schema.
    pub schema_version: u32,
    /// Name and version of the program.
    pub tool: String,
    /// `collapse`.
    pub command: &'static str,
    /// The factored checkpoint.
    pub input: String,
    /// The dense one.
    pub output: String,
    /// How many layers were multiplied out.
    pub layers_collapsed: usize,
    /// Bytes of all tensors of the input.
    pub bytes_before: u64,
    /// Bytes of all tensors of the output.
    pub bytes_after: u64,
    /// Files of the input that are not in the output.
    pub files_left_out: Vec<String>,
    /// How long it took.
    pub elapsed_secs: f64,
}

impl CollapseReport {
    pub(crate) fn new(
        input: String,
        output: String,
        layers_collapsed: usize,
        bytes_before: u64,
        bytes_after: u64,
        files_left_out: Vec<String>,
        elapsed_secs: f64,
    ) -> Self {
        Self {
            schema_version: super::SCHEMA_VERSION,
            tool: crate::TOOL.to_owned(),
            command: "collapse",
            input,
            output,
            layers_collapsed,
            bytes_before,
            bytes_after,
            files_left_out,
            elapsed_secs,
        }
    }

    /// The report as one JSON document.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// A line for people.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "{} multiplied out, {} to {}\nwritten to {} in {}\n",
            plural(self.layers_collapsed, "layer"),
            units::size(self.bytes_before),
            units::size(self.bytes_after),
            self.output,
            units::seconds(self.elapsed_secs)
        );
        for file in &self.files_left_out {
            let _ = writeln!(text, "not copied: {file}, another copy of the weights");
        }
        text
    }
}
