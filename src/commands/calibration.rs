//! What a model does with data, collected or read before its layers are factored.

use super::calibrated_model::CalibratedModel;
use super::{CommandError, sequential, side_files};
use crate::calibrate::{CalibrationProgress, CalibrationRun, Damping, Statistics, StatisticsError};
use crate::checkpoint::{Checkpoint, OutputOptions, Staging};
use crate::data::Material;
use crate::decompose::{Method, Metric};
use crate::layers::{State, keep_freed_memory};
use crate::models::Architecture;
use crate::plan::{
    CalibrationInputs, CalibrationRule, LayerEvent, Limits, Plan, PlanOptions, Progress, Recipe, Stage,
};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

/// Where what a model does with data is taken from.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct CalibrationOptions {
    /// What the model is run over: texts for networks for text, pictures for convolutional networks.
    pub data: Option<Material>,
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
    model: CalibratedModel,
    fingerprint: String,
    read: Option<Statistics>,
    options: CalibrationOptions,
    rule: CalibrationRule,
    method: Method,
}

/// A metric for each layer that was reached, and the recipe's word on how they came about.
pub(super) struct Calibrated {
    pub(super) metrics: BTreeMap<String, Metric>,
    /// The model, where factors are made for what its layers see once others are factored.
    model: Option<CalibratedModel>,
    limits: Limits,
    pub(super) rule: CalibrationRule,
    /// Seconds that the model was run.
    pub(super) elapsed_secs: f64,
}

impl Calibration {
    /// Refuses a checkpoint that is no known network, data that are not what it takes, and statistics of other ones.
    pub(super) fn new(
        checkpoint: &Checkpoint,
        options: &CalibrationOptions,
        architecture: Option<Architecture>,
        recipe: &Recipe,
    ) -> Result<Self, CommandError> {
        let (method, rule) = (recipe.method, recipe.calibration.clone().unwrap_or_default());
        CalibratedModel::check(checkpoint, options.data.as_ref())?;
        if let Some(path) = &options.save {
            let mut target = OutputOptions::file(path);
            target.overwrite = options.overwrite;
            Staging::check(&target, &side_files::inputs(checkpoint), &[])?;
        }
        let state = State::read(checkpoint)?;
        let model = CalibratedModel::open(checkpoint, &state, options.data.as_ref(), architecture, &rule)?;
        let fingerprint = state.fingerprint()?;
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
            if statistics.model != fingerprint {
                return Err(other("model", &statistics.model, &fingerprint).into());
            }
            if let Some(data) = model.data().filter(|data| *data != statistics.data) {
                return Err(other("choice of samples", &statistics.data, data).into());
            }
            if let Some(data) = rule.data.as_ref().filter(|data| **data != statistics.data) {
                return Err(other("choice of samples", &statistics.data, data).into());
            }
            if method == Method::Fisher && !statistics.has_gradients() {
                return Err(StatisticsError::NoGradients { path: path.clone() }.into());
            }
        }
        if rule.inputs == CalibrationInputs::Compressed && model.samples().is_none() {
            let problem = "inputs of factored layers come from running the model: they need --calibrate DATA"
                .to_owned();
            return Err(CommandError::Usage(problem));
        }
        let read = read.map(|(_, statistics)| statistics);
        Ok(Self { model, fingerprint, read, options: options.clone(), rule, method })
    }

    /// Runs the model, or takes what was read, and makes each layer's metric of it.
    pub(super) fn run(self, limits: Limits, progress: &dyn Progress) -> Result<Calibrated, CommandError> {
        let Self { model, fingerprint, read, options, mut rule, method } = self;
        let start = Instant::now();
        let statistics = match (read, model.samples()) {
            (Some(statistics), samples) => {
                // What nothing else says of the samples, their statistics do.
                if samples.is_none() && rule.data.is_none() {
                    rule.samples = usize::try_from(statistics.tokens).unwrap_or(rule.samples);
                }
                statistics
            }
            (None, Some((what, samples))) => {
                keep_freed_memory();
                let heard = Heard { progress, what, start };
                progress.begin(Stage::Calibrating, samples, samples as u64);
                let mut run = CalibrationRun::new(&heard);
                (run.gradients, run.seed, run.threads) =
                    (method == Method::Fisher, rule.seed, limits.threads);
                let found = model.run(&run);
                progress.end();
                let data = model.data().unwrap_or_default().to_owned();
                if rule.data.as_ref().is_some_and(|recorded| *recorded != data) {
                    progress.warn("the samples are others than those that the recipe was made with");
                }
                found?.named(fingerprint, data)
            }
            (None, None) => return Err(CommandError::Usage("there is nothing to calibrate on".to_owned())),
        };
        statistics.check()?;
        let model = (rule.inputs == CalibrationInputs::Compressed).then_some(model);
        let elapsed_secs = start.elapsed().as_secs_f64();
        if let Some(path) = &options.save {
            statistics.write(path, options.overwrite)?;
        }
        rule.data = Some(statistics.data.clone());
        let damping = Damping { inputs: rule.input_damping, outputs: rule.output_damping };
        let metrics = statistics.metrics(method, damping);
        Ok(Calibrated { metrics, model, limits, rule, elapsed_secs })
    }
}

/// What calibration needs, where a method asks for it; refused here is what would be refused after it.
pub(super) fn prepare(
    checkpoint: &Checkpoint,
    recipe: &Recipe,
    given: &CalibrationOptions,
    architecture: Option<Architecture>,
    plan_options: &PlanOptions,
) -> Result<Option<Calibration>, CommandError> {
    if !given.is_given() {
        return Ok(None);
    }
    if recipe.method == Method::Plain {
        let problem = "method `plain` knows nothing of data: leave the calibration out".to_owned();
        return Err(CommandError::Usage(problem));
    }
    Plan::check(checkpoint, recipe, plan_options)?;
    Calibration::new(checkpoint, given, architecture, recipe).map(Some)
}

/// The plan, in the metrics of calibration where there is one.
pub(super) fn plan(
    checkpoint: &Checkpoint,
    recipe: &Recipe,
    plan_options: &PlanOptions,
    calibrated: Option<Calibrated>,
    progress: &dyn Progress,
) -> Result<Plan, CommandError> {
    let Some(Calibrated { metrics, model, limits, rule, .. }) = calibrated else {
        return Ok(Plan::new(checkpoint, recipe, plan_options, progress)?);
    };
    let recipe = Recipe { calibration: Some(rule.clone()), ..recipe.clone() };
    let mut plan = Plan::in_metrics(checkpoint, &recipe, plan_options, &metrics, progress)?;
    let unknown: Vec<&str> =
        plan.layers.iter().filter(|layer| layer.metric.is_none()).map(|layer| layer.layer.as_str()).collect();
    if !unknown.is_empty() {
        let layers = unknown.join(", ");
        progress.warn(&format!("calibration says nothing of {layers}: factored as without it"));
    }
    if let Some(model) = model {
        sequential::refine(&mut plan, &model, &rule, limits, progress)?;
    }
    Ok(plan)
}

/// Passes on how many samples were run.
pub(super) struct Heard<'a> {
    pub(super) progress: &'a dyn Progress,
    pub(super) what: &'static str,
    pub(super) start: Instant,
}

impl CalibrationProgress for Heard<'_> {
    fn ran(&self, samples: usize) {
        let event = LayerEvent::new(self.what, self.start.elapsed().as_secs_f64());
        self.progress.advanced(&event, samples as u64);
    }
}
