//! Matrices with known singular values, from seeds.

use faer::Mat;
use fnl::linalg::{Scalar, matmul};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Entries uniform in [-1, 1).
pub(crate) fn uniform(rows: usize, cols: usize, seed: u64) -> Mat<f64> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    Mat::from_fn(rows, cols, |_, _| random.random_range(-1.0..1.0))
}

/// A matrix with these singular values (as many as the smaller side, or fewer) and random singular vectors.
pub(crate) fn with_values(rows: usize, cols: usize, values: &[f64], seed: u64) -> Mat<f64> {
    let u = basis(rows, values.len(), seed);
    let v = basis(cols, values.len(), seed + 1000);
    let scaled = Mat::from_fn(rows, values.len(), |i, j| u[(i, j)] * values[j]);
    matmul(scaled.as_ref(), v.transpose(), 1)
}

fn basis(rows: usize, cols: usize, seed: u64) -> Mat<f64> {
    uniform(rows, cols, seed).qr().compute_thin_Q()
}

pub(crate) fn single(w: &Mat<f64>) -> Mat<f32> {
    Mat::from_fn(w.nrows(), w.ncols(), |i, j| w[(i, j)] as f32)
}

pub(crate) fn double<T: Scalar>(w: &Mat<T>) -> Mat<f64> {
    Mat::from_fn(w.nrows(), w.ncols(), |i, j| w[(i, j)].to_f64())
}

/// `|a - b|`.
pub(crate) fn distance(a: &Mat<f64>, b: &Mat<f64>) -> f64 {
    (a - b).norm_l2()
}

/// `|Qt Q - I|`.
pub(crate) fn orthonormality<T: Scalar>(q: &Mat<T>) -> f64 {
    let q = double(q);
    distance(&(q.transpose() * &q), &Mat::identity(q.ncols(), q.ncols()))
}

/// Singular values by faer's bidiagonalization in `f64`: another algorithm than the ones under test.
pub(crate) fn reference_values(w: &Mat<f64>) -> Vec<f64> {
    w.singular_values().expect("faer's svd converges")
}

pub(crate) fn tail(values: &[f64], rank: usize) -> f64 {
    values[rank..].iter().map(|s| s * s).sum::<f64>().sqrt()
}
