use faer::linalg::matmul::matmul as multiply;
use faer::{Accum, MatMut, MatRef, Par};

/// `A B`, row-major, shapes `(m, k)` and `(k, n)`; a transposed argument is stored as `(k, m)` or `(n, k)`.
pub(crate) fn matmul(
    m: usize,
    k: usize,
    n: usize,
    a: &[f32],
    a_transposed: bool,
    b: &[f32],
    b_transposed: bool,
) -> Vec<f32> {
    let side = |data, rows, columns, transposed: bool| {
        if transposed {
            MatRef::from_row_major_slice(data, columns, rows).transpose()
        } else {
            MatRef::from_row_major_slice(data, rows, columns)
        }
    };
    let mut product = vec![0.0; m * n];
    let target = MatMut::from_row_major_slice_mut(&mut product, m, n);
    multiply(
        target,
        Accum::Replace,
        side(a, m, k, a_transposed),
        side(b, k, n, b_transposed),
        1.0,
        Par::rayon(0),
    );
    product
}
