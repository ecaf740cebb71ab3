use serde::{Deserialize, Serialize};
use std::fmt;

/// How a weight is split into a chain of layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Scheme {
    /// Two factors of a matrix: linear layers and embeddings.
    Matrix,
    /// Convolutions, one spatial axis a layer: `1 x kw`, then `kh x 1`.
    Spatial,
    /// Convolutions over their channels: `kh x kw` to fewer channels, then `1 x 1`.
    Channel,
    /// Three factors `A M B` at full rank, trained and then collapsed: overcomplete.
    Deep,
    /// A core tensor and a factor for each mode.
    Tucker,
    /// A sum of products of vectors, one for each mode: canonical polyadic.
    Cp,
    /// A core of three axes for each mode, multiplied along the row of modes.
    #[serde(rename = "tensor-train")]
    TensorTrain,
}

impl Scheme {
    /// Every scheme.
    pub const ALL: [Self; 7] =
        [Self::Matrix, Self::Spatial, Self::Channel, Self::Deep, Self::Tucker, Self::Cp, Self::TensorTrain];

    /// The scheme's name in records, recipes and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Matrix => "matrix",
            Self::Spatial => "spatial",
            Self::Channel => "channel",
            Self::Deep => "deep",
            Self::Tucker => "tucker",
            Self::Cp => "cp",
            Self::TensorTrain => "tensor-train",
        }
    }

    /// Whether a weight is seen as a tensor, and not as a matrix.
    #[must_use]
    pub fn is_tensor(self) -> bool {
        matches!(self, Self::Tucker | Self::Cp | Self::TensorTrain)
    }

    /// The scheme of that name, if there is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scheme| scheme.name() == name)
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How a weight's axes are to be read.
///
/// | layout | shape |
/// | --- | --- |
/// | `Linear` | `(out, in)` |
/// | `TransposedLinear` | `(in, out)`, as GPT-2's `Conv1D` stores it |
/// | `Embedding` | `(vocabulary, width)` |
/// | `Conv1d` | `(out, in / groups, k)` |
/// | `Conv2d` | `(out, in / groups, kh, kw)` |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Layout {
    /// `(out, in)`.
    Linear,
    /// `(in, out)`.
    TransposedLinear,
    /// `(vocabulary, width)`.
    Embedding,
    /// `(out, in / groups, k)`.
    Conv1d,
    /// `(out, in / groups, kh, kw)`.
    Conv2d,
}

impl Layout {
    /// The layout's name in records and messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::TransposedLinear => "transposed_linear",
            Self::Embedding => "embedding",
            Self::Conv1d => "conv1d",
            Self::Conv2d => "conv2d",
        }
    }

    /// The layout of that name, if there is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Linear, Self::TransposedLinear, Self::Embedding, Self::Conv1d, Self::Conv2d]
            .into_iter()
            .find(|layout| layout.name() == name)
    }

    /// Whether the weight is a convolution's kernel.
    #[must_use]
    pub fn is_convolution(self) -> bool {
        matches!(self, Self::Conv1d | Self::Conv2d)
    }
}
