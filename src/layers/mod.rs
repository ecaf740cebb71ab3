//! Layers that are dense or factored behind one `forward`, and the computation under them.
//!
//! | file | what |
//! | --- | --- |
//! | `linear`, `convolution`, `embedding`, `batch_norm` | the layers |
//! | `weight`, `chain` | a dense weight or its factors; Frobenius decay in closed form, diagnostics |
//! | `builder`, `state` | layers out of a checkpoint's tensors and record, and back |
//! | `initial` | random initial weights |
//! | `parameters` | named tensors in order: what is trained, saved and loaded |
//! | `tape`, `operation` | a computation on the CPU, recorded and run backwards; elsewhere candle's own |
//! | `operations` | what layers are computed by |
//! | `geometry`, `kernels` | convolutions and normalization as loops over slices |
//!
//! Every layer has `forward_on`, which runs it in a [`Tape`], and is a [`candle_core::Module`], which leaves the gradients to
//! candle: a candle model takes [`Linear`] or [`Conv2d`] where it had candle's.

mod batch_norm;
mod builder;
mod chain;
mod convolution;
mod embedding;
mod geometry;
pub(crate) mod initial;
mod kernels;
mod linear;
mod matrices;
mod operation;
pub mod operations;
mod parameters;
mod state;
mod tape;
mod weight;

pub use batch_norm::{BatchNorm, Statistics};
pub use builder::{BuildError, Builder, Built, LayerEntry};
pub use chain::{Chain, Diagnostics, Execution};
pub use convolution::{Conv1d, Conv2d};
pub use embedding::Embedding;
pub use geometry::Geometry;
pub use kernels::keep_freed_memory;
pub use linear::Linear;
pub use operation::{Needs, Operation, View};
pub use operations::Convolution;
pub use parameters::{Parameter, Parameters, Role};
pub use state::{State, StateError, Stored};
pub use tape::{Gradients, Node, Tape};
pub use weight::Weight;
