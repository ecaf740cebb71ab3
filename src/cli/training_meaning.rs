//! What was typed for networks that are trained means.

use super::arguments::SelectionArguments;
use super::meaning::{self, no_rank};
use super::output::Failure;
use super::training_arguments::{
    ExecutionValue, FactorDecayValue, FinetuneArguments, InitValue, OptimizerValue, ResultValue,
    RunArguments, TrainArguments,
};
use super::values::SchemeValue;
use crate::checkpoint::Source;
use crate::commands::{
    Blueprint, DeviceName, FinetuneOptions, Initialization, Keep, RunFile, RunOptions, TextBlueprint,
    TrainOptions,
};
use crate::data::{Augmentation, Material, TextFormat};
use crate::layers::Execution;
use crate::plan::Recipe;
use crate::train::{
    AdamWOptions, DistillationOptions, FactorDecay, LambOptions, OptimizerOptions, Pruning, PruningSchedule,
    SgdOptions, TrainingOptions,
};
use anyhow::Context as _;
use clap::ArgMatches;

/// Steps between two times at which weights are left out gradually.
const PRUNING_STEPS: u64 = 20;
/// Lines or windows of a text that are learned from at once.
const TEXT_BATCH: usize = 8;

pub(super) fn finetune_options(
    arguments: &FinetuneArguments,
    matches: &ArgMatches,
) -> Result<FinetuneOptions, Failure> {
    let file = read_file(&arguments.run, fine_tuning)?;
    let named = file.checkpoint.as_deref().map(str::parse::<Source>).transpose();
    let named = named.map_err(|error| Failure::new(error.to_string()))?;
    let Some(source) = arguments.checkpoint.clone().or(named) else {
        return Err(Failure::usage("no checkpoint is named".to_owned()));
    };
    let mut recipe = recipe(&arguments.selection, &file, matches)?;
    let mut calibration = meaning::calibration(&arguments.calibration, arguments.run.overwrite);
    if !calibration.is_given() {
        (calibration.data, calibration.statistics) = (file.calibrate.clone(), file.statistics.clone());
    }
    match &mut recipe {
        Some(recipe) => meaning::calibrate(recipe, &arguments.calibration, &calibration)?,
        None if calibration.is_given() || arguments.calibration.method.is_some() => {
            return Err(Failure::usage(no_rank("calibration is about factors, and no layer gets a rank")));
        }
        None => {}
    }
    let run = run_options(&arguments.run, &file, recipe.as_ref(), fine_tuning)?;
    let mut options = FinetuneOptions::new(source, recipe, run);
    options.architecture = arguments.run.arch.or(file.arch);
    options.limits = arguments.run.machine.limits();
    options.calibration = calibration;
    Ok(options)
}

pub(super) fn train_options(
    arguments: &TrainArguments,
    matches: &ArgMatches,
) -> Result<TrainOptions, Failure> {
    let file = read_file(&arguments.run, from_scratch)?;
    let texts = TextBlueprint {
        config: arguments.config.clone().or(file.config.clone()),
        tokenizer: arguments.tokenizer.clone().or(file.tokenizer.clone()),
        vocabulary: arguments.vocabulary.or(file.vocabulary),
    };
    let data = arguments.run.data.as_ref().or(file.data.as_ref());
    let model = match (arguments.run.arch.or(file.arch), data) {
        (Some(architecture), _) if texts == TextBlueprint::default() => Blueprint::Pictures(architecture),
        (None, Some(Material::Text(_) | Material::Parallel(_))) => Blueprint::Text(texts),
        (None, _) => return Err(Failure::usage("no architecture is named: --arch is needed".to_owned())),
        (Some(_), _) => {
            let problem =
                "--arch names a network for pictures; --config, --tokenizer and --vocabulary are for texts";
            return Err(Failure::usage(problem.to_owned()));
        }
    };
    let recipe = recipe(&arguments.selection, &file, matches)?;
    if arguments.init.is_some() && recipe.is_none() {
        return Err(Failure::usage(no_rank("--init is about factors, and no layer gets a rank")));
    }
    let run = run_options(&arguments.run, &file, recipe.as_ref(), from_scratch)?;
    let mut options = TrainOptions::new(model, recipe, run);
    options.initialization = match arguments.init {
        Some(InitValue::Spectral) => Initialization::Spectral,
        Some(InitValue::Default) => Initialization::Default,
        None => file.init.unwrap_or_default(),
    };
    options.limits = arguments.run.machine.limits();
    Ok(options)
}

