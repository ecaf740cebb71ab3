use faer::{Mat, MatRef};

use super::DenseTensor;
use crate::linalg::residual_norm_squared;

/// A tensor with its axes in rising order of size, so that nearly all of the work of a contraction is one product
/// of matrices along one of the two largest.
pub(super) struct Arranged {
    /// Axis k here is axis `order[k]` of the tensor.
    pub(super) order: Vec<usize>,
    pub(super) sizes: Vec<usize>,
    pub(super) norm_squared: f64,
    /// With the largest axis last, and with the second largest last.
    by_largest: DenseTensor,
    by_second: DenseTensor,
}

impl Arranged {
    pub(super) fn new(tensor: &DenseTensor) -> Self {
        let d = tensor.shape.len();
        let mut order: Vec<usize> = (0..d).collect();
        order.sort_by_key(|&axis| tensor.shape[axis]);
        let by_largest = tensor.permuted(&order);
        let mut swapped: Vec<usize> = (0..d).collect();
        swapped.swap(d - 2, d - 1);
        let by_second = by_largest.permuted(&swapped);
        Self {
            order,
            sizes: by_largest.shape.clone(),
            norm_squared: tensor.norm_squared(),
            by_largest,
            by_second,
        }
    }

    /// The number of places of the axes but the two largest.
    pub(super) fn small(&self) -> usize {
        self.sizes[..self.sizes.len() - 2].iter().product()
    }

    /// The tensor as a matrix whose columns run along an axis, one of the two largest, and its rows over the small axes and
    /// the other one.
    pub(super) fn along(&self, axis: usize) -> MatRef<'_, f64> {
        let last = self.sizes.len() - 1;
        if axis == last { self.by_largest.split(last) } else { self.by_second.split(last) }
    }

    /// The tensor's unfolding along an axis.
    pub(super) fn unfolded(&self, axis: usize) -> Mat<f64> {
        if axis + 2 >= self.sizes.len() {
            return self.along(axis).transpose().to_owned();
        }
        self.by_largest.unfold(axis)
    }

    /// `|T - sum_r ..|^2` for factors in this order of axes.
    pub(super) fn residual(&self, factors: &[Mat<f64>], threads: usize) -> f64 {
        let last = self.sizes.len() - 1;
        let rows = khatri_rao(&factors[..last]);
        residual_norm_squared(self.along(last), rows.as_ref(), factors[last].transpose(), threads)
    }
}

/// Column by column the outer product of the columns, its first factor's index slowest: `(n_1 .. n_k, R)`.
pub(super) fn khatri_rao(factors: &[Mat<f64>]) -> Mat<f64> {
    let rank = factors.first().map_or(0, Mat::ncols);
    let mut product = Mat::from_fn(1, rank, |_, _| 1.0);
    for factor in factors {
        let n = factor.nrows();
        product = Mat::from_fn(product.nrows() * n, rank, |i, r| product[(i / n, r)] * factor[(i % n, r)]);
    }
    product
}
