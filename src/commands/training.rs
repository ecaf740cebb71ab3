//! What fine-tuning and training from scratch have in common: a run.

use super::preparation::Preparation;
use super::recalibrate::recalibrate;
use super::{CommandError, DeviceName, RunFile, networks};
use crate::checkpoint::{Record, Source};
use crate::data::DataSource;
use crate::layers::{State, keep_freed_memory};
use crate::models::{Architecture, Network};
use crate::plan::Save;
use crate::report::{TrainingReport, training_html};
use crate::train::{
    self, EpochMetrics, MetricsRecord, Session, SessionParts, Trainer, TrainingOptions, TrainingProgress,
    read_metrics,
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
    pub data: DataSource,
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
}

impl RunOptions {
    /// Training on this data into this folder.
    #[must_use]
    pub fn new(data: DataSource, output: PathBuf, training: TrainingOptions) -> Self {
        Self {
            data,
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
        }
    }
}

/// What a run starts from.
pub(super) struct Start {
    pub(super) command: &'static str,
    pub(super) state: State,
    pub(super) record: Option<Record>,
    pub(super) architecture: Architecture,
    /// What tells this start from others, an object.
    pub(super) origin: Value,
    /// The options as they are kept in the run's folder.
    pub(super) file: RunFile,
}

/// Trains from a start to the end, in the run's folder.
pub(super) fn run(
    start: Start,
    mut ready: Preparation,
    options: &RunOptions,
    progress: &dyn TrainingProgress,
) -> Result<TrainingReport, CommandError> {
    keep_freed_memory();
    let training = &options.training;
    let Start { command, state, record, architecture, mut origin, mut file } = start;
    let device = ready.device.clone();
    let network = networks::network(&state, Some(architecture), training.execution, &device)?;
    // Pictures that are too small for it are refused before anything is written.
    networks::multiply_adds(&network, &ready.train)?;
    file.arch = Some(*network.architecture());
    let dense_parameters =
        dense_parameters(&network).or(training.pruning.map(|_| network.parameters().count() as u64));
    if options.recalibrate && !options.resume {
        recalibrate(&network, &options.data, training, options.workers, &device, progress)?;
    }
    let architecture = network.architecture().to_string();
    let run = json!({
        "command": command,
        "architecture": architecture,
        "train_data": ready.train.dataset().fingerprint(),
        "test_data": ready.test.dataset().fingerprint(),
        "teacher": ready.teacher.as_ref().map(|teacher| &teacher.fingerprint),
        "recalibrate": options.recalibrate,
        "options": training,
    });
    if let (Some(origin), Value::Object(run)) = (origin.as_object_mut(), run) {
        origin.extend(run);
    }
    let steps = ready.train.batches_per_epoch().div_ceil(training.accumulate.max(1)) as u64;
    let total_steps = steps.saturating_mul(training.epochs as u64);
    let settings_text = file.to_toml().map_err(Box::new)?;
    let teacher = ready.teacher.take().map(|teacher| teacher.network);
    let trainer = Trainer::new(network, teacher, training, total_steps, &device)?;
    progress.policy(trainer.network().parameters(), trainer.decay());
    ready.clear()?;
    let Preparation { train, test, folder, .. } = ready;
    let parts = SessionParts {
        train,
        test,
        folder: folder.clone(),
        template: state,
        record: record.clone(),
        origin,
        save_every: options.save_every,
    };
    let mut session = Session::new(trainer, parts, &device, options.resume)?;
    folder.write_text("options.toml", &settings_text)?;
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
    let images = (session.images_per_epoch() * training.epochs) as u64;
    let settings = serde_json::to_value(&file).unwrap_or_default();
    let parameters = trainer.network().parameters();
    let mut report = TrainingReport::new(architecture, parameters, trainer.decay(), epochs, images, settings);
    report.command = command;
    report.totals.parameters = trainer.parameters_kept() as u64;
    if let Some(dense) = dense_parameters {
        report = report.against_dense(dense);
    }
    report.output = Some(options.output.display().to_string());
    if let Some(least) = options.min_accuracy {
        let accuracy = match options.keep {
            Keep::Last => report.epochs.last().map(|epoch| epoch.test_accuracy),
            Keep::Best => report.best.map(|best| best.test_accuracy),
        };
        report.require_accuracy(accuracy.unwrap_or(0.0), least);
    }
    for (name, text) in [("report.json", report.to_json()), ("report.html", training_html(&report))] {
        folder.write_text(name, &text)?;
    }
    Ok(report)
}

/// Parameters that the network would have if no layer were factored.
fn dense_parameters(network: &Network) -> Option<u64> {
    let factored = network.layers().iter().filter_map(|layer| layer.weight.chain());
    let (now, dense) = factored.fold((0, 0), |(now, dense), chain| {
        (now + chain.parameters(), dense + chain.unfolding().parameters())
    });
    (now != dense).then(|| (network.parameters().count() - now + dense) as u64)
}
