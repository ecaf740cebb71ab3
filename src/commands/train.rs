use super::preparation::Preparation;
use super::text_fresh::train_text;
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
use std::path::PathBuf;

/// A network that is made anew.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Blueprint {
    /// One for pictures; classes and channels are the data's.
    Pictures(Architecture),
    /// One for text.
    Text(TextBlueprint),
}

impl From<Architecture> for Blueprint {
    fn from(architecture: Architecture) -> Self {
        Self::Pictures(architecture)
    }
}

/// A network for text that is made anew, and its tokenizer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextBlueprint {
    /// A `config.json`, or the folder that it is in; none for a small network that translates.
    pub config: Option<PathBuf>,
    /// A `tokenizer.json`, or the folder that it is in; none to learn one from the training texts.
    pub tokenizer: Option<PathBuf>,
    /// Tokens of a tokenizer that is learned, where it is not 8000.
    pub vocabulary: Option<usize>,
}

/// What [`train`] is to do.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TrainOptions {
    /// What is trained.
    pub model: Blueprint,
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
    /// Training of this network.
    #[must_use]
    pub fn new(model: impl Into<Blueprint>, recipe: Option<Recipe>, run: RunOptions) -> Self {
        Self {
            model: model.into(),
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
    let (data, architecture) = match (&options.run.data, &options.model) {
        (Material::Images(data), Blueprint::Pictures(architecture)) => (data, architecture),
        (Material::Images(_), Blueprint::Text(_)) => {
            let problem = "pictures are for networks that --arch names".to_owned();
            return Err(CommandError::Usage(problem));
        }
        (_, Blueprint::Pictures(architecture)) => {
            let problem = format!("`{architecture}` is for pictures: --config says what is trained on texts");
            return Err(CommandError::Usage(problem));
        }
        (_, Blueprint::Text(blueprint)) => {
            return train_text(options, blueprint, factoring_progress, progress);
        }
    };
    if options.run.training.dropout > 0.0 {
        return Err(CommandError::Usage("dropout is for networks that translate".to_owned()));
    }
    let ready = Preparation::new(&options.run, data, None)?;
    let [channels, ..] = ready.train.shape();
    let classes = ready.train.dataset().classes();
    let architecture = architecture.with_classes(classes).with_channels(channels);
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
        factoring::warn_of_none(&plan);
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
    let start = Start { command, state, record, architecture, origin, file, side_files: Vec::new() };
    training::run_pictures(start, ready, &options.run, progress)
}
