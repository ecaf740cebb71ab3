//! Networks for text from scratch: made, written to a folder, and trained like any checkpoint.

use super::text_training::{TextRun, train_on_text, train_on_translations};
use super::train::{TextBlueprint, TrainOptions};
use super::{CommandError, FinetuneOptions, RunFile};
use crate::checkpoint::{OutputOptions, Source};
use crate::data::{MASK_TOKEN, Material, TextFormat, TextTokenizer};
use crate::models::{Task, TextConfig, TextNetwork, TranslationConfig, TranslationNetwork};
use crate::plan::Progress;
use crate::report::TrainingReport;
use crate::train::TrainingProgress;
use candle_core::Device;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Tokens of a tokenizer that is learned.
const VOCABULARY: usize = 8000;

/// Trains a network for text from scratch.
pub(super) fn train_text(
    options: &TrainOptions,
    blueprint: &TextBlueprint,
    factoring_progress: &dyn Progress,
    progress: &dyn TrainingProgress,
) -> Result<TrainingReport, CommandError> {
    let data = &options.run.data;
    let named = blueprint.config.as_ref().map(|path| read_json(&file_in(path, "config.json"))).transpose()?;
    let plain = matches!(data, Material::Text(source) if source.format == TextFormat::Text);
    let masked = plain && named.as_ref().is_some_and(reads_both_ways);
    let (tokenizer, tokenizer_file) = tokenizer(data, blueprint, masked)?;
    let mut json = match named {
        Some(named) => named,
        None if matches!(data, Material::Parallel(_)) => {
            TranslationConfig::small(tokenizer.vocabulary()).to_json()
        }
        None => {
            let problem = "--config is needed: a config.json says what is trained on texts".to_owned();
            return Err(CommandError::Usage(problem));
        }
    };
    let known = tokenizer.vocabulary();
    if let Some(keys) = json.as_object_mut() {
        let named = keys.get("vocab_size").and_then(Value::as_u64);
        match named {
            Some(named) if (named as usize) < known => {
                let problem =
                    format!("the tokenizer has {known} tokens, config.json a `vocab_size` of {named}");
                return Err(CommandError::Unfit { problems: vec![problem] });
            }
            Some(_) => {}
            None => drop(keys.insert("vocab_size".to_owned(), json!(known))),
        }
    }
    let seed = options.run.training.seed;
    let state = if let Material::Parallel(_) = data {
        TranslationNetwork::fresh(&TranslationConfig::from_json(&json)?, seed, &Device::Cpu)?.state()?
    } else {
        let config = TextConfig::from_json(&json)?;
        let task = if masked { Task::MaskedLanguage } else { Task::AsItIs };
        TextNetwork::fresh(&config, task, seed, &Device::Cpu)?.state()?
    };
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| CommandError::SideFile { what: "can't write", path, source }
    };
    let folder = tempfile::tempdir().map_err(failed(&std::env::temp_dir()))?;
    let at = |name: &str| folder.path().join(name);
    state.write(&OutputOptions::file(&at("model.safetensors")), None)?;
    let config_file = (serde_json::to_string_pretty(&json).unwrap_or_default() + "\n").into_bytes();
    for (name, bytes) in [("config.json", config_file), ("tokenizer.json", tokenizer_file)] {
        std::fs::write(at(name), bytes).map_err(failed(&at(name)))?;
    }
    drop(state);
    let source = Source::Path(folder.path().to_owned());
    let mut made = FinetuneOptions::new(source, options.recipe.clone(), options.run.clone());
    made.limits = options.limits;
    let (command, file) = ("train", RunFile::from(options));
    let asked = TextRun { command, options: &made, initialization: options.initialization, file };
    match data {
        Material::Parallel(data) => train_on_translations(asked, data, factoring_progress, progress),
        Material::Text(data) => train_on_text(asked, data, factoring_progress, progress),
        Material::Images(data) => Err(CommandError::Usage(format!("`{data}` holds no text"))),
    }
}

/// Whether a configuration is of an encoder, which finds hidden tokens again. How many tokens there are may be open yet.
fn reads_both_ways(json: &Value) -> bool {
    let mut json = json.clone();
    if let Some(keys) = json.as_object_mut() {
        keys.entry("vocab_size").or_insert(json!(VOCABULARY));
    }
    matches!(TextConfig::from_json(&json), Ok(TextConfig::Encoder(_)))
}

/// The tokenizer that is named, or one that is learned from the training texts, and its file.
fn tokenizer(
    data: &Material,
    blueprint: &TextBlueprint,
    masked: bool,
) -> Result<(TextTokenizer, Vec<u8>), CommandError> {
    if let Some(path) = &blueprint.tokenizer {
        if blueprint.vocabulary.is_some() {
            let problem =
                "a tokenizer that is there has its vocabulary: --vocabulary is for one that is learned";
            return Err(CommandError::Usage(problem.to_owned()));
        }
        let path = file_in(path, "tokenizer.json");
        let failed = |source| CommandError::SideFile { what: "can't read", path: path.clone(), source };
        let file = std::fs::read(&path).map_err(failed)?;
        return Ok((TextTokenizer::from_bytes(&file, &path)?, file));
    }
    let texts: Vec<String> = match data {
        Material::Parallel(data) => data.pairs(true)?.into_iter().flatten().collect(),
        Material::Text(data) => data.texts()?,
        Material::Images(_) => Vec::new(),
    };
    let more = if masked { &[MASK_TOKEN][..] } else { &[] };
    let tokenizer = TextTokenizer::learn_with(&texts, blueprint.vocabulary.unwrap_or(VOCABULARY), more)?;
    let file = tokenizer.to_json()?.into_bytes();
    Ok((tokenizer, file))
}

/// A file, or the one of that name in a folder.
fn file_in(path: &Path, name: &str) -> PathBuf {
    if path.is_dir() { path.join(name) } else { path.to_owned() }
}

fn read_json(path: &Path) -> Result<Value, CommandError> {
    let failed = |source| CommandError::SideFile { what: "can't read", path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(failed)?;
    serde_json::from_str(&text).map_err(|error| {
        let problem = format!("`{}` is not JSON: {error}", path.display());
        CommandError::Unfit { problems: vec![problem] }
    })
}
