use super::config::Gpt2Config;
use super::network::TextModel;
use super::tokens::Tokens;
use crate::layers::operations::{Add, Attention, Columns};
use crate::layers::{
    Builder, Embedding, HeadProductKind, HeadWeight, KeyValues, Linear, Node, RowNorm, Tape,
};
use candle_core::{Device, Result};

#[derive(Debug)]
struct Block {
    attention_norm: RowNorm,
    attention: Linear,
    output: Linear,
    /// Elements of a head's queries and keys, and of its values.
    widths: [usize; 2],
    norm: RowNorm,
    up: Linear,
    down: Linear,
}

/// GPT-2, its linear layers stored `(in, out)`.
///
/// # Reference
///
/// Radford et al., "Language Models are Unsupervised Multitask Learners", 2019.
#[derive(Debug)]
pub(super) struct Gpt2 {
    words: Embedding,
    positions: Embedding,
    blocks: Vec<Block>,
    norm: RowNorm,
    head: Option<Linear>,
    config: Gpt2Config,
    device: Device,
}

impl Gpt2 {
    pub(super) fn new(root: &Builder<'_>, config: &Gpt2Config, device: &Device) -> Result<Self> {
        let vb = if root.has("wte") { root.clone() } else { root.pp("transformer") };
        let Gpt2Config { width, inner, epsilon, .. } = *config;
        let block = |index: usize| {
            let vb = vb.pp(format!("h.{index}"));
            // masks that older checkpoints hold
            vb.leave_out("attn.bias");
            vb.leave_out("attn.masked_bias");
            let (heads, usual) = (config.heads, width / config.heads.max(1));
            // Queries, keys and values lie behind each other; heads that were narrowed have fewer elements.
            let value_width = vb.head_width("attn.c_proj", 0, heads, usual);
            let three = vb.head_width("attn.c_attn", 1, heads, 3 * usual);
            let widths = [three.saturating_sub(value_width) / 2, value_width];
            let all = heads * (2 * widths[0] + widths[1]);
            let attention = vb.transposed_linear("attn.c_attn", width, all, true)?;
            let output = vb.transposed_linear("attn.c_proj", heads * value_width, width, true)?;
            let part =
                |name: &str, axis: usize, start: usize| HeadWeight { name: name.to_owned(), axis, start };
            let of = |start: usize| part("attn.c_attn.weight", 1, start);
            let query_key = [of(0), of(heads * widths[0])];
            vb.head_product(HeadProductKind::QueryKey, query_key, [heads, heads], widths[0]);
            let output_value = [part("attn.c_proj.weight", 0, 0), of(2 * heads * widths[0])];
            vb.head_product(HeadProductKind::OutputValue, output_value, [heads, heads], value_width);
            Ok(Block {
                attention_norm: vb.layer_norm("ln_1", width, epsilon)?,
                attention,
                output,
                widths,
                norm: vb.layer_norm("ln_2", width, epsilon)?,
                up: vb.transposed_linear("mlp.c_fc", width, inner, true)?,
                down: vb.transposed_linear("mlp.c_proj", inner, width, true)?,
            })
        };
        let words = vb.embedding("wte", config.vocabulary, width)?;
        let positions = vb.embedding("wpe", config.positions, width)?;
        let blocks = (0..config.layers).map(block).collect::<Result<_>>()?;
        let norm = vb.layer_norm("ln_f", width, epsilon)?;
        let head = if root.has("lm_head") {
            Some(root.linear("lm_head", width, config.vocabulary, false)?)
        } else {
            None
        };
        Ok(Self { words, positions, blocks, norm, head, config: config.clone(), device: device.clone() })
    }
}

impl TextModel for Gpt2 {
    fn hidden(&self, tape: &Tape, tokens: &Tokens, mut keep: Option<&mut KeyValues>) -> Result<Node> {
        let Gpt2Config { width, heads, .. } = self.config;
        let positions = tokens.position_tensor(0, self.config.positions, &self.device)?;
        let mut xs = self.words.forward_on(tape, &tokens.id_tensor(&self.device)?)?;
        xs = tape.apply(Add, &[&xs, &self.positions.forward_on(tape, &positions)?])?;
        let scale = 1.0 / ((width / heads) as f64).sqrt();
        for (layer, block) in self.blocks.iter().enumerate() {
            let ys = block.attention.forward_on(tape, &block.attention_norm.forward_on(tape, &xs)?)?;
            let [each, of_value] = block.widths.map(|each| heads * each);
            let part = |start: usize, count: usize| tape.apply(Columns::new(start, count), &[&ys]);
            let (query, key, value) = (part(0, each)?, part(each, each)?, part(2 * each, of_value)?);
            let attention = Attention::new(tokens.sequences(), heads, scale).causal();
            let ys = match keep.as_deref_mut() {
                Some(keep) => keep.attend(tape, layer, attention, [&query, &key, &value])?,
                None => tape.apply(attention, &[&query, &key, &value])?,
            };
            xs = block.output.forward_added_on(tape, &ys, &xs)?;
            let ys = block.norm.forward_on(tape, &xs)?;
            let ys = block.up.forward_activated_on(tape, &ys, self.config.activation)?;
            xs = block.down.forward_added_on(tape, &ys, &xs)?;
            tape.leave_state(&xs);
        }
        self.norm.forward_on(tape, &xs)
    }

    fn vocabulary_logits(&self, tape: &Tape, hidden: &Node) -> Result<Option<Node>> {
        match &self.head {
            Some(head) => head.forward_on(tape, hidden).map(Some),
            None => self.words.scores_on(tape, hidden, None).map(Some),
        }
    }
}
