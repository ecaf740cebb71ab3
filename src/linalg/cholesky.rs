//! Square roots of symmetric matrices, in which errors are measured.

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt::factor::{LltRegularization, cholesky_in_place, cholesky_in_place_scratch};
use faer::linalg::matmul::triangular::{BlockStructure, matmul};
use faer::linalg::triangular_inverse::invert_lower_triangular;
use faer::linalg::triangular_solve::{solve_lower_triangular_in_place, solve_upper_triangular_in_place};
use faer::{Accum, Mat, MatMut, MatRef, Par};
use std::sync::OnceLock;

/// Halvings of what must be added to a matrix that is not positive in floating point.
const MOST_TRIES: i32 = 40;

/// A symmetric matrix `H + d I = L Lt`, and `L^-1` once it is asked for.
#[derive(Clone, Debug)]
pub struct Cholesky {
    lower: Mat<f64>,
    inverse: OnceLock<Mat<f64>>,
}

impl Cholesky {
    /// The factors of a matrix that is symmetric and has no negative eigenvalue, with this part of the mean of its diagonal
    /// added to the diagonal: more where rounding has left it with a pivot that is not positive. `None` for a matrix of
    /// zeros, and one that is not finite.
    ///
    /// Only the lower triangle is read.
    ///
    /// # Examples
    /// ```
    /// use faer::mat;
    /// use fnl::linalg::Cholesky;
    /// let h = mat![[4.0, 2.0], [2.0, 1.0]]; // of rank one
    /// let factors = Cholesky::new(h.as_ref(), 1e-6).unwrap();
    /// let again = factors.lower() * factors.lower().transpose();
    /// assert!((again - h).norm_max() < 1e-5);
    /// assert!((factors.inverse() * factors.lower())[(1, 1)] - 1.0 < 1e-6);
    /// ```
    #[must_use]
    pub fn new(matrix: MatRef<'_, f64>, damping: f64) -> Option<Self> {
        let n = matrix.nrows();
        let mean = (0..n).map(|i| matrix[(i, i)]).sum::<f64>() / n.max(1) as f64;
        if !mean.is_finite() || mean <= 0.0 {
            return None;
        }
        let mut memory =
            MemBuffer::new(cholesky_in_place_scratch::<f64>(n, Par::Seq, faer::prelude::default()));
        for attempt in 0..MOST_TRIES {
            let added =
                if attempt == 0 { damping * mean } else { (damping + 1e-15 * 2f64.powi(attempt)) * mean };
            let mut lower = Mat::from_fn(n, n, |i, j| match i.cmp(&j) {
                std::cmp::Ordering::Less => 0.0,
                std::cmp::Ordering::Equal => matrix[(i, i)] + added,
                std::cmp::Ordering::Greater => matrix[(i, j)],
            });
            let (stack, params) = (MemStack::new(&mut memory), faer::prelude::default());
            let regularization = LltRegularization::default();
            let done = cholesky_in_place(lower.as_mut(), regularization, Par::Seq, stack, params).is_ok();
            if done && (0..n).all(|i| lower[(i, i)].is_finite() && lower[(i, i)] > 0.0) {
                for j in 1..n {
                    for i in 0..j {
                        lower[(i, j)] = 0.0;
                    }
                }
                return Some(Self { lower, inverse: OnceLock::new() });
            }
        }
        None
    }

    /// `L`, lower triangular.
    #[must_use]
    pub fn lower(&self) -> MatRef<'_, f64> {
        self.lower.as_ref()
    }

    /// `L^-1`, lower triangular.
    #[must_use]
    pub fn inverse(&self) -> MatRef<'_, f64> {
        let invert = || {
            let mut inverse = Mat::<f64>::zeros(self.lower.nrows(), self.lower.nrows());
            invert_lower_triangular(inverse.as_mut(), self.lower.as_ref(), Par::Seq);
            inverse
        };
        self.inverse.get_or_init(invert).as_ref()
    }

    /// `L Lt`, what was decomposed, both triangles of it.
    #[must_use]
    pub fn square(&self) -> Mat<f64> {
        let n = self.lower.nrows();
        let mut square = Mat::<f64>::zeros(n, n);
        matmul(
            square.as_mut(),
            BlockStructure::TriangularLower,
            Accum::Replace,
            self.lower.as_ref(),
            BlockStructure::TriangularLower,
            self.lower.transpose(),
            BlockStructure::TriangularUpper,
            1.0,
            Par::Seq,
        );
        for j in 1..n {
            for i in 0..j {
                square[(i, j)] = square[(j, i)];
            }
        }
        square
    }

    /// `H^-1 B`, in place of `B`.
    pub(crate) fn solve_in_place(&self, b: MatMut<'_, f64>) {
        let mut b = b;
        solve_lower_triangular_in_place(self.lower.as_ref(), b.as_mut(), Par::Seq);
        solve_upper_triangular_in_place(self.lower.transpose(), b, Par::Seq);
    }
}
