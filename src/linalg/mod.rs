//! Truncated singular value decompositions that certify themselves.
//!
//! `W`, of shape `(m, n)`, is approximated by `U diag(s) Vt` of rank r; the least possible squared error is
//! `sum_{i>r} s_i^2` (Eckart and Young). [`truncated_svd`] computes it directly or iteratively and says what was
//! achieved; [`spectrum`] computes singular values alone, which is all that rank rules need; [`residual_norm_squared`] measures
//! the error of any two factors. Everything runs on faer. Layers, names and files are elsewhere.
//!
//! # Examples
//! ```
//! use faer::Mat;
//! use fnl::linalg::{SvdOptions, residual_norm_squared, truncated_svd};
//!
//! let w = Mat::from_fn(8, 6, |i, j| ((3 * i + 5 * j) % 7) as f32);
//! let svd = truncated_svd(w.as_ref(), 2, &SvdOptions::default())?;
//! let (a, b) = svd.balanced_factors();
//! assert_eq!((a.nrows(), a.ncols(), b.ncols()), (8, 2, 6));
//! let measured = residual_norm_squared(w.as_ref(), a.as_ref(), b.as_ref(), 1);
//! assert!((measured - svd.tail_squared).abs() < 1e-4 * svd.norm_squared);
//! # Ok::<(), fnl::linalg::LinalgError>(())
//! ```

mod balance;
mod cholesky;
mod eigen;
mod error;
mod exact;
mod kernels;
mod krylov;
mod memory;
mod orthonormal;
mod product;
mod random;
mod refine;
mod scalar;
mod spectrum;
mod svd;
mod truncated;

pub use balance::balance;
pub use cholesky::Cholesky;
pub(crate) use eigen::{Reduced, largest_eigenpairs};
pub use error::LinalgError;
pub(crate) use kernels::{add_scaled, dot};
pub use memory::{spectrum_bytes, working_bytes};
pub(crate) use orthonormal::orthonormalize;
pub(crate) use product::{Team, gram, multiply, product, wide_gram};
pub use product::{matmul, residual_norm_squared};
pub(crate) use random::Splitmix;
pub use scalar::Scalar;
pub use spectrum::Spectrum;
pub(crate) use svd::require_finite;
pub use svd::{SvdMethod, SvdOptions, SvdPath, spectrum, truncated_svd};
pub(crate) use svd::{product_spectrum, rough_spectrum};
pub use truncated::TruncatedSvd;
