use super::config::TextConfig;
use super::encoder::Encoder;
use super::gpt2::Gpt2;
use super::llama::Llama;
use super::tokens::Tokens;
use crate::layers::operations::{SequenceMean, UnitRows};
use crate::layers::{
    Builder, Built, HeadProduct, KeyValues, LayerEntry, Node, Parameters, State, Stored, Tape,
};
use crate::models::NetworkError;
use crate::models::network::made;
use candle_core::{Device, Result, bail};
use std::fmt;

/// The standard deviation of random weights, as BERT and GPT-2 have it.
const FRESH_DEVIATION: f64 = 0.02;

/// A network's computation on tokens.
pub(super) trait TextModel: fmt::Debug + Send + Sync {
    /// The last hidden states, `(tokens, d)`.
    fn hidden(&self, tape: &Tape, tokens: &Tokens, keep: Option<&mut KeyValues>) -> Result<Node>;

    /// What it says.
    fn head(&self) -> Head {
        Head::Vocabulary
    }

    /// Scores of the vocabulary for rows of hidden states, where there is a head for it.
    fn vocabulary_logits(&self, tape: &Tape, hidden: &Node) -> Result<Option<Node>>;

    /// Scores of classes for each sequence, where there is a head for it.
    fn class_logits(&self, _tape: &Tape, _hidden: &Node, _tokens: &Tokens) -> Result<Option<Node>> {
        Ok(None)
    }
}

/// What a network says of tokens, as the heads of its checkpoint have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Head {
    /// Scores of the vocabulary for each token.
    Vocabulary,
    /// Scores of classes for each sequence.
    Classes,
    /// There is none: one vector for each sequence, [`TextNetwork::embeddings`].
    Embeddings,
}

/// What a network is for, where its checkpoint has no head yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Task {
    /// What the checkpoint has heads for.
    #[default]
    AsItIs,
    /// Classes of whole sequences.
    Classification,
    /// Tokens that were hidden.
    MaskedLanguage,
}

/// A network for text with its tensors.
#[derive(Debug)]
pub struct TextNetwork {
    config: TextConfig,
    model: Box<dyn TextModel>,
    built: Built,
}

impl TextNetwork {
    /// Makes a network from a checkpoint's tensors and record, its layers dense or factored as they are there.
    ///
    /// # Errors
    ///
    /// - [`NetworkError::Build`] with everything that is missing, differs, or is left over
    pub fn new(
        config: &TextConfig,
        state: &State,
        device: &Device,
    ) -> std::result::Result<Self, NetworkError> {
        Self::build(config, &Builder::new(state, device), Task::AsItIs, device)
    }

    /// Makes a network with this builder, for a task.
    ///
    /// # Errors
    ///
    /// - as [`TextNetwork::new`]
    pub fn build(
        config: &TextConfig,
        builder: &Builder<'_>,
        task: Task,
        device: &Device,
    ) -> std::result::Result<Self, NetworkError> {
        let make = || -> Result<Box<dyn TextModel>> {
            Ok(match config {
                TextConfig::Encoder(config) => Box::new(Encoder::new(builder, config, task, device)?),
                TextConfig::Gpt2(config) => Box::new(Gpt2::new(builder, config, device)?),
                TextConfig::Llama(config) => Box::new(Llama::new(builder, config, device)?),
            })
        };
        let name = match config {
            TextConfig::Encoder(_) => "an encoder such as config.json describes",
            TextConfig::Gpt2(_) => "a GPT-2 such as config.json describes",
            TextConfig::Llama(_) => "a Llama such as config.json describes",
        };
        let (model, built) = made(builder, name, make())?;
        Ok(Self { config: config.clone(), model, built })
    }

    /// Makes a network with random weights, for a task.
    ///
    /// # Determinism
    ///
    /// Each weight depends on the seed, its name and its shape.
    ///
    /// # Errors
    ///
    /// - as [`TextNetwork::new`]
    pub fn fresh(
        config: &TextConfig,
        task: Task,
        seed: u64,
        device: &Device,
    ) -> std::result::Result<Self, NetworkError> {
        Self::build(config, &Builder::fresh(seed, device).with_deviation(FRESH_DEVIATION), task, device)
    }

    /// The tensors as a checkpoint holds them, f32, with no record of factored modules.
    ///
    /// # Errors
    ///
    /// - a device that fails
    pub fn state(&self) -> Result<State> {
        let tensors = self.built.parameters.snapshot()?;
        let tensors = tensors.into_iter().map(|(name, tensor)| (name, Stored::new(tensor)));
        Ok(State { tensors: tensors.collect(), ..State::default() })
    }

