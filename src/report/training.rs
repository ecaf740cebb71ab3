use super::checks::CheckResult;
use super::compress::{SCHEMA_VERSION, plural};
use super::curves::number;
use super::table::{Align, Table};
use super::units;
use crate::checkpoint::ModuleRecord;
use crate::layers::{Parameters, Role};
use crate::train::{Decay, DecayTable, EpochMetrics};
use indexmap::IndexMap;
use serde::Serialize;
use std::collections::BTreeMap;
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
    /// The epoch that was best on the test set, the first of equals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best: Option<BestEpoch>,
    /// The layers that are factored, by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<TrainedLayer>,
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
    /// What samples are, in the plural.
    pub unit: &'static str,
    /// Samples that were trained on, those of each epoch anew.
    pub samples: u64,
    /// Seconds of training and testing, over all sessions.
    pub elapsed_secs: f64,
    /// Samples over seconds.
    pub samples_per_sec: f64,
}

/// An epoch and how good it was.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct BestEpoch {
    /// The epoch, counted from 1.
    pub epoch: u64,
    /// The part of the test set that was right, where a sample can be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_accuracy: Option<f64>,
    /// What else was measured on the test set.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub scores: IndexMap<String, f64>,
}

/// One factored layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TrainedLayer {
    /// Its name.
    pub layer: String,
    /// How it is factored.
    pub scheme: String,
    /// The dense weight's shape.
    pub shape: Vec<usize>,
    /// The ranks of its factors.
    pub ranks: Vec<usize>,
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
        (unit, samples): (&'static str, u64),
        options: serde_json::Value,
    ) -> Self {
        let elapsed_secs = epochs.last().map_or(0.0, |epoch| epoch.elapsed_secs);
        let totals = TrainingTotals {
            epochs: epochs.last().map_or(0, |epoch| epoch.epoch),
            steps: epochs.last().map_or(0, |epoch| epoch.step),
            parameters: parameters.count() as u64,
            parameters_dense: None,
            keep: None,
            unit,
            samples,
            elapsed_secs,
            samples_per_sec: if elapsed_secs > 0.0 { samples as f64 / elapsed_secs } else { 0.0 },
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
            layers: Vec::new(),
            parameters: trained.collect(),
            epochs,
            options,
            checks: Vec::new(),
        }
    }

    /// Asks something of the result.
    pub fn require(&mut self, check: CheckResult) {
        self.checks.push(check);
    }

    /// Whether all that must hold does.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.passed)
    }

    /// The same, with what a record says of the layers that are factored.
    #[must_use]
    pub fn with_layers(mut self, modules: &BTreeMap<String, ModuleRecord>) -> Self {
        let layer = |(name, module): (&String, &ModuleRecord)| TrainedLayer {
            layer: name.clone(),
            scheme: module.scheme.clone(),
            shape: module.shape.clone(),
            ranks: if module.ranks.is_empty() { vec![module.rank] } else { module.ranks.clone() },
        };
        self.layers = modules.iter().map(layer).collect();
        self
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

    /// The same, its best epoch this one of those that could be the result.
    #[must_use]
    pub(crate) fn with_best(mut self, epoch: Option<usize>) -> Self {
        let found = self.epochs.iter().find(|found| Some(found.epoch as usize) == epoch);
        self.best = found.map(BestEpoch::of);
        self
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
        let accuracies = self.epochs.iter().any(|epoch| epoch.test_accuracy.is_finite());
        let scores: Vec<&str> = self
            .epochs
            .last()
            .map(|epoch| epoch.scores.keys().map(String::as_str).collect())
            .unwrap_or_default();
        let mut titles = vec!["epoch", "step", "learning rate", "train loss"];
        titles.extend(accuracies.then_some("train accuracy"));
        titles.push("test loss");
        titles.extend(accuracies.then_some("test accuracy"));
        titles.extend(&scores);
        titles.push("time");
        let titles = titles.into_iter().map(|title| (title, Align::Right)).chain([("", Align::Left)]);
        let mut table = Table::new(&titles.collect::<Vec<_>>());
        for epoch in self.shown() {
            let best = self.best.as_ref().is_some_and(|best| best.epoch == epoch.epoch);
            let mut row = vec![
                epoch.epoch.to_string(),
                epoch.step.to_string(),
                number(epoch.learning_rate),
                loss(epoch.train_loss),
            ];
            row.extend(accuracies.then(|| percent(epoch.train_accuracy)));
            row.push(loss(epoch.test_loss));
            row.extend(accuracies.then(|| percent(epoch.test_accuracy)));
            row.extend(
                scores
                    .iter()
                    .map(|name| epoch.scores.get(*name).map_or("-".to_owned(), |&score| loss(score))),
            );
            row.push(units::seconds(epoch.elapsed_secs));
            row.push(if best { "best" } else { "" }.to_owned());
            table.row(row);
        }
        table
    }

    /// The epochs of the text, the last and the best among them.
    fn shown(&self) -> impl Iterator<Item = &EpochMetrics> {
        let every = self.epochs.len().div_ceil(MOST_EPOCHS).max(1);
        let chosen = move |(index, epoch): &(usize, &EpochMetrics)| {
            (self.epochs.len() - 1 - index).is_multiple_of(every)
                || self.best.as_ref().is_some_and(|best| best.epoch == epoch.epoch)
        };
        self.epochs.iter().enumerate().filter(chosen).map(|(_, epoch)| epoch)
    }

    fn totals_text(&self) -> String {
        let totals = &self.totals;
        let unit = totals.unit;
        let mut text = format!("{} trained parameters", units::count(totals.parameters));
        if let (Some(dense), Some(keep)) = (totals.parameters_dense, totals.keep) {
            let _ = write!(text, ", {} of the dense model's {}", percent(keep), units::count(dense));
        }
        if !self.layers.is_empty() {
            let mut schemes: BTreeMap<&str, usize> = BTreeMap::new();
            self.layers.iter().for_each(|layer| *schemes.entry(&layer.scheme).or_default() += 1);
            let named: Vec<String> =
                schemes.iter().map(|(scheme, count)| format!("{count} {scheme}")).collect();
            let _ = write!(text, "\n{} factored: {}", plural(self.layers.len(), "layer"), named.join(", "));
        }
        let _ = writeln!(
            text,
            "\n{}, {}, {} {unit} in {}: {:.0} {unit}/s",
            plural(totals.epochs as usize, "epoch"),
            plural(totals.steps as usize, "step"),
            units::count(totals.samples),
            units::seconds(totals.elapsed_secs),
            totals.samples_per_sec
        );
        if let (Some(best), Some((name, last))) = (&self.best, self.epochs.last().map(headline)) {
            let of_best = self.epochs.iter().find(|epoch| epoch.epoch == best.epoch).map(headline);
            let of_best = of_best.map_or_else(String::new, |(_, shown)| shown);
            let _ =
                writeln!(text, "test {name}: {last} at the end, best {of_best} after epoch {}", best.epoch);
        }
        if let Some(output) = &self.output {
            let _ = writeln!(text, "written to {output}");
        }
        text
    }
}

fn best(epochs: &[EpochMetrics]) -> Option<BestEpoch> {
    let mut best: Option<&EpochMetrics> = None;
    for epoch in epochs.iter().filter(|epoch| epoch.merit().is_finite()) {
        if best.is_none_or(|best| epoch.is_better_than(best.merit(), best.test_loss)) {
            best = Some(epoch);
        }
    }
    best.map(BestEpoch::of)
}

impl BestEpoch {
    fn of(epoch: &EpochMetrics) -> Self {
        Self {
            epoch: epoch.epoch,
            test_accuracy: epoch.test_accuracy.is_finite().then_some(epoch.test_accuracy),
            scores: epoch.scores.clone(),
        }
    }
}

/// What the best epoch is told by, its name and how it is shown.
pub(super) fn headline(epoch: &EpochMetrics) -> (&str, String) {
    match epoch.scores.first() {
        Some((name, &score)) => (name, loss(score)),
        None if epoch.test_accuracy.is_finite() => ("accuracy", percent(epoch.test_accuracy)),
        None => ("loss", loss(epoch.test_loss)),
    }
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
