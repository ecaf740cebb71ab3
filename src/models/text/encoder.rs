use super::config::{EncoderConfig, EncoderFamily};
use super::network::{Head, Task, TextModel};
use super::tokens::Tokens;
use crate::layers::operations::{Activation, Add, Attention, Lookup};
use crate::layers::{
    Builder, Embedding, HeadProductKind, HeadWeight, KeyValues, Linear, Node, RowNorm, Tape,
};
use candle_core::{Device, Result, Tensor, Var, bail};

/// The names of a layer's parts, by family.
struct Names {
    layer: fn(usize) -> String,
    query: &'static str,
    key: &'static str,
    value: &'static str,
    output: &'static str,
    attention_norm: &'static str,
    up: &'static str,
    down: &'static str,
    norm: &'static str,
}

const BERT: Names = Names {
    layer: |index| format!("encoder.layer.{index}"),
    query: "attention.self.query",
    key: "attention.self.key",
    value: "attention.self.value",
    output: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    up: "intermediate.dense",
    down: "output.dense",
    norm: "output.LayerNorm",
};

const DISTILBERT: Names = Names {
    layer: |index| format!("transformer.layer.{index}"),
    query: "attention.q_lin",
    key: "attention.k_lin",
    value: "attention.v_lin",
    output: "attention.out_lin",
    attention_norm: "sa_layer_norm",
    up: "ffn.lin1",
    down: "ffn.lin2",
    norm: "output_layer_norm",
};

const ALBERT: Names = Names {
    layer: |_| "encoder.albert_layer_groups.0.albert_layers.0".to_owned(),
    query: "attention.query",
    key: "attention.key",
    value: "attention.value",
    output: "attention.dense",
    attention_norm: "attention.LayerNorm",
    up: "ffn",
    down: "ffn_output",
    norm: "full_layer_layer_norm",
};

/// Attention in both directions, then two feed-forward layers; each normalized after it is added to what went in.
#[derive(Debug)]
struct Block {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    attention_norm: RowNorm,
    up: Linear,
    down: Linear,
    norm: RowNorm,
    heads: usize,
    scale: f64,
    activation: Activation,
}

impl Block {
    fn new(vb: &Builder<'_>, names: &Names, config: &EncoderConfig) -> Result<Self> {
        let (width, inner, heads) = (config.width, config.inner, config.heads);
        let usual = width / heads.max(1);
        // Heads that were narrowed keep the scale of those that they were.
        let narrow = vb.head_width(names.query, 0, heads, usual);
        let value_width = vb.head_width(names.value, 0, heads, usual);
        let into = |name: &str, each: usize| vb.linear(name, width, heads * each, true);
        let (query, key) = (into(names.query, narrow)?, into(names.key, narrow)?);
        let value = into(names.value, value_width)?;
        let output = vb.linear(names.output, heads * value_width, width, true)?;
        let part = |name: &str, axis: usize| HeadWeight::new(&format!("{name}.weight"), axis);
        let query_key = [part(names.query, 0), part(names.key, 0)];
        vb.head_product(HeadProductKind::QueryKey, query_key, [heads, heads], narrow);
        let output_value = [part(names.output, 1), part(names.value, 0)];
        vb.head_product(HeadProductKind::OutputValue, output_value, [heads, heads], value_width);
        Ok(Self {
            query,
            key,
            value,
            output,
            attention_norm: vb.layer_norm(names.attention_norm, width, config.epsilon)?,
            up: vb.linear(names.up, width, inner, true)?,
            down: vb.linear(names.down, inner, width, true)?,
            norm: vb.layer_norm(names.norm, width, config.epsilon)?,
            heads: config.heads,
            scale: 1.0 / ((width / config.heads) as f64).sqrt(),
            activation: config.activation,
        })
    }

    fn forward(&self, tape: &Tape, xs: &Node, tokens: &Tokens) -> Result<Node> {
        let query = self.query.forward_on(tape, xs)?;
        let key = self.key.forward_on(tape, xs)?;
        let value = self.value.forward_on(tape, xs)?;
        let attention = Attention::new(tokens.sequences(), self.heads, self.scale);
        let ys = tape.apply(attention, &[&query, &key, &value])?;
        let ys = self.output.forward_added_on(tape, &ys, xs)?;
        let xs = self.attention_norm.forward_on(tape, &ys)?;
        let ys = self.up.forward_activated_on(tape, &xs, self.activation)?;
        let ys = self.down.forward_added_on(tape, &ys, &xs)?;
        self.norm.forward_on(tape, &ys)
    }
}

