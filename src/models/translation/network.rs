use super::config::TranslationConfig;
use super::kept::KeptTokens;
use super::marian::Marian;
use crate::layers::operations::Dropouts;
use crate::layers::{
    Builder, Built, HeadProduct, LayerEntry, Node, Parameters, Sequences, State, Stored, Tape,
};
use crate::models::network::made;
use crate::models::{NetworkError, Tokens};
use candle_core::{Device, Result, bail};

/// A network that translates, with its tensors.
///
/// Sources end with the end token; targets begin with the start token and end with the end token, which
/// [`TranslationNetwork::inputs`] and [`TranslationNetwork::labels`] put there.
///
/// # Examples
///
/// ```
/// use candle_core::Device;
/// use fnl::layers::Tape;
/// use fnl::models::{SearchOptions, Tokens, TranslationConfig, TranslationNetwork};
///
/// let config = TranslationConfig { width: 16, inner: [32; 2], layers: [1; 2], ..TranslationConfig::small(30) };
/// let network = TranslationNetwork::fresh(&config, 0, &Device::Cpu)?;
/// let (tape, sources) = (Tape::inference(), Tokens::new(&[vec![5, 9, 7, 1], vec![8, 1]])?);
/// let encoded = network.encode(&tape, &sources)?;
/// let inputs = network.inputs(&[vec![4, 6], vec![3]])?; // each behind the start token
/// assert_eq!(network.logits(&tape, &encoded, &inputs)?.dims(), [5, 30]);
/// let translations = network.translate(&sources, &SearchOptions::default())?;
/// assert_eq!(translations.len(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct TranslationNetwork {
    config: TranslationConfig,
    model: Marian,
    built: Built,
}

/// Sources that went through the encoder.
#[derive(Clone, Debug)]
pub struct Encoded {
    hidden: Node,
    sequences: Sequences,
}

impl Encoded {
    /// The encoder's hidden states, `(tokens, d)`.
    #[must_use]
    pub fn hidden(&self) -> &Node {
        &self.hidden
    }

    /// Which of them are which source.
    #[must_use]
    pub fn sequences(&self) -> &Sequences {
        &self.sequences
    }
}

impl TranslationNetwork {
    /// Makes a network from a checkpoint's tensors and record, its layers dense or factored as they are there.
    ///
    /// # Errors
    ///
    /// - [`NetworkError::Build`] with everything that is missing, differs, or is left over
    pub fn new(
        config: &TranslationConfig,
        state: &State,
        device: &Device,
    ) -> std::result::Result<Self, NetworkError> {
        Self::build(config, &Builder::new(state, device), device)
    }

    /// Makes a dense network with random weights: embeddings normal with variance `1 / d`, linear layers uniform with
    /// variance `2 / (fan_in + fan_out)`, half of that for queries, keys and values.
    ///
    /// # Errors
    ///
    /// - sizes that no network can have; a device that fails
    pub fn fresh(
        config: &TranslationConfig,
        seed: u64,
        device: &Device,
    ) -> std::result::Result<Self, NetworkError> {
        Self::build(config, &Builder::fresh(seed, device), device)
    }

