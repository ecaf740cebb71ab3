//! Training of networks for text, on labels, texts and translations.

use super::finetune::{FinetuneOptions, factored};
use super::preparation::Place;
use super::text_networks::{self, Classifying};
use super::text_samples::{Reading, aim, classes, classes_for, known_classes, translation_pairs};
use super::training::{self, Ready, RunOptions, extend};
use super::{CommandError, Initialization, RunFile, model_files};
use crate::checkpoint::Checkpoint;
use crate::data::{Material, ParallelSource, TextSource, TextTokenizer, fingerprint_of};
use crate::layers::{Builder, State, keep_freed_memory};
use crate::models::{Head, Task, TextConfig, TextNetwork, TranslationNetwork};
use crate::plan::Progress;
use crate::report::TrainingReport;
use crate::train::{
    TextAim, TextLearner, TextLessons, TextSample, TrainingProgress, TranslationLearner, TranslationLessons,
    TranslationPairs,
};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Tokens of a window of text that a language model learns from at once.
const WINDOW: usize = 256;

/// A run on texts that is asked for: fine-tuning of a checkpoint, or training of one that was just made.
pub(super) struct TextRun<'a> {
    pub(super) command: &'static str,
    pub(super) options: &'a FinetuneOptions,
    /// How factors of dense weights start.
    pub(super) initialization: Initialization,
    /// The options as they are kept in the run's folder.
    pub(super) file: RunFile,
}

/// Trains a network for text on.
pub(super) fn train_on_text(
    asked: TextRun<'_>,
    data: &TextSource,
    factoring_progress: &dyn Progress,
    progress: &dyn TrainingProgress,
) -> Result<TrainingReport, CommandError> {
    keep_freed_memory();
    let TextRun { command, options, initialization, file } = asked;
    refuse_of_pictures(options)?;
    if options.run.training.dropout > 0.0 {
        return Err(CommandError::Usage("dropout is for networks that translate".to_owned()));
    }
    let (run, training) = (&options.run, &options.run.training);
    let place = Place::new(run, Some(&options.source))?;
    let files = files(data, run)?;
    let checkpoint = Checkpoint::open(&options.source)?;
    let (json, config) = text_networks::config(&checkpoint)?;
    let read = State::read(&checkpoint)?;
    let tokenizer = TextTokenizer::open(checkpoint.root(), config.longest())?;
    let head = TextNetwork::head_of(&config, &read);
    let aim = aim(data.format, head, &config, &tokenizer)?;
    let names = if matches!(aim, TextAim::Classes) {
        classes_for(classes(&files[0])?, head, json)
    } else {
        Vec::new()
    };
    let window = training.window.unwrap_or(WINDOW).min(config.longest());
    let reading = Reading { aim: &aim, tokenizer: &tokenizer, config: &config, classes: &names, window };
    let train = reading.samples(data, &files[0], training.train_limit)?;
    let test = reading.samples(data, &files[1], training.test_limit)?;
    for (samples, what) in [(&train, "train"), (&test, "test")] {
        let full =
            |sample: &&TextSample| sample.sequences.iter().any(|tokens| tokens.len() >= config.longest());
        let count = samples.iter().filter(full).count();
        if count > 0 && !matches!(aim, TextAim::NextToken) {
            let longest = config.longest();
            progress.warn(&format!(
                "{count} {what} samples have {longest} tokens or more: what is beyond is not read"
            ));
        }
    }
    let known = known_classes(json);
    if head == Head::Classes && matches!(aim, TextAim::Classes) && known != names {
        let (known, names) = (known.join(", "), names.join(", "));
        progress.warn(&format!("the head for the classes {known} is replaced by a new one, for {names}"));
    }
    let teacher = teacher(run, &aim, &config, &names, &place)?;
    let mut origin = json!({
        "command": command,
        "initialization": initialization,
        "checkpoint": read.fingerprint()?,
        "config": json,
        "calibration": calibration_origin(options),
        "recipe": options.recipe.as_ref().map(crate::plan::Recipe::to_json),
        "train_data": fingerprint(&train),
        "test_data": fingerprint(&test),
        "options": training,
    });
    let (mut state, record) = factored(options, &checkpoint, read, initialization, factoring_progress)?;
    text_networks::without_copies(&mut state, json);
    let mut start = Classifying { state, record, json: json.clone(), config: config.clone() };
    let mut task = Task::AsItIs;
    if matches!(aim, TextAim::Classes) {
        task = Task::Classification;
        start = Classifying::new(start.state, start.record, json, &names, training.seed)?;
    }
    let Classifying { state, record, json, config } = start;
    let network = text_networks::build(&config, &state, task, training.execution, &place.device)?;
    let taught = teacher.as_ref().map(|(fingerprint, _)| fingerprint);
    extend(&mut origin, json!({ "teacher": taught }));
    let side_files = model_files::of_checkpoint(&checkpoint, Some(&json), record.as_ref(), run.save)?;
    let learner = TextLearner::new(network, teacher.map(|(_, network)| network), &place.device);
    let lessons = TextLessons::new(aim, train, test, training.batch_size, training.seed);
    let model = json.get("model_type").and_then(Value::as_str).unwrap_or_default().to_owned();
    let template = state;
    let ready = Ready { command, model, learner, lessons, template, record, origin, file, place, side_files };
    training::run(ready, run, progress)
}

