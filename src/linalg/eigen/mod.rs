//! Eigenvalues of symmetric matrices, and eigenvectors of the largest.
//!
//! Tridiagonal form, bisection for the values, inverse iteration for as many vectors as are wanted: the cost of vectors goes with their number.
//! Where eigenvalues are too close for inverse iteration, faer's divide and conquer takes its place.

mod bisection;
mod inverse;
mod tridiagonal;

use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::evd::{
    ComputeEigenvectors, self_adjoint_evd_scratch as scratch,
    tridiagonal_self_adjoint_evd as divide_and_conquer,
};
use faer::{Mat, Par};

use super::Scalar;
use super::product::{Team, convert};
use bisection::largest_eigenvalues;
use inverse::eigenvectors;
use tridiagonal::{Tridiagonal, tridiagonalize};

/// Eigenvalues closer than this, relative to the largest, leave inverse iteration too few digits to tell their vectors apart.
const CLOSE: f64 = 1e-9;
/// Below this size divide and conquer is as fast.
const SMALL: usize = 24;

/// Eigenvalues of a symmetric matrix, descending, and eigenvectors of the first.
pub(crate) struct Eigen<T> {
    pub(crate) values: Vec<f64>,
    pub(crate) vectors: Mat<T>,
}

/// A symmetric matrix, reduced once for all questions about its eigenvalues.
pub(crate) struct Reduced<T>(Tridiagonal<T>);

impl<T: Scalar> Reduced<T> {
    /// Reduces the matrix in the lower triangle of `a`.
    pub(crate) fn new(team: &Team, a: Mat<T>) -> Self {
        Self(tridiagonalize(team, a))
    }

    /// The `count` largest eigenvalues, descending.
    pub(crate) fn values(&self, team: &Team, count: usize) -> Vec<f64> {
        largest_eigenvalues(team, &self.0.diagonal, &self.0.subdiagonal, count)
    }

    /// Eigenvectors of the `count` largest eigenvalues, given at least these. `None` if an iteration didn't converge.
    pub(crate) fn vectors(&self, team: &Team, values: &[f64], count: usize) -> Option<Mat<T>> {
        let n = self.0.diagonal.len();
        let largest = values.iter().fold(0.0f64, |a, b| a.max(b.abs()));
        let apart = values[..count].windows(2).all(|pair| pair[0] - pair[1] > CLOSE * largest);
        let vectors = if apart && n > SMALL && largest > 0.0 {
            eigenvectors(team, &self.0.diagonal, &self.0.subdiagonal, &values[..count])
        } else {
            all_vectors(&self.0.diagonal, &self.0.subdiagonal, count)?
        };
        Some(self.0.back_transform(team, convert(team, vectors.as_ref())))
    }
}

/// The `count` largest eigenvalues and their eigenvectors.
pub(crate) fn largest_eigenpairs<T: Scalar>(team: &Team, a: Mat<T>, count: usize) -> Option<Eigen<T>> {
    let reduced = Reduced::new(team, a);
    let values = reduced.values(team, count);
    let vectors = reduced.vectors(team, &values, count)?;
    Some(Eigen { values, vectors })
}

fn all_vectors(diagonal: &[f64], subdiagonal: &[f64], count: usize) -> Option<Mat<f64>> {
    let n = diagonal.len();
    let (mut d, mut e, mut s) = (Diag::<f64>::zeros(n), Diag::<f64>::zeros(n), Diag::<f64>::zeros(n));
    for i in 0..n {
        d[i] = diagonal[i];
        e[i] = subdiagonal.get(i).copied().unwrap_or(0.0);
    }
    let mut vectors = Mat::<f64>::zeros(n, n);
    let params = faer::prelude::default();
    let mut memory = MemBuffer::new(scratch::<f64>(n, ComputeEigenvectors::Yes, Par::Seq, params));
    let (stack, params) = (MemStack::new(&mut memory), faer::prelude::default());
    divide_and_conquer(d.as_ref(), e.as_ref(), s.as_mut(), Some(vectors.as_mut()), Par::Seq, stack, params)
        .ok()?;
    Some(Mat::from_fn(n, count, |i, j| vectors[(i, n - 1 - j)]))
}
