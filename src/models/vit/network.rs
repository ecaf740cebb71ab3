use super::config::VitConfig;
use crate::layers::operations::{Attention, Lookup, PictureTokens};
use crate::layers::{Builder, Conv2d, Convolution, Linear, Node, Role, RowNorm, Sequences, Statistics, Tape};
use crate::models::Model;
use candle_core::{Result, Tensor, Var, bail};

/// What weights deviate by at the start.
const DEVIATION: f64 = 0.02;

/// Attention, then two feed-forward layers, each on normalized tokens and added to what went in.
#[derive(Debug)]
struct Block {
    attention_norm: RowNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    norm: RowNorm,
    up: Linear,
    down: Linear,
}

/// A transformer over a picture's patches.
///
/// # Reference
///
/// Dosovitskiy et al., "An Image is Worth 16x16 Words", 2021.
#[derive(Debug)]
pub(in crate::models) struct Vit {
    patches: Conv2d,
    token: Var,
    positions: Var,
    blocks: Vec<Block>,
    norm: RowNorm,
    classifier: Linear,
    config: VitConfig,
    channels: usize,
}

impl Vit {
    pub(in crate::models) fn new(
        root: &Builder<'_>,
        config: VitConfig,
        classes: usize,
        channels: usize,
    ) -> Result<Self> {
        let root = root.clone().with_deviation(DEVIATION);
        // A model without head has no prefix.
        let bare = root.has("embeddings.patch_embeddings.projection");
        let vb = if bare { root.clone() } else { root.pp("vit") };
        let VitConfig { width, inner, patch, epsilon, biases, .. } = config;
        let embeddings = vb.pp("embeddings");
        let kernel = [width, channels, patch, patch];
        let strided = Convolution::new([patch; 2], [0; 2]);
        let patches = embeddings.conv2d("patch_embeddings.projection", kernel, strided, true)?;
        let token = embeddings.own("cls_token", &[1, 1, width], Role::Weight)?;
        let shape = [1, config.patches() + 1, width];
        let positions = embeddings.own("position_embeddings", &shape, Role::Weight)?;
        let block = |index: usize| {
            let vb = vb.pp(format!("encoder.layer.{index}"));
            let square = |name: &str| vb.linear(name, width, width, biases);
            Ok(Block {
                attention_norm: vb.layer_norm("layernorm_before", width, epsilon)?,
                query: square("attention.attention.query")?,
                key: square("attention.attention.key")?,
                value: square("attention.attention.value")?,
                output: vb.linear("attention.output.dense", width, width, true)?,
                norm: vb.layer_norm("layernorm_after", width, epsilon)?,
                up: vb.linear("intermediate.dense", width, inner, true)?,
                down: vb.linear("output.dense", inner, width, true)?,
            })
        };
        let blocks = (0..config.layers).map(block).collect::<Result<_>>()?;
        let norm = vb.layer_norm("layernorm", width, epsilon)?;
        // A pooler belongs to a model without head, and classes are told without it.
        vb.leave_out("pooler.dense.weight");
        vb.leave_out("pooler.dense.bias");
        let classifier = root.linear("classifier", width, classes, true)?;
        Ok(Self { patches, token, positions, blocks, norm, classifier, config, channels })
    }
}

impl Model for Vit {
    fn forward(&self, tape: &Tape, images: &Node, _statistics: Statistics) -> Result<Node> {
        let VitConfig { heads, width, image, activation, .. } = self.config;
        let expected = [self.channels, image, image];
        let &[count, ..] = images.dims() else { bail!("pictures need a shape (b, c, h, w)") };
        if images.dims()[1..] != expected {
            bail!("pictures of {:?}, expected {expected:?}", &images.dims()[1..]);
        }
        let length = self.config.patches() + 1;
        let sequences = Sequences::new(&vec![length; count])?;
        let scale = 1.0 / ((width / heads) as f64).sqrt();
        let patches = self.patches.forward_on(tape, images)?;
        let (token, positions) = (tape.parameter(&self.token), tape.parameter(&self.positions));
        let mut xs = tape.apply(PictureTokens, &[&patches, &token, &positions])?;
        for block in &self.blocks {
            let ys = block.attention_norm.forward_on(tape, &xs)?;
            let query = block.query.forward_on(tape, &ys)?;
            let key = block.key.forward_on(tape, &ys)?;
            let value = block.value.forward_on(tape, &ys)?;
            let ys = tape.apply(Attention::new(&sequences, heads, scale), &[&query, &key, &value])?;
            xs = block.output.forward_added_on(tape, &ys, &xs)?;
            let ys = block.norm.forward_on(tape, &xs)?;
            let ys = block.up.forward_activated_on(tape, &ys, activation)?;
            xs = block.down.forward_added_on(tape, &ys, &xs)?;
        }
        let firsts: Vec<u32> = (0..count).map(|picture| (picture * length) as u32).collect();
        let firsts = Tensor::new(firsts, images.tensor().device())?;
        let first = self.norm.forward_on(tape, &tape.apply(Lookup::new(&firsts), &[&xs])?)?;
        self.classifier.forward_on(tape, &first)
    }
}
