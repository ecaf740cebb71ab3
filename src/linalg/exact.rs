//! Direct decompositions: by the Gram matrix where its squared condition is harmless, by bidiagonalization elsewhere.

use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::svd::{ComputeSvdVectors, svd, svd_scratch};
use faer::{Mat, MatRef, Par};

use super::Scalar;
use super::eigen::Reduced;
use super::product::{Team, convert, gram, magnitude, product, wide_gram};
use super::refine::{Triples, refine};
use super::svd::SvdPath;

/// Singular values below this share of the largest are lost in an `f64` Gram matrix, whose rounding is
/// `eps s_1^2`: at 1e-6 the value still has four digits.
const GRAM_FLOOR: f64 = 1e-6;
/// Eigenvalues of an `f32` Gram matrix from this share of the largest on are far above its rounding.
///
/// Rounding E turns the kept space by angles `E_ij / (l_i - l_j)`, which costs `sum E_ij^2 / (l_i - l_j)` of the kept energy, over
/// kept i and dropped j. With `|E_ij|` about `5 eps l_1 / sqrt(n)` and eigenvalues spread evenly that is about `(5 eps l_1 / l_r)^2 n l_r`:
/// below 1e-9 of the energy at this share, and the projection on W afterwards is not affected by E at all.
const SINGLE_FLOOR: f64 = 1.0 / 64.0;

/// What a direct method returns: the triples, all singular values if it has them, and which method it was.
pub(crate) type Direct<T> = (Triples<T>, Option<Vec<f64>>, SvdPath);

/// The leading triples of a tall matrix.
pub(crate) fn exact<T: Scalar>(team: &Team, w: MatRef<'_, T>, rank: usize) -> Option<Direct<T>> {
    if !is_double::<T>() && rank < w.ncols() {
        let reduced = Reduced::<T>::new(team, gram(team, w));
        let eigenvalues = reduced.values(team, rank);
        if eigenvalues[rank - 1] >= SINGLE_FLOOR * eigenvalues[0] {
            let vectors = reduced.vectors(team, &eigenvalues, rank)?;
            return Some((refine(team, w, vectors.as_ref())?, None, SvdPath::Gram));
        }
    }
    let reduced = Reduced::<f64>::new(team, wide_gram(team, w));
    let eigenvalues = reduced.values(team, w.ncols());
    let values = roots(&eigenvalues);
    // an f32 matrix says nothing about such values itself; an f64 matrix does
    if is_double::<T>() && values[rank - 1] < GRAM_FLOOR * values[0] {
        return bidiagonal(team, w, rank);
    }
    let vectors: Mat<T> = convert(team, reduced.vectors(team, &eigenvalues, rank)?.as_ref());
    Some((refine(team, w, vectors.as_ref())?, Some(values), SvdPath::Gram))
}

/// All singular values of a tall matrix.
pub(crate) fn values<T: Scalar>(team: &Team, w: MatRef<'_, T>) -> Option<Vec<f64>> {
    let (m, n) = (w.nrows(), w.ncols());
    if is_double::<T>() {
        let mut s = Diag::<T>::zeros(n);
        let (no, params) = (ComputeSvdVectors::No, faer::prelude::default());
        let mut memory = MemBuffer::new(svd_scratch::<T>(m, n, no, no, Par::Seq, params));
        let params = faer::prelude::default();
        svd(w, s.as_mut(), None, None, Par::Seq, MemStack::new(&mut memory), params).ok()?;
        return Some((0..n).map(|i| s[i].to_f64()).collect());
    }
    Some(gram_values(team, w))
}

/// All singular values of a tall matrix, as roots of its Gram matrix's eigenvalues.
pub(crate) fn gram_values<T: Scalar>(team: &Team, w: MatRef<'_, T>) -> Vec<f64> {
    roots(&Reduced::<f64>::new(team, wide_gram(team, w)).values(team, w.ncols()))
}

fn is_double<T: Scalar>() -> bool {
    T::PRECISION < GRAM_FLOOR * GRAM_FLOOR
}

/// The leading triples and all singular values, by bidiagonalization.
fn bidiagonal<T: Scalar>(team: &Team, w: MatRef<'_, T>, rank: usize) -> Option<Direct<T>> {
    let (m, n) = (w.nrows(), w.ncols());
    let mut s = Diag::<T>::zeros(n);
    let (mut u, mut v) = (Mat::<T>::zeros(m, n), Mat::<T>::zeros(n, n));
    let (thin, params) = (ComputeSvdVectors::Thin, faer::prelude::default());
    let mut memory = MemBuffer::new(svd_scratch::<T>(m, n, thin, thin, Par::Seq, params));
    let stack = MemStack::new(&mut memory);
    let params = faer::prelude::default();
    svd(w, s.as_mut(), Some(u.as_mut()), Some(v.as_mut()), Par::Seq, stack, params).ok()?;
    u.truncate(m, rank);
    v.truncate(n, rank);
    let (_, captured) = magnitude(team, product(team, w.transpose(), u.as_ref()).as_ref())?;
    let values: Vec<f64> = (0..n).map(|i| s[i].to_f64()).collect();
    let triples = Triples { u, s: values[..rank].to_vec(), v, captured };
    Some((triples, Some(values), SvdPath::Svd))
}

fn roots(eigenvalues: &[f64]) -> Vec<f64> {
    eigenvalues.iter().map(|value| value.max(0.0).sqrt()).collect()
}
