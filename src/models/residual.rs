use super::network::Model;
use crate::layers::operations::{GlobalAverage, MaxPool, PadChannels};
use crate::layers::{BatchNorm, Builder, Conv2d, Convolution, Linear, Node, Statistics, Tape};
use candle_core::{Result, bail};

/// What goes around a block's convolutions.
#[derive(Debug)]
enum Shortcut {
    /// The input.
    Identity,
    /// Every second pixel, more channels of zeros.
    Pad(PadChannels),
    /// A `1 x 1` convolution and its normalization.
    Project(Box<(Conv2d, BatchNorm)>),
}

/// Convolutions, each normalized; the shortcut is added to the last one's result before its rectifier.
#[derive(Debug)]
struct Block {
    layers: Vec<(Conv2d, BatchNorm)>,
    shortcut: Shortcut,
}

impl Block {
    fn forward(&self, tape: &Tape, xs: &Node, statistics: Statistics) -> Result<Node> {
        let shortcut = match &self.shortcut {
            Shortcut::Identity => xs.clone(),
            Shortcut::Pad(pad) => tape.apply(*pad, &[xs])?,
            Shortcut::Project(layers) => {
                let (convolution, norm) = &**layers;
                norm.forward_on(tape, &convolution.forward_on(tape, xs)?, None, false, statistics)?
            }
        };
        let mut ys = xs.clone();
        for (index, (convolution, norm)) in self.layers.iter().enumerate() {
            let residual = (index + 1 == self.layers.len()).then_some(&shortcut);
            ys = norm.forward_on(tape, &convolution.forward_on(tape, &ys)?, residual, true, statistics)?;
        }
        Ok(ys)
    }
}

fn square(out: usize, inner: usize, side: usize) -> [usize; 4] {
    [out, inner, side, side]
}

/// A residual network for pictures of 32 x 32: stages of 16, 32 and 64 channels times `width`.
///
/// # Reference
///
/// He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2.
#[derive(Debug)]
pub(super) struct SmallResNet {
    first: (Conv2d, BatchNorm),
    blocks: Vec<Block>,
    linear: Linear,
}

impl SmallResNet {
    pub(super) fn new(
        vb: &Builder<'_>,
        depth: usize,
        width: usize,
        classes: usize,
        channels: usize,
    ) -> Result<Self> {
        let start = 16 * width;
        let config = Convolution::new([1; 2], [1; 2]);
        let first =
            (vb.conv2d("conv1", square(start, channels, 3), config, false)?, vb.batch_norm("bn1", start)?);
        let (mut blocks, mut inner) = (Vec::new(), start);
        for stage in 0..3 {
            let out = start << stage;
            for index in 0..(depth - 2) / 6 {
                let vb = vb.pp(format!("layer{}.{index}", stage + 1));
                let stride = if stage > 0 && index == 0 { 2 } else { 1 };
                let strided = Convolution::new([stride; 2], [1; 2]);
                let layers = vec![
                    (vb.conv2d("conv1", square(out, inner, 3), strided, false)?, vb.batch_norm("bn1", out)?),
                    (vb.conv2d("conv2", square(out, out, 3), config, false)?, vb.batch_norm("bn2", out)?),
                ];
                let shortcut = if inner == out {
                    Shortcut::Identity
                } else {
                    Shortcut::Pad(PadChannels::new(stride, (out - inner) / 2))
                };
                blocks.push(Block { layers, shortcut });
                inner = out;
            }
        }
        Ok(Self { first, blocks, linear: vb.linear("linear", inner, classes, true)? })
    }
}

impl Model for SmallResNet {
    fn forward(&self, tape: &Tape, images: &Node, statistics: Statistics) -> Result<Node> {
        let (convolution, norm) = &self.first;
        let mut xs = norm.forward_on(tape, &convolution.forward_on(tape, images)?, None, true, statistics)?;
        for block in &self.blocks {
            xs = block.forward(tape, &xs, statistics)?;
        }
        self.linear.forward_on(tape, &tape.apply(GlobalAverage, &[&xs])?)
    }
}

/// A residual network for pictures of 224 x 224, with torchvision's names.
///
/// # Reference
///
/// He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, table 1.
#[derive(Debug)]
pub(super) struct ResNet {
    first: (Conv2d, BatchNorm),
    blocks: Vec<Block>,
    fc: Linear,
}

impl ResNet {
    pub(super) fn new(vb: &Builder<'_>, depth: usize, classes: usize, channels: usize) -> Result<Self> {
        let (counts, bottleneck) = match depth {
            18 => ([2, 2, 2, 2], false),
            34 => ([3, 4, 6, 3], false),
            50 => ([3, 4, 6, 3], true),
            _ => bail!("there is no residual network of depth {depth}"),
        };
        let config = Convolution::new([2; 2], [3; 2]);
        let first = (vb.conv2d("conv1", square(64, channels, 7), config, false)?, vb.batch_norm("bn1", 64)?);
        let (mut blocks, mut inner) = (Vec::new(), 64);
        for (stage, count) in counts.into_iter().enumerate() {
            let width = 64 << stage;
            let out = if bottleneck { 4 * width } else { width };
            for index in 0..count {
                let vb = vb.pp(format!("layer{}.{index}", stage + 1));
                let stride = if stage > 0 && index == 0 { 2 } else { 1 };
                // (out, in, side, stride) of each convolution
                let kernels = if bottleneck {
                    vec![(width, inner, 1, 1), (width, width, 3, stride), (out, width, 1, 1)]
                } else {
                    vec![(out, inner, 3, stride), (out, out, 3, 1)]
                };
                let layer = |(number, (out, inner, side, stride)): (usize, (usize, usize, usize, usize))| {
                    let config = Convolution::new([stride; 2], [side / 2; 2]);
                    let name = format!("conv{}", number + 1);
                    let convolution = vb.conv2d(&name, square(out, inner, side), config, false)?;
                    Ok((convolution, vb.batch_norm(&format!("bn{}", number + 1), out)?))
                };
                let layers = kernels.into_iter().enumerate().map(layer).collect::<Result<_>>()?;
                let shortcut = if inner == out && stride == 1 {
                    Shortcut::Identity
                } else {
                    let config = Convolution::new([stride; 2], [0; 2]);
                    Shortcut::Project(Box::new((
                        vb.conv2d("downsample.0", square(out, inner, 1), config, false)?,
                        vb.batch_norm("downsample.1", out)?,
                    )))
                };
                blocks.push(Block { layers, shortcut });
                inner = out;
            }
        }
        Ok(Self { first, blocks, fc: vb.linear("fc", inner, classes, true)? })
    }
}

impl Model for ResNet {
    fn forward(&self, tape: &Tape, images: &Node, statistics: Statistics) -> Result<Node> {
        let (convolution, norm) = &self.first;
        let xs = norm.forward_on(tape, &convolution.forward_on(tape, images)?, None, true, statistics)?;
        let mut xs = tape.apply(MaxPool::new(3, 2, 1), &[&xs])?;
        for block in &self.blocks {
            xs = block.forward(tape, &xs, statistics)?;
        }
        self.fc.forward_on(tape, &tape.apply(GlobalAverage, &[&xs])?)
    }
}
