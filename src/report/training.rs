use super::checks::CheckResult;
use super::compress::SCHEMA_VERSION;
use super::curves::number;
use super::table::{Align, Table};
use super::units;
use crate::layers::{Parameters, Role};
use crate::train::{Decay, DecayTable, EpochMetrics};
use serde::Serialize;
use std::fmt::Write as _;

/// Epochs in the text at most.
const MOST_EPOCHS: usize = 25;

/// What a training run did.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct TrainingReport {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Name and version of the program.
    pub tool: String,
    /// `train`.
    pub command: &'static str,
    /// What was trained, as it was named.
    pub model: String,
    /// Where it was written, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Sums.
    pub totals: TrainingTotals,
    /// The epoch with the highest accuracy on the test set, the first of equals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best: Option<BestEpoch>,
    /// What was trained, and how each parameter was decayed.
    pub parameters: Vec<TrainedParameter>,
    /// Every epoch's metrics.
    pub epochs: Vec<EpochMetrics>,
    /// The options, which repeat the run.
    pub options: serde_json::Value,
    /// What must hold for the result, and whether it does.
    pub checks: Vec<CheckResult>,
}

/// The sums of a [`TrainingReport`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TrainingTotals {
    /// Epochs of training.
    pub epochs: u64,
    /// Steps of the optimizer.
    pub steps: u64,
    /// Trained parameters.
    pub parameters: u64,
    /// Those of the dense model, where this one is factored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters_dense: Option<u64>,
    /// The former over the latter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<f64>,
    /// Samples that were trained on, those of each epoch anew.
    pub images: u64,
    /// Seconds of training and testing, over all sessions.
    pub elapsed_secs: f64,
    /// Samples over seconds.
    pub images_per_sec: f64,
}

/// An epoch and how good it was.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct BestEpoch {
    /// The epoch, counted from 1.
    pub epoch: u64,
    /// The part of the test set that was right.
    pub test_accuracy: f64,
}

/// One trained parameter.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TrainedParameter {
    /// Its name.
    pub name: String,
    /// What it is to training.
    pub role: &'static str,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its elements.
    pub parameters: u64,
    /// How it was pulled towards zero.
    pub decay: Decay,
}

impl TrainingReport {
    /// The report of a run from its parameters, their decay and its epochs.
    #[must_use]
    pub fn new(
        model: String,
        parameters: &Parameters,
        decay: &DecayTable,
        epochs: Vec<EpochMetrics>,
        images: u64,
        options: serde_json::Value,
    ) -> Self {
        let elapsed_secs = epochs.last().map_or(0.0, |epoch| epoch.elapsed_secs);
        let totals = TrainingTotals {
            epochs: epochs.last().map_or(0, |epoch| epoch.epoch),
            steps: epochs.last().map_or(0, |epoch| epoch.step),
            parameters: parameters.count() as u64,
            parameters_dense: None,
            keep: None,
            images,
            elapsed_secs,
            images_per_sec: if elapsed_secs > 0.0 { images as f64 / elapsed_secs } else { 0.0 },
        };
        let trained = parameters.trained().map(|(name, parameter)| TrainedParameter {
            name: name.to_owned(),
            role: role(parameter.role()),
            shape: parameter.var().dims().to_vec(),
            parameters: parameter.var().elem_count() as u64,
            decay: decay.get(name),
        });
        Self {
            schema_version: SCHEMA_VERSION,
            tool: crate::TOOL.to_owned(),
            command: "train",
            model,
            output: None,
            totals,
            best: best(&epochs),
            parameters: trained.collect(),
            epochs,
            options,
            checks: Vec::new(),
        }
    }

    /// Asks for an accuracy of the result.
    pub fn require_accuracy(&mut self, found: f64, least: f64) {
        self.checks.push(CheckResult::accuracy(found, least));
    }

