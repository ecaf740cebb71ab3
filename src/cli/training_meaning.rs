//! What was typed for networks that are trained or measured means.

use super::arguments::SelectionArguments;
use super::meaning;
use super::output::Failure;
use super::training_arguments::{
    EvaluateArguments, ExecutionValue, FactorDecayValue, FinetuneArguments, InitValue, OptimizerValue,
    ResultValue, RunArguments, SchemeValue, TrainArguments,
};
use crate::checkpoint::Source;
use crate::commands::{
    EvaluateOptions, FinetuneOptions, Initialization, Keep, RunFile, RunOptions, TrainOptions,
};
use crate::data::Augmentation;
use crate::decompose::Scheme;
use crate::layers::Execution;
use crate::plan::{ConvScheme, Recipe};
use crate::train::{
    AdamWOptions, DistillationOptions, FactorDecay, LambOptions, OptimizerOptions, Pruning, PruningSchedule,
    SgdOptions, TrainingOptions,
};
use anyhow::Context as _;
use clap::ArgMatches;
use std::path::Path;

/// Steps between two times at which weights are left out gradually.
const PRUNING_STEPS: u64 = 20;

pub(super) fn finetune_options(
    arguments: &FinetuneArguments,
    matches: &ArgMatches,
) -> Result<FinetuneOptions, Failure> {
    let file = read_file(arguments.run.options.as_deref(), &TrainingOptions::fine_tuning())?;
    let named = file.checkpoint.as_deref().map(str::parse::<Source>).transpose();
    let named = named.map_err(|error| Failure::new(error.to_string()))?;
    let Some(source) = arguments.checkpoint.clone().or(named) else {
        return Err(Failure::usage("no checkpoint is named".to_owned()));
    };
    let recipe = recipe(&arguments.selection, &arguments.run, &file, matches)?;
    let run = run_options(&arguments.run, &file, TrainingOptions::fine_tuning())?;
    let mut options = FinetuneOptions::new(source, recipe, run);
    options.architecture = arguments.run.arch.or(file.arch);
    options.limits = arguments.run.machine.limits();
    Ok(options)
}

pub(super) fn train_options(
    arguments: &TrainArguments,
    matches: &ArgMatches,
) -> Result<TrainOptions, Failure> {
    let file = read_file(arguments.run.options.as_deref(), &TrainingOptions::default())?;
    let Some(architecture) = arguments.run.arch.or(file.arch) else {
        return Err(Failure::usage("no architecture is named: --arch is needed".to_owned()));
    };
    let recipe = recipe(&arguments.selection, &arguments.run, &file, matches)?;
    let run = run_options(&arguments.run, &file, TrainingOptions::default())?;
    let mut options = TrainOptions::new(architecture, recipe, run);
    options.initialization = match arguments.init {
        Some(InitValue::Spectral) => Initialization::Spectral,
        Some(InitValue::Default) => Initialization::Default,
        None => file.init.unwrap_or_default(),
    };
    options.limits = arguments.run.machine.limits();
    Ok(options)
}

pub(super) fn evaluate_options(arguments: EvaluateArguments) -> EvaluateOptions {
    let mut options = EvaluateOptions::new(arguments.checkpoint, arguments.data);
    options.architecture = arguments.arch;
    options.batch_size = arguments.batch_size;
    options.limit = arguments.limit;
    options.execution = arguments.execution.map_or(Execution::Auto, Execution::from);
    options.device = arguments.device;
    options.workers = arguments.workers;
    options.min_accuracy = arguments.min_accuracy;
    options
}

fn read_file(path: Option<&Path>, defaults: &TrainingOptions) -> Result<RunFile, Failure> {
    let Some(path) = path else { return Ok(RunFile::default()) };
    let place = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("can't read `{place}`"))?;
    Ok(RunFile::parse(&text, defaults).with_context(|| format!("options `{place}`"))?)
}

/// The recipe that flags and file describe together; none where neither says a rank.
fn recipe(
    selection: &SelectionArguments,
    run: &RunArguments,
    file: &RunFile,
    matches: &ArgMatches,
) -> Result<Option<Recipe>, Failure> {
    let ranked = selection.rank.is_some()
        || [selection.rank_ratio, selection.energy, selection.keep, selection.layer_keep]
            .iter()
            .any(Option::is_some);
    let asked = ranked || selection.recipe.is_some() || run.scheme == Some(SchemeValue::Deep);
    let selects = !selection.target.is_empty() || !selection.ignore.is_empty();
    let mut recipe = match (&selection.recipe, &file.recipe) {
        (Some(path), _) => meaning::read_recipe(path)?,
        (None, Some(recipe)) => recipe.clone(),
        (None, None) if asked => Recipe::default(),
        (None, None) if selects || run.scheme.is_some() => {
            return Err(Failure::usage(
                "the selected layers get no rank: one of --rank, --rank-ratio, --energy, --keep, --layer-keep is needed"
                    .to_owned(),
            ));
        }
        (None, None) => return Ok(None),
    };
    let scheme = match run.scheme {
        Some(SchemeValue::Deep) => Some(Scheme::Deep),
        Some(SchemeValue::Channel) => {
            recipe.conv_scheme = ConvScheme::Channel;
            None
        }
        Some(SchemeValue::Spatial) => {
            recipe.conv_scheme = ConvScheme::Spatial;
            None
        }
        None => None,
    };
    meaning::select(&mut recipe, selection, scheme, matches)?;
    Ok(Some(recipe))
}