    /// What a network of these tensors says.
    #[must_use]
    pub fn head_of(config: &TextConfig, state: &State) -> Head {
        match config {
            TextConfig::Encoder(config) => {
                super::encoder::head_of(&Builder::new(state, &Device::Cpu), config)
            }
            _ => Head::Vocabulary,
        }
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &TextConfig {
        &self.config
    }

    /// What it says.
    #[must_use]
    pub fn head(&self) -> Head {
        self.model.head()
    }

    /// Whether it is a language model that reads from left to right.
    #[must_use]
    pub fn is_causal(&self) -> bool {
        !matches!(self.config, TextConfig::Encoder(_))
    }

    /// All tensors.
    #[must_use]
    pub fn parameters(&self) -> &Parameters {
        &self.built.parameters
    }

    /// The layers with a weight, in the order in which they were made.
    #[must_use]
    pub fn layers(&self) -> &[LayerEntry] {
        &self.built.layers
    }

    /// The products of dense weights that heads of attention compute with.
    #[must_use]
    pub fn products(&self) -> &[HeadProduct] {
        &self.built.products
    }

    /// The last hidden states of all tokens, `(tokens, d)`.
    ///
    /// # Errors
    ///
    /// - tokens beyond the vocabulary; sequences longer than a table of positions (positions that turn queries and keys have none)
    pub fn hidden(&self, tape: &Tape, tokens: &Tokens) -> Result<Node> {
        self.model.hidden(tape, tokens, None)
    }

    /// The last hidden states of one sequence's next tokens; what they leave for later ones is kept.
    ///
    /// The tokens say where they stand: [`Tokens::from_position`] with as many as were kept before.
    ///
    /// # Errors
    ///
    /// - as [`TextNetwork::hidden`]; a network that reads in both directions; tokens that stand elsewhere
    pub fn hidden_next(&self, tape: &Tape, tokens: &Tokens, keep: &mut KeyValues) -> Result<Node> {
        let (first, kept) = (tokens.positions().first().copied().unwrap_or(0), keep.tokens());
        if first != kept {
            bail!(
                "the tokens stand at position {first}, and {kept} were kept before: Tokens::from_position says where"
            );
        }
        self.model.hidden(tape, tokens, Some(keep))
    }

    /// Scores of the vocabulary for rows of hidden states.
    ///
    /// # Errors
    ///
    /// - a network without a head for it
    pub fn vocabulary_logits(&self, tape: &Tape, hidden: &Node) -> Result<Node> {
        match self.model.vocabulary_logits(tape, hidden)? {
            Some(logits) => Ok(logits),
            None => bail!("this checkpoint has no head for the vocabulary"),
        }
    }

    /// Scores of classes for each sequence.
    ///
    /// # Errors
    ///
    /// - a network without a head for it
    pub fn class_logits(&self, tape: &Tape, tokens: &Tokens) -> Result<Node> {
        self.class_logits_of(tape, &self.hidden(tape, tokens)?, tokens)
    }

    /// Scores of classes for each sequence, from the hidden states of its tokens.
    ///
    /// # Errors
    ///
    /// - a network without a head for it
    pub fn class_logits_of(&self, tape: &Tape, hidden: &Node, tokens: &Tokens) -> Result<Node> {
        match self.model.class_logits(tape, hidden, tokens)? {
            Some(logits) => Ok(logits),
            None => bail!("this checkpoint has no head for classes"),
        }
    }

    /// One vector of length one for each sequence, the mean of its hidden states: `(sequences, d)`.
    ///
    /// # Errors
    ///
    /// - as [`TextNetwork::hidden`]
    pub fn embeddings(&self, tape: &Tape, tokens: &Tokens) -> Result<Node> {
        self.embeddings_of(tape, &self.hidden(tape, tokens)?, tokens)
    }

    /// One vector of length one for each sequence, from the hidden states of its tokens.
    ///
    /// # Errors
    ///
    /// - hidden states of other tokens
    pub fn embeddings_of(&self, tape: &Tape, hidden: &Node, tokens: &Tokens) -> Result<Node> {
        let mean = tape.apply(SequenceMean::new(tokens.sequences()), &[hidden])?;
        tape.apply(UnitRows, &[&mean])
    }
}