/// Trains a network that translates on.
pub(super) fn train_on_translations(
    asked: TextRun<'_>,
    data: &ParallelSource,
    factoring_progress: &dyn Progress,
    progress: &dyn TrainingProgress,
) -> Result<TrainingReport, CommandError> {
    keep_freed_memory();
    let TextRun { command, options, initialization, file } = asked;
    refuse_of_pictures(options)?;
    let (run, training) = (&options.run, &options.run.training);
    let place = Place::new(run, Some(&options.source))?;
    let checkpoint = Checkpoint::open(&options.source)?;
    let (json, config) = text_networks::translation_config(&checkpoint)?;
    let json = json.clone();
    let read = State::read(&checkpoint)?;
    let tokenizer = TextTokenizer::open(checkpoint.root(), config.positions)?;
    let test_data = match &run.test_data {
        None => data,
        Some(Material::Parallel(test)) => test,
        Some(other) => {
            let problem = format!("`{other}` is not of the format of `{data}`");
            return Err(CommandError::Unfit { problems: vec![problem] });
        }
    };
    if run.test_data.is_none() && data.files(true) == data.files(false) {
        let problem = format!("`{data}` is one split: --test-data names what the result is measured on");
        return Err(CommandError::Usage(problem));
    }
    let train = translation_pairs(data, true, training.train_limit, &config, &tokenizer)?;
    let test = translation_pairs(test_data, false, training.test_limit, &config, &tokenizer)?;
    let build = |state: &State| -> Result<TranslationNetwork, CommandError> {
        let builder = Builder::new(state, &place.device).with_execution(training.execution);
        Ok(TranslationNetwork::build(&config, &builder, &place.device)?)
    };
    let teacher = match &run.teacher {
        None => None,
        Some(source) => {
            let checkpoint = Checkpoint::open(source)?;
            let (_, taught) = text_networks::translation_config(&checkpoint)?;
            if taught.vocabularies != config.vocabularies {
                let [own, taught] = [config.vocabularies[0], taught.vocabularies[0]];
                let problem = format!("the teacher knows {taught} tokens, the network {own}");
                return Err(CommandError::Unfit { problems: vec![problem] });
            }
            if (taught.start, taught.end, taught.pad) != (config.start, config.end, config.pad)
                || taught.positions < config.positions
            {
                let problem =
                    "the teacher begins, ends or pads differently, or takes fewer tokens".to_owned();
                return Err(CommandError::Unfit { problems: vec![problem] });
            }
            let state = State::read(&checkpoint)?;
            let network = TranslationNetwork::new(&taught, &state, &place.device)?;
            Some((state.fingerprint()?, network))
        }
    };
    let of_pairs = |pairs: &TranslationPairs| {
        fingerprint_of(&pairs.sources.iter().chain(&pairs.targets).cloned().collect::<Vec<_>>())
    };
    let origin = json!({
        "command": command,
        "initialization": initialization,
        "checkpoint": read.fingerprint()?,
        "config": json,
        "calibration": calibration_origin(options),
        "recipe": options.recipe.as_ref().map(crate::plan::Recipe::to_json),
        "train_data": of_pairs(&train),
        "test_data": of_pairs(&test),
        "teacher": teacher.as_ref().map(|(fingerprint, _)| fingerprint),
        "options": training,
    });
    let (mut template, record) = factored(options, &checkpoint, read, initialization, factoring_progress)?;
    text_networks::without_copies(&mut template, &json);
    let network = build(&template)?;
    let side_files = model_files::of_checkpoint(&checkpoint, Some(&json), record.as_ref(), run.save)?;
    let learner = TranslationLearner::new(network, teacher.map(|(_, network)| network));
    let lessons = TranslationLessons::new(train, test, tokenizer, training.batch_size, training.seed);
    let model = "marian".to_owned();
    let ready = Ready { command, model, learner, lessons, template, record, origin, file, place, side_files };
    training::run(ready, run, progress)
}

