use super::network::Model;
use crate::layers::operations::{Add, GlobalAverage};
use crate::layers::{BatchNorm, Builder, Conv2d, Convolution, Linear, Node, Statistics, Tape};
use candle_core::Result;

/// Normalization and rectifier before each convolution; a shortcut that projects where the channels change.
#[derive(Debug)]
struct Block {
    norms: [BatchNorm; 2],
    convolutions: [Conv2d; 2],
    shortcut: Option<Conv2d>,
}

/// A wide residual network: stages of 16, 32 and 64 channels times `width`.
///
/// # Reference
///
/// Zagoruyko, Komodakis, "Wide Residual Networks", BMVC 2016, table 1.
#[derive(Debug)]
pub(super) struct WideResNet {
    first: Conv2d,
    blocks: Vec<Block>,
    norm: BatchNorm,
    fc: Linear,
}

impl WideResNet {
    pub(super) fn new(
        vb: &Builder<'_>,
        depth: usize,
        width: usize,
        classes: usize,
        channels: usize,
    ) -> Result<Self> {
        let config = Convolution::new([1; 2], [1; 2]);
        let first = vb.conv2d("conv1", [16, channels, 3, 3], config, false)?;
        let (mut blocks, mut inner) = (Vec::new(), 16);
        for stage in 0..3 {
            let out = (16 * width) << stage;
            for index in 0..(depth - 4) / 6 {
                let vb = vb.pp(format!("block{}.layer.{index}", stage + 1));
                let stride = if stage > 0 && index == 0 { 2 } else { 1 };
                let strided = Convolution::new([stride; 2], [1; 2]);
                let norms = [vb.batch_norm("bn1", inner)?, vb.batch_norm("bn2", out)?];
                let convolutions = [
                    vb.conv2d("conv1", [out, inner, 3, 3], strided, false)?,
                    vb.conv2d("conv2", [out, out, 3, 3], config, false)?,
                ];
                let project = Convolution::new([stride; 2], [0; 2]);
                let shortcut = if inner == out {
                    None
                } else {
                    Some(vb.conv2d("convShortcut", [out, inner, 1, 1], project, false)?)
                };
                blocks.push(Block { norms, convolutions, shortcut });
                inner = out;
            }
        }
        let norm = vb.batch_norm("bn1", inner)?;
        Ok(Self { first, blocks, norm, fc: vb.linear("fc", inner, classes, true)? })
    }
}

impl Model for WideResNet {
    fn forward(&self, tape: &Tape, images: &Node, statistics: Statistics) -> Result<Node> {
        let mut xs = self.first.forward_on(tape, images)?;
        for block in &self.blocks {
            let active = block.norms[0].forward_on(tape, &xs, None, true, statistics)?;
            // A shortcut that projects starts from what was normalized.
            let shortcut = match &block.shortcut {
                Some(convolution) => convolution.forward_on(tape, &active)?,
                None => xs,
            };
            let ys = block.convolutions[0].forward_on(tape, &active)?;
            let ys = block.norms[1].forward_on(tape, &ys, None, true, statistics)?;
            let ys = block.convolutions[1].forward_on(tape, &ys)?;
            xs = tape.apply(Add, &[&ys, &shortcut])?;
        }
        let xs = self.norm.forward_on(tape, &xs, None, true, statistics)?;
        self.fc.forward_on(tape, &tape.apply(GlobalAverage, &[&xs])?)
    }
}
