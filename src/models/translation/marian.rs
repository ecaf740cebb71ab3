use super::attention::Projections;
use super::config::{EPSILON, TranslationConfig};
use super::kept::KeptTokens;
use crate::layers::operations::{Activation, Add, Dropouts, Scale};
use crate::layers::{Builder, Embedding, Linear, Node, Role, RowNorm, Sequences, Tape};
use candle_core::{DType, Device, Result, Tensor, Var, bail};

/// What is added to what went in, in training without some of its elements.
fn dropped(tape: &Tape, xs: Node, dropouts: Option<&Dropouts>) -> Result<Node> {
    match dropouts {
        Some(dropouts) => dropouts.apply_on(tape, &xs),
        None => Ok(xs),
    }
}

/// Two feed-forward layers, normalized after they are added to what went in.
#[derive(Debug)]
struct Feed {
    up: Linear,
    down: Linear,
    norm: RowNorm,
    activation: Activation,
}

impl Feed {
    fn new(vb: &Builder<'_>, width: usize, inner: usize, activation: Activation) -> Result<Self> {
        Ok(Self {
            up: vb.linear("fc1", width, inner, true)?,
            down: vb.linear("fc2", inner, width, true)?,
            norm: vb.layer_norm("final_layer_norm", width, EPSILON)?,
            activation,
        })
    }

    fn forward(&self, tape: &Tape, xs: &Node, dropouts: Option<&Dropouts>) -> Result<Node> {
        let ys = self.up.forward_activated_on(tape, xs, self.activation)?;
        let ys = dropped(tape, self.down.forward_on(tape, &ys)?, dropouts)?;
        self.norm.forward_on(tape, &tape.apply(Add, &[xs, &ys])?)
    }
}

/// Attention, and the normalization after it.
#[derive(Debug)]
struct Reading {
    attention: Projections,
    norm: RowNorm,
}

impl Reading {
    fn new(vb: &Builder<'_>, name: &str, width: usize, heads: usize) -> Result<Self> {
        Ok(Self {
            attention: Projections::new(&vb.pp(name), width, heads)?,
            norm: vb.layer_norm(&format!("{name}_layer_norm"), width, EPSILON)?,
        })
    }

    fn forward(
        &self,
        tape: &Tape,
        xs: &Node,
        sequences: [&Sequences; 2],
        keys: [&Node; 2],
        causal: bool,
        dropouts: Option<&Dropouts>,
    ) -> Result<Node> {
        let ys = self.attention.read(tape, xs, sequences, keys, causal)?;
        let ys = dropped(tape, ys, dropouts)?;
        self.norm.forward_on(tape, &tape.apply(Add, &[xs, &ys])?)
    }
}

#[derive(Debug)]
struct EncoderBlock {
    own: Reading,
    feed: Feed,
}

#[derive(Debug)]
struct DecoderBlock {
    own: Reading,
    source: Reading,
    feed: Feed,
}

/// Marian's encoder-decoder: attention and feed-forward layers, each normalized after it is added to what went in, with
/// sines and cosines for positions.
///
/// # Reference
///
/// Vaswani et al., "Attention Is All You Need", 2017; Junczys-Dowmunt et al., "Marian", 2018.
#[derive(Debug)]
pub(super) struct Marian {
    /// One where source and target share it.
    words: Vec<Embedding>,
    encoder: Vec<EncoderBlock>,
    decoder: Vec<DecoderBlock>,
    /// `(1, vocabulary)`; not trained.
    bias: Var,
    config: TranslationConfig,
    device: Device,
}

impl Marian {
    pub(super) fn new(root: &Builder<'_>, config: &TranslationConfig, device: &Device) -> Result<Self> {
        let root = root.with_balanced_start(1.0);
        let vb = root.pp("model");
        let TranslationConfig { width, activation, vocabularies: [sources, targets], .. } = *config;
        let words = if config.shared {
            // Some checkpoints hold the one embedding under all its names.
            vb.leave_out("encoder.embed_tokens.weight");
            vb.leave_out("decoder.embed_tokens.weight");
            vec![vb.embedding("shared", sources, width)?]
        } else {
            vec![
                vb.embedding("encoder.embed_tokens", sources, width)?,
                vb.embedding("decoder.embed_tokens", targets, width)?,
            ]
        };
        root.leave_out("lm_head.weight");
        // positions follow from the width
        vb.leave_out("encoder.embed_positions.weight");
        vb.leave_out("decoder.embed_positions.weight");
        let [heads, decoder_heads] = config.heads;
        let [inner, decoder_inner] = config.inner;
        let encoder = (0..config.layers[0]).map(|index| {
            let vb = vb.pp(format!("encoder.layers.{index}"));
            Ok(EncoderBlock {
                own: Reading::new(&vb, "self_attn", width, heads)?,
                feed: Feed::new(&vb, width, inner, activation)?,
            })
        });
        let encoder = encoder.collect::<Result<_>>()?;
        let decoder = (0..config.layers[1]).map(|index| {
            let vb = vb.pp(format!("decoder.layers.{index}"));
            Ok(DecoderBlock {
                own: Reading::new(&vb, "self_attn", width, decoder_heads)?,
                source: Reading::new(&vb, "encoder_attn", width, decoder_heads)?,
                feed: Feed::new(&vb, width, decoder_inner, activation)?,
            })
        });
        let decoder = decoder.collect::<Result<_>>()?;
        let bias = root.own("final_logits_bias", &[1, targets], Role::Statistic)?;
        Ok(Self { words, encoder, decoder, bias, config: config.clone(), device: device.clone() })
    }

