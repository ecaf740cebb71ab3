//! Configurations as Hugging Face writes them.

use super::config::{EncoderConfig, EncoderFamily, Gpt2Config, LlamaConfig, Stretch, TextConfig};
use crate::layers::operations::Activation;
use serde::Deserialize;
use serde_json::Value;

/// Why a configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No network for text that is known here.
    #[error("config.json is of model type `{0}`, which is not known here")]
    Unknown(String),
    /// No network that translates.
    #[error("config.json is of model type `{0}`, expected one that translates: `marian`")]
    NoTranslator(String),
    /// A key that is missing or of another type.
    #[error("config.json: {0}")]
    Key(String),
    /// A setting that is not supported.
    #[error("config.json: {key} is {found}, expected {expected}")]
    Unsupported {
        /// The key.
        key: &'static str,
        /// What it is.
        found: String,
        /// What is supported.
        expected: &'static str,
    },
}

impl ConfigError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown(_) => Some(format!("known are {}", KNOWN.join(", "))),
            _ => None,
        }
    }
}

/// Classes that are believed.
const MOST_LABELS: u64 = 1 << 20;

const KNOWN: [&str; 11] = [
    "bert",
    "roberta",
    "xlm-roberta",
    "camembert",
    "distilbert",
    "albert",
    "gpt2",
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
];

/// Elements of a head that are taken for true; published ones have 64 to 512.
const MOST_HEAD_WIDTH: usize = 1 << 16;

#[derive(Deserialize)]
struct BertKeys {
    vocab_size: usize,
    hidden_size: usize,
    embedding_size: Option<usize>,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    hidden_act: Activation,
    max_position_embeddings: usize,
    #[serde(default)]
    type_vocab_size: usize,
    #[serde(default = "small_epsilon")]
    layer_norm_eps: f64,
    pad_token_id: Option<usize>,
    #[serde(default)]
    position_embedding_type: Option<String>,
}

#[derive(Deserialize)]
struct DistilBertKeys {
    vocab_size: usize,
    dim: usize,
    n_layers: usize,
    n_heads: usize,
    hidden_dim: usize,
    activation: Activation,
    max_position_embeddings: usize,
}

#[derive(Deserialize)]
struct Gpt2Keys {
    vocab_size: usize,
    n_embd: usize,
    n_layer: usize,
    n_head: usize,
    n_inner: Option<usize>,
    activation_function: Activation,
    n_positions: usize,
    #[serde(default = "epsilon")]
    layer_norm_epsilon: f64,
}

#[derive(Deserialize)]
struct LlamaKeys {
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    intermediate_size: usize,
    hidden_act: Activation,
    #[serde(default = "positions")]
    max_position_embeddings: usize,
    rms_norm_eps: f64,
    rope_theta: Option<f64>,
    rope_scaling: Option<RopeKeys>,
    rope_parameters: Option<RopeKeys>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    #[serde(default)]
    tie_word_embeddings: bool,
    sliding_window: Option<usize>,
    use_sliding_window: Option<bool>,
}

#[derive(Deserialize)]
struct RopeKeys {
    #[serde(alias = "type")]
    rope_type: Option<String>,
    rope_theta: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<f64>,
}

/// As transformers has it where a configuration says nothing.
fn positions() -> usize {
    2048
}

fn small_epsilon() -> f64 {
    1e-12
}

fn epsilon() -> f64 {
    1e-5
}

impl TextConfig {
    /// Reads a configuration.
    ///
    /// # Errors
    ///
    /// - a model type that is not known, keys that are missing, settings that are not supported
    pub fn from_json(config: &Value) -> Result<Self, ConfigError> {
        let kind = config.get("model_type").and_then(Value::as_str).unwrap_or("none");
        let encoder = |family| encoder(family, config).map(Self::Encoder);
        match kind {
            "bert" => encoder(EncoderFamily::Bert),
            "roberta" | "xlm-roberta" | "camembert" => encoder(EncoderFamily::Roberta),
            "albert" => encoder(EncoderFamily::Albert),
            "distilbert" => distilbert(config).map(Self::Encoder),
            "gpt2" => gpt2(config).map(Self::Gpt2),
            "llama" | "mistral" | "qwen2" | "qwen3" => llama(kind, config).map(Self::Llama),
            other => Err(ConfigError::Unknown(other.to_owned())),
        }
    }
}

/// The keys of a configuration.
pub(in crate::models) fn keys<T: for<'a> Deserialize<'a>>(config: &Value) -> Result<T, ConfigError> {
    T::deserialize(config).map_err(|error| ConfigError::Key(error.to_string()))
}

/// Refuses a width that heads do not divide.
pub(in crate::models) fn divided(width: usize, heads: usize) -> Result<(), ConfigError> {
    if heads == 0 || !width.is_multiple_of(heads) {
        return Err(ConfigError::Key(format!("a width of {width} cannot have {heads} heads")));
    }
    Ok(())
}

/// Classes that a configuration names, as Hugging Face counts them: two where it says nothing.
pub(crate) fn labels(config: &Value) -> Result<usize, ConfigError> {
    let named = config.get("id2label").and_then(Value::as_object).map(|names| names.len() as u64);
    let counted = config.get("num_labels").and_then(Value::as_u64);
    let count = named.filter(|&count| count > 0).or(counted).unwrap_or(2);
    if !(1..=MOST_LABELS).contains(&count) {
        return Err(ConfigError::Key(format!("num_labels is {count}, expected 1 to {MOST_LABELS}")));
    }
    Ok(count as usize)
}

