//! Layers that are dense or factored behind one `forward`, and the computation under them.
//!
//! | file | what |
//! | --- | --- |
//! | `linear`, `convolution`, `embedding`, `batch_norm`, `row_norm` | the layers |
//! | `weight`, `chain` | a dense weight or its factors; Frobenius decay in closed form, diagnostics |
//! | `builder`, `built`, `build_error`, `state` | layers out of a checkpoint's tensors and record, and back |
//! | `heads` | the products that heads of attention compute with, and the gradient of their norms |
//! | `initial` | random initial weights |
//! | `parameters` | named tensors in order: what is trained, saved and loaded |
//! | `sequences`, `key_values` | sequences of tokens that lie behind each other; what they leave for later tokens |
//! | `tape`, `recording`, `gradients`, `observer`, `operation`, `bridge` | a computation, recorded and run backwards: through loops on the CPU, out of candle's operations elsewhere |
//! | `operations` | what layers are computed by |
//! | `geometry`, `kernels` | convolutions and normalization as loops over slices |
//!
//! Every layer has `forward_on`, which runs it in a [`Tape`]; those with a weight are a [`candle_core::Module`] too, which leaves the
//! gradients to candle: a candle model takes [`Linear`] or [`Conv2d`] where it had candle's.
//!
//! # Examples
//!
//! Fine-tuning a candle model of one's own, a layer of it factored, with Frobenius decay:
//!
//! ```
//! use candle_core::{DType, Device, Module, Result, Tensor};
//! use candle_nn::{Optimizer, ParamsAdamW, VarBuilder, VarMap};
//! use fnl::layers::Linear;
//!
//! struct Mlp {
//!     hidden: Linear,
//!     out: candle_nn::Linear,
//! }
//!
//! impl Module for Mlp {
//!     fn forward(&self, xs: &Tensor) -> Result<Tensor> {
//!         self.out.forward(&self.hidden.forward(xs)?.relu()?)
//!     }
//! }
//!
//! # fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
//! let varmap = VarMap::new(); // where a trained checkpoint was loaded
//! let vb = VarBuilder::from_varmap(&varmap, DType::F32, &Device::Cpu);
//! let dense = candle_nn::linear(8, 16, vb.pp("hidden"))?;
//! let hidden = Linear::dense(dense.weight(), dense.bias())?.factored(4)?; // from its truncated SVD
//! let model = Mlp { hidden, out: candle_nn::linear(16, 1, vb.pp("out"))? };
//!
//! let mut vars = model.hidden.vars();
//! vars.extend(varmap.data().lock().unwrap().iter().filter(|(name, _)| name.starts_with("out")).map(|(_, var)| var.clone()));
//! let mut optimizer = candle_nn::AdamW::new(vars, ParamsAdamW { lr: 0.01, weight_decay: 0.0, ..Default::default() })?;
//!
//! let xs = Tensor::arange(0f32, 256.0, &Device::Cpu)?.reshape((32, 8))?.sin()?;
//! let ys = xs.sum_keepdim(1)?;
//! let chain = model.hidden.weight().chain().unwrap();
//! let mut losses = Vec::new();
//! for _ in 0..50 {
//!     let loss = candle_nn::loss::mse(&model.forward(&xs)?, &ys)?;
//!     let penalty = (chain.norm_squared()? * (1e-4 / 2.0))?; // lambda / 2 |A B|^2
//!     optimizer.backward_step(&(&loss + penalty)?)?;
//!     losses.push(loss.to_scalar::<f32>()?);
//! }
//! assert!(losses[49] < 0.2 * losses[0]);
//!
//! let collapsed = Mlp { hidden: model.hidden.collapse()?, out: model.out.clone() };
//! let difference = (model.forward(&xs)? - collapsed.forward(&xs)?)?.abs()?.max_all()?.to_scalar::<f32>()?;
//! assert!(difference < 1e-4);
//! # Ok(())
//! # }
//! ```

mod batch_norm;
mod bridge;
mod build_error;
mod builder;
mod built;
mod chain;
mod convolution;
mod embedding;
mod geometry;
mod gradients;
mod heads;
pub(crate) mod initial;
mod kernels;
mod key_values;
mod linear;
mod matrices;
mod observer;
mod operation;
pub mod operations;
mod parameters;
mod recorded;
mod recording;
mod row_norm;
mod sequences;
mod state;
mod tape;
mod tensors;
mod weight;

pub use batch_norm::{BatchNorm, Statistics};
pub use build_error::BuildError;
pub use builder::Builder;
pub use built::{Built, LayerEntry};
pub use chain::{Chain, Diagnostics, Execution};
pub use convolution::{Conv1d, Conv2d};
pub use embedding::Embedding;
pub use geometry::Geometry;
pub use gradients::Gradients;
pub use heads::{HeadProduct, HeadProductKind, HeadWeight};
pub use kernels::keep_freed_memory;
pub use key_values::KeyValues;
pub use linear::Linear;
pub use observer::Observer;
pub use operation::{Needs, Operation, View};
pub use operations::Convolution;
pub use parameters::{Parameter, Parameters, Role};
pub(crate) use recorded::{record_of, recorded};
pub use row_norm::RowNorm;
pub use sequences::Sequences;
pub use state::{State, StateError, Stored};
pub use tape::{Node, Tape};
pub use weight::Weight;
