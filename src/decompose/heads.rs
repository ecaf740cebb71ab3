use super::{DecomposeError, Metric};
use crate::linalg::{self, SvdOptions, TruncatedSvd};
use faer::{Mat, MatRef};

/// Directions whose part of a head's weights is below this, squared, are none.
const NOTHING: f64 = 1e-13;

/// The factors of a product `A^T B`, for weights `A` and `B` of one head, `(width, d)`, as narrower ones.
#[derive(Clone, Debug)]
pub struct NarrowedHead {
    /// What the left's rows are multiplied by, `(rank, width)`: narrower weights are `left A`.
    pub left: Mat<f64>,
    /// What the right's rows are multiplied by.
    pub right: Mat<f64>,
    /// The product's squared norm, and that of what is left out.
    pub norm_squared: f64,
    /// That of what is left out.
    pub tail_squared: f64,
}

/// Narrows a head: the nearest product of rank `rank` to `A^T B`, and its balanced factors in the place of `A` and `B`.
///
/// `A^T B` is `(d, d)` and never formed. With Gram matrices `G = A A^T` and `H = B B^T`, each in a metric if there is one, and
/// the singular value decomposition `G^(1/2) H^(1/2) = U S V^T`, of the head's width, the factors are
/// `S^(1/2) U^T G^(-1/2) A` and `S^(1/2) V^T H^(-1/2) B`. At full rank the product is what it was.
///
/// Gram matrices lose half of the digits: directions of a weight below `3e-7` of its largest are left out.
///
/// # Errors
///
/// - weights that are not finite
///
/// # Reference
///
/// Khodak, Tenenholtz, Mackey, Fusi, "Initialization and Regularization of Factorized Neural Layers", 2021, section 5: spectral
/// initialization of attention.
pub fn narrow_head(
    left_gram: MatRef<'_, f64>,
    right_gram: MatRef<'_, f64>,
    rank: usize,
) -> Result<NarrowedHead, DecomposeError> {
    let (left_root, left_inverse) = roots(left_gram)?;
    let (right_root, right_inverse) = roots(right_gram)?;
    let core = linalg::matmul(left_root.as_ref(), right_root.as_ref(), 1);
    let svd = decomposed(core.as_ref(), rank)?;
    let (norm_squared, tail_squared) = (svd.norm_squared, svd.tail_squared);
    let (a, b) = svd.balanced_factors();
    Ok(NarrowedHead {
        left: linalg::matmul(a.transpose(), left_inverse.as_ref(), 1),
        right: linalg::matmul(b.as_ref(), right_inverse.as_ref(), 1),
        norm_squared,
        tail_squared,
    })
}

fn decomposed(matrix: MatRef<'_, f64>, rank: usize) -> Result<TruncatedSvd<f64>, DecomposeError> {
    let options = SvdOptions { threads: 1, ..SvdOptions::default() };
    Ok(linalg::truncated_svd(matrix, rank, &options)?)
}

/// The root of a positive semidefinite matrix and its pseudo-inverse.
fn roots(gram: MatRef<'_, f64>) -> Result<(Mat<f64>, Mat<f64>), DecomposeError> {
    // Of a positive semidefinite matrix, singular vectors are eigenvectors.
    let svd = decomposed(gram, gram.nrows())?;
    let largest = svd.s.first().copied().unwrap_or(0.0);
    let scaled = |power: fn(f64) -> f64| {
        let columns = Mat::from_fn(svd.u.nrows(), svd.u.ncols(), |i, j| {
            let value = svd.s[j];
            if value > NOTHING * largest { svd.u[(i, j)] * power(value) } else { 0.0 }
        });
        linalg::matmul(columns.as_ref(), svd.u.transpose(), 1)
    };
    Ok((scaled(f64::sqrt), scaled(|value| 1.0 / value.sqrt())))
}

impl Metric {
    /// `(A R)(A R)^T` of rows over a layer's inputs.
    pub(crate) fn input_gram(&self, rows: MatRef<'_, f64>) -> Mat<f64> {
        let weighed = self.of_inputs(Mat::from_fn(rows.nrows(), rows.ncols(), |i, j| rows[(i, j)]));
        linalg::matmul(weighed.as_ref(), weighed.transpose(), 1)
    }

    /// `(L^T A^T)^T (L^T A^T)` of rows over a layer's outputs.
    pub(crate) fn output_gram(&self, rows: MatRef<'_, f64>) -> Mat<f64> {
        let weighed = self.of_outputs(Mat::from_fn(rows.ncols(), rows.nrows(), |i, j| rows[(j, i)]));
        linalg::matmul(weighed.transpose(), weighed.as_ref(), 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(seed: usize, rows: usize, cols: usize) -> Mat<f64> {
        Mat::from_fn(rows, cols, |i, j| ((seed + 7 * i + 3 * j * j + i * j) % 11) as f64 / 5.0 - 1.0)
    }

    fn gram(a: &Mat<f64>) -> Mat<f64> {
        linalg::matmul(a.as_ref(), a.transpose(), 1)
    }

    #[test]
    fn products_are_kept_at_full_rank_and_nearest_below() {
        let (a, b) = (weight(1, 4, 9), weight(5, 4, 9));
        let dense = linalg::matmul(a.transpose(), b.as_ref(), 1);
        for rank in [4, 2] {
            let found = narrow_head(gram(&a).as_ref(), gram(&b).as_ref(), rank).unwrap();
            let (left, right) = (
                linalg::matmul(found.left.as_ref(), a.as_ref(), 1),
                linalg::matmul(found.right.as_ref(), b.as_ref(), 1),
            );
            assert_eq!((left.nrows(), right.nrows()), (rank, rank));
            let error = linalg::residual_norm_squared(dense.as_ref(), left.transpose(), right.as_ref(), 1);
            let optimum = linalg::spectrum(dense.as_ref(), 1).unwrap().tail_squared(rank);
            assert!((error - optimum).abs() < 1e-9 * found.norm_squared, "{rank}: {error} and {optimum}");
            assert!((found.tail_squared - optimum).abs() < 1e-9 * found.norm_squared);
            // balanced: both factors have the same Gram matrix
            let (one, other) = (gram(&left), gram(&right));
            for i in 0..rank {
                for j in 0..rank {
                    assert!((one[(i, j)] - other[(i, j)]).abs() < 1e-8, "{one:?} {other:?}");
                }
            }
        }
    }

    #[test]
    fn a_head_of_less_than_full_rank_is_kept_too() {
        let mut a = weight(1, 3, 6);
        for j in 0..6 {
            a[(2, j)] = a[(0, j)] - a[(1, j)];
        }
        let b = weight(2, 3, 6);
        let found = narrow_head(gram(&a).as_ref(), gram(&b).as_ref(), 3).unwrap();
        let (left, right) = (
            linalg::matmul(found.left.as_ref(), a.as_ref(), 1),
            linalg::matmul(found.right.as_ref(), b.as_ref(), 1),
        );
        let dense = linalg::matmul(a.transpose(), b.as_ref(), 1);
        let error = linalg::residual_norm_squared(dense.as_ref(), left.transpose(), right.as_ref(), 1);
        assert!(error < 1e-10 * found.norm_squared, "{error}");
    }
}
