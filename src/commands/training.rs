//! What fine-tuning and training from scratch have in common: a run.

use super::{CommandError, DeviceName, networks};
use crate::checkpoint::{Record, Source};
use crate::data::{Augmentation, DataSource, ImageDataset, Loader, LoaderOptions, Split};
use crate::layers::{Execution, State};
use crate::models::{Architecture, Network};
use crate::plan::Save;
use crate::report::CheckResult;
use crate::train::{
    self, DecayTable, EpochMetrics, MetricsRecord, RunFolder, Session, SessionParts, Trainer, TrainingOptions,
    TrainingProgress, read_metrics,
};
use candle_core::Device;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;

/// How many pictures the statistics of batch normalization are re-estimated on.
const RECALIBRATION_IMAGES: usize = 5000;

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
    pub(super) state: State,
    pub(super) record: Option<Record>,
    pub(super) architecture: Option<Architecture>,
    /// What tells this start from others.
    pub(super) origin: Value,
}

/// What a run came to.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct RunOutcome {
    /// The run's folder.
    pub output: String,
    /// What network it is.
    pub architecture: String,
    /// Parameters at the end, without those that were pruned.
    pub parameters: usize,
    /// How each parameter was decayed.
    #[serde(skip)]
    pub decay: DecayTable,
    /// What was measured after each epoch, before the first one too.
    pub epochs: Vec<EpochMetrics>,
    /// The best epoch, and its accuracy.
    pub best: Option<(usize, f64)>,
    /// What must hold, and whether it does.
    pub checks: Vec<CheckResult>,
}

impl RunOutcome {
    /// Whether all that must hold does.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.passed)
    }
}

/// Trains from a start to the end, in the run's folder.
pub(super) fn run(
    start: Start,
    options: &RunOptions,
    progress: &dyn TrainingProgress,
) -> Result<RunOutcome, CommandError> {
    let device = options.device.open()?;
    let training = &options.training;
    let Start { state, record, architecture, origin } = start;
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
    if options.recalibrate && !options.resume {
        recalibrate(&network, &train, options, &device, progress)?;
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
    let decay = trainer.decay().clone();
    progress.policy(&decay);
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
    let best = session.position().best;
    let accuracy = match options.keep {
        Keep::Last => epochs.last().map(|epoch| epoch.test_accuracy),
        Keep::Best => best.map(|(_, accuracy)| accuracy),
    };
    let check = |least: f64| CheckResult::accuracy(accuracy.unwrap_or(0.0), least);
    Ok(RunOutcome {
        output: options.output.display().to_string(),
        architecture,
        parameters: session.trainer().parameters_kept(),
        decay,
        epochs,
        best,
        checks: options.min_accuracy.map(check).into_iter().collect(),
    })
}

/// Refuses a folder that is taken; makes room in one that is to be replaced.
fn prepare(folder: &RunFolder, options: &RunOptions) -> Result<(), CommandError> {
    let root = folder.root();
    let taken = root.is_file() || root.read_dir().is_ok_and(|mut entries| entries.next().is_some());
    if options.resume || !taken {
        return Ok(());
    }
    // Only what a run wrote is removed, never what else a folder holds.
    if !options.overwrite || root.is_file() || !(folder.has_state() || folder.path("metrics.jsonl").is_file()) {
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
    let augmentation =
        training.augmentation.clone().unwrap_or_else(|| Augmentation::for_format(train.format()));
    let mut loading = LoaderOptions::new(training.batch_size);
    loading.seed = training.seed;
    loading.shuffle = true;
    loading.augmentation = augmentation;
    loading.normalization = training.normalization.clone();
    loading.workers = options.workers.unwrap_or(loading.workers);
    let train = Loader::new(train, loading)?;
    let test = plain(test, options)?;
    Ok((train, test))
}

fn plain(dataset: Arc<ImageDataset>, options: &RunOptions) -> Result<Loader, CommandError> {
    let training = &options.training;
    networks::plain_loader(dataset, training.batch_size, training.normalization.as_ref(), options.workers)
}

/// Re-estimates the statistics of batch normalization on training data without augmentation.
fn recalibrate(
    network: &Network,
    train: &Loader,
    options: &RunOptions,
    device: &Device,
    progress: &dyn TrainingProgress,
) -> Result<(), CommandError> {
    let dataset = networks::dataset(&options.data, Split::Train, options.training.train_limit)?;
    let loader = plain(dataset, options)?;
    let batches = RECALIBRATION_IMAGES.div_ceil(options.training.batch_size).min(train.batches_per_epoch());
    progress.pass("recalibrating", batches * options.training.batch_size);
    train::recalibrate(network, &loader, batches, device, |images| progress.seen(images))?;
    progress.passed();
    Ok(())
}
