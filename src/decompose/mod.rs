//! One weight -> factors -> the weight again.
//!
//! A weight is seen as one matrix per group (its [`Unfolding`]), each matrix is replaced by the balanced
//! factors of its truncated SVD, and the factors are laid out as the weights of a chain of ordinary layers:
//!
//! ```text
//! W = U S Vt,   A = U_r sqrt(S_r),   B = sqrt(S_r) Vt_r,   W ~ A B
//! ```
//!
//! Names and files are not known here: which tensors are factored, and how, is decided in [`crate::plan`].
//!
//! # Examples
//!
//! ```
//! use fnl::decompose::{Layout, Scheme, Unfolding, factor};
//! use fnl::linalg::SvdOptions;
//!
//! // A rank-one linear weight, shape (out, in) = (2, 3), is exact at rank 1.
//! let weight = [1.0f32, 2.0, 3.0, 2.0, 4.0, 6.0];
//! let unfolding = Unfolding::new(Layout::Linear, Scheme::Matrix, &[2, 3], 1)?;
//! let factored = factor(&weight, &unfolding, 1, &SvdOptions::default())?;
//! assert_eq!(factored.factors[0].shape, [1, 3]); // (r, in)
//! assert_eq!(factored.factors[1].shape, [2, 1]); // (out, r)
//! let again = unfolding.collapse(&factored.factors, 1)?;
//! assert!(weight.iter().zip(&again).all(|(x, y)| (x - y).abs() < 1e-5));
//! # Ok::<(), fnl::decompose::DecomposeError>(())
//! ```

mod alternating;
mod chain;
mod conversion;
mod curve;
mod error;
mod format;
mod heads;
mod metric;
mod overcomplete;
mod pairs;
mod ranks;
mod scheme;
pub mod tensor;
mod tensorization;
mod tensorized;
mod unfolding;
mod weight;

pub use conversion::FormatOptions;
pub use curve::{Certainty, Curve, Foreseen, Point, curve};
pub use error::DecomposeError;
pub use format::Format;
pub use heads::{NarrowedHead, narrow_head};
pub use metric::{Method, Metric, factor_in, spectrum_in};
pub use overcomplete::overcomplete;
pub use pairs::Pairs;
pub use ranks::Ranks;
pub use scheme::{Layout, Scheme};
pub use tensorization::{Split, Tensorization};
pub use unfolding::{Factor, Unfolding};
pub use weight::{Factored, WeightSpectrum, error_of, factor, weight_spectrum};
