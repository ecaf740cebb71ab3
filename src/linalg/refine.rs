//! From an approximate right basis to singular triples, and the proof of what they miss.
//!
//! For a basis `V0` of an approximate right space: `U0 = orth(W V0)`, `Z = W^T U0`, `Z^T Z = P S^2 P^T`, and then
//! `U = U0 P`, `V = Z P S^-1`. These are the exact singular triples of `U0 U0^T W`, the projection of W on a space
//! at least as good as the one given (it is half a step of subspace iteration further), so what is kept is
//! `|U0^T W|^2 = |Z|^2` and what is missed is `|W|^2 - |Z|^2`, no matter where `V0` came from.

use faer::{Mat, MatRef};

use super::Scalar;
use super::eigen::largest_eigenpairs;
use super::orthonormal::orthonormalize;
use super::product::{Team, convert, magnitude, product, wide_gram};

/// Leading singular triples of a tall matrix.
pub(crate) struct Triples<T> {
    pub(crate) u: Mat<T>,
    pub(crate) s: Vec<f64>,
    pub(crate) v: Mat<T>,
    /// `|U^T W|^2`.
    pub(crate) captured: f64,
}

/// The singular triples of the projection of `w` on the space `w basis`. `None` if an eigenvalue iteration failed.
pub(crate) fn refine<T: Scalar>(team: &Team, w: MatRef<'_, T>, basis: MatRef<'_, T>) -> Option<Triples<T>> {
    let mut u = product(team, w, basis);
    orthonormalize(team, &mut u);
    let z = product(team, w.transpose(), u.as_ref());
    let (_, captured) = magnitude(team, z.as_ref())?;
    let rank = z.ncols();
    let eigen = largest_eigenpairs::<f64>(team, wide_gram(team, z.as_ref()), rank)?;
    // vectors of close eigenvalues are orthogonal to fewer digits than U and V shall be
    let mut rotation: Mat<T> = convert(team, eigen.vectors.as_ref());
    orthonormalize(team, &mut rotation);
    let u = product(team, u.as_ref(), rotation.as_ref());
    let scaled = product(team, z.as_ref(), rotation.as_ref());
    let mut v = scaled.clone();
    orthonormalize(team, &mut v);
    let mut s = Vec::with_capacity(rank);
    for i in 0..rank {
        let (mut length, mut along) = (0.0f64, 0.0);
        for (x, y) in scaled.col(i).iter().zip(v.col(i).iter()) {
            length += x.to_f64() * x.to_f64();
            along += x.to_f64() * y.to_f64();
        }
        if along < 0.0 {
            v.col_mut(i).iter_mut().for_each(|x| *x = -*x);
        }
        // rounding must not break the order of equal values
        let previous = s.last().copied().unwrap_or(f64::INFINITY);
        s.push(length.sqrt().min(previous));
    }
    Some(Triples { u, s, v, captured })
}
