//! A matrix of low rank in its singular form.

use faer::Mat;

use super::product::{Team, product};
use super::spectrum::share;
use super::{Scalar, Spectrum, SvdPath};

/// The best approximation of rank r of a matrix, `W ~ U diag(s) Vt`, and what it misses.
///
/// # Shapes
/// | field | shape |
/// | --- | --- |
/// | `u` | `(m, r)`, orthonormal columns |
/// | `s` | r values, descending |
/// | `v` | `(n, r)`, orthonormal columns |
///
/// # Examples
/// ```
/// use faer::Mat;
/// use fnl::linalg::{SvdOptions, truncated_svd};
/// let w = Mat::from_fn(4, 3, |i, j| 1.0f32 / (1 + i + j) as f32);
/// let svd = truncated_svd(w.as_ref(), 3, &SvdOptions::default())?;
/// let error = (svd.reconstruct() - &w).norm_l2();
/// assert!(error < 1e-6 && svd.relative_error() < 1e-6);
/// # Ok::<(), fnl::linalg::LinalgError>(())
/// ```
#[derive(Clone, Debug)]
pub struct TruncatedSvd<T> {
    /// Left singular vectors. The largest entry of each column is positive.
    pub u: Mat<T>,
    /// Singular values, descending.
    pub s: Vec<f64>,
    /// Right singular vectors.
    pub v: Mat<T>,
    /// `|W|^2`.
    pub norm_squared: f64,
    /// `|W - U S Vt|^2`, computed from the matrix and the returned basis.
    pub tail_squared: f64,
    /// The computation it came from.
    pub path: SvdPath,
    /// All singular values, where the computation yields them.
    pub spectrum: Option<Spectrum>,
}

impl<T: Scalar> TruncatedSvd<T> {
    /// The rank of the approximation.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.s.len()
    }

    /// `|W - U S Vt| / |W|`, between 0 and 1; 0 for a zero matrix.
    #[must_use]
    pub fn relative_error(&self) -> f64 {
        share(self.tail_squared, self.norm_squared).sqrt()
    }

    /// The share of `|W|^2` that is kept, `1 - relative_error^2`.
    #[must_use]
    pub fn energy(&self) -> f64 {
        1.0 - share(self.tail_squared, self.norm_squared)
    }

    /// The factors `A = U sqrt(S)` and `B = sqrt(S) Vt`, whose Gram matrices `At A` and `B Bt` are both `S`.
    ///
    /// # Shapes
    /// `A` is `(m, r)`, `B` is `(r, n)`.
    ///
    /// # Reference
    /// Khodak et al., "Initialization and Regularization of Factorized Neural Layers", ICLR 2021, section 3.1.
    #[must_use]
    pub fn balanced_factors(&self) -> (Mat<T>, Mat<T>) {
        let roots: Vec<f64> = self.s.iter().map(|s| s.sqrt()).collect();
        let a =
            Mat::from_fn(self.u.nrows(), self.rank(), |i, j| T::from_f64(self.u[(i, j)].to_f64() * roots[j]));
        let b =
            Mat::from_fn(self.rank(), self.v.nrows(), |i, j| T::from_f64(self.v[(j, i)].to_f64() * roots[i]));
        (a, b)
    }

    /// The approximation itself, `U diag(s) Vt`, of shape `(m, n)`.
    #[must_use]
    pub fn reconstruct(&self) -> Mat<T> {
        let (a, b) = self.balanced_factors();
        product(&Team::new(1), a.as_ref(), b.as_ref())
    }

    /// Turns each pair of vectors so that the largest entry of the left one is positive.
    pub(crate) fn fix_signs(&mut self) {
        for j in 0..self.rank() {
            let mut largest = T::from_f64(0.0);
            for &x in self.u.col(j).iter() {
                if x.to_f64().abs() > largest.to_f64().abs() {
                    largest = x;
                }
            }
            if largest < T::from_f64(0.0) {
                self.u.col_mut(j).iter_mut().for_each(|x| *x = -*x);
                self.v.col_mut(j).iter_mut().for_each(|x| *x = -*x);
            }
        }
    }
}
