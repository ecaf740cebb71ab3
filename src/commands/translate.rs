use super::CommandError;
use super::text_networks::translation_config;
use super::text_samples::translation_sources;
use crate::checkpoint::{Checkpoint, Source};
use crate::data::TextTokenizer;
use crate::layers::{Builder, State, keep_freed_memory};
use crate::models::{SearchOptions, TranslationNetwork};
use crate::report::{TranslateReport, Translated};
use candle_core::Device;
use std::ops::ControlFlow;
use std::time::Instant;

/// Sentences that are translated before the first of them is told.
const TOGETHER: usize = 64;

/// What [`translate`] is to do.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TranslateOptions {
    /// The checkpoint's folder: dense, factored or collapsed.
    pub source: Source,
    /// The sentences; one without any character but spaces stays empty.
    pub texts: Vec<String>,
    /// How translations are searched for.
    pub search: SearchOptions,
}

impl TranslateOptions {
    /// Options for one checkpoint and these sentences.
    #[must_use]
    pub fn new(source: Source, texts: Vec<String>) -> Self {
        Self { source, texts, search: SearchOptions::default() }
    }
}

/// Translates sentences. `hear` gets each, in order, and says whether to go on.
///
/// # Determinism
///
/// The same checkpoint, sentences and search give the same translations on one machine.
///
/// # Errors
///
/// - [`CommandError::Config`], [`CommandError::Network`] when the checkpoint is no known network that translates;
/// - [`CommandError::Text`] when there is no tokenizer;
/// - [`CommandError::Unfit`] when there is no config.json, source and target have separate vocabularies, or tokenizer and network do not fit
pub fn translate(
    options: &TranslateOptions,
    mut hear: impl FnMut(&Translated) -> ControlFlow<()>,
) -> Result<TranslateReport, CommandError> {
    keep_freed_memory();
    let checkpoint = Checkpoint::open(&options.source)?;
    let (_, config) = translation_config(&checkpoint)?;
    let tokenizer = TextTokenizer::open(checkpoint.root(), usize::MAX)?;
    let state = State::read(&checkpoint)?;
    let network = TranslationNetwork::build(&config, &Builder::new(&state, &Device::Cpu), &Device::Cpu)?;
    let start = Instant::now();
    let mut translations = Vec::new();
    'all: for texts in options.texts.chunks(TOGETHER) {
        let spoken: Vec<String> = texts.iter().filter(|text| !text.trim().is_empty()).cloned().collect();
        let (sources, cut): (Vec<Vec<u32>>, Vec<bool>) =
            translation_sources(&spoken, &config, &tokenizer)?.into_iter().unzip();
        let found = crate::train::translate(&network, &sources, &options.search, |_| {})?;
        let mut found = sources.iter().map(Vec::len).zip(cut).zip(found);
        for text in texts {
            let next = if text.trim().is_empty() { None } else { found.next() };
            let ((source_tokens, cut), tokens) = next.unwrap_or_default();
            let said = tokenizer.decode(&tokens)?.trim().to_owned();
            let translated = Translated { source: text.clone(), text: said, source_tokens, cut, tokens };
            let going = hear(&translated);
            translations.push(translated);
            if going.is_break() {
                break 'all;
            }
        }
    }
    Ok(TranslateReport {
        schema_version: crate::report::SCHEMA_VERSION,
        tool: crate::TOOL.to_owned(),
        command: "translate",
        input: options.source.to_string(),
        beams: options.search.beams,
        length_penalty: options.search.length_penalty,
        translations,
        elapsed_secs: start.elapsed().as_secs_f64(),
    })
}