fn encoder(family: EncoderFamily, config: &Value) -> Result<EncoderConfig, ConfigError> {
    let read: BertKeys = keys(config)?;
    divided(read.hidden_size, read.num_attention_heads)?;
    if let Some(found) = read.position_embedding_type.filter(|kind| kind != "absolute") {
        return Err(ConfigError::Unsupported { key: "position_embedding_type", found, expected: "absolute" });
    }
    Ok(EncoderConfig {
        family,
        vocabulary: read.vocab_size,
        width: read.hidden_size,
        embedding_width: if family == EncoderFamily::Albert {
            read.embedding_size.unwrap_or(128)
        } else {
            read.hidden_size
        },
        layers: read.num_hidden_layers,
        heads: read.num_attention_heads,
        inner: read.intermediate_size,
        activation: read.hidden_act,
        positions: read.max_position_embeddings,
        first_position: if family == EncoderFamily::Roberta { read.pad_token_id.unwrap_or(1) + 1 } else { 0 },
        segments: read.type_vocab_size,
        epsilon: read.layer_norm_eps,
        labels: labels(config)?,
    })
}

fn distilbert(config: &Value) -> Result<EncoderConfig, ConfigError> {
    let read: DistilBertKeys = keys(config)?;
    divided(read.dim, read.n_heads)?;
    Ok(EncoderConfig {
        family: EncoderFamily::DistilBert,
        vocabulary: read.vocab_size,
        width: read.dim,
        embedding_width: read.dim,
        layers: read.n_layers,
        heads: read.n_heads,
        inner: read.hidden_dim,
        activation: read.activation,
        positions: read.max_position_embeddings,
        first_position: 0,
        segments: 0,
        epsilon: small_epsilon(),
        labels: labels(config)?,
    })
}

fn gpt2(config: &Value) -> Result<Gpt2Config, ConfigError> {
    let read: Gpt2Keys = keys(config)?;
    divided(read.n_embd, read.n_head)?;
    for (key, usual) in [
        ("scale_attn_weights", true),
        ("scale_attn_by_inverse_layer_idx", false),
        ("add_cross_attention", false),
    ] {
        let found = config.get(key).and_then(Value::as_bool).unwrap_or(usual);
        if found != usual {
            let expected = if usual { "true" } else { "false" };
            return Err(ConfigError::Unsupported { key, found: found.to_string(), expected });
        }
    }
    Ok(Gpt2Config {
        vocabulary: read.vocab_size,
        width: read.n_embd,
        layers: read.n_layer,
        heads: read.n_head,
        inner: read.n_inner.unwrap_or(4 * read.n_embd),
        activation: read.activation_function,
        positions: read.n_positions,
        epsilon: read.layer_norm_epsilon,
    })
}

fn llama(kind: &str, config: &Value) -> Result<LlamaConfig, ConfigError> {
    let read: LlamaKeys = keys(config)?;
    let heads = read.num_attention_heads;
    let shared = read.num_key_value_heads.unwrap_or(heads);
    if read.head_dim.is_none() {
        divided(read.hidden_size, heads)?;
    }
    let head_width = read.head_dim.unwrap_or(read.hidden_size / heads.max(1));
    if head_width > MOST_HEAD_WIDTH {
        let problem = format!("heads are {head_width} wide, expected at most {MOST_HEAD_WIDTH}");
        return Err(ConfigError::Key(problem));
    }
    if shared == 0 || !heads.is_multiple_of(shared) {
        return Err(ConfigError::Key(format!("{heads} heads of queries cannot share {shared} of keys")));
    }
    let windowed = read.use_sliding_window.unwrap_or(kind == "mistral");
    if let Some(window) =
        read.sliding_window.filter(|&window| windowed && window < read.max_position_embeddings)
    {
        let found = window.to_string();
        return Err(ConfigError::Unsupported { key: "sliding_window", found, expected: "none" });
    }
    let rope = read.rope_parameters.or(read.rope_scaling);
    let theta = rope.as_ref().and_then(|rope| rope.rope_theta).or(read.rope_theta).unwrap_or(10_000.0);
    Ok(LlamaConfig {
        vocabulary: read.vocab_size,
        width: read.hidden_size,
        layers: read.num_hidden_layers,
        heads: [heads, shared],
        head_width,
        inner: read.intermediate_size,
        activation: read.hidden_act,
        positions: read.max_position_embeddings,
        epsilon: read.rms_norm_eps,
        theta,
        stretch: rope.map(|rope| stretch(&rope)).transpose()?.flatten(),
        attention_biases: if kind == "qwen2" { [true, false] } else { [read.attention_bias; 2] },
        inner_biases: read.mlp_bias,
        normalized_heads: kind == "qwen3",
        tied: read.tie_word_embeddings,
    })
}

fn stretch(rope: &RopeKeys) -> Result<Option<Stretch>, ConfigError> {
    let need =
        |value: Option<f64>, key: &str| value.ok_or_else(|| ConfigError::Key(format!("rope lacks `{key}`")));
    match rope.rope_type.as_deref() {
        None | Some("default") => Ok(None),
        Some("linear") => Ok(Some(Stretch::Linear(need(rope.factor, "factor")?))),
        Some("llama3") => Ok(Some(Stretch::Llama3 {
            factor: need(rope.factor, "factor")?,
            low: need(rope.low_freq_factor, "low_freq_factor")?,
            high: need(rope.high_freq_factor, "high_freq_factor")?,
            context: need(rope.original_max_position_embeddings, "original_max_position_embeddings")?,
        })),
        Some(other) => Err(ConfigError::Unsupported {
            key: "rope type",
            found: other.to_owned(),
            expected: "default, linear or llama3",
        }),
    }
}
