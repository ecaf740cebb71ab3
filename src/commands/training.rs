//! What fine-tuning and training from scratch have in common: a run.

use super::preparation::{Place, Preparation};
use super::recalibrate::recalibrate;
use super::{CommandError, DeviceName, RunFile, model_files, networks};
use crate::checkpoint::{Record, Source};
use crate::data::Material;
use crate::layers::{State, keep_freed_memory};
use crate::models::Architecture;
use crate::plan::Save;
use crate::report::{CheckResult, TrainingReport, training_html};
use crate::train::{
    self, Classifier, EpochMetrics, Learner, Lessons, MetricsRecord, Pictures, Session, SessionParts,
    Trainer, TrainingOptions, TrainingProgress, read_metrics,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Which network of a run is its result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Keep {
    /// The one after the last epoch.
    #[default]
    Last,
    /// The one that was best on the test set.
    Best,
}

/// What a run is to do, whatever it starts from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RunOptions {
    /// The data.
    pub data: Material,
    /// Where texts are measured, where it is not the data's own test split.
    pub test_data: Option<Material>,
    /// The run's folder.
    pub output: PathBuf,
    /// How it is trained.
    pub training: TrainingOptions,
    /// A dense network whose logits are learned.
    pub teacher: Option<Source>,
    /// The teacher's architecture, where its names do not tell.
    pub teacher_architecture: Option<Architecture>,
    /// Whether the factors are saved or multiplied out.
    pub save: Save,
    /// Which network is the result.
    pub keep: Keep,
    /// Where it is computed.
    pub device: DeviceName,
    /// Threads that read and augment.
    pub workers: Option<usize>,
    /// Whether a folder that is not empty is replaced.
    pub overwrite: bool,
    /// Whether the run in the folder is continued.
    pub resume: bool,
    /// Steps between two saved states, beside the one after each epoch.
    pub save_every: Option<u64>,
    /// Whether batch normalization is recalibrated before the first epoch.
    pub recalibrate: bool,
    /// The accuracy that the result must have.
    pub min_accuracy: Option<f64>,
    /// The correlation that the result must have.
    pub min_spearman: Option<f64>,
    /// The BLEU that the result must have.
    pub min_bleu: Option<f64>,
    /// The perplexity that the result must not exceed.
    pub max_perplexity: Option<f64>,
}

impl RunOptions {
    /// Training on this data into this folder.
    #[must_use]
    pub fn new(data: impl Into<Material>, output: PathBuf, training: TrainingOptions) -> Self {
        Self {
            data: data.into(),
            test_data: None,
            output,
            training,
            teacher: None,
            teacher_architecture: None,
            save: Save::Factored,
            keep: Keep::Last,
            device: DeviceName::Cpu,
            workers: None,
            overwrite: false,
            resume: false,
            save_every: None,
            recalibrate: false,
            min_accuracy: None,
            min_spearman: None,
            min_bleu: None,
            max_perplexity: None,
        }
    }
}

/// What a run on pictures starts from.
pub(super) struct Start {
    pub(super) command: &'static str,
    pub(super) state: State,
    pub(super) record: Option<Record>,
    pub(super) architecture: Architecture,
    /// What tells this start from others, an object.
    pub(super) origin: Value,
    /// The options as they are kept in the run's folder.
    pub(super) file: RunFile,
    /// What lies beside the checkpoint, by name.
    pub(super) side_files: Vec<(String, Vec<u8>)>,
}

/// A run that is ready to begin or to go on.
pub(super) struct Ready<L, D> {
    pub(super) command: &'static str,
    /// What is trained, in words.
    pub(super) model: String,
    pub(super) learner: L,
    pub(super) lessons: D,
    /// The checkpoint whose tensors the network's replace when it is saved.
    pub(super) template: State,
    pub(super) record: Option<Record>,
    pub(super) origin: Value,
    pub(super) file: RunFile,
    pub(super) place: Place,
    /// What lies beside the result, by name.
    pub(super) side_files: Vec<(String, Vec<u8>)>,
}

/// Trains a network for pictures from a start to the end, in the run's folder.
pub(super) fn run_pictures(
    start: Start,
    ready: Preparation,
    options: &RunOptions,
    progress: &dyn TrainingProgress,
) -> Result<TrainingReport, CommandError> {
    keep_freed_memory();
    let training = &options.training;
    let Start { command, state, record, architecture, mut origin, mut file, mut side_files } = start;
    let Preparation { place, train, test, teacher } = ready;
    let network = networks::network(&state, Some(architecture), training.execution, &place.device)?;
    // Pictures that are too small for it are refused before anything is written.
    networks::multiply_adds(&network, &train)?;
    file.arch = Some(*network.architecture());
    if let (true, false, Material::Images(data)) = (options.recalibrate, options.resume, &options.data) {
        recalibrate(&network, data, training, options.workers, &place.device, progress)?;
    }
    let model = network.architecture().to_string();
    extend(
        &mut origin,
        json!({
            "command": command,
            "architecture": model,
            "train_data": train.dataset().fingerprint(),
            "test_data": test.dataset().fingerprint(),
            "teacher": teacher.as_ref().map(|teacher| &teacher.fingerprint),
            "recalibrate": options.recalibrate,
            "options": training,
        }),
    );
    let learner = Classifier::new(network, teacher.map(|teacher| teacher.network), &place.device);
    let lessons = Pictures { train, test };
    model_files::complete_for_pictures(
        &mut side_files,
        learner.network().architecture(),
        &lessons.train,
        training.normalization.as_ref(),
        record.as_ref(),
        options.save,
    );
    let (template, place) = (state, place);
    let ready = Ready { command, model, learner, lessons, template, record, origin, file, place, side_files };
    run(ready, options, progress)
}

