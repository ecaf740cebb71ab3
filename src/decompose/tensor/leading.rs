use faer::{Mat, MatRef};

use crate::linalg::{
    LinalgError, Reduced, Spectrum, SvdMethod, SvdOptions, Team, gram, largest_eigenpairs, orthonormalize,
    product, truncated_svd,
};

/// Eigenvalues of a Gram matrix below this share of the largest have lost half of their digits.
const GRAM_FLOOR: f64 = 1e-12;

/// The leading left singular vectors of a matrix of shape `(m, n)`: `(m, rank)`, orthonormal, the largest entry of each
/// positive. The rank may exceed `n`: any vectors that complete the basis follow.
pub(super) fn leading_vectors(
    team: &Team,
    matrix: MatRef<'_, f64>,
    rank: usize,
    threads: usize,
) -> Result<Mat<f64>, LinalgError> {
    let (rows, cols) = (matrix.nrows(), matrix.ncols());
    let by_svd = || {
        let options = SvdOptions { method: SvdMethod::Exact, threads };
        truncated_svd(matrix, rank, &options).map(|svd| svd.u)
    };
    // the smaller Gram matrix, of the columns, if its vectors are enough
    let tall = cols < rows && rank <= cols;
    let square = gram(team, if tall { matrix } else { matrix.transpose() });
    let eigen = largest_eigenpairs(team, square, rank).ok_or(LinalgError::NoConvergence { rows, cols })?;
    let is_cut = tall || rank < rows.min(cols);
    if is_cut && eigen.values[rank - 1] <= GRAM_FLOOR * eigen.values[0] {
        return by_svd();
    }
    let mut vectors = if tall { product(team, matrix, eigen.vectors.as_ref()) } else { eigen.vectors };
    orthonormalize(team, &mut vectors);
    for j in 0..rank {
        if has_negative_peak(vectors.as_ref(), j) {
            vectors.col_mut(j).iter_mut().for_each(|x| *x = -*x);
        }
    }
    Ok(vectors)
}

/// Whether the entry of the largest magnitude in a column, the first one on ties, is negative.
pub(super) fn has_negative_peak(matrix: MatRef<'_, f64>, column: usize) -> bool {
    let peak = |most: f64, &x: &f64| if x.abs() > most.abs() { x } else { most };
    matrix.col(column).iter().fold(0.0, peak) < 0.0
}

/// All singular values of a matrix, from the Gram matrix of its smaller side.
pub(super) fn gram_spectrum(team: &Team, matrix: MatRef<'_, f64>) -> Spectrum {
    let tall = if matrix.nrows() < matrix.ncols() { matrix.transpose() } else { matrix };
    let eigenvalues = Reduced::new(team, gram(team, tall)).values(team, tall.ncols());
    Spectrum::new(eigenvalues.into_iter().map(|value| value.max(0.0).sqrt()).collect())
}
