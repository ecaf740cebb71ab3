//! What fine-tuning and training from scratch have in common: a run.

use super::recalibrate::recalibrate;
use super::{CommandError, DeviceName, RunFile, networks};
use crate::checkpoint::{Record, Source};
use crate::data::{Augmentation, DataSource, ImageDataset, Loader, LoaderOptions, Split};
use crate::layers::{Execution, State, keep_freed_memory};
use crate::models::{Architecture, Network};
use crate::plan::Save;
use crate::report::{TrainingReport, training_html};
use crate::train::{
    self, EpochMetrics, MetricsRecord, RunFolder, Session, SessionParts, Trainer, TrainingOptions,
    TrainingProgress, read_metrics,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;

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
    pub(super) architecture: Option<Architecture>,
    /// What tells this start from others.
    pub(super) origin: Value,
    /// The options as they are kept in the run's folder.
    pub(super) file: RunFile,
}

/// Trains from a start to the end, in the run's folder.
pub(super) fn run(
    start: Start,
    options: &RunOptions,
    progress: &dyn TrainingProgress,
) -> Result<TrainingReport, CommandError> {
    keep_freed_memory();
    let device = options.device.open()?;
    let training = &options.training;
    let Start { command, state, record, architecture, origin, mut file } = start;
    let network = networks::network(&state, architecture, training.execution, &device)?;
    let (train, test) = loaders(options)?;
    networks::check(&network, &train)?;
    networks::check(&network, &test)?;
    let teacher = match &options.teacher {
        None => None,
        Some(source) => {
            let named = options.teacher_architecture;
            let (_, _, teacher) = networks::open(source, named, Execution::Auto, &device)?;
            networks::check(&teacher, &train)?;
            Some(teacher)
        }
    };
    let folder = RunFolder::new(&options.output);
    prepare(&folder, options)?;
    file.arch = Some(*network.architecture());
    let dense_parameters =
        dense_parameters(&network).or(training.pruning.map(|_| network.parameters().count() as u64));
    if options.recalibrate && !options.resume {
        recalibrate(&network, &options.data, training, options.workers, &device, progress)?;
    }
    let architecture = network.architecture().to_string();
    let origin = json!({
        "start": origin,
        "architecture": architecture,
        "data": options.data.to_string(),
        "train_data": train.dataset().fingerprint(),
        "test_data": test.dataset().fingerprint(),
        "teacher": options.teacher.as_ref().map(ToString::to_string),
        "recalibrate": options.recalibrate,
        "options": training,
    });
    let steps = train.batches_per_epoch().div_ceil(training.accumulate.max(1)) as u64;
    let trainer = Trainer::new(network, teacher, training, steps * training.epochs as u64, &device)?;
    progress.policy(trainer.network().parameters(), trainer.decay());
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
    folder.write_text("options.toml", &file.to_toml())?;
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

/// Refuses a folder that is taken; makes room in one that is to be replaced.
fn prepare(folder: &RunFolder, options: &RunOptions) -> Result<(), CommandError> {
    let root = folder.root();
    let taken = root.is_file() || root.read_dir().is_ok_and(|mut entries| entries.next().is_some());
    if options.resume || !taken {
        return Ok(());
    }
    // Only what a run wrote is removed, never what else a folder holds.
    if !options.overwrite || root.is_file() || !(folder.has_state() || folder.path("metrics.jsonl").is_file())
    {
        return Err(CommandError::Taken { path: root.to_path_buf() });
    }
    folder.clear().map_err(|source| CommandError::SideFile {
        what: "can't clear",
        path: root.to_path_buf(),
        source,
    })
}

fn loaders(options: &RunOptions) -> Result<(Loader, Loader), CommandError> {
    let training = &options.training;
    let train = networks::dataset(&options.data, Split::Train, training.train_limit)?;
    let test = networks::dataset(&options.data, Split::Test, training.test_limit)?;
    let augmentation = training.augmentation.unwrap_or_else(|| Augmentation::for_format(train.format()));
    let mut loading = LoaderOptions::new(training.batch_size);
    loading.seed = training.seed;
    loading.shuffle = true;
    loading.augmentation = augmentation;
    loading.normalization.clone_from(&training.normalization);
    loading.workers = options.workers.unwrap_or(loading.workers);
    let train = Loader::new(train, loading)?;
    let test = plain(test, options)?;
    Ok((train, test))
}

fn plain(dataset: Arc<ImageDataset>, options: &RunOptions) -> Result<Loader, CommandError> {
    let training = &options.training;
    networks::plain_loader(dataset, training.batch_size, training.normalization.as_ref(), options.workers)
}
