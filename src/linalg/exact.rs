//! Direct decompositions: by the Gram matrix where its squared condition is harmless, by bidiagonalization elsewhere.

use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::svd::{ComputeSvdVectors, svd, svd_scratch};
use faer::{Mat, MatRef, Par};

use super::Scalar;
use super::eigen::Reduced;
use super::product::{Team, gram, narrow, widen};
use super::refine::{Triples, refine};
use super::svd::SvdPath;

/// Singular values below this share of the largest are lost in an `f64` Gram matrix, whose rounding is
/// `eps s_1^2`: at 1e-6 the value still has four digits.
const GRAM_FLOOR: f64 = 1e-6;

/// What a direct method returns: the triples, all singular values, and which method it was.
pub(crate) type Direct<T> = (Triples<T>, Vec<f64>, SvdPath);

/// The leading triples of a tall matrix.
pub(crate) fn exact<T: Scalar>(team: &Team, w: MatRef<'_, T>, rank: usize) -> Option<Direct<T>> {
    let reduced = Reduced::new(team, gram(team, w));
    let eigenvalues = reduced.values(team, w.ncols());
    let values = roots(&eigenvalues);
    // an f32 matrix says nothing about such values itself; an f64 matrix does
    if T::PRECISION < GRAM_FLOOR * GRAM_FLOOR && values[rank - 1] < GRAM_FLOOR * values[0] {
        let (vectors, values) = bidiagonal(w, rank)?;
        let triples = refine(team, w, vectors.as_ref())?;
        return Some((triples, values, SvdPath::Svd));
    }
    let vectors = narrow::<T>(reduced.vectors(team, &eigenvalues, rank)?.as_ref());
    Some((refine(team, w, vectors.as_ref())?, values, SvdPath::Gram))
}

/// All singular values of a tall matrix.
pub(crate) fn values<T: Scalar>(team: &Team, w: MatRef<'_, T>) -> Option<Vec<f64>> {
    if T::PRECISION < GRAM_FLOOR * GRAM_FLOOR {
        let w = widen(w);
        let mut s = Diag::<f64>::zeros(w.ncols());
        let (no, params) = (ComputeSvdVectors::No, faer::prelude::default());
        let mut memory = MemBuffer::new(svd_scratch::<f64>(w.nrows(), w.ncols(), no, no, Par::Seq, params));
        let params = faer::prelude::default();
        svd(w.as_ref(), s.as_mut(), None, None, Par::Seq, MemStack::new(&mut memory), params).ok()?;
        return Some((0..w.ncols()).map(|i| s[i]).collect());
    }
    Some(roots(&Reduced::new(team, gram(team, w)).values(team, w.ncols())))
}

/// The right singular vectors and all singular values, by bidiagonalization.
fn bidiagonal<T: Scalar>(w: MatRef<'_, T>, rank: usize) -> Option<(Mat<T>, Vec<f64>)> {
    let (m, n) = (w.nrows(), w.ncols());
    let mut s = Diag::<T>::zeros(n);
    let mut v = Mat::<T>::zeros(n, n);
    let (no, thin, params) = (ComputeSvdVectors::No, ComputeSvdVectors::Thin, faer::prelude::default());
    let mut memory = MemBuffer::new(svd_scratch::<T>(m, n, no, thin, Par::Seq, params));
    let stack = MemStack::new(&mut memory);
    svd(w, s.as_mut(), None, Some(v.as_mut()), Par::Seq, stack, faer::prelude::default()).ok()?;
    let values = (0..n).map(|i| s[i].to_f64()).collect();
    v.truncate(n, rank);
    Some((v, values))
}

fn roots(eigenvalues: &[f64]) -> Vec<f64> {
    eigenvalues.iter().map(|value| value.max(0.0).sqrt()).collect()
}
