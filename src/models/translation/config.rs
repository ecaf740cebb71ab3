use crate::layers::operations::Activation;
use crate::models::text::{ConfigError, divided, keys};
use serde::Deserialize;
use serde_json::{Value, json};

/// An encoder-decoder for translation, as Marian's `config.json` describes it.
///
/// # Examples
///
/// ```
/// use fnl::models::TranslationConfig;
///
/// let config = TranslationConfig::small(8000);
/// assert_eq!(TranslationConfig::from_json(&config.to_json())?, config);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct TranslationConfig {
    /// Rows of the embeddings of source and target.
    pub vocabularies: [usize; 2],
    /// Whether source and target have one embedding; the target's is the head's weight too, always.
    pub shared: bool,
    /// Elements of a token.
    pub width: usize,
    /// Layers of encoder and decoder.
    pub layers: [usize; 2],
    /// Heads of attention in encoder and decoder.
    pub heads: [usize; 2],
    /// Elements between the two feed-forward layers, in encoder and decoder.
    pub inner: [usize; 2],
    /// What is between them.
    pub activation: Activation,
    /// Whether embeddings are multiplied by the square root of the width.
    pub scaled: bool,
    /// Positions that it was made for.
    pub positions: usize,
    /// The token that is padding, and never a translation's.
    pub pad: u32,
    /// The token that ends source and target.
    pub end: u32,
    /// The token that decoding starts with.
    pub start: u32,
}

/// Of all normalizations.
pub(super) const EPSILON: f64 = 1e-5;

#[derive(Deserialize)]
struct Keys {
    vocab_size: usize,
    decoder_vocab_size: Option<usize>,
    #[serde(default = "yes")]
    share_encoder_decoder_embeddings: bool,
    d_model: usize,
    encoder_layers: usize,
    decoder_layers: usize,
    encoder_attention_heads: usize,
    decoder_attention_heads: usize,
    encoder_ffn_dim: usize,
    decoder_ffn_dim: usize,
    activation_function: Activation,
    #[serde(default)]
    scale_embedding: bool,
    max_position_embeddings: usize,
    pad_token_id: u32,
    eos_token_id: u32,
    decoder_start_token_id: Option<u32>,
}

fn yes() -> bool {
    true
}

impl TranslationConfig {
    /// A network for small data sets, of `vocabulary` tokens that source and target share: width 256, three layers and
    /// four heads each side, 512 elements between feed-forward layers; tokens 0, 1 and 2 are padding, end and unknown.
    #[must_use]
    pub fn small(vocabulary: usize) -> Self {
        Self {
            vocabularies: [vocabulary; 2],
            shared: true,
            width: 256,
            layers: [3; 2],
            heads: [4; 2],
            inner: [512; 2],
            activation: Activation::Relu,
            scaled: true,
            positions: 512,
            pad: 0,
            end: 1,
            start: 0,
        }
    }

    /// Reads a configuration of model type `marian`.
    ///
    /// # Errors
    ///
    /// - another model type, keys that are missing, settings that are not supported, tokens beyond the vocabulary
    pub fn from_json(config: &Value) -> Result<Self, ConfigError> {
        match config.get("model_type").and_then(Value::as_str) {
            Some("marian") => {}
            other => return Err(ConfigError::NoTranslator(other.unwrap_or("none").to_owned())),
        }
        let expected = [
            ("tie_word_embeddings", true),
            ("static_position_embeddings", true),
            ("normalize_before", false),
            ("normalize_embedding", false),
            ("add_final_layer_norm", false),
        ];
        for (key, usual) in expected {
            let found = config.get(key).and_then(Value::as_bool).unwrap_or(usual);
            if found != usual {
                let expected = if usual { "true" } else { "false" };
                return Err(ConfigError::Unsupported { key, found: found.to_string(), expected });
            }
        }
        let read: Keys = keys(config)?;
        let heads = [read.encoder_attention_heads, read.decoder_attention_heads];
        heads.iter().try_for_each(|&heads| divided(read.d_model, heads))?;
        let target = match read.decoder_vocab_size {
            Some(size) if !read.share_encoder_decoder_embeddings => size,
            _ => read.vocab_size,
        };
        let found = Self {
            vocabularies: [read.vocab_size, target],
            shared: read.share_encoder_decoder_embeddings,
            width: read.d_model,
            layers: [read.encoder_layers, read.decoder_layers],
            heads,
            inner: [read.encoder_ffn_dim, read.decoder_ffn_dim],
            activation: read.activation_function,
            scaled: read.scale_embedding,
            positions: read.max_position_embeddings,
            pad: read.pad_token_id,
            end: read.eos_token_id,
            start: read.decoder_start_token_id.unwrap_or(read.pad_token_id),
        };
        found.check()?;
        Ok(found)
    }

    /// Refuses sizes that no network can have.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        self.heads.iter().try_for_each(|&heads| divided(self.width, heads))?;
        if self.positions < 2 {
            let problem = format!("max_position_embeddings is {}, expected at least 2", self.positions);
            return Err(ConfigError::Key(problem));
        }
        let target = self.vocabularies[1];
        for (name, token) in
            [("pad_token_id", self.pad), ("eos_token_id", self.end), ("decoder_start_token_id", self.start)]
        {
            if token as usize >= target {
                let problem = format!("{name} is {token}, beyond a vocabulary of {target} tokens");
                return Err(ConfigError::Key(problem));
            }
        }
        if self.end == self.pad {
            return Err(ConfigError::Key(format!("{} is both pad_token_id and eos_token_id", self.end)));
        }
        Ok(())
    }

    /// The configuration as Hugging Face writes it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "architectures": ["MarianMTModel"],
            "model_type": "marian",
            "is_encoder_decoder": true,
            "vocab_size": self.vocabularies[0],
            "decoder_vocab_size": self.vocabularies[1],
            "share_encoder_decoder_embeddings": self.shared,
            "tie_word_embeddings": true,
            "d_model": self.width,
            "encoder_layers": self.layers[0],
            "decoder_layers": self.layers[1],
            "encoder_attention_heads": self.heads[0],
            "decoder_attention_heads": self.heads[1],
            "encoder_ffn_dim": self.inner[0],
            "decoder_ffn_dim": self.inner[1],
            "activation_function": self.activation,
            "scale_embedding": self.scaled,
            "max_position_embeddings": self.positions,
            "static_position_embeddings": true,
            "pad_token_id": self.pad,
            "eos_token_id": self.end,
            "forced_eos_token_id": self.end,
            "decoder_start_token_id": self.start,
        })
    }
}
