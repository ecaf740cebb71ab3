use super::preparation::Preparation;
use super::text_training::{TextRun, train_on_text, train_on_translations};
use super::training::{self, RunOptions, Start};
use super::{
    CalibrationOptions, CommandError, RunFile, calibration, factoring, factoring::Initialization,
    model_files, networks,
};
use crate::checkpoint::{Checkpoint, Record, Source};
use crate::data::Material;
use crate::layers::State;
use crate::models::Architecture;
use crate::plan::{Limits, PlanOptions, Progress, Recipe, Save};
use crate::report::TrainingReport;
use crate::train::TrainingProgress;
use serde_json::json;

/// What [`finetune`] is to do.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FinetuneOptions {
    /// The checkpoint, dense or factored.
    pub source: Source,
    /// Which layers of a dense one are factored; none to train it as it is.
    pub recipe: Option<Recipe>,
    /// The architecture, where the checkpoint's names do not tell.
    pub architecture: Option<Architecture>,
    /// What methods that know the data are given, where layers are factored.
    pub calibration: CalibrationOptions,
    /// How much of the machine factoring uses.
    pub limits: Limits,
    /// The run.
    pub run: RunOptions,
}

impl FinetuneOptions {
    /// Fine-tuning of this checkpoint.
    #[must_use]
    pub fn new(source: Source, recipe: Option<Recipe>, run: RunOptions) -> Self {
        Self {
            source,
            recipe,
            architecture: None,
            calibration: CalibrationOptions::default(),
            limits: Limits::default(),
            run,
        }
    }
}

/// Trains a checkpoint on: a dense one whose layers are factored first, a factored one, or a dense one as it is.
///
/// # Determinism
///
/// On the CPU the result depends on the checkpoint, the data and the options alone, also when the run was interrupted and
/// continued.
///
/// # Errors
///
/// - what [`super::compress()`] refuses of a recipe;
/// - [`CommandError::Unfit`] for a recipe on a checkpoint that is factored already, and for data that a network was not made for;
/// - [`CommandError::Architecture`], [`CommandError::Network`], [`CommandError::Train`]
pub fn finetune(
    options: &FinetuneOptions,
    factoring_progress: &dyn Progress,
    progress: &dyn TrainingProgress,
) -> Result<TrainingReport, CommandError> {
    let asked = || TextRun {
        command: "finetune",
        options,
        initialization: Initialization::Spectral,
        file: RunFile::from(options),
    };
    let data = match &options.run.data {
        Material::Images(data) => data,
        Material::Text(data) => return train_on_text(asked(), data, factoring_progress, progress),
        Material::Parallel(data) => {
            return train_on_translations(asked(), data, factoring_progress, progress);
        }
    };
    if options.run.training.dropout > 0.0 {
        return Err(CommandError::Usage("dropout is for networks that translate".to_owned()));
    }
    let mut run = options.run.clone();
    if let Source::Path(path) = &options.source {
        let given = run.training.normalization.take();
        run.training.normalization = networks::normalization(path, given.as_ref());
    }
    let ready = Preparation::new(&run, data, Some(&options.source))?;
    let checkpoint = Checkpoint::open(&options.source)?;
    let dense = State::read(&checkpoint)?;
    let architecture = networks::architecture_of(&checkpoint, &dense, options.architecture)?;
    ready.check(&architecture)?;
    let origin = json!({
        "checkpoint": dense.fingerprint()?,
        "recipe": options.recipe.as_ref().map(Recipe::to_json),
    });
    let (state, record) =
        factored(options, &checkpoint, dense, Initialization::Spectral, factoring_progress)?;
    let (command, file) = ("finetune", RunFile::from(options));
    let side_files = model_files::of_checkpoint(&checkpoint, None, record.as_ref(), run.save)?;
    let start = Start { command, state, record, architecture, origin, file, side_files };
    training::run_pictures(start, ready, &run, progress)
}

/// A dense checkpoint with the layers of the recipe factored, or any as it is.
pub(super) fn factored(
    options: &FinetuneOptions,
    checkpoint: &Checkpoint,
    read: State,
    initialization: Initialization,
    progress: &dyn Progress,
) -> Result<(State, Option<Record>), CommandError> {
    match (&options.recipe, checkpoint.record()) {
        (None, record) => Ok((read, record.cloned())),
        (Some(_), Some(record)) => {
            let (source, layers) = (&options.source, record.modules.len());
            let problem = format!("`{source}` is factored already, in {layers} layers: it takes no rank");
            Err(CommandError::Unfit { problems: vec![problem] })
        }
        (Some(recipe), None) => {
            let mut plan_options = PlanOptions::new(options.limits, false);
            plan_options.overcomplete = true;
            // Factors are trained, however they are saved in the end.
            let recipe = Recipe { save: Save::Factored, ..recipe.clone() };
            let given = &options.calibration;
            let calibration =
                calibration::prepare(checkpoint, &recipe, given, options.architecture, &plan_options)?;
            let calibrated =
                calibration.map(|calibration| calibration.run(options.limits, progress)).transpose()?;
            let plan = calibration::plan(checkpoint, &recipe, &plan_options, calibrated, progress)?;
            factoring::warn_of_none(&plan);
            let (start, seed) = (initialization, options.run.training.seed);
            let (state, record) =
                factoring::factor_state(read, checkpoint, &plan, start, seed, options.limits, progress)?;
            Ok((state, Some(record)))
        }
    }
}
