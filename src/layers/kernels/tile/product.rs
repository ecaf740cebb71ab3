use super::super::finish::Finish;
use super::build::build_unset;
use faer::linalg::matmul::matmul as multiply;
use faer::{Accum, MatMut, MatRef, Par};
use std::mem::MaybeUninit;

/// Elements of a product that one task writes, about: they are still in its cache when they are finished.
const TASK: usize = 1 << 17;
/// Rows that a task writes at least, since it packs all of the other matrix.
const LEAST_ROWS: usize = 128;

/// `A B`, row-major, shapes `(m, k)` and `(k, n)`, and what becomes of its rows; a transposed argument is stored as `(k, m)` or
/// `(n, k)`.
#[expect(clippy::too_many_arguments, reason = "each is a part of the product")]
pub(crate) fn matmul(
    m: usize,
    k: usize,
    n: usize,
    a: &[f32],
    a_transposed: bool,
    b: &[f32],
    b_transposed: bool,
    finish: Finish<'_>,
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
    finish.check(m, n);
    // SAFETY: what may be unset has its element's layout, and all of it is overwritten before it is seen: `Replace` does not read, and writes zeros where there are no terms.
    unsafe {
        build_unset(m * n, together * n, |index, to: &mut [MaybeUninit<f32>]| {
            let (first, rows) = (index * together, to.len() / n.max(1));
            let target =
                MatMut::from_raw_parts_mut(to.as_mut_ptr().cast::<f32>(), rows, n, n.cast_signed(), 1);
            multiply(target, Accum::Replace, a.subrows(first, rows), b, 1.0, par);
            finish.rows(first, n, &mut *(std::ptr::from_mut(to) as *mut [f32]));
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every element is written: with and without a bias and a residual, by few and many tasks, and with nothing to add up.
    #[test]
    fn every_element_is_the_sum_of_its_terms_bias_and_residual() {
        for (m, k, n) in
            [(1, 3, 5), (2, 0, 4), (3, 1, 7), (700, 6, 1), (600, 25, 513), (1, 40, 1), (9, 17, 24)]
        {
            let a: Vec<f32> = (0..m * k).map(|i| (i % 7) as f32 - 3.0).collect();
            let b: Vec<f32> = (0..k * n).map(|i| (i % 5) as f32 - 2.0).collect();
            let bias: Vec<f32> = (0..n).map(|i| (i % 3) as f32).collect();
            let residual: Vec<f32> = (0..m * n).map(|i| (i % 11) as f32).collect();
            for (bias, residual) in
                [(None, None), (Some(&bias[..]), None), (Some(&bias[..]), Some(&residual[..]))]
            {
                let expected = |row: usize, column: usize| {
                    let sum: f32 = (0..k).map(|i| a[row * k + i] * b[i * n + column]).sum();
                    sum + bias.map_or(0.0, |bias| bias[column])
                        + residual.map_or(0.0, |x| x[row * n + column])
                };
                let turned = |xs: &[f32], rows: usize, columns: usize| -> Vec<f32> {
                    (0..rows * columns).map(|i| xs[i % rows * columns + i / rows]).collect()
                };
                let (at, bt) = (turned(&a, m, k), turned(&b, k, n));
                for (a, is_turned_a, b, is_turned_b) in [
                    (&a, false, &b, false),
                    (&at, true, &b, false),
                    (&a, false, &bt, true),
                    (&at, true, &bt, true),
                ] {
                    let finish = Finish { residual, ..Finish::bias(bias) };
                    let found = matmul(m, k, n, a, is_turned_a, b, is_turned_b, finish);
                    assert_eq!(found.len(), m * n);
                    for (place, &y) in found.iter().enumerate() {
                        assert_eq!(y, expected(place / n, place % n), "{m} x {k} x {n} at {place}");
                    }
                }
            }
        }
    }
}
