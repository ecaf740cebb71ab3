//! Layers that are dense or factored behind one `forward`, and the computation under them.
//!
//! | file | what |
//! | --- | --- |
//! | `parameters` | named tensors in order: what is trained, saved and loaded |
//! | `tape` | a computation on the CPU, recorded and run backwards; elsewhere candle's own |
//! | `geometry`, `kernels` | convolutions and normalization as loops over slices |

mod geometry;
mod kernels;
mod operation;
mod parameters;
mod tape;

pub use geometry::Geometry;
pub use kernels::keep_freed_memory;
pub use operation::{Needs, Operation, View};
pub use parameters::{Parameter, Parameters, Role};
pub use tape::{Gradients, Node, Tape};
