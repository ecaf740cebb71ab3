use super::CommandError;
use crate::checkpoint::{Checkpoint, Source};
use crate::data::{TextFormat, TextSource, TextTokenizer, WINDOW, read_pairs, windows};
use crate::layers::{Builder, Execution, State, Tape, keep_freed_memory};
use crate::models::{Head, Task, TextConfig, TextNetwork, Tokens};
use crate::report::{EvaluateTextReport, Evaluated, TextMeasure};
use crate::train::{TrainingProgress, evaluate_perplexity, evaluate_similarity};
use candle_core::Device;
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
            min_spearman: None,
            max_perplexity: None,
        }
    }
}

/// Measures a network for text: correlation on pairs of sentences, or perplexity on a text.
///
/// # Errors
///
/// - [`CommandError::Config`], [`CommandError::Network`] when the checkpoint is no known network for text;
/// - [`CommandError::Text`] when texts cannot be read, or there is no tokenizer;
/// - [`CommandError::Unfit`] when the data is not what the network takes
pub fn evaluate_text(
    options: &EvaluateTextOptions,
    progress: &dyn TrainingProgress,
) -> Result<EvaluateTextReport, CommandError> {
    keep_freed_memory();
    let checkpoint = Checkpoint::open(&options.source)?;
    let Some(json) = checkpoint.config() else {
        return Err(CommandError::Unfit {
            problems: vec![
                "texts need a checkpoint's folder, with config.json and tokenizer.json".to_owned(),
            ],
        });
    };
    let config = TextConfig::from_json(json)?;
    let state = State::read(&checkpoint)?;
    let builder = Builder::new(&state, &Device::Cpu).with_execution(options.execution);
    let network = TextNetwork::build(&config, &builder, Task::AsItIs, &Device::Cpu)?;
    let longest = config.longest();
    let tokenizer = TextTokenizer::open(checkpoint.root(), longest)?;
    let path = options.data.file(false)?;
    let (counted, measured) = match options.data.format {
        TextFormat::Stsb => {
            let mut pairs = read_pairs(&path)?;
            pairs.truncate(options.limit.unwrap_or(usize::MAX));
            let scores: Vec<f64> = pairs.iter().map(|pair| pair.score).collect();
            let texts: Vec<String> = pairs.into_iter().flat_map(|pair| [pair.first, pair.second]).collect();
            let sequences = tokenizer.encode(&texts)?;
            progress.pass("evaluating", sequences.len());
            let found = evaluate_similarity(&network, &sequences, &scores, |count| progress.seen(count))?;
            (sequences, TextMeasure::Similarity(found))
        }
        TextFormat::Text => {
            if !network.is_causal() {
                let problem = "perplexity needs a language model that reads from left to right".to_owned();
                return Err(CommandError::Unfit { problems: vec![problem] });
            }
            let text = TextSource { path, ..options.data.clone() }.whole()?;
            let window = options.window.unwrap_or(WINDOW).min(longest);
            let mut windows = windows(&tokenizer.encode_all(&text)?, window);
            windows.truncate(options.limit.unwrap_or(usize::MAX));
            progress.pass("evaluating", windows.len());
            let found = evaluate_perplexity(&network, &windows, |count| progress.seen(count))?;
            (windows, TextMeasure::Perplexity(found))
        }
    };
    progress.passed();
    let architecture = json.get("model_type").and_then(Value::as_str).unwrap_or_default();
    let names = [options.source.to_string(), architecture.to_owned(), options.data.to_string()];
    let (layers, parameters) = (network.layers(), network.parameters());
    let multiply_adds = multiply_adds(&network, &counted)?;
    let evaluated = Evaluated::new(names, layers, parameters, state.size_bytes(), multiply_adds);
    let mut report = EvaluateTextReport::new(evaluated, measured);
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
    let hidden = network.hidden(&tape, &Tokens::new(&batch)?)?;
    if network.head() == Head::Vocabulary {
        network.vocabulary_logits(&tape, &hidden)?;
    }
    Ok(tape.multiply_adds() / (batch.len() * length) as u64)
}