    /// Whether all that must hold does.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.passed)
    }

    /// The same, compared with the parameters of the dense model.
    #[must_use]
    pub fn against_dense(mut self, parameters_dense: u64) -> Self {
        self.totals.parameters_dense = Some(parameters_dense);
        self.totals.keep =
            (parameters_dense > 0).then(|| self.totals.parameters as f64 / parameters_dense as f64);
        self
    }

    /// The report as one JSON document.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// The table of epochs, at most 25 evenly chosen and the best, and the totals.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let epochs = self.epochs_text();
        if !epochs.is_empty() {
            let _ = writeln!(text, "{epochs}");
        }
        text + &self.totals_text()
    }

    /// How many parameters are decayed how: a line for each kind.
    #[must_use]
    pub fn policy_text(&self) -> String {
        policy_text(
            self.parameters.iter().map(|parameter| (parameter.role, parameter.decay, parameter.parameters)),
        )
    }

    fn epochs_text(&self) -> Table {
        let mut table = Table::new(&[
            ("epoch", Align::Right),
            ("step", Align::Right),
            ("learning rate", Align::Right),
            ("train loss", Align::Right),
            ("train accuracy", Align::Right),
            ("test loss", Align::Right),
            ("test accuracy", Align::Right),
            ("time", Align::Right),
            ("", Align::Left),
        ]);
        for epoch in self.shown() {
            let best = self.best.is_some_and(|best| best.epoch == epoch.epoch);
            table.row([
                epoch.epoch.to_string(),
                epoch.step.to_string(),
                number(epoch.learning_rate),
                loss(epoch.train_loss),
                percent(epoch.train_accuracy),
                loss(epoch.test_loss),
                percent(epoch.test_accuracy),
                units::seconds(epoch.elapsed_secs),
                if best { "best" } else { "" }.to_owned(),
            ]);
        }
        table
    }

    /// The epochs of the text, the last and the best among them.
    fn shown(&self) -> impl Iterator<Item = &EpochMetrics> {
        let every = self.epochs.len().div_ceil(MOST_EPOCHS).max(1);
        let chosen = move |(index, epoch): &(usize, &EpochMetrics)| {
            (self.epochs.len() - 1 - index).is_multiple_of(every)
                || self.best.is_some_and(|best| best.epoch == epoch.epoch)
        };
        self.epochs.iter().enumerate().filter(chosen).map(|(_, epoch)| epoch)
    }

    fn totals_text(&self) -> String {
        let totals = &self.totals;
        let mut text = format!("{} trained parameters", units::count(totals.parameters));
        if let (Some(dense), Some(keep)) = (totals.parameters_dense, totals.keep) {
            let _ = write!(text, ", {} of the dense model's {}", percent(keep), units::count(dense));
        }
        let _ = writeln!(
            text,
            "\n{} epochs, {} steps, {} images in {}: {:.0} images/s",
            totals.epochs,
            totals.steps,
            units::count(totals.images),
            units::seconds(totals.elapsed_secs),
            totals.images_per_sec
        );
        if let (Some(best), Some(last)) = (self.best, self.epochs.last()) {
            let _ = writeln!(
                text,
                "test accuracy: {} at the end, best {} after epoch {}",
                percent(last.test_accuracy),
                percent(best.test_accuracy),
                best.epoch
            );
        }
        if let Some(output) = &self.output {
            let _ = writeln!(text, "written to {output}");
        }
        text
    }
}

fn best(epochs: &[EpochMetrics]) -> Option<BestEpoch> {
    let mut best: Option<BestEpoch> = None;
    for epoch in epochs.iter().filter(|epoch| epoch.test_accuracy.is_finite()) {
        if best.is_none_or(|best| epoch.test_accuracy > best.test_accuracy) {
            best = Some(BestEpoch { epoch: epoch.epoch, test_accuracy: epoch.test_accuracy });
        }
    }
    best
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Weight => "weight",
        Role::Factor => "factor",
        Role::Bias => "bias",
        Role::Normalization => "normalization",
        Role::Statistic => "statistic",
    }
}

pub(super) fn decay_text(decay: Decay) -> String {
    match decay {
        Decay::None => "none".to_owned(),
        Decay::Weight(lambda) => format!("weight {lambda}"),
        Decay::Frobenius(lambda) => format!("frobenius {lambda}"),
    }
}

/// A part as a percentage with two digits: a test set of 10,000 has no more.
pub(super) fn percent(part: f64) -> String {
    if part.is_finite() { format!("{:.2} %", 100.0 * part) } else { "-".to_owned() }
}

fn loss(value: f64) -> String {
    if value.is_finite() { format!("{value:.4}") } else { "-".to_owned() }
}

/// A line for each role and decay: how many tensors and elements have them.
pub(crate) fn policy_text(parameters: impl Iterator<Item = (&'static str, Decay, u64)>) -> String {
    let mut lines: Vec<(&'static str, String, usize, u64)> = Vec::new();
    for (role, decay, count) in parameters {
        let decay = decay_text(decay);
        match lines.iter_mut().find(|line| line.0 == role && line.1 == decay) {
            Some(line) => (line.2, line.3) = (line.2 + 1, line.3 + count),
            None => lines.push((role, decay, 1, count)),
        }
    }
    let mut table = Table::new(&[
        ("role", Align::Left),
        ("tensors", Align::Right),
        ("parameters", Align::Right),
        ("decay", Align::Left),
    ]);
    for (role, decay, tensors, count) in lines {
        table.row([role.to_owned(), tensors.to_string(), units::count(count), decay]);
    }
    table.to_string()
}