/// Refuses options that say nothing of text.
fn refuse_of_pictures(options: &FinetuneOptions) -> Result<(), CommandError> {
    let run = &options.run;
    let of_pictures = [
        ("an architecture", options.architecture.is_some() || run.teacher_architecture.is_some()),
        ("recalibration", run.recalibrate),
        ("augmentation", run.training.augmentation.is_some()),
        ("normalization", run.training.normalization.is_some()),
    ];
    match of_pictures.iter().find(|(_, given)| *given) {
        Some((what, _)) => Err(CommandError::Usage(format!("{what} says nothing of texts"))),
        None => Ok(()),
    }
}

/// The files that are learned from and measured on.
fn files(data: &TextSource, run: &RunOptions) -> Result<[PathBuf; 2], CommandError> {
    let train = data.file(true)?;
    let test = match &run.test_data {
        Some(Material::Text(test)) if test.format == data.format => test.file(false)?,
        Some(other) => {
            let problem = format!("`{other}` is not of the format of `{data}`");
            return Err(CommandError::Unfit { problems: vec![problem] });
        }
        None if data.path.is_dir() => data.file(false)?,
        None => {
            let problem = format!("`{data}` is one file: --test-data names what the result is measured on");
            return Err(CommandError::Usage(problem));
        }
    };
    Ok([train, test])
}

/// The network that is learned from, and what tells it from others.
fn teacher(
    run: &RunOptions,
    aim: &TextAim,
    config: &TextConfig,
    classes: &[String],
    place: &Place,
) -> Result<Option<(String, TextNetwork)>, CommandError> {
    let Some(source) = &run.teacher else {
        if matches!(aim, TextAim::Vectors) {
            let problem =
                "a text has no labels: a network without a head learns from it from a teacher, --teacher";
            return Err(CommandError::Usage(problem.to_owned()));
        }
        return Ok(None);
    };
    let (json, state, network) = text_networks::open(source, &place.device)?;
    let mut problems = Vec::new();
    let (own, taught) = (config.vocabulary(), network.config().vocabulary());
    if own != taught {
        problems.push(format!("the teacher knows {taught} tokens, the network {own}"));
    }
    let (own, taught) = (config.longest(), network.config().longest());
    if taught < own {
        problems.push(format!("the teacher takes {taught} tokens, the network {own}"));
    }
    let hidden = run.training.distillation.is_some_and(|distillation| distillation.hidden > 0.0);
    let (own, taught) = (config.width(), network.config().width());
    if own != taught && (hidden || matches!(aim, TextAim::Similarity | TextAim::Vectors)) {
        problems.push(format!("the teacher's vectors have {taught} elements, the network's {own}"));
    }
    let (own, taught) = (config.layers(), network.config().layers());
    if own != taught && hidden {
        problems
            .push(format!("the teacher has {taught} layers, the network {own}: their hidden states differ"));
    }
    if matches!(aim, TextAim::Classes) {
        let known = known_classes(&json);
        // Names that say nothing are no contradiction.
        let unnamed = known.iter().all(|name| name.starts_with("LABEL_"));
        if network.head() != Head::Classes {
            problems.push("the teacher has no head for classes".to_owned());
        } else if known.len() != classes.len() || (known != classes && !unnamed) {
            let (known, classes) = (known.join(", "), classes.join(", "));
            problems.push(format!("the teacher's classes are {known}, the network's {classes}"));
        }
    }
    let wanted = matches!(aim, TextAim::NextToken | TextAim::MaskedToken(_));
    if wanted && network.head() != Head::Vocabulary {
        problems.push("the teacher has no head for the vocabulary".to_owned());
    }
    if problems.is_empty() {
        Ok(Some((state.fingerprint()?, network)))
    } else {
        Err(CommandError::Unfit { problems })
    }
}

/// What a run's factors were calibrated on, for what tells it from others.
fn calibration_origin(options: &FinetuneOptions) -> Value {
    let given = &options.calibration;
    json!({
        "data": given.data.as_ref().map(ToString::to_string),
        "statistics": given.statistics.as_ref().map(|path| path.display().to_string()),
    })
}

/// A number for samples, in hexadecimal.
fn fingerprint(samples: &[TextSample]) -> String {
    let sequences = samples.iter().flat_map(|sample| {
        let bits = sample.label.to_bits();
        sample.sequences.iter().cloned().chain([vec![(bits >> 32) as u32, bits as u32]])
    });
    fingerprint_of(&sequences.collect::<Vec<_>>())
}
