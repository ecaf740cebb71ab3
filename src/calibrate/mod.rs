//! What a model does with data, for factors that lose little of it.
//!
//! The dense model runs over samples, and every layer's inputs are summed up as second moments `H = sum_t x_t x_tᵗ`, in f64;
//! where outputs are weighed too, the gradients of what the model says are summed up in the same way. Layers with one input
//! have one `H`. From both, a [`Metric`](crate::decompose::Metric) for each layer follows; how weights are factored in it is
//! told in [`crate::decompose`], and ranks are chosen in [`crate::plan`].
//!
//! | file | what |
//! | --- | --- |
//! | `collector` | sums while a computation runs |
//! | `run` | how a network is run over samples |
//! | `patches` | what a convolution sees, at some of its positions |
//! | `statistics` | the sums, in memory and in a file, and what follows from them |
//! | `text`, `translation`, `images` | running over texts, pairs of them, and pictures |

mod collector;
mod images;
mod patches;
mod run;
mod statistics;
mod text;
mod translation;

pub use images::{CalibrationError, calibrate_images};
pub use run::{CalibrationProgress, CalibrationRun};
pub use statistics::{Damping, Moments, Statistics, StatisticsError};
pub use text::calibrate_text;
pub use translation::calibrate_translation;