/// Refuses flags that are about something else.
pub(super) fn refuse(flags: &[(&str, bool)], what: &str) -> Result<(), Failure> {
    match flags.iter().find(|(_, given)| *given) {
        Some((flag, _)) => Err(Failure::usage(format!("{flag} says nothing of {what}"))),
        None => Ok(()),
    }
}

/// How checkpoints are trained on data, where nothing else is said.
fn fine_tuning(data: Option<&Material>) -> TrainingOptions {
    match data {
        Some(Material::Text(source)) => {
            let mut options = TrainingOptions::text();
            if source.format == TextFormat::Text {
                options.batch_size = TEXT_BATCH;
            }
            options
        }
        Some(Material::Parallel(_)) => TrainingOptions::translation(),
        _ => TrainingOptions::fine_tuning(),
    }
}

/// How networks are trained from scratch on data, where nothing else is said.
fn from_scratch(data: Option<&Material>) -> TrainingOptions {
    match data {
        Some(Material::Text(_) | Material::Parallel(_)) => fine_tuning(data),
        _ => TrainingOptions::default(),
    }
}

/// Options of a file, where one is named; what it does not say of training is as is usual for its data.
fn read_file(
    arguments: &RunArguments,
    defaults: impl Fn(Option<&Material>) -> TrainingOptions,
) -> Result<RunFile, Failure> {
    let Some(path) = &arguments.options else { return Ok(RunFile::default()) };
    let place = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("can't read `{place}`"))?;
    let table: toml::Table = text.parse().unwrap_or_default();
    let named = table.get("data").and_then(toml::Value::as_str).and_then(|data| data.parse().ok());
    let data = arguments.data.clone().or(named);
    Ok(RunFile::parse(&text, &defaults(data.as_ref())).with_context(|| format!("options `{place}`"))?)
}

/// The recipe that flags and file describe together; none where neither says a rank.
fn recipe(
    selection: &SelectionArguments,
    file: &RunFile,
    matches: &ArgMatches,
) -> Result<Option<Recipe>, Failure> {
    let ranked = selection.rank.is_some()
        || [selection.rank_ratio, selection.energy, selection.keep, selection.layer_keep]
            .iter()
            .any(Option::is_some);
    let asked = ranked || selection.recipe.is_some() || selection.scheme == Some(SchemeValue::Deep);
    let selects = !selection.target.is_empty() || !selection.ignore.is_empty() || selection.scheme.is_some();
    let shapes = selection.allocate.is_some()
        || selection.round_to.is_some()
        || selection.svd.is_some()
        || selection.objective.is_some()
        || selection.pairs.is_some();
    let budget = [selection.energy, selection.keep, selection.layer_keep].iter().any(Option::is_some);
    if selection.scheme == Some(SchemeValue::Deep) && budget {
        return Err(Failure::usage("--scheme deep takes its rank from --rank or --rank-ratio".to_owned()));
    }
    let mut recipe = match (&selection.recipe, &file.recipe) {
        (Some(path), _) => meaning::read_recipe(path)?,
        (None, Some(recipe)) => recipe.clone(),
        (None, None) if asked => Recipe::default(),
        (None, None) if selects => {
            return Err(Failure::usage(no_rank("the selected layers get no rank")));
        }
        (None, None) if shapes => return Err(Failure::usage(no_rank("no rank is given"))),
        (None, None) => return Ok(None),
    };
    meaning::select(&mut recipe, selection, matches)?;
    Ok(Some(recipe))
}