/// The head of a masked language model.
#[derive(Debug)]
struct MaskedHead {
    dense: Linear,
    norm: RowNorm,
    activation: Activation,
    /// The embedding's weight where it is none of its own.
    decoder: Option<Linear>,
    bias: Var,
}

/// The head of a classifier: an optional hidden layer over the first token, then classes.
#[derive(Debug)]
struct Classifier {
    hidden: Option<(Linear, Activation)>,
    out: Linear,
}

/// BERT and its relatives.
///
/// # Reference
///
/// Devlin et al., "BERT", 2018; Liu et al., "RoBERTa", 2019; Sanh et al., "DistilBERT", 2019; Lan et al., "ALBERT", 2019.
#[derive(Debug)]
pub(super) struct Encoder {
    words: Embedding,
    positions: Embedding,
    segments: Option<Embedding>,
    norm: RowNorm,
    widen: Option<Linear>,
    /// One layer many times has one block.
    blocks: Vec<Block>,
    pooler: Option<Linear>,
    masked: Option<MaskedHead>,
    classifier: Option<Classifier>,
    config: EncoderConfig,
    device: Device,
}

impl Encoder {
    pub(super) fn new(
        root: &Builder<'_>,
        config: &EncoderConfig,
        task: Task,
        device: &Device,
    ) -> Result<Self> {
        let family = config.family;
        let (prefix, names) = match family {
            EncoderFamily::Bert => ("bert", BERT),
            EncoderFamily::Roberta => ("roberta", BERT),
            EncoderFamily::DistilBert => ("distilbert", DISTILBERT),
            EncoderFamily::Albert => ("albert", ALBERT),
        };
        // A model without head has no prefix.
        let bare = root.has("embeddings.word_embeddings");
        let vb = if bare { root.clone() } else { root.pp(prefix) };
        let (width, narrow) = (config.width, config.embedding_width);
        let embeddings = vb.pp("embeddings");
        let words = embeddings.embedding("word_embeddings", config.vocabulary, narrow)?;
        let positions = embeddings.embedding("position_embeddings", config.positions, narrow)?;
        let segments = match config.segments {
            0 => None,
            count => Some(embeddings.embedding("token_type_embeddings", count, narrow)?),
        };
        let norm = embeddings.layer_norm("LayerNorm", narrow, config.epsilon)?;
        let albert = family == EncoderFamily::Albert;
        let widen = if albert {
            Some(vb.linear("encoder.embedding_hidden_mapping_in", narrow, width, true)?)
        } else {
            None
        };
        let own = if albert { 1 } else { config.layers };
        let blocks = (0..own).map(|index| Block::new(&vb.pp((names.layer)(index)), &names, config));
        let blocks = blocks.collect::<Result<_>>()?;
        let place = if albert { "pooler" } else { "pooler.dense" };
        let wanted =
            root.has("classifier") || root.has("classifier.out_proj") || task == Task::Classification;
        let first_token = matches!(family, EncoderFamily::Bert | EncoderFamily::Albert);
        let pooler = if vb.has(place) || (first_token && task == Task::Classification) {
            Some(vb.linear(place, width, width, true)?)
        } else {
            None
        };
        let masked = masked_head(root, config, task)?;
        let classifier = if wanted { Some(classifier(root, config)?) } else { None };
        Ok(Self {
            words,
            positions,
            segments,
            norm,
            widen,
            blocks,
            pooler,
            masked,
            classifier,
            config: config.clone(),
            device: device.clone(),
        })
    }
}

/// What an encoder with these tensors says.
pub(super) fn head_of(root: &Builder<'_>, config: &EncoderConfig) -> Head {
    let (dense, ..) = masked_names(config.family);
    if root.has("classifier") || root.has("classifier.out_proj") {
        Head::Classes
    } else if root.has(dense) {
        Head::Vocabulary
    } else {
        Head::Embeddings
    }
}

/// Names of a masked language model's head: hidden layer, its normalization, decoder and the place of a bias of its own.
fn masked_names(family: EncoderFamily) -> (&'static str, &'static str, &'static str, &'static str) {
    match family {
        EncoderFamily::Bert => (
            "cls.predictions.transform.dense",
            "cls.predictions.transform.LayerNorm",
            "cls.predictions.decoder",
            "cls.predictions.bias",
        ),
        EncoderFamily::Roberta => ("lm_head.dense", "lm_head.layer_norm", "lm_head.decoder", "lm_head.bias"),
        EncoderFamily::DistilBert => {
            ("vocab_transform", "vocab_layer_norm", "vocab_projector", "vocab_projector.bias")
        }
        EncoderFamily::Albert => {
            ("predictions.dense", "predictions.LayerNorm", "predictions.decoder", "predictions.bias")
        }
    }
}

