//! Orthonormal bases by Householder reflections: orthonormal to rounding whatever the columns are.

use faer::dyn_stack::{MemBuffer, MemStack, StackReq};
use faer::linalg::householder::{
    apply_block_householder_sequence_on_the_left_in_place_scratch as apply_scratch,
    apply_block_householder_sequence_on_the_left_in_place_with_conj as apply,
};
use faer::linalg::qr::no_pivoting::factor::{qr_in_place, qr_in_place_scratch, recommended_block_size};
use faer::{Conj, Mat, Par};

use super::Scalar;
use super::product::Team;

/// Replaces the columns of `a`, shape `(m, k)` with `m >= k`, by an orthonormal basis of a space that contains theirs.
pub(crate) fn orthonormalize<T: Scalar>(_team: &Team, a: &mut Mat<T>) {
    let (m, k) = (a.nrows(), a.ncols());
    if k == 0 {
        return;
    }
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
