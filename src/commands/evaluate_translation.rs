use super::text_networks::translation_config;
use super::text_samples::translation_pairs;
use super::{CommandError, DeviceName};
use crate::checkpoint::{Checkpoint, Source};
use crate::data::{ParallelSource, TextTokenizer};
use crate::layers::{Builder, Execution, State, Tape, keep_freed_memory};
use crate::models::{SearchOptions, Tokens, TranslationNetwork};
use crate::report::{EvaluateTextReport, Evaluated, TextMeasure};
use crate::train::{
    TrainingProgress, TranslationEvaluation, TranslationPairs, bleu, reference_loss, translate,
};
use std::time::Instant;

/// Tokens on which multiply-adds are counted.
const COUNTED: usize = 64;

/// What [`evaluate_translation`] is to do.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EvaluateTranslationOptions {
    /// The checkpoint's folder: dense, factored or collapsed.
    pub source: Source,
    /// The sentences, and what they are translated to.
    pub data: ParallelSource,
    /// The first so many pairs only.
    pub limit: Option<usize>,
    /// How translations are searched for.
    pub search: SearchOptions,
    /// How factors are run.
    pub execution: Execution,
    /// Where it runs.
    pub device: DeviceName,
    /// The BLEU that it must have.
    pub min_bleu: Option<f64>,
    /// The perplexity that references must not exceed.
    pub max_perplexity: Option<f64>,
}

impl EvaluateTranslationOptions {
    /// Options for one checkpoint and pair of files.
    #[must_use]
    pub fn new(source: Source, data: ParallelSource) -> Self {
        Self {
            source,
            data,
            limit: None,
            search: SearchOptions::default(),
            execution: Execution::Auto,
            device: DeviceName::Cpu,
            min_bleu: None,
            max_perplexity: None,
        }
    }
}

/// Measures a network that translates: BLEU, and the perplexity of the references.
///
/// # Errors
///
/// - [`CommandError::Config`], [`CommandError::Network`] when the checkpoint is no known network that translates;
/// - [`CommandError::Text`] when texts cannot be read, or there is no tokenizer;
/// - [`CommandError::Unfit`] when tokenizer and network do not fit;
/// - a device that is not there
pub fn evaluate_translation(
    options: &EvaluateTranslationOptions,
    progress: &dyn TrainingProgress,
) -> Result<EvaluateTextReport, CommandError> {
    keep_freed_memory();
    let device = options.device.open()?;
    let checkpoint = Checkpoint::open(&options.source)?;
    let (_, config) = translation_config(&checkpoint)?;
    let state = State::read(&checkpoint)?;
    let builder = Builder::new(&state, &device).with_execution(options.execution);
    let network = TranslationNetwork::build(&config, &builder, &device)?;
    let tokenizer = TextTokenizer::open(checkpoint.root(), config.positions)?;
    let TranslationPairs { sources, targets, references } =
        translation_pairs(&options.data, false, options.limit, &config, &tokenizer)?;
    progress.pass("translating", sources.len());
    let said = reference_loss(&network, &sources, &targets)?;
    let start = Instant::now();
    let found = translate(&network, &sources, &options.search, |count| progress.seen(count))?;
    let elapsed_secs = start.elapsed().as_secs_f64();
    progress.passed();
    let texts = found.iter().map(|tokens| Ok(tokenizer.decode(tokens)?.trim().to_owned()));
    let texts = texts.collect::<Result<Vec<String>, CommandError>>()?;
    let score = bleu(&texts, &references);
    let measured = TranslationEvaluation::new(score, said, options.search.beams, sources.len(), elapsed_secs);
    let names = [options.source.to_string(), "marian".to_owned(), options.data.to_string()];
    let multiply_adds = multiply_adds(&network, [&sources, &targets])?;
    let (layers, parameters) = (network.layers(), network.parameters());
    let evaluated = Evaluated::new(names, layers, parameters, state.size_bytes(), multiply_adds);
    let mut report = EvaluateTextReport::new(evaluated, TextMeasure::Translation(measured));
    if let Some(least) = options.min_bleu {
        report.require_bleu(least);
    }
    if let Some(most) = options.max_perplexity {
        report.require_perplexity(most);
    }
    Ok(report)
}

/// Multiply-adds for a token of a target whose every token is foretold at once, its source included, both of mean length.
fn multiply_adds(network: &TranslationNetwork, sides: [&[Vec<u32>]; 2]) -> Result<u64, CommandError> {
    let mean = |side: &[Vec<u32>]| {
        let tokens: usize = side.iter().map(Vec::len).sum();
        (tokens / side.len().max(1)).max(1)
    };
    let [source, target] = sides.map(mean);
    let tape = Tape::counting();
    let count = COUNTED.div_ceil(target);
    let encoded = network.encode(&tape, &Tokens::new(&vec![vec![0; source]; count])?)?;
    network.logits(&tape, &encoded, &network.inputs(&vec![vec![0; target - 1]; count])?)?;
    Ok(tape.multiply_adds() / (count * target) as u64)
}