fn masked_head(root: &Builder<'_>, config: &EncoderConfig, task: Task) -> Result<Option<MaskedHead>> {
    let (narrow, width) = (config.embedding_width, config.width);
    let (dense, norm, decoder, bias) = masked_names(config.family);
    if !root.has(dense) && task != Task::MaskedLanguage {
        return Ok(None);
    }
    let own = root.has(decoder);
    let shared_bias = root.bias(bias, config.vocabulary)?;
    // Some checkpoints hold the bias twice.
    if bias != format!("{decoder}.bias") {
        root.leave_out(&format!("{decoder}.bias"));
    }
    let decoder = if own { Some(root.linear_with_bias(decoder, narrow, shared_bias.clone())?) } else { None };
    Ok(Some(MaskedHead {
        dense: root.linear(dense, width, narrow, true)?,
        norm: root.layer_norm(norm, narrow, config.epsilon)?,
        activation: config.activation,
        decoder,
        bias: shared_bias,
    }))
}

fn classifier(root: &Builder<'_>, config: &EncoderConfig) -> Result<Classifier> {
    let (width, labels) = (config.width, config.labels);
    Ok(match config.family {
        EncoderFamily::Bert | EncoderFamily::Albert => {
            Classifier { hidden: None, out: root.linear("classifier", width, labels, true)? }
        }
        EncoderFamily::Roberta => Classifier {
            hidden: Some((root.linear("classifier.dense", width, width, true)?, Activation::Tanh)),
            out: root.linear("classifier.out_proj", width, labels, true)?,
        },
        EncoderFamily::DistilBert => Classifier {
            hidden: Some((root.linear("pre_classifier", width, width, true)?, Activation::Relu)),
            out: root.linear("classifier", width, labels, true)?,
        },
    })
}

impl TextModel for Encoder {
    fn hidden(&self, tape: &Tape, tokens: &Tokens, keep: Option<&mut KeyValues>) -> Result<Node> {
        if keep.is_some() {
            bail!("an encoder reads in both directions: it keeps nothing for later tokens");
        }
        let config = &self.config;
        let positions = tokens.position_tensor(config.first_position, config.positions, &self.device)?;
        let mut xs = self.words.forward_on(tape, &tokens.id_tensor(&self.device)?)?;
        if let Some(segments) = &self.segments {
            let segments = segments.forward_on(tape, &tokens.segment_tensor(&self.device)?)?;
            xs = tape.apply(Add, &[&xs, &segments])?;
        }
        xs = tape.apply(Add, &[&xs, &self.positions.forward_on(tape, &positions)?])?;
        xs = self.norm.forward_on(tape, &xs)?;
        if let Some(widen) = &self.widen {
            xs = widen.forward_on(tape, &xs)?;
        }
        for index in 0..config.layers {
            xs = self.blocks[index.min(self.blocks.len() - 1)].forward(tape, &xs, tokens)?;
            tape.leave_state(&xs);
        }
        Ok(xs)
    }

    fn head(&self) -> Head {
        match (&self.classifier, &self.masked) {
            (Some(_), _) => Head::Classes,
            (None, Some(_)) => Head::Vocabulary,
            (None, None) => Head::Embeddings,
        }
    }

    fn vocabulary_logits(&self, tape: &Tape, hidden: &Node) -> Result<Option<Node>> {
        let Some(head) = &self.masked else { return Ok(None) };
        let xs = head.dense.forward_activated_on(tape, hidden, head.activation)?;
        let xs = head.norm.forward_on(tape, &xs)?;
        match &head.decoder {
            Some(decoder) => decoder.forward_on(tape, &xs).map(Some),
            None => self.words.scores_on(tape, &xs, Some(&head.bias)).map(Some),
        }
    }

    fn class_logits(&self, tape: &Tape, hidden: &Node, tokens: &Tokens) -> Result<Option<Node>> {
        let Some(classifier) = &self.classifier else { return Ok(None) };
        let firsts: Vec<u32> = tokens.sequences().ranges().map(|range| range.start as u32).collect();
        let mut xs = tape.apply(Lookup::new(&Tensor::new(firsts, &self.device)?), &[hidden])?;
        // RoBERTa's classes are told from the token itself, whatever pooler its checkpoint holds.
        let pools = matches!(self.config.family, EncoderFamily::Bert | EncoderFamily::Albert);
        if let Some(pooler) = self.pooler.as_ref().filter(|_| pools) {
            xs = pooler.forward_activated_on(tape, &xs, Activation::Tanh)?;
        }
        if let Some((hidden, activation)) = &classifier.hidden {
            xs = hidden.forward_activated_on(tape, &xs, *activation)?;
        }
        classifier.out.forward_on(tape, &xs).map(Some)
    }
}
