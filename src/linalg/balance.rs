use faer::{Mat, MatRef};

use super::orthonormal::orthonormalize;
use super::product::{Team, product};
use super::{LinalgError, SvdOptions, truncated_svd};

/// The balanced factors of a product that is given by any factors: `A B = A' B'` with equal Gram matrices `A't A'` and
/// `B' B't`, as spectral initialization has them.
///
/// The product is never formed: `A = Q P` and `Bt = R S` with orthonormal `Q`, `R`, and the small `P St` is decomposed.
///
/// # Shapes
/// `A` is `(m, r)`, `B` is `(r, n)`, with `r` at most `m` and `n`.
///
/// # Errors
/// - those of [`truncated_svd`]
///
/// # Examples
/// ```
/// use faer::mat;
/// use fnl::linalg::balance;
/// let (a, b) = (mat![[4.0], [0.0]], mat![[0.0, 1.0]]);
/// let (x, y) = balance(a.as_ref(), b.as_ref())?;
/// assert!((x[(0, 0)] - 2.0).abs() < 1e-12 && (y[(0, 1)] - 2.0).abs() < 1e-12);
/// # Ok::<(), fnl::linalg::LinalgError>(())
/// ```
pub fn balance(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Result<(Mat<f64>, Mat<f64>), LinalgError> {
    let team = Team::new(1);
    let (mut q, mut r) = (a.to_owned(), b.transpose().to_owned());
    orthonormalize(&team, &mut q);
    orthonormalize(&team, &mut r);
    let p = product(&team, q.transpose(), a);
    let s = product(&team, r.transpose(), b.transpose());
    let core = product(&team, p.as_ref(), s.transpose());
    let svd = truncated_svd(core.as_ref(), core.nrows(), &SvdOptions::default())?;
    let (inner_a, inner_b) = svd.balanced_factors();
    let mut a = product(&team, q.as_ref(), inner_a.as_ref());
    let mut b = product(&team, inner_b.as_ref(), r.transpose());
    for j in 0..a.ncols() {
        let largest = a.col(j).iter().fold(0.0f64, |most, &x| if x.abs() > most.abs() { x } else { most });
        if largest < 0.0 {
            a.col_mut(j).iter_mut().for_each(|x| *x = -*x);
            b.row_mut(j).iter_mut().for_each(|x| *x = -*x);
        }
    }
    Ok((a, b))
}
