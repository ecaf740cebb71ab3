//! What a model does with data, collected or read before its layers are factored.

use super::{CommandError, side_files};
use crate::calibrate::{CalibrationProgress, Damping, Statistics, StatisticsError, calibrate_text};
use crate::checkpoint::{Checkpoint, OutputOptions, Staging};
use crate::data::{TextSource, TextTokenizer, WINDOW, fingerprint_of, sample, windows};
use crate::decompose::{Method, Metric};
use crate::layers::{State, keep_freed_memory};
use crate::models::{TextConfig, TextNetwork};
use crate::plan::{CalibrationRule, LayerEvent, Limits, Progress, Recipe, Stage};
use candle_core::Device;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

/// Where what a model does with data is taken from.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct CalibrationOptions {
    /// Texts that the model is run over.
    pub data: Option<TextSource>,
    /// Statistics that an earlier run wrote, in place of running the model.
    pub statistics: Option<PathBuf>,
    /// Where the statistics are written.
    pub save: Option<PathBuf>,
    /// Whether the file of statistics is replaced.
    pub overwrite: bool,
}

impl CalibrationOptions {
    /// Whether there is anything to be calibrated on.
    #[must_use]
    pub fn is_given(&self) -> bool {
        self.data.is_some() || self.statistics.is_some()
    }
}

/// What calibration needs, opened and checked before anything is computed.
pub(super) struct Calibration {
    network: TextNetwork,
    model: String,
    /// The samples, and a number for them; none where only statistics are read.
    samples: Option<(Vec<Vec<u32>>, String)>,
    read: Option<(PathBuf, Statistics)>,
    options: CalibrationOptions,
    rule: CalibrationRule,
    method: Method,
}

/// A metric for each layer that was reached, and the recipe's word on how they came about.
pub(super) struct Calibrated {
    pub(super) metrics: BTreeMap<String, Metric>,
    pub(super) rule: CalibrationRule,
}

impl Calibration {
    /// Refuses a checkpoint that is no known network, data that are not what it takes, and statistics of other ones.
    pub(super) fn new(
        checkpoint: &Checkpoint,
        options: &CalibrationOptions,
        recipe: &Recipe,
    ) -> Result<Self, CommandError> {
        let (method, rule) = (recipe.method, recipe.calibration.clone().unwrap_or_default());
        let Some(config) = checkpoint.config() else {
            let problem = "calibration needs a checkpoint's folder, with config.json".to_owned();
            return Err(CommandError::Usage(problem));
        };
        let config = TextConfig::from_json(config)?;
        if let Some(path) = &options.save {
            let mut target = OutputOptions::file(path);
            target.overwrite = options.overwrite;
            Staging::check(&target, &side_files::inputs(checkpoint), &[])?;
        }
        let state = State::read(checkpoint)?;
        let network = TextNetwork::new(&config, &state, &Device::Cpu)?;
        let model = state.fingerprint()?;
        let samples = match &options.data {
            Some(data) => {
                let drawn = draw(checkpoint, data, &network, &rule)?;
                let fingerprint = fingerprint_of(&drawn);
                Some((drawn, fingerprint))
            }
            None => None,
        };
        let read = match &options.statistics {
            Some(path) => Some((path.clone(), Statistics::read(path)?)),
            None => None,
        };
        if let Some((path, statistics)) = &read {
            let other = |what, found: &str, expected: &str| StatisticsError::Other {
                path: path.clone(),
                what,
                found: found.to_owned(),
                expected: expected.to_owned(),
            };
            if statistics.model != model {
                return Err(other("model", &statistics.model, &model).into());
            }
            if let Some((_, data)) = samples.as_ref().filter(|(_, data)| *data != statistics.data) {
                return Err(other("choice of samples", &statistics.data, data).into());
            }
            if let Some(data) = rule.data.as_ref().filter(|data| **data != statistics.data) {
                return Err(other("choice of samples", &statistics.data, data).into());
            }
            if method == Method::Fisher && !statistics.has_gradients() {
                return Err(StatisticsError::NoGradients { path: path.clone() }.into());
            }
        }
        Ok(Self { network, model, samples, read, options: options.clone(), rule, method })
    }

    /// Runs the model, or takes what was read, and makes each layer's metric of it.
    pub(super) fn run(self, limits: Limits, progress: &dyn Progress) -> Result<Calibrated, CommandError> {
        let Self { network, model, samples, read, options, mut rule, method } = self;
        let statistics = match (read, samples) {
            (Some((_, statistics)), _) => statistics,
            (None, Some((samples, data))) => {
                keep_freed_memory();
                let tokens: usize = samples.iter().map(Vec::len).sum();
                let heard = Heard { progress, start: Instant::now() };
                progress.begin(Stage::Calibrating, tokens, tokens as u64);
                let gradients = method == Method::Fisher;
                let found = calibrate_text(&network, &samples, gradients, rule.seed, limits.threads, &heard);
                progress.end();
                found?.named(model, data)
            }
            (None, None) => return Err(CommandError::Usage("there is nothing to calibrate on".to_owned())),
        };
        drop(network);
        if let Some(path) = &options.save {
            statistics.write(path, options.overwrite)?;
        }
        rule.data = Some(statistics.data.clone());
        let damping = Damping { inputs: rule.input_damping, outputs: rule.output_damping };
        let metrics = statistics.metrics(method, damping);
        Ok(Calibrated { metrics, rule })
    }
}

/// Passes on how many tokens were run.
struct Heard<'a> {
    progress: &'a dyn Progress,
    start: Instant,
}

impl CalibrationProgress for Heard<'_> {
    fn ran(&self, tokens: usize) {
        let event = LayerEvent::new("tokens", self.start.elapsed().as_secs_f64());
        self.progress.advanced(&event, tokens as u64);
    }
}

/// Samples of the texts, as the model reads them: each by itself, or a whole text in windows.
fn draw(
    checkpoint: &Checkpoint,
    data: &TextSource,
    network: &TextNetwork,
    rule: &CalibrationRule,
) -> Result<Vec<Vec<u32>>, CommandError> {
    let longest = network.config().longest();
    let tokenizer = TextTokenizer::open(checkpoint.root(), longest)?;
    let sequences = if network.is_causal() {
        windows(&tokenizer.encode_all(&data.whole()?)?, WINDOW.min(longest))
    } else {
        tokenizer.encode(&data.texts()?)?
    };
    let vocabulary = network.config().vocabulary();
    if let Some(&beyond) = sequences.iter().flatten().find(|&&token| token as usize >= vocabulary) {
        let problem = format!("the tokenizer gives token {beyond}, and the model knows {vocabulary}");
        return Err(CommandError::Unfit { problems: vec![problem] });
    }
    Ok(sample(sequences, rule.samples, rule.seed))
}
