use super::config::{LlamaConfig, Stretch};
use super::network::TextModel;
use super::tokens::Tokens;
use crate::layers::operations::{Attention, Multiply, Reshape, Rotary};
use crate::layers::{
    Builder, Embedding, HeadProductKind, HeadWeight, KeyValues, Linear, Node, RowNorm, Tape,
};
use candle_core::{Device, Result};
use std::f64::consts::PI;
use std::sync::Arc;

#[derive(Debug)]
struct Block {
    attention_norm: RowNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    /// Of each head's query and key.
    head_norms: Option<[RowNorm; 2]>,
    norm: RowNorm,
    gate: Linear,
    up: Linear,
    down: Linear,
}

/// Llama, Mistral, Qwen2, Qwen3, SmolLM.
///
/// # Reference
///
/// Touvron et al., "LLaMA", 2023, section 2.2; Ainslie et al., "GQA", 2023.
#[derive(Debug)]
pub(super) struct Llama {
    words: Embedding,
    blocks: Vec<Block>,
    norm: RowNorm,
    head: Option<Linear>,
    frequencies: Arc<[f64]>,
    config: LlamaConfig,
    device: Device,
}

impl Llama {
    pub(super) fn new(root: &Builder<'_>, config: &LlamaConfig, device: &Device) -> Result<Self> {
        let vb = if root.has("embed_tokens") { root.clone() } else { root.pp("model") };
        let LlamaConfig { width, inner, epsilon, head_width, heads: [heads, shared], .. } = *config;
        let [into, out] = config.attention_biases;
        let block = |index: usize| {
            let vb = vb.pp(format!("layers.{index}"));
            let (attention, mlp) = (vb.pp("self_attn"), vb.pp("mlp"));
            // kept by old exports: it follows from the configuration
            attention.leave_out("rotary_emb.inv_freq");
            let head_norms = if config.normalized_heads {
                Some([
                    attention.rms_norm("q_norm", head_width, epsilon)?,
                    attention.rms_norm("k_norm", head_width, epsilon)?,
                ])
            } else {
                None
            };
            // Positions turn queries and keys, whose heads stay as they are; those of values may have been narrowed.
            let value_width = attention.head_width("v_proj", 0, shared, head_width);
            let value = attention.linear("v_proj", width, shared * value_width, into)?;
            let output = attention.linear("o_proj", heads * value_width, width, out)?;
            let output_value = [HeadWeight::new("o_proj.weight", 1), HeadWeight::new("v_proj.weight", 0)];
            attention.head_product(HeadProductKind::OutputValue, output_value, [heads, shared], value_width);
            Ok(Block {
                attention_norm: vb.rms_norm("input_layernorm", width, epsilon)?,
                query: attention.linear("q_proj", width, heads * head_width, into)?,
                key: attention.linear("k_proj", width, shared * head_width, into)?,
                value,
                output,
                head_norms,
                norm: vb.rms_norm("post_attention_layernorm", width, epsilon)?,
                gate: mlp.linear("gate_proj", width, inner, config.inner_biases)?,
                up: mlp.linear("up_proj", width, inner, config.inner_biases)?,
                down: mlp.linear("down_proj", inner, width, config.inner_biases)?,
            })
        };
        let words = vb.embedding("embed_tokens", config.vocabulary, width)?;
        let blocks = (0..config.layers).map(block).collect::<Result<_>>()?;
        let norm = vb.rms_norm("norm", width, epsilon)?;
        let tied = config.tied && !root.has("lm_head");
        let head = if tied { None } else { Some(root.linear("lm_head", width, config.vocabulary, false)?) };
        let frequencies = frequencies(config);
        Ok(Self { words, blocks, norm, head, frequencies, config: config.clone(), device: device.clone() })
    }
}

/// The rotary frequencies, stretched where the configuration says so.
fn frequencies(config: &LlamaConfig) -> Arc<[f64]> {
    let plain = Rotary::frequencies(config.head_width, config.theta);
    match config.stretch {
        None => plain,
        Some(Stretch::Linear(factor)) => plain.iter().map(|frequency| frequency / factor).collect(),
        Some(Stretch::Llama3 { factor, low, high, context }) => plain
            .iter()
            .map(|&frequency| {
                let turns = context * frequency / (2.0 * PI);
                let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                frequency * (kept + (1.0 - kept) / factor)
            })
            .collect(),
    }
}

impl TextModel for Llama {
    fn hidden(&self, tape: &Tape, tokens: &Tokens, mut keep: Option<&mut KeyValues>) -> Result<Node> {
        let LlamaConfig { heads: [heads, shared], head_width, .. } = self.config;
        let scale = 1.0 / (head_width as f64).sqrt();
        let rotary = Rotary::new(tokens.positions().clone(), self.frequencies.clone());
        let placed = |xs: Node, norm: Option<&RowNorm>| {
            let mut xs = xs;
            if let Some(norm) = norm {
                let dims = xs.dims().to_vec();
                let rows = tape.apply(Reshape::new(&[dims[0] * dims[1] / head_width, head_width]), &[&xs])?;
                xs = tape.apply(Reshape::new(&dims), &[&norm.forward_on(tape, &rows)?])?;
            }
            tape.apply(rotary.clone(), &[&xs])
        };
        let mut xs = self.words.forward_on(tape, &tokens.id_tensor(&self.device)?)?;
        for (layer, block) in self.blocks.iter().enumerate() {
            let ys = block.attention_norm.forward_on(tape, &xs)?;
            let [query_norm, key_norm] = match &block.head_norms {
                Some([query, key]) => [Some(query), Some(key)],
                None => [None, None],
            };
            let query = placed(block.query.forward_on(tape, &ys)?, query_norm)?;
            let key = placed(block.key.forward_on(tape, &ys)?, key_norm)?;
            let value = block.value.forward_on(tape, &ys)?;
            let attention =
                Attention::new(tokens.sequences(), heads, scale).with_shared_heads(shared).causal();
            let ys = match keep.as_deref_mut() {
                Some(keep) => keep.attend(tape, layer, attention, [&query, &key, &value])?,
                None => tape.apply(attention, &[&query, &key, &value])?,
            };
            xs = block.output.forward_added_on(tape, &ys, &xs)?;
            let ys = block.norm.forward_on(tape, &xs)?;
            let gate = block.gate.forward_activated_on(tape, &ys, self.config.activation)?;
            let ys = tape.apply(Multiply, &[&gate, &block.up.forward_on(tape, &ys)?])?;
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
