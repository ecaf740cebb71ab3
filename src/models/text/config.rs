use crate::layers::operations::Activation;

/// A network for text, as a Hugging Face `config.json` describes it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum TextConfig {
    /// BERT and its relatives: attention in both directions.
    Encoder(EncoderConfig),
    /// GPT-2.
    Gpt2(Gpt2Config),
    /// Llama and its relatives: rotary positions, shared keys, gated feed-forward layers.
    Llama(LlamaConfig),
}

/// Which names the tensors of an encoder have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncoderFamily {
    /// BERT, MiniLM and most sentence encoders.
    Bert,
    /// RoBERTa and XLM-RoBERTa, whose positions begin behind the padding's.
    Roberta,
    /// DistilBERT, without segments.
    DistilBert,
    /// ALBERT: one layer many times, narrower embeddings.
    Albert,
}

/// The sizes of an encoder.
#[derive(Clone, Debug, PartialEq)]
pub struct EncoderConfig {
    /// Which names its tensors have.
    pub family: EncoderFamily,
    /// Rows of the embedding.
    pub vocabulary: usize,
    /// Elements of a token.
    pub width: usize,
    /// Elements of a token's embedding, where they are fewer.
    pub embedding_width: usize,
    /// Layers.
    pub layers: usize,
    /// Heads of attention.
    pub heads: usize,
    /// Elements between the two feed-forward layers.
    pub inner: usize,
    /// What is between them.
    pub activation: Activation,
    /// Positions that have an embedding.
    pub positions: usize,
    /// Where positions begin.
    pub first_position: usize,
    /// Segments; none if zero.
    pub segments: usize,
    /// Of normalizations.
    pub epsilon: f64,
    /// Classes of a classification head, if there is one.
    pub labels: usize,
}

/// The sizes of a GPT-2.
#[derive(Clone, Debug, PartialEq)]
pub struct Gpt2Config {
    /// Rows of the embedding.
    pub vocabulary: usize,
    /// Elements of a token.
    pub width: usize,
    /// Layers.
    pub layers: usize,
    /// Heads of attention.
    pub heads: usize,
    /// Elements between the two feed-forward layers.
    pub inner: usize,
    /// What is between them.
    pub activation: Activation,
    /// Positions that have an embedding.
    pub positions: usize,
    /// Of normalizations.
    pub epsilon: f64,
}

/// The sizes of a Llama.
#[derive(Clone, Debug, PartialEq)]
pub struct LlamaConfig {
    /// Rows of the embedding.
    pub vocabulary: usize,
    /// Elements of a token.
    pub width: usize,
    /// Layers.
    pub layers: usize,
    /// Heads of queries, and of keys and values.
    pub heads: [usize; 2],
    /// Elements of a head.
    pub head_width: usize,
    /// Elements between the feed-forward layers.
    pub inner: usize,
    /// What the gate goes through.
    pub activation: Activation,
    /// Positions that it was trained for.
    pub positions: usize,
    /// Of normalizations.
    pub epsilon: f64,
    /// The base of rotary frequencies.
    pub theta: f64,
    /// How frequencies are stretched for longer texts.
    pub stretch: Option<Stretch>,
    /// Whether queries, keys and values have a bias, and whether what attention gives has one.
    pub attention_biases: [bool; 2],
    /// Whether the feed-forward layers have biases.
    pub inner_biases: bool,
    /// Whether each head's query and key are normalized.
    pub normalized_heads: bool,
    /// Whether the head shares the embedding's weight.
    pub tied: bool,
}

/// Frequencies of a context that was lengthened after training.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Stretch {
    /// All of them divided by this.
    Linear(f64),
    /// Low ones divided by `factor`, high ones left, those between mixed.
    Llama3 {
        /// What low frequencies are divided by.
        factor: f64,
        /// Turns within the old context below which a frequency is low.
        low: f64,
        /// Turns above which it is high.
        high: f64,
        /// The context before.
        context: f64,
    },
}

impl TextConfig {
    /// Tokens of the longest sequence that it takes.
    #[must_use]
    pub fn longest(&self) -> usize {
        match self {
            Self::Encoder(config) => config.positions.saturating_sub(config.first_position),
            Self::Gpt2(config) => config.positions,
            Self::Llama(config) => config.positions,
        }
    }

    /// Elements of a token's hidden state.
    #[must_use]
    pub fn width(&self) -> usize {
        match self {
            Self::Encoder(config) => config.width,
            Self::Gpt2(config) => config.width,
            Self::Llama(config) => config.width,
        }
    }

    /// Layers that a token goes through.
    #[must_use]
    pub fn layers(&self) -> usize {
        match self {
            Self::Encoder(config) => config.layers,
            Self::Gpt2(config) => config.layers,
            Self::Llama(config) => config.layers,
        }
    }

    /// Rows of the embedding.
    #[must_use]
    pub fn vocabulary(&self) -> usize {
        match self {
            Self::Encoder(config) => config.vocabulary,
            Self::Gpt2(config) => config.vocabulary,
            Self::Llama(config) => config.vocabulary,
        }
    }
}
