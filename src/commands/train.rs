use super::preparation::Preparation;
use super::training::{self, RunOptions, Start};
use super::{CommandError, RunFile, factoring, factoring::Initialization};
use crate::checkpoint::{Checkpoint, OutputOptions};
use crate::data::Material;
use crate::models::{Architecture, Network};
use crate::plan::{Limits, Plan, PlanOptions, Progress, Recipe, Save};
use crate::report::TrainingReport;
use crate::train::TrainingProgress;
use candle_core::Device;
use serde_json::json;

/// What [`train`] is to do.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TrainOptions {
    /// The architecture; classes and channels are the data's.
    pub architecture: Architecture,
    /// Which layers are factored; none for a dense network.
    pub recipe: Option<Recipe>,
    /// How factors start.
    pub initialization: Initialization,
    /// How much of the machine factoring uses.
    pub limits: Limits,
    /// The run.
    pub run: RunOptions,
}

impl TrainOptions {
    /// Training of this architecture.
    #[must_use]
    pub fn new(architecture: Architecture, recipe: Option<Recipe>, run: RunOptions) -> Self {
        Self {
            architecture,
            recipe,
            initialization: Initialization::Spectral,
            limits: Limits::default(),
            run,
        }
    }
}

/// Trains a network from scratch, dense, factored or overcomplete.
///
/// Random dense weights are drawn first; a factored network starts from their truncated SVDs, or from factors that are
/// random themselves.
///
/// # Determinism
///
/// On the CPU the result depends on the data and the options alone, also when the run was interrupted and continued.
///
/// # Errors
///
/// - as [`super::finetune()`]
pub fn train(
    options: &TrainOptions,
    factoring_progress: &dyn Progress,
    progress: &dyn TrainingProgress,
) -> Result<TrainingReport, CommandError> {
    let Material::Images(data) = &options.run.data else {
        let problem = "networks for text are not trained from an architecture's name".to_owned();
        return Err(CommandError::Usage(problem));
    };
    let ready = Preparation::new(&options.run, data, None)?;
    let [channels, ..] = ready.train.shape();
    let classes = ready.train.dataset().classes();
    let architecture = options.architecture.with_classes(classes).with_channels(channels);
    let seed = options.run.training.seed;
    let mut state = Network::fresh(&architecture, seed, &Device::Cpu)?.state()?;
    let mut record = None;
    if let Some(recipe) = &options.recipe {
        // A network that was just made is planned and factored like any checkpoint.
        let folder = tempfile::tempdir().map_err(|source| CommandError::SideFile {
            what: "can't make",
            path: std::env::temp_dir(),
            source,
        })?;
        let path = folder.path().join("dense.safetensors");
        state.write(&OutputOptions::file(&path), None)?;
        let checkpoint = Checkpoint::open_path(&path)?;
        let mut plan_options = PlanOptions::new(options.limits, false);
        plan_options.overcomplete = true;
        // Factors are trained, however they are saved in the end.
        let recipe = Recipe { save: Save::Factored, ..recipe.clone() };
        let plan = Plan::new(&checkpoint, &recipe, &plan_options, factoring_progress)?;
        let (factored, its_record) = factoring::factor_state(
            state,
            &checkpoint,
            &plan,
            options.initialization,
            seed,
            options.limits,
            factoring_progress,
        )?;
        (state, record) = (factored, Some(its_record));
    }
    let origin = json!({
        "recipe": options.recipe.as_ref().map(Recipe::to_json),
        "initialization": options.initialization,
    });
    let (command, file) = ("train", RunFile::from(options));
    let start = Start { command, state, record, architecture, origin, file };
    training::run_pictures(start, ready, &options.run, progress)
}
