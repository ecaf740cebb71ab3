use super::tile::build;
use faer::linalg::matmul::matmul as multiply;
use faer::{Accum, MatMut, MatRef, Par};

/// Elements of a product that one task writes, about: they stay in its cache until the bias is added.
const TASK: usize = 1 << 17;
/// Rows that a task writes at least, since it packs all of the other matrix.
const LEAST_ROWS: usize = 256;

/// `A B`, row-major, shapes `(m, k)` and `(k, n)`, and a row that is added to each; a transposed argument is stored as `(k, m)`
/// or `(n, k)`.
#[expect(clippy::too_many_arguments, reason = "each is a part of the product")]
pub(crate) fn matmul(
    m: usize,
    k: usize,
    n: usize,
    a: &[f32],
    a_transposed: bool,
    b: &[f32],
    b_transposed: bool,
    bias: Option<&[f32]>,
) -> Vec<f32> {
    let side = |data, rows, columns, transposed: bool| {
        if transposed {
            MatRef::from_row_major_slice(data, columns, rows).transpose()
        } else {
            MatRef::from_row_major_slice(data, rows, columns)
        }
    };
    let (a, b) = (side(a, m, k, a_transposed), side(b, k, n, b_transposed));
    let together = TASK.div_ceil(n.max(1)).max(LEAST_ROWS);
    let par = if m.div_ceil(together) < rayon::current_num_threads() { Par::rayon(0) } else { Par::Seq };
    build(m * n, together * n, |index, to| {
        let rows = to.len() / n.max(1);
        let a = a.subrows(index * together, rows);
        let target = MatMut::from_row_major_slice_mut(to, rows, n);
        multiply(target, Accum::Replace, a, b, 1.0, par);
        if let Some(bias) = bias {
            for row in to.chunks_exact_mut(n.max(1)) {
                for (y, b) in row.iter_mut().zip(bias) {
                    *y += b;
                }
            }
        }
    })
}
