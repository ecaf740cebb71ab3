//! Orthonormal bases: by products alone where the columns are clearly independent, by Householder reflections elsewhere.

use faer::dyn_stack::{MemBuffer, MemStack, StackReq};
use faer::linalg::cholesky::llt::factor::{LltRegularization, cholesky_in_place, cholesky_in_place_scratch};
use faer::linalg::householder::{
    apply_block_householder_sequence_on_the_left_in_place_scratch as apply_scratch,
    apply_block_householder_sequence_on_the_left_in_place_with_conj as apply,
};
use faer::linalg::qr::no_pivoting::factor::{qr_in_place, qr_in_place_scratch, recommended_block_size};
use faer::linalg::triangular_inverse::invert_lower_triangular;
use faer::{Conj, Mat, Par};

use super::Scalar;
use super::product::{Team, convert, product, wide_gram};

/// A pivot of the Gram matrix below this share of its column's square leaves fewer than five digits of the column, too few for the
/// second pass to repair.
const PIVOT_FLOOR: f64 = 1e-11;

/// Replaces the columns of `a`, shape `(m, k)` with `m >= k`, by an orthonormal basis of a space that contains theirs.
///
/// Column i of the basis has a positive product with column i of `a` where the columns are independent, not always elsewhere.
pub(crate) fn orthonormalize<T: Scalar>(team: &Team, a: &mut Mat<T>) {
    if !orthonormalize_regular(team, a) {
        reflect(a);
    }
}

/// The same for independent columns, `A = Q R` with R from the Cholesky factors of the Gram matrix, twice. False if they are not clearly
/// independent; `a` then spans what it did.
///
/// Reference: T. Fukaya et al., "`CholeskyQR2`: a simple and communication-avoiding algorithm", 2014.
pub(crate) fn orthonormalize_regular<T: Scalar>(team: &Team, a: &mut Mat<T>) -> bool {
    for _ in 0..2 {
        let Some(inverse) = inverse_factor(wide_gram(team, a.as_ref())) else {
            return false;
        };
        let inverse: Mat<T> = convert(team, inverse.as_ref());
        *a = product(team, a.as_ref(), inverse.transpose());
    }
    true
}

/// The triangle R of `A = Q R`, for a matrix with at least as many rows as columns; on this thread.
pub(crate) fn triangle(mut a: Mat<f64>) -> Mat<f64> {
    let (m, k) = (a.nrows(), a.ncols());
    let block = recommended_block_size::<f64>(m, k);
    let mut coefficients = Mat::<f64>::zeros(block, k);
    let params = faer::prelude::default();
    let mut memory = MemBuffer::new(qr_in_place_scratch::<f64>(m, k, block, Par::Seq, params));
    let stack = MemStack::new(&mut memory);
    qr_in_place(a.as_mut(), coefficients.as_mut(), Par::Seq, stack, faer::prelude::default());
    // below it are the reflections
    Mat::from_fn(k, k, |i, j| if i <= j { a[(i, j)] } else { 0.0 })
}

/// By reflections, which give an orthonormal basis whatever the columns are.
fn reflect<T: Scalar>(a: &mut Mat<T>) {
    let (m, k) = (a.nrows(), a.ncols());
    let block = recommended_block_size::<T>(m, k);
    let mut coefficients = Mat::<T>::zeros(block, k);
    let mut memory = MemBuffer::new(StackReq::any_of(&[
        qr_in_place_scratch::<T>(m, k, block, Par::Seq, faer::prelude::default()),
        apply_scratch::<T>(m, block, k),
    ]));
    let stack = MemStack::new(&mut memory);
    qr_in_place(a.as_mut(), coefficients.as_mut(), Par::Seq, stack, faer::prelude::default());
    let mut basis = Mat::<T>::identity(m, k);
    apply(a.as_ref(), coefficients.as_ref(), Conj::No, basis.as_mut(), Par::Seq, stack);
    *a = basis;
}

/// The lower triangular `L^-1` with `L Lt = A`, from the lower triangle of A; `None` where a pivot has lost nearly all its digits.
fn inverse_factor(mut a: Mat<f64>) -> Option<Mat<f64>> {
    let n = a.nrows();
    let before: Vec<f64> = (0..n).map(|i| a[(i, i)]).collect();
    let mut memory = MemBuffer::new(cholesky_in_place_scratch::<f64>(n, Par::Seq, faer::prelude::default()));
    let stack = MemStack::new(&mut memory);
    let params = faer::prelude::default();
    cholesky_in_place(a.as_mut(), LltRegularization::default(), Par::Seq, stack, params).ok()?;
    if (0..n).any(|i| a[(i, i)] * a[(i, i)] <= PIVOT_FLOOR * before[i]) {
        return None;
    }
    let mut inverse = Mat::<f64>::zeros(n, n);
    invert_lower_triangular(inverse.as_mut(), a.as_ref(), Par::Seq);
    Some(inverse)
}