fn run_options(
    arguments: &RunArguments,
    file: &RunFile,
    recipe: Option<&Recipe>,
    defaults: impl Fn(Option<&Material>) -> TrainingOptions,
) -> Result<RunOptions, Failure> {
    let missing = |what: &str| Failure::usage(format!("{what} is needed, as a flag or in the options file"));
    let data = arguments.data.clone().or_else(|| file.data.clone()).ok_or_else(|| missing("--data"))?;
    let out = arguments.out.clone().or_else(|| file.out.clone()).ok_or_else(|| missing("--out"))?;
    let training =
        training_options(arguments, file.training.clone().unwrap_or_else(|| defaults(Some(&data))))?;
    let mut run = RunOptions::new(data, out, training);
    let teacher = file.teacher.as_deref().map(str::parse::<Source>).transpose();
    let teacher = teacher.map_err(|error| Failure::new(error.to_string()))?;
    run.teacher = arguments.teacher.clone().or(teacher);
    run.teacher_architecture = arguments.teacher_arch.or(file.teacher_arch);
    if run.teacher.is_some() {
        let distillation: &mut DistillationOptions = run.training.distillation.get_or_insert_default();
        set(&mut distillation.temperature, arguments.temperature.as_ref());
        set(&mut distillation.weight, arguments.teacher_weight.as_ref());
        set(&mut distillation.hidden, arguments.teacher_hidden.as_ref());
    } else if run.training.distillation.is_some() {
        return Err(Failure::new("distillation is asked for, but no teacher is named".to_owned()));
    } else if arguments.temperature.is_some()
        || arguments.teacher_weight.is_some()
        || arguments.teacher_hidden.is_some()
        || arguments.teacher_arch.is_some()
    {
        let flags = "--temperature, --teacher-weight, --teacher-hidden and --teacher-arch";
        return Err(Failure::usage(format!("{flags} are about a teacher: --teacher is needed")));
    }
    let mut problems = run.training.problems();
    problems.extend(run.training.optimizer.build().err().map(|error| error.to_string()));
    if !problems.is_empty() {
        return Err(Failure::usage(problems.join("; ")));
    }
    let of_recipe = recipe.map(|recipe| recipe.save);
    run.save = arguments.save.map(Into::into).or(file.save).or(of_recipe).unwrap_or_default();
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
    run.min_spearman = arguments.min_spearman.or(file.min_spearman);
    run.min_bleu = arguments.min_bleu.or(file.min_bleu);
    run.max_perplexity = arguments.max_perplexity.or(file.max_perplexity);
    run.test_data = arguments.test_data.clone().or_else(|| file.test_data.clone());
    refuse_of_others(arguments, &run)?;
    if run.training.bf16 && run.device == DeviceName::Cpu {
        return Err(Failure::usage(
            "--bf16 is for a GPU, --device cuda: on the CPU it would do nothing".to_owned(),
        ));
    }
    Ok(run)
}