/// Puts the entries of one object into another.
pub(super) fn extend(object: &mut Value, more: Value) {
    if let (Some(object), Value::Object(more)) = (object.as_object_mut(), more) {
        object.extend(more);
    }
}

/// Trains to the end, in the run's folder.
pub(super) fn run<L: Learner, D: Lessons<L>>(
    ready: Ready<L, D>,
    options: &RunOptions,
    progress: &dyn TrainingProgress,
) -> Result<TrainingReport, CommandError> {
    let training = &options.training;
    let Ready { command, model, learner, lessons, template, record, origin, file, place, side_files } = ready;
    let dense_parameters =
        dense_parameters(&learner).or(training.pruning.map(|_| learner.parameters().count() as u64));
    let steps = lessons.batches_per_epoch().div_ceil(training.accumulate.max(1)) as u64;
    let total_steps = steps.saturating_mul(training.epochs as u64);
    let (unit, samples) = (lessons.unit(), (lessons.samples_per_epoch() * training.epochs) as u64);
    let settings_text = file.to_toml().map_err(Box::new)?;
    let trainer = Trainer::new(learner, training, total_steps, &place.device)?;
    progress.policy(trainer.learner().parameters(), trainer.decay());
    place.clear()?;
    let Place { device, folder, .. } = place;
    let parts = SessionParts {
        lessons,
        folder: folder.clone(),
        template,
        record: record.clone(),
        origin,
        save_every: options.save_every,
    };
    let modules = parts.template.modules.clone();
    let mut session = Session::new(trainer, parts, &device, options.resume)?;
    folder.write_file("options.toml", settings_text.as_bytes())?;
    for (name, bytes) in &side_files {
        folder.write_file(name, bytes)?;
    }
    session.run(progress)?;
    let result = match options.keep {
        Keep::Last => session.saved_state()?,
        Keep::Best => State::read(&crate::checkpoint::Checkpoint::open_path(&folder.checkpoint("best"))?)?,
    };
    let target = folder.path("model.safetensors");
    match options.save {
        Save::Factored => folder.save_network(&target, &result, record.as_ref())?,
        Save::Collapsed => folder.save_network(&target, &result.collapsed()?, None)?,
    }
    let epochs: Vec<EpochMetrics> = read_metrics(&folder.path("metrics.jsonl"))
        .map_err(train::TrainError::from)?
        .into_iter()
        .filter_map(|record| match record {
            MetricsRecord::Epoch(metrics) => Some(metrics),
            _ => None,
        })
        .collect();
    let trainer = session.trainer();
    let settings = serde_json::to_value(&file).unwrap_or_default();
    let parameters = trainer.learner().parameters();
    let mut report =
        TrainingReport::new(model, parameters, trainer.decay(), epochs, (unit, samples), settings);
    report = report.with_layers(&modules);
    if training.pruning.is_some() {
        report = report.with_best(session.best_epoch());
    }
    report.command = command;
    report.totals.parameters = trainer.parameters_kept() as u64;
    if let Some(dense) = dense_parameters {
        report = report.against_dense(dense);
    }
    report.output = Some(options.output.display().to_string());
    check(&mut report, options);
    for (name, text) in [("report.json", report.to_json()), ("report.html", training_html(&report))] {
        folder.write_file(name, text.as_bytes())?;
    }
    Ok(report)
}

/// Holds what is asked for against the epoch that is the result.
fn check(report: &mut TrainingReport, options: &RunOptions) {
    let best = report.best.as_ref().map(|best| best.epoch);
    let result = match options.keep {
        Keep::Last => report.epochs.last(),
        Keep::Best => report.epochs.iter().find(|epoch| Some(epoch.epoch) == best),
    };
    let score = |name: &str| result.and_then(|epoch| epoch.scores.get(name).copied()).unwrap_or(f64::NAN);
    let accuracy = result.map_or(f64::NAN, |epoch| epoch.test_accuracy);
    let checks = [
        options.min_accuracy.map(|least| CheckResult::accuracy(accuracy, least)),
        options.min_spearman.map(|least| CheckResult::spearman(score("spearman"), least)),
        options.min_bleu.map(|least| CheckResult::bleu(score("bleu"), least)),
        options.max_perplexity.map(|most| CheckResult::perplexity(score("perplexity"), most)),
    ];
    report.checks.extend(checks.into_iter().flatten());
}

/// Parameters that the network would have if no layer were factored.
fn dense_parameters(learner: &impl Learner) -> Option<u64> {
    let factored = learner.layers().iter().filter_map(|layer| layer.weight.chain());
    let (now, dense) = factored
        .fold((0, 0), |(now, dense), chain| (now + chain.parameters(), dense + chain.format().parameters()));
    (now != dense).then(|| (learner.parameters().count() - now + dense) as u64)
}
