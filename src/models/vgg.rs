use super::network::Model;
use crate::layers::operations::{GlobalAverage, MaxPool};
use crate::layers::{BatchNorm, Builder, Conv2d, Convolution, Linear, Node, Statistics, Tape};
use candle_core::{Result, bail};

/// Five stages of 3 x 3 convolutions, each normalized, halved after each stage; then one linear layer.
///
/// The names of `features` are torchvision's of the variants with normalization; the hidden linear layers of the original
/// are left out, as is usual for small pictures.
///
/// # Reference
///
/// Simonyan, Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015, table 1.
#[derive(Debug)]
pub(super) struct Vgg {
    stages: Vec<Vec<(Conv2d, BatchNorm)>>,
    classifier: Linear,
}

impl Vgg {
    pub(super) fn new(vb: &Builder<'_>, depth: usize, classes: usize, channels: usize) -> Result<Self> {
        let counts = match depth {
            11 => [1, 1, 2, 2, 2],
            13 => [2; 5],
            16 => [2, 2, 3, 3, 3],
            19 => [2, 2, 4, 4, 4],
            _ => bail!("there is no VGG of depth {depth}"),
        };
        let features = vb.pp("features");
        let (mut stages, mut inner, mut index) = (Vec::new(), channels, 0);
        for (count, out) in counts.into_iter().zip([64, 128, 256, 512, 512]) {
            let mut stage = Vec::new();
            for _ in 0..count {
                let config = Convolution::new([1; 2], [1; 2]);
                let convolution = features.conv2d(&index.to_string(), [out, inner, 3, 3], config, true)?;
                stage.push((convolution, features.batch_norm(&(index + 1).to_string(), out)?));
                // convolution, normalization, rectifier
                index += 3;
                inner = out;
            }
            // pooling
            index += 1;
            stages.push(stage);
        }
        Ok(Self { stages, classifier: vb.linear("classifier", inner, classes, true)? })
    }
}

impl Model for Vgg {
    fn forward(&self, tape: &Tape, images: &Node, statistics: Statistics) -> Result<Node> {
        let mut xs = images.clone();
        for stage in &self.stages {
            for (convolution, norm) in stage {
                xs = norm.forward_on(tape, &convolution.forward_on(tape, &xs)?, None, true, statistics)?;
            }
            xs = tape.apply(MaxPool::new(2, 2, 0), &[&xs])?;
        }
        self.classifier.forward_on(tape, &tape.apply(GlobalAverage, &[&xs])?)
    }
}
