use super::text_samples::{Reading, aim, known_classes};
use super::{CommandError, DeviceName, text_networks};
use crate::checkpoint::{Checkpoint, Source};
use crate::data::{TextSource, TextTokenizer, WINDOW};
use crate::layers::{Execution, State, Tape, keep_freed_memory};
use crate::models::{Head, Task, TextNetwork, Tokens};
use crate::report::{EvaluateTextReport, Evaluated, TextMeasure};
use crate::train::{
    TextAim, TrainingProgress, evaluate_classes, evaluate_masked, evaluate_perplexity, evaluate_similarity,
};
use serde_json::Value;

/// Tokens on which multiply-adds are counted.
const COUNTED: usize = 64;

/// What [`evaluate_text`] is to do.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EvaluateTextOptions {
    /// The checkpoint's folder: dense, factored or collapsed.
    pub source: Source,
    /// The data whose test split is used.
    pub data: TextSource,
    /// The first so many samples, or windows, only.
    pub limit: Option<usize>,
    /// Tokens of a window of text.
    pub window: Option<usize>,
    /// How factors are run.
    pub execution: Execution,
    /// Where it runs.
    pub device: DeviceName,
    /// The accuracy that texts with classes must have.
    pub min_accuracy: Option<f64>,
    /// The correlation that sentence pairs must have.
    pub min_spearman: Option<f64>,
    /// The perplexity that a text must not exceed.
    pub max_perplexity: Option<f64>,
}

impl EvaluateTextOptions {
    /// Options for one checkpoint and file.
    #[must_use]
    pub fn new(source: Source, data: TextSource) -> Self {
        Self {
            source,
            data,
            limit: None,
            window: None,
            execution: Execution::Auto,
            device: DeviceName::Cpu,
            min_accuracy: None,
            min_spearman: None,
            max_perplexity: None,
        }
    }
}

/// Measures a network for text: correlation on pairs of sentences, accuracy on texts with classes, perplexity on a text.
///
/// # Errors
///
/// - [`CommandError::Config`], [`CommandError::Network`] when the checkpoint is no known network for text;
/// - [`CommandError::Text`] when texts cannot be read, or there is no tokenizer;
/// - [`CommandError::Unfit`] when the data is not what the network takes;
/// - a device that is not there
pub fn evaluate_text(
    options: &EvaluateTextOptions,
    progress: &dyn TrainingProgress,
) -> Result<EvaluateTextReport, CommandError> {
    keep_freed_memory();
    let device = options.device.open()?;
    let checkpoint = Checkpoint::open(&options.source)?;
    let (json, config) = text_networks::config(&checkpoint)?;
    let state = State::read(&checkpoint)?;
    let network = text_networks::build(&config, &state, Task::AsItIs, options.execution, &device)?;
    let tokenizer = TextTokenizer::open(checkpoint.root(), config.longest())?;
    let path = options.data.file(false)?;
    let aim = aim(options.data.format, network.head(), &config, &tokenizer)?;
    let refuse = |problem: &str| CommandError::Unfit { problems: vec![problem.to_owned()] };
    match &aim {
        TextAim::Classes if network.head() != Head::Classes => {
            return Err(refuse("this checkpoint has no head for classes: compress finetune makes one"));
        }
        TextAim::Vectors => {
            return Err(refuse("perplexity needs a language model, with a head for the vocabulary"));
        }
        _ => {}
    }
    let classes = known_classes(json);
    let window = options.window.unwrap_or(WINDOW).min(config.longest());
    let reading = Reading { aim: &aim, tokenizer: &tokenizer, config: &config, classes: &classes, window };
    let samples = reading.samples(&options.data, &path, options.limit)?;
    let labels: Vec<f64> = samples.iter().map(|sample| sample.label).collect();
    let sequences: Vec<Vec<u32>> = samples.into_iter().flat_map(|sample| sample.sequences).collect();
    progress.pass("evaluating", sequences.len());
    let seen = |count| progress.seen(count);
    let measured = match &aim {
        TextAim::Similarity => {
            TextMeasure::Similarity(evaluate_similarity(&network, &sequences, &labels, seen)?)
        }
        TextAim::Classes => {
            let labels: Vec<u32> = labels.iter().map(|&label| label as u32).collect();
            TextMeasure::Classes(evaluate_classes(&network, &sequences, &labels, seen)?)
        }
        TextAim::MaskedToken(masking) => {
            TextMeasure::Masked(evaluate_masked(&network, &sequences, masking, seen)?)
        }
        _ => TextMeasure::Perplexity(evaluate_perplexity(&network, &sequences, seen)?),
    };
    progress.passed();
    let architecture = json.get("model_type").and_then(Value::as_str).unwrap_or_default();
    let names = [options.source.to_string(), architecture.to_owned(), options.data.to_string()];
    let (layers, parameters) = (network.layers(), network.parameters());
    let multiply_adds = multiply_adds(&network, &sequences)?;
    let evaluated = Evaluated::new(names, layers, parameters, state.size_bytes(), multiply_adds);
    let mut report = EvaluateTextReport::new(evaluated, measured);
    if let Some(least) = options.min_accuracy {
        report.require_accuracy(least);
    }
    if let Some(least) = options.min_spearman {
        report.require_spearman(least);
    }
    if let Some(most) = options.max_perplexity {
        report.require_perplexity(most);
    }
    Ok(report)
}

/// Multiply-adds for a token, its factors run in the way that has fewer, in a sequence of the mean length.
fn multiply_adds(network: &TextNetwork, sequences: &[Vec<u32>]) -> Result<u64, CommandError> {
    let tokens: usize = sequences.iter().map(Vec::len).sum();
    let length = (tokens / sequences.len().max(1)).max(1);
    let tape = Tape::counting();
    let batch = vec![vec![0; length]; COUNTED.div_ceil(length)];
    let tokens = Tokens::new(&batch)?;
    let hidden = network.hidden(&tape, &tokens)?;
    match network.head() {
        Head::Vocabulary => drop(network.vocabulary_logits(&tape, &hidden)?),
        Head::Classes => drop(network.class_logits_of(&tape, &hidden, &tokens)?),
        Head::Embeddings => {}
    }
    Ok(tape.multiply_adds() / (batch.len() * length) as u64)
}
