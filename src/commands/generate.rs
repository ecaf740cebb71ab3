use super::CommandError;
use super::text_networks::config_json;
use crate::checkpoint::{Checkpoint, Source};
use crate::data::{TextStream, TextTokenizer};
use crate::layers::{State, keep_freed_memory};
use crate::models::{Generation, Sampler, Sampling, TextConfig, TextNetwork};
use crate::report::{GenerateReport, Stop};
use candle_core::Device;
use serde_json::Value;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

/// Tokens that are generated unless another number is asked for, or the network takes fewer.
const TOKENS: usize = 128;

/// What [`generate`] is to do.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GenerateOptions {
    /// The checkpoint's folder: dense, factored or collapsed.
    pub source: Source,
    /// The text that is continued.
    pub prompt: String,
    /// Tokens to generate at most; 128, or as many as the network takes, if nothing is said.
    pub tokens: Option<usize>,
    /// How tokens are chosen.
    pub sampling: Sampling,
}

impl GenerateOptions {
    /// Options for one checkpoint and text.
    #[must_use]
    pub fn new(source: Source, prompt: String) -> Self {
        Self { source, prompt, tokens: None, sampling: Sampling::default() }
    }
}

/// Continues a text with a language model. `hear` gets each piece of it, whole characters, as soon as it is there, and says
/// whether to go on.
///
/// # Determinism
///
/// The same checkpoint, text and sampling give the same tokens on one machine.
///
/// # Errors
///
/// - [`CommandError::Config`], [`CommandError::Network`] when the checkpoint is no known network for text;
/// - [`CommandError::Text`] when there is no tokenizer;
/// - [`CommandError::Unfit`] when the network reads in both directions, or text and tokens are more than it takes
pub fn generate(
    options: &GenerateOptions,
    mut hear: impl FnMut(&str) -> ControlFlow<()>,
) -> Result<GenerateReport, CommandError> {
    keep_freed_memory();
    let unfit = |problem: String| Err(CommandError::Unfit { problems: vec![problem] });
    let checkpoint = Checkpoint::open(&options.source)?;
    let json = config_json(&checkpoint)?;
    let config = TextConfig::from_json(json)?;
    if matches!(config, TextConfig::Encoder(_)) {
        let kind = json["model_type"].as_str().unwrap_or_default();
        return unfit(format!("`{kind}` reads in both directions, and continues no text"));
    }
    let tokenizer = TextTokenizer::open(checkpoint.root(), usize::MAX)?;
    let mut prompt = tokenizer.encode_prompt(&options.prompt)?;
    if prompt.is_empty() {
        // a text begins somewhere
        prompt.extend(tokens_of(json, "bos_token_id").first());
    }
    if prompt.is_empty() {
        return unfit("the prompt is empty, and config.json names no token that begins a text".to_owned());
    }
    let (given, longest) = (prompt.len(), config.longest());
    let room = longest.saturating_sub(given);
    let most = options.tokens.unwrap_or(TOKENS.min(room));
    if room == 0 || most > room {
        return unfit(format!(
            "the prompt has {given} tokens and {} are to follow, and the network takes {longest} in all",
            options.tokens.unwrap_or(1)
        ));
    }
    let ends = ends(json, checkpoint.root());
    let state = State::read(&checkpoint)?;
    let network = TextNetwork::new(&config, &state, &Device::Cpu)?;
    let start = Instant::now();
    let mut generation = Generation::new(&network, &prompt, Sampler::new(options.sampling))?;
    let mut stream = TextStream::new(&tokenizer, &prompt);
    let (mut text, mut tokens, mut prompt_secs) = (String::new(), Vec::new(), 0.0);
    let mut stop = Stop::Length;
    while tokens.len() < most {
        let token = generation.step()?;
        if tokens.is_empty() {
            prompt_secs = start.elapsed().as_secs_f64();
        }
        if ends.contains(&token) {
            stop = Stop::End;
            break;
        }
        tokens.push(token);
        let piece = stream.push(token)?;
        text.push_str(&piece);
        if !piece.is_empty() && hear(&piece).is_break() {
            stop = Stop::Reader;
            break;
        }
    }
    let rest = stream.finish()?;
    text.push_str(&rest);
    if stop != Stop::Reader && !rest.is_empty() {
        // nothing is left to stop
        let _ = hear(&rest);
    }
    let elapsed_secs = start.elapsed().as_secs_f64();
    // the first token comes with the prompt
    let later = tokens.len().saturating_sub(usize::from(stop != Stop::End));
    Ok(GenerateReport {
        schema_version: crate::report::SCHEMA_VERSION,
        tool: crate::TOOL.to_owned(),
        command: "generate",
        input: options.source.to_string(),
        prompt: options.prompt.clone(),
        text,
        prompt_tokens: given,
        tokens,
        stop,
        sampling: options.sampling,
        prompt_secs,
        tokens_per_second: later as f64 / (elapsed_secs - prompt_secs).max(1e-9),
        elapsed_secs,
    })
}

/// The tokens that end a text, as generation_config.json says, or else config.json.
fn ends(config: &Value, root: &Path) -> Vec<u32> {
    let read = std::fs::read(root.join("generation_config.json"));
    let generation = read.ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    let ends = generation.map(|json| tokens_of(&json, "eos_token_id")).unwrap_or_default();
    if ends.is_empty() { tokens_of(config, "eos_token_id") } else { ends }
}

/// A token, or several, under a key.
fn tokens_of(json: &Value, key: &str) -> Vec<u32> {
    let token = |value: &Value| value.as_u64().and_then(|token| u32::try_from(token).ok());
    match json.get(key) {
        Some(Value::Array(values)) => values.iter().filter_map(token).collect(),
        Some(value) => token(value).into_iter().collect(),
        None => Vec::new(),
    }
}
