use super::architecture::{Architecture, Family};
use super::{residual, vgg, vit, wide};
use crate::layers::{
    BuildError, Builder, Built, LayerEntry, Node, Parameters, State, Statistics, Stored, Tape,
};
use candle_core::{DType, Device, Result, Tensor};
use std::fmt;

/// A network's computation, from pictures `(b, c, h, w)` to logits `(b, classes)`.
pub trait Model: fmt::Debug + Send + Sync {
    /// Runs the network.
    ///
    /// # Errors
    ///
    /// - pictures of other channels, or too small for it
    fn forward(&self, tape: &Tape, images: &Node, statistics: Statistics) -> Result<Node>;
}

/// A network with its tensors.
#[derive(Debug)]
pub struct Network {
    architecture: Architecture,
    model: Box<dyn Model>,
    built: Built,
}

/// Why a network cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// The checkpoint does not hold it.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A device that fails.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// What was made, if the checkpoint held all of it and nothing else.
pub(super) fn made<M>(
    builder: &Builder<'_>,
    name: &str,
    model: Result<M>,
) -> std::result::Result<(M, Built), NetworkError> {
    match model {
        Ok(model) => Ok((model, builder.clone().finish(name)?)),
        Err(error) => {
            builder.refuse_problems(name)?;
            Err(error.into())
        }
    }
}

impl Network {
    /// Makes a network from a checkpoint's tensors and record, its layers dense or factored as they are there.
    ///
    /// # Errors
    ///
    /// - [`NetworkError::Build`] with everything that is missing, differs, or is left over
    pub fn new(
        architecture: &Architecture,
        state: &State,
        device: &Device,
    ) -> std::result::Result<Self, NetworkError> {
        Self::build(architecture, &Builder::new(state, device))
    }

    /// Makes a dense network with random weights.
    ///
    /// # Errors
    ///
    /// - a device that fails
    pub fn fresh(
        architecture: &Architecture,
        seed: u64,
        device: &Device,
    ) -> std::result::Result<Self, NetworkError> {
        Self::build(architecture, &Builder::fresh(seed, device))
    }

    /// Makes a network with this builder.
    ///
    /// # Errors
    ///
    /// - as [`Network::new`]
    pub fn build(
        architecture: &Architecture,
        builder: &Builder<'_>,
    ) -> std::result::Result<Self, NetworkError> {
        let Architecture { family, classes, channels } = *architecture;
        let make = || -> Result<Box<dyn Model>> {
            Ok(match family {
                Family::SmallResNet { depth, width } => {
                    Box::new(residual::SmallResNet::new(builder, depth, width, classes, channels)?)
                }
                Family::ResNet { depth } => {
                    Box::new(residual::ResNet::new(builder, depth, classes, channels)?)
                }
                Family::WideResNet { depth, width } => {
                    Box::new(wide::WideResNet::new(builder, depth, width, classes, channels)?)
                }
                Family::Vgg { depth } => Box::new(vgg::Vgg::new(builder, depth, classes, channels)?),
                Family::Vit(config) => Box::new(vit::Vit::new(builder, config, classes, channels)?),
            })
        };
        let (model, built) = made(builder, &architecture.to_string(), make())?;
        Ok(Self { architecture: *architecture, model, built })
    }

    /// The architecture.
    #[must_use]
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// All tensors.
    #[must_use]
    pub fn parameters(&self) -> &Parameters {
        &self.built.parameters
    }

    /// The layers with a weight, in the order in which they run.
    #[must_use]
    pub fn layers(&self) -> &[LayerEntry] {
        &self.built.layers
    }

    /// Runs the network: pictures `(b, c, h, w)` to logits `(b, classes)`.
    ///
    /// # Errors
    ///
    /// - pictures of other channels, or too small for it
    pub fn forward(&self, tape: &Tape, images: &Node, statistics: Statistics) -> Result<Node> {
        self.model.forward(tape, images, statistics)
    }

    /// Multiply-adds for one picture of this height and width, its factors run in the way that has fewer for a batch of `batch`.
    ///
    /// # Errors
    ///
    /// - a picture too small for it
    pub fn multiply_adds(&self, size: [usize; 2], batch: usize) -> Result<u64> {
        let tape = Tape::counting();
        let shape = (batch, self.architecture.channels, size[0], size[1]);
        let device =
            self.built.parameters.iter().next().map_or(Device::Cpu, |(_, p)| p.var().device().clone());
        let images = tape.constant(&Tensor::zeros(shape, DType::F32, &device)?);
        self.forward(&tape, &images, Statistics::Running)?;
        Ok(tape.multiply_adds() / batch.max(1) as u64)
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
}