/// Refuses what says nothing of a run's data.
fn refuse_of_others(arguments: &RunArguments, run: &RunOptions) -> Result<(), Failure> {
    let training = &run.training;
    let of_states = training.distillation.is_some_and(|distillation| distillation.hidden > 0.0);
    let hidden = ("--teacher-hidden", of_states);
    let window = ("--window", training.window.is_some());
    let accuracy = ("--min-accuracy", run.min_accuracy.is_some());
    let spearman = ("--min-spearman", run.min_spearman.is_some());
    let bleu = ("--min-bleu", run.min_bleu.is_some());
    let perplexity = ("--max-perplexity", run.max_perplexity.is_some());
    let smoothing = ("--label-smoothing", arguments.label_smoothing.is_some());
    let of_pictures = [("--no-augment", arguments.no_augment), ("--workers", arguments.workers.is_some())];
    match &run.data {
        Material::Images(_) => {
            let products = [
                ("--query-key-decay", arguments.query_key_decay.is_some()),
                ("--output-value-decay", arguments.output_value_decay.is_some()),
            ];
            refuse(&products, "pictures")?;
            refuse(
                &[("--test-data", run.test_data.is_some()), window, hidden, spearman, bleu, perplexity],
                "pictures",
            )
        }
        Material::Text(source) => {
            refuse(&of_pictures, "texts")?;
            match source.format {
                TextFormat::Stsb => {
                    refuse(&[window, accuracy, bleu, perplexity, smoothing], "pairs of sentences")
                }
                TextFormat::Text => refuse(&[spearman, bleu], "a text"),
                _ => refuse(&[window, spearman, bleu, perplexity], "texts with classes"),
            }
        }
        Material::Parallel(_) => {
            refuse(&of_pictures, "texts")?;
            refuse(&[window, hidden, spearman], "translations")
        }
    }
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
    set(&mut options.dropout, arguments.dropout.as_ref());
    set(&mut options.label_smoothing, arguments.label_smoothing.as_ref());
    options.frobenius_decay = arguments.frobenius_decay.or(options.frobenius_decay);
    options.clip = arguments.clip.or(options.clip);
    options.average = arguments.average.or(options.average);
    options.train_limit = arguments.train_limit.or(options.train_limit);
    options.test_limit = arguments.test_limit.or(options.test_limit);
    options.decay_all |= arguments.decay_all;
    options.window = arguments.window.or(options.window);
    options.bf16 |= arguments.bf16;
    if arguments.no_augment {
        options.augmentation = Some(Augmentation::default());
    }
    options.factor_decay = arguments.factor_decay.map_or(options.factor_decay, Into::into);
    options.query_key_decay = arguments.query_key_decay.map_or(options.query_key_decay, Into::into);
    options.output_value_decay = arguments.output_value_decay.map_or(options.output_value_decay, Into::into);
    if let Some(execution) = arguments.execution {
        options.execution = execution.into();
    }
    // The one that the file names keeps the file's numbers.
    match (arguments.optimizer, &options.optimizer) {
        (None, _)
        | (Some(OptimizerValue::Sgd), OptimizerOptions::Sgd(_))
        | (Some(OptimizerValue::Adamw), OptimizerOptions::AdamW(_))
        | (Some(OptimizerValue::Lamb), OptimizerOptions::Lamb(_)) => {}
        (Some(OptimizerValue::Sgd), _) => {
            options.optimizer = OptimizerOptions::Sgd(SgdOptions { momentum: 0.9, nesterov: false });
        }
        (Some(OptimizerValue::Adamw), _) => {
            options.optimizer = OptimizerOptions::AdamW(AdamWOptions::default());
        }
        (Some(OptimizerValue::Lamb), _) => options.optimizer = OptimizerOptions::Lamb(LambOptions::default()),
    }
    if let OptimizerOptions::Sgd(sgd) = &mut options.optimizer {
        set(&mut sgd.momentum, arguments.momentum.as_ref());
        sgd.nesterov |= arguments.nesterov;
    } else if arguments.momentum.is_some() || arguments.nesterov {
        let name = options.optimizer.name();
        return Err(Failure::usage(format!("--momentum and --nesterov are sgd's, the optimizer is {name}")));
    }
    options.pruning = pruning(arguments, options.pruning)?;
    Ok(options)
}

/// What flags say of pruning, over what the options file does.
fn pruning(arguments: &RunArguments, of_file: Option<Pruning>) -> Result<Option<Pruning>, Failure> {
    let Some(keep) = arguments.prune_keep.or(of_file.map(|pruning| pruning.keep)) else {
        let stray = arguments.prune_until.is_some();
        let needed = || Failure::usage("--prune-until is about pruning: --prune-keep is needed".to_owned());
        return if stray { Err(needed()) } else { Ok(None) };
    };
    let at_once = PruningSchedule::OneShot { at: 0.0 };
    let schedule = match arguments.prune_until {
        None => of_file.map_or(at_once, |pruning| pruning.schedule),
        Some(0.0) => at_once,
        Some(end) => PruningSchedule::Gradual { begin: 0.0, end, every_steps: PRUNING_STEPS },
    };
    Ok(Some(Pruning { keep, schedule }))
}

impl From<FactorDecayValue> for FactorDecay {
    fn from(value: FactorDecayValue) -> Self {
        match value {
            FactorDecayValue::Frobenius => Self::Frobenius,
            FactorDecayValue::Weight => Self::Weight,
            FactorDecayValue::None => Self::None,
        }
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
