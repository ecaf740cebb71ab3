//! Eigenvalues of symmetric matrices.

use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch};
use faer::{Mat, MatRef, Par};

/// Eigenvalues of a symmetric matrix, descending, and an eigenvector for each in `vectors`' columns.
pub(crate) struct Eigen {
    pub(crate) values: Vec<f64>,
    pub(crate) vectors: Mat<f64>,
}

/// All eigenvalues and the eigenvectors of the `count` largest. `None` if the iteration didn't converge.
pub(crate) fn largest_eigenpairs(a: MatRef<'_, f64>, count: usize) -> Option<Eigen> {
    let n = a.nrows();
    let mut values = Diag::<f64>::zeros(n);
    let mut vectors = Mat::<f64>::zeros(n, n);
    let scratch =
        self_adjoint_evd_scratch::<f64>(n, ComputeEigenvectors::Yes, Par::Seq, faer::prelude::default());
    let mut memory = MemBuffer::new(scratch);
    let stack = MemStack::new(&mut memory);
    let params = faer::prelude::default();
    self_adjoint_evd(a, values.as_mut(), Some(vectors.as_mut()), Par::Seq, stack, params).ok()?;
    let values: Vec<f64> = (0..n).rev().map(|i| values[i]).collect();
    Some(Eigen { values, vectors: Mat::from_fn(n, count, |i, j| vectors[(i, n - 1 - j)]) })
}

/// All eigenvalues, descending. `None` if the iteration didn't converge.
pub(crate) fn eigenvalues(a: MatRef<'_, f64>) -> Option<Vec<f64>> {
    let n = a.nrows();
    let mut values = Diag::<f64>::zeros(n);
    let scratch =
        self_adjoint_evd_scratch::<f64>(n, ComputeEigenvectors::No, Par::Seq, faer::prelude::default());
    let mut memory = MemBuffer::new(scratch);
    let stack = MemStack::new(&mut memory);
    self_adjoint_evd(a, values.as_mut(), None, Par::Seq, stack, faer::prelude::default()).ok()?;
    Some((0..n).rev().map(|i| values[i]).collect())
}