    /// The embedding of the target's tokens.
    fn target_words(&self) -> &Embedding {
        &self.words[self.words.len() - 1]
    }

    /// Tokens with their positions, `(tokens, d)`.
    fn embedded(
        &self,
        tape: &Tape,
        words: &Embedding,
        ids: &[u32],
        positions: impl ExactSizeIterator<Item = usize>,
    ) -> Result<Node> {
        let mut xs = words.forward_on(tape, &Tensor::new(ids, &self.device)?)?;
        if self.config.scaled {
            xs = tape.apply(Scale::new((self.config.width as f64).sqrt()), &[&xs])?;
        }
        let places = self.places(positions, xs.tensor().dtype())?;
        tape.apply(Add, &[&xs, &tape.constant(&places)])
    }

    /// Sines of positions times falling frequencies, then their cosines: `(tokens, d)`.
    fn places(&self, positions: impl ExactSizeIterator<Item = usize>, dtype: DType) -> Result<Tensor> {
        let TranslationConfig { width, positions: known, .. } = self.config;
        let count = positions.len();
        let angle =
            |position: usize, j: usize| position as f64 / 10_000f64.powf((2 * (j / 2)) as f64 / width as f64);
        let mut values = Vec::with_capacity(count * width);
        for position in positions {
            if position >= known {
                bail!("a sequence has more than {known} tokens, and this network takes at most {known}");
            }
            values.extend((0..width).step_by(2).map(|j| angle(position, j).sin()));
            values.extend((1..width).step_by(2).map(|j| angle(position, j).cos()));
        }
        // The table is of f32 whatever the weights are.
        let values: Vec<f32> = values.into_iter().map(|value| value as f32).collect();
        Tensor::from_vec(values, (count, width), &self.device)?.to_dtype(dtype)
    }

    /// The encoder's hidden states, `(tokens, d)`.
    pub(super) fn encode(
        &self,
        tape: &Tape,
        ids: &[u32],
        positions: &[usize],
        sequences: &Sequences,
        dropouts: Option<&Dropouts>,
    ) -> Result<Node> {
        let xs = self.embedded(tape, &self.words[0], ids, positions.iter().copied())?;
        let mut xs = dropped(tape, xs, dropouts)?;
        for block in &self.encoder {
            let [keys, values] = block.own.attention.keys(tape, &xs)?;
            xs = block.own.forward(tape, &xs, [sequences; 2], [&keys, &values], false, dropouts)?;
            xs = block.feed.forward(tape, &xs, dropouts)?;
        }
        Ok(xs)
    }

    /// The decoder's hidden states of whole targets, `(tokens, d)`.
    pub(super) fn decode(
        &self,
        tape: &Tape,
        ids: &[u32],
        positions: &[usize],
        [targets, sources]: [&Sequences; 2],
        encoded: &Node,
        dropouts: Option<&Dropouts>,
    ) -> Result<Node> {
        let xs = self.embedded(tape, self.target_words(), ids, positions.iter().copied())?;
        let mut xs = dropped(tape, xs, dropouts)?;
        for block in &self.decoder {
            let [keys, values] = block.own.attention.keys(tape, &xs)?;
            xs = block.own.forward(tape, &xs, [targets; 2], [&keys, &values], true, dropouts)?;
            let [keys, values] = block.source.attention.keys(tape, encoded)?;
            xs = block.source.forward(tape, &xs, [targets, sources], [&keys, &values], false, dropouts)?;
            xs = block.feed.forward(tape, &xs, dropouts)?;
        }
        Ok(xs)
    }

    /// Keys and values of the source for each layer of the decoder.
    pub(super) fn source_keys(&self, tape: &Tape, encoded: &Node) -> Result<Vec<[Tensor; 2]>> {
        let keys = |block: &DecoderBlock| {
            Ok(block.source.attention.keys(tape, encoded)?.map(|node| node.tensor().clone()))
        };
        self.decoder.iter().map(keys).collect()
    }

    /// The decoder's hidden states of one more token of each hypothesis, `(hypotheses, d)`.
    pub(super) fn step(&self, tape: &Tape, ids: &[u32], kept: &mut KeptTokens) -> Result<Node> {
        let positions = std::iter::repeat_n(kept.tokens(), ids.len());
        let mut xs = self.embedded(tape, self.target_words(), ids, positions)?;
        let single = Sequences::new(&vec![1; ids.len()])?;
        let so_far = Sequences::new(&vec![kept.tokens() + 1; ids.len()])?;
        // Hypotheses of one source are the queries of one sequence: they read the same keys.
        let together = Sequences::new(kept.hypotheses())?;
        for (layer, block) in self.decoder.iter().enumerate() {
            let [keys, values] = block.own.attention.keys(tape, &xs)?;
            let kept_keys = kept.append(layer, [keys.tensor(), values.tensor()])?;
            let [keys, values] = kept_keys.map(|tensor| tape.constant(&tensor));
            xs = block.own.forward(tape, &xs, [&single, &so_far], [&keys, &values], false, None)?;
            let [keys, values] = kept.source_keys(layer).map(|tensor| tape.constant(tensor));
            xs =
                block.source.forward(tape, &xs, [&together, kept.source()], [&keys, &values], false, None)?;
            xs = block.feed.forward(tape, &xs, None)?;
        }
        kept.advance();
        Ok(xs)
    }

    /// Scores of the target's vocabulary for rows of hidden states.
    pub(super) fn scores(&self, tape: &Tape, hidden: &Node) -> Result<Node> {
        let bias = tape.constant(&self.bias.as_detached_tensor().flatten_all()?);
        self.target_words().scores_with(tape, hidden, Some(&bias))
    }
}
