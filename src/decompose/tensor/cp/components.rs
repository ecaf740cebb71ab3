use faer::Mat;

use super::arranged::{Arranged, khatri_rao};
use super::{CpOptions, DenseTensor};
use crate::decompose::tensor::inverse;
use crate::decompose::tensor::leading::{has_negative_peak, leading_vectors};
use crate::linalg::{LinalgError, Splitmix, Team, matmul};

/// The leading left singular vectors of each unfolding, and random columns beyond a mode's size.
pub(super) fn spectral_start(
    arranged: &Arranged,
    rank: usize,
    options: &CpOptions,
) -> Result<Vec<Mat<f64>>, LinalgError> {
    let team = Team::new(options.threads);
    let mut factors = random_start(&arranged.sizes, rank, options.seed);
    for (axis, factor) in factors.iter_mut().enumerate() {
        let known = rank.min(arranged.sizes[axis]);
        let vectors = leading_vectors(&team, arranged.unfolded(axis).as_ref(), known, options.threads)?;
        factor.as_mut().subcols_mut(0, known).copy_from(vectors.as_ref());
    }
    Ok(factors)
}

/// Unit vectors in random directions.
pub(super) fn random_start(sizes: &[usize], rank: usize, seed: u64) -> Vec<Mat<f64>> {
    let mut random = Splitmix::new(seed);
    let mut factors = Vec::with_capacity(sizes.len());
    for &n in sizes {
        // sums of uniform numbers point in nearly all directions alike
        let mut factor = Mat::from_fn(n, rank, |_, _| (0..4).map(|_| random.uniform()).sum::<f64>());
        for column in factor.col_iter_mut() {
            let norm = column.norm_l2();
            column.iter_mut().for_each(|x| *x = if norm > 0.0 { *x / norm } else { 1.0 });
        }
        factors.push(factor);
    }
    factors
}

/// Gives the vectors of each component equal norms. What has no norm in one mode has none in any.
pub(super) fn spread_norms(factors: &mut [Mat<f64>]) {
    let rank = factors.first().map_or(0, Mat::ncols);
    let d = factors.len() as f64;
    for r in 0..rank {
        let norms: Vec<f64> = factors.iter().map(|factor| factor.col(r).norm_l2()).collect();
        // the root before the product, which might overflow
        let even: f64 = norms.iter().map(|norm| norm.powf(1.0 / d)).product();
        for (factor, norm) in factors.iter_mut().zip(norms) {
            let scale = if even > 0.0 { even / norm } else { 0.0 };
            factor.col_mut(r).iter_mut().for_each(|x| *x *= scale);
        }
    }
}

/// The factors in the tensor's order of axes, components by falling norm with their signs fixed; and the sum of the squared norms
/// of the components.
pub(super) fn in_order(mut factors: Vec<Mat<f64>>, order: &[usize]) -> (Vec<Mat<f64>>, f64) {
    spread_norms(&mut factors);
    let (rank, d) = (factors[0].ncols(), factors.len());
    let squares: Vec<f64> =
        (0..rank).map(|r| factors.iter().map(|f| f.col(r).squared_norm_l2()).product()).collect();
    let mut places: Vec<usize> = (0..rank).collect();
    places.sort_by(|&a, &b| squares[b].total_cmp(&squares[a]));
    let mut ordered: Vec<Mat<f64>> = vec![Mat::new(); d];
    for (factor, &axis) in factors.iter().zip(order) {
        ordered[axis] = Mat::from_fn(factor.nrows(), rank, |i, r| factor[(i, places[r])]);
    }
    for r in 0..rank {
        for axis in 0..d - 1 {
            if has_negative_peak(ordered[axis].as_ref(), r) {
                ordered[axis].col_mut(r).iter_mut().for_each(|x| *x = -*x);
                ordered[d - 1].col_mut(r).iter_mut().for_each(|x| *x = -*x);
            }
        }
    }
    (ordered, squares.iter().sum())
}

/// The sum of the outer products.
pub(crate) fn reconstruct(factors: &[Mat<f64>]) -> DenseTensor {
    // the largest mode last: what is formed of the others is then smallest
    let mut order: Vec<usize> = (0..factors.len()).collect();
    order.sort_by_key(|&axis| factors[axis].nrows());
    let sorted: Vec<Mat<f64>> = order.iter().map(|&axis| factors[axis].clone()).collect();
    let last = sorted.len() - 1;
    let rows = khatri_rao(&sorted[..last]);
    let matrix = matmul(rows.as_ref(), sorted[last].transpose(), 1);
    let shape: Vec<usize> = sorted.iter().map(Mat::nrows).collect();
    DenseTensor::fold(last, matrix.transpose(), &shape).permuted(&inverse(&order))
}