    /// Makes a network with this builder.
    ///
    /// # Errors
    ///
    /// - as [`TranslationNetwork::new`]; sizes that no network can have
    pub fn build(
        config: &TranslationConfig,
        builder: &Builder<'_>,
        device: &Device,
    ) -> std::result::Result<Self, NetworkError> {
        config.check().map_err(candle_core::Error::wrap)?;
        let name = "an encoder-decoder such as config.json describes";
        let (model, built) = made(builder, name, Marian::new(builder, config, device))?;
        Ok(Self { config: config.clone(), model, built })
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &TranslationConfig {
        &self.config
    }

    /// All tensors.
    #[must_use]
    pub fn parameters(&self) -> &Parameters {
        &self.built.parameters
    }

    /// The products of dense weights that heads of attention compute with.
    #[must_use]
    pub fn products(&self) -> &[HeadProduct] {
        &self.built.products
    }

    /// The layers with a weight, in the order in which they were made.
    #[must_use]
    pub fn layers(&self) -> &[LayerEntry] {
        &self.built.layers
    }

    /// The tensors as a checkpoint holds them, f32, with no record of factored modules.
    ///
    /// # Errors
    ///
    /// - a device that fails
    pub fn state(&self) -> Result<State> {
        let tensors =
            self.built.parameters.snapshot()?.into_iter().map(|(name, tensor)| (name, Stored::new(tensor)));
        Ok(State { tensors: tensors.collect(), ..State::default() })
    }

    /// What the decoder takes to foretell these targets, given without start and end: the start token, then the target.
    ///
    /// # Errors
    ///
    /// - no targets
    pub fn inputs(&self, targets: &[Vec<u32>]) -> Result<Tokens> {
        let start = self.config.start;
        let shifted = |target: &Vec<u32>| [start].into_iter().chain(target.iter().copied()).collect();
        Tokens::new(&targets.iter().map(shifted).collect::<Vec<Vec<u32>>>())
    }

    /// What the decoder is to say to [`TranslationNetwork::inputs`], behind each other: the target, then the end token.
    #[must_use]
    pub fn labels(&self, targets: &[Vec<u32>]) -> Vec<u32> {
        targets.iter().flat_map(|target| target.iter().copied().chain([self.config.end])).collect()
    }

    /// Runs the encoder on sources.
    ///
    /// # Errors
    ///
    /// - tokens beyond the vocabulary, sequences that are too long
    pub fn encode(&self, tape: &Tape, sources: &Tokens) -> Result<Encoded> {
        self.encode_dropped(tape, sources, None)
    }

    /// As [`TranslationNetwork::encode`], in training: elements are left out of embeddings and of what layers add.
    ///
    /// # Errors
    ///
    /// - as [`TranslationNetwork::encode`]
    pub fn encode_dropped(
        &self,
        tape: &Tape,
        sources: &Tokens,
        dropouts: Option<&Dropouts>,
    ) -> Result<Encoded> {
        let sequences = sources.sequences().clone();
        let hidden = self.model.encode(tape, sources.ids(), sources.positions(), &sequences, dropouts)?;
        Ok(Encoded { hidden, sequences })
    }

    /// Scores of the vocabulary for what follows each token of the targets, all at once: `(target tokens, vocabulary)`.
    ///
    /// # Errors
    ///
    /// - tokens beyond the vocabulary, sequences that are too long, another number of targets than of sources
    pub fn logits(&self, tape: &Tape, encoded: &Encoded, targets: &Tokens) -> Result<Node> {
        self.logits_dropped(tape, encoded, targets, None)
    }

    /// As [`TranslationNetwork::logits`], in training: elements are left out of embeddings and of what layers add.
    ///
    /// # Errors
    ///
    /// - as [`TranslationNetwork::logits`]
    pub fn logits_dropped(
        &self,
        tape: &Tape,
        encoded: &Encoded,
        targets: &Tokens,
        dropouts: Option<&Dropouts>,
    ) -> Result<Node> {
        let (ids, positions) = (targets.ids(), targets.positions());
        let sequences = [targets.sequences(), &encoded.sequences];
        let hidden = self.model.decode(tape, ids, positions, sequences, &encoded.hidden, dropouts)?;
        self.model.scores(tape, &hidden)
    }

    /// Begins one hypothesis of each source, without a token yet.
    ///
    /// # Errors
    ///
    /// - a device that fails
    pub fn begin(&self, tape: &Tape, encoded: &Encoded) -> Result<KeptTokens> {
        Ok(KeptTokens::new(self.model.source_keys(tape, &encoded.hidden)?, &encoded.sequences))
    }

    /// Scores of the vocabulary for what follows one more token of each hypothesis, `(hypotheses, vocabulary)`.
    ///
    /// # Errors
    ///
    /// - another number of tokens than of hypotheses, tokens beyond the vocabulary, sequences that are too long
    pub fn step(&self, tape: &Tape, tokens: &[u32], kept: &mut KeptTokens) -> Result<Node> {
        let hypotheses: usize = kept.hypotheses().iter().sum();
        if tokens.len() != hypotheses {
            bail!("{} tokens for {hypotheses} hypotheses", tokens.len());
        }
        let hidden = self.model.step(tape, tokens, kept)?;
        self.model.scores(tape, &hidden)
    }
}