fn run_options(
    arguments: &RunArguments,
    file: &RunFile,
    defaults: TrainingOptions,
) -> Result<RunOptions, Failure> {
    let missing = |what: &str| Failure::usage(format!("{what} is needed, as a flag or in the options file"));
    let data = arguments.data.clone().or_else(|| file.data.clone()).ok_or_else(|| missing("--data"))?;
    let out = arguments.out.clone().or_else(|| file.out.clone()).ok_or_else(|| missing("--out"))?;
    let training = training_options(arguments, file.training.clone().unwrap_or(defaults))?;
    let mut run = RunOptions::new(data, out, training);
    let teacher = file.teacher.as_deref().map(str::parse::<Source>).transpose();
    let teacher = teacher.map_err(|error| Failure::new(error.to_string()))?;
    run.teacher = arguments.teacher.clone().or(teacher);
    run.teacher_architecture = arguments.teacher_arch.or(file.teacher_arch);
    if run.teacher.is_some() {
        run.training.distillation.get_or_insert_default();
    } else if run.training.distillation.is_some() {
        return Err(Failure::new("distillation is asked for, but no teacher is named".to_owned()));
    }
    run.save = arguments.save.map(Into::into).or(file.save).unwrap_or_default();
    run.keep = match arguments.result {
        Some(ResultValue::Last) => Keep::Last,
        Some(ResultValue::Best) => Keep::Best,
        None => file.result.unwrap_or_default(),
    };
    run.device = arguments.device.or(file.device).unwrap_or_default();
    run.workers = arguments.workers.or(file.workers);
    run.overwrite = arguments.overwrite;
    run.resume = arguments.resume;
    run.save_every = arguments.save_every.or(file.save_every);
    run.recalibrate = arguments.recalibrate || file.recalibrate.unwrap_or(false);
    run.min_accuracy = arguments.min_accuracy.or(file.min_accuracy);
    Ok(run)
}

/// Sets what a flag says, and leaves the rest.
fn set<T: Clone>(place: &mut T, flag: Option<&T>) {
    if let Some(value) = flag {
        place.clone_from(value);
    }
}

fn training_options(
    arguments: &RunArguments,
    mut options: TrainingOptions,
) -> Result<TrainingOptions, Failure> {
    set(&mut options.epochs, arguments.epochs.as_ref());
    set(&mut options.batch_size, arguments.batch_size.as_ref());
    set(&mut options.accumulate, arguments.accumulate.as_ref());
    set(&mut options.seed, arguments.seed.as_ref());
    set(&mut options.learning_rate, arguments.learning_rate.as_ref());
    set(&mut options.schedule, arguments.schedule.as_ref());
    set(&mut options.warmup_steps, arguments.warmup_steps.as_ref());
    set(&mut options.weight_decay, arguments.weight_decay.as_ref());
    set(&mut options.label_smoothing, arguments.label_smoothing.as_ref());
    options.frobenius_decay = arguments.frobenius_decay.or(options.frobenius_decay);
    options.clip = arguments.clip.or(options.clip);
    options.average = arguments.average.or(options.average);
    options.train_limit = arguments.train_limit.or(options.train_limit);
    options.test_limit = arguments.test_limit.or(options.test_limit);
    options.decay_all |= arguments.decay_all;
    options.bf16 |= arguments.bf16;
    if arguments.no_augment {
        options.augmentation = Some(Augmentation::default());
    }
    if let Some(decay) = arguments.factor_decay {
        options.factor_decay = match decay {
            FactorDecayValue::Frobenius => FactorDecay::Frobenius,
            FactorDecayValue::Weight => FactorDecay::Weight,
            FactorDecayValue::None => FactorDecay::None,
        };
    }
    if let Some(execution) = arguments.execution {
        options.execution = execution.into();
    }
    match arguments.optimizer {
        Some(OptimizerValue::Sgd) => options.optimizer = OptimizerOptions::Sgd(sgd(&options)),
        Some(OptimizerValue::Adamw) => options.optimizer = OptimizerOptions::AdamW(AdamWOptions::default()),
        Some(OptimizerValue::Lamb) => options.optimizer = OptimizerOptions::Lamb(LambOptions::default()),
        None => {}
    }
    if let OptimizerOptions::Sgd(sgd) = &mut options.optimizer {
        set(&mut sgd.momentum, arguments.momentum.as_ref());
        sgd.nesterov |= arguments.nesterov;
    } else if arguments.momentum.is_some() || arguments.nesterov {
        let name = options.optimizer.name();
        return Err(Failure::usage(format!("--momentum and --nesterov are sgd's, the optimizer is {name}")));
    }
    if arguments.teacher.is_some() {
        let distillation: &mut DistillationOptions = options.distillation.get_or_insert_default();
        set(&mut distillation.temperature, arguments.temperature.as_ref());
        set(&mut distillation.weight, arguments.teacher_weight.as_ref());
    }
    if let Some(keep) = arguments.prune_keep {
        let schedule = match arguments.prune_until.unwrap_or(0.0) {
            0.0 => PruningSchedule::OneShot { at: 0.0 },
            end => PruningSchedule::Gradual { begin: 0.0, end, every_steps: PRUNING_STEPS },
        };
        options.pruning = Some(Pruning { keep, schedule });
    }
    let problems = options.problems();
    if problems.is_empty() { Ok(options) } else { Err(Failure::usage(problems.join("; "))) }
}

/// SGD as the options have it, or as it usually is.
fn sgd(options: &TrainingOptions) -> SgdOptions {
    match options.optimizer {
        OptimizerOptions::Sgd(sgd) => sgd,
        _ => SgdOptions { momentum: 0.9, nesterov: false },
    }
}

impl From<ExecutionValue> for Execution {
    fn from(value: ExecutionValue) -> Self {
        match value {
            ExecutionValue::Auto => Self::Auto,
            ExecutionValue::Sequence => Self::Sequence,
            ExecutionValue::Product => Self::Product,
        }
    }
}
