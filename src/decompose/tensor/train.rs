use faer::MatMut;

use super::DenseTensor;
use super::leading::leading_vectors;
use crate::linalg::{LinalgError, Team};

/// Rounds over the bonds in which the scales of the cores are balanced, at most, and the change at which they end.
const MOST_ROUNDS: usize = 100;
const BALANCED: f64 = 1e-3;
/// A difference of squared norms below this part of them is replaced by a measured residual.
const MEASURED: f64 = 1e-6;

/// A tensor train: `T_(i_1 .. i_d) ~ G_1(i_1) G_2(i_2) .. G_d(i_d)`, products of matrices.
///
/// # Shapes
/// `cores[k]` is `(r_(k-1), n_k, r_k)` with `r_0 = r_d = 1`.
#[derive(Clone, Debug)]
pub struct TensorTrain {
    /// `G_1 .. G_d`. What goes through a bond has one scale on both of its sides: for each bond index, the part of the
    /// core before it has the norm of the part of the core after it, and so all cores have one norm.
    pub cores: Vec<DenseTensor>,
    /// `|T - G_1 .. G_d|^2`: what the cores have lost of the norm; measured on what they multiply out to where that is little.
    pub error_squared: f64,
    /// `|T|^2`.
    pub norm_squared: f64,
}

impl TensorTrain {
    /// The approximation itself, of the tensor's shape.
    #[must_use]
    pub fn reconstruct(&self) -> DenseTensor {
        reconstruct(&self.cores, 1)
    }
}

/// Computes a tensor train at the ranks `r_1 .. r_(d-1)` by one SVD after the other (TT-SVD).
///
/// Its squared error is at most the sum of the tails of [`train_spectra`](super::train_spectra) at these ranks, so the error is at
/// most `sqrt(d - 1)` times the least possible one.
///
/// # Determinism
/// Equal bits for equal input on one machine, for every number of threads.
///
/// # Errors
/// - [`LinalgError::Empty`] and [`LinalgError::NotFinite`]
/// - [`LinalgError::RankOutOfRange`] for a rank `r_k` of 0, or above `r_(k-1) n_k` or `n_(k+1) .. n_d`
/// - [`LinalgError::NoConvergence`] if an eigenvalue iteration fails
///
/// # Panics
/// If there are not as many ranks as axes less one.
///
/// # Reference
/// I. Oseledets, "Tensor-train decomposition", 2011, algorithm 1.
///
/// # Examples
/// ```
/// use fnl::decompose::tensor::{DenseTensor, tensor_train};
/// // i + j + k has ranks (2, 2)
/// let numbers = (0..27).map(|at| (at / 9 + at / 3 % 3 + at % 3) as f64).collect();
/// let found = tensor_train(&DenseTensor::new(vec![3, 3, 3], numbers), &[2, 2], 1)?;
/// assert_eq!(found.cores[1].shape, [2, 3, 2]);
/// assert!(found.error_squared < 1e-24);
/// # Ok::<(), fnl::linalg::LinalgError>(())
/// ```
pub fn tensor_train(
    tensor: &DenseTensor,
    ranks: &[usize],
    threads: usize,
) -> Result<TensorTrain, LinalgError> {
    tensor.require_usable()?;
    assert_eq!(ranks.len() + 1, tensor.shape.len(), "every bond has a rank");
    let team = Team::new(threads);
    let mut cores = Vec::with_capacity(tensor.shape.len());
    let mut rest = tensor.clone();
    let mut before = 1;
    for (&rank, &n) in ranks.iter().zip(&tensor.shape) {
        let (rows, cols) = (before * n, rest.data.len() / (before * n));
        rest.shape = vec![rows, cols];
        if rank == 0 || rank > rows.min(cols) {
            return Err(LinalgError::RankOutOfRange { rank, rows, cols });
        }
        if rank == rows {
            // Nothing is cut here: any basis is as good as another.
            cores.push(DenseTensor::new(vec![before, n, rank], identity(rank)));
            before = rank;
            continue;
        }
        let u = leading_vectors(&team, rest.split(1), rank, threads)?;
        let mut left = vec![0.0; rows * rank];
        MatMut::from_row_major_slice_mut(&mut left, rows, rank).copy_from(u.as_ref());
        cores.push(DenseTensor::new(vec![before, n, rank], left));
        rest = rest.mode_product_by(&team, 0, u.transpose());
        before = rank;
    }
    // All cores but the last are orthonormal: what is left out is what the last has lost of the norm.
    let norm_squared = tensor.norm_squared();
    let mut error_squared = norm_squared - rest.norm_squared();
    let last = rest.data.len() / before;
    cores.push(DenseTensor::new(vec![before, last, 1], rest.data));
    balance(&mut cores);
    if error_squared < MEASURED * norm_squared {
        error_squared = tensor.distance_squared(&reconstruct(&cores, threads));
    }
    Ok(TensorTrain { cores, error_squared, norm_squared })
}

fn identity(size: usize) -> Vec<f64> {
    let mut data = vec![0.0; size * size];
    data.iter_mut().step_by(size + 1).for_each(|x| *x = 1.0);
    data
}

pub(crate) fn reconstruct(cores: &[DenseTensor], threads: usize) -> DenseTensor {
    let team = Team::new(threads);
    let mut data = vec![1.0];
    let mut shape = Vec::with_capacity(cores.len());
    for core in cores {
        let rows = data.len() / core.shape[0];
        let before = DenseTensor::new(vec![rows, core.shape[0]], data);
        data = before.mode_product_by(&team, 1, core.split(1).transpose()).data;
        shape.push(core.shape[1]);
    }
    DenseTensor::new(shape, data)
}

/// Moves scale along every bond until both sides of each have the same.
///
/// One bond at a time is exact, and lowers the sum of the squared norms of the cores while their product stays the same:
/// rounds end at the least sum.
fn balance(cores: &mut [DenseTensor]) {
    for _ in 0..MOST_ROUNDS {
        let mut change = 0.0f64;
        for bond in 1..cores.len() {
            let (left, right) = cores.split_at_mut(bond);
            change = change.max(balance_bond(&mut left[bond - 1], &mut right[0]));
        }
        if change < BALANCED {
            return;
        }
    }
}

/// The largest change of a scale.
fn balance_bond(left: &mut DenseTensor, right: &mut DenseTensor) -> f64 {
    let (rank, across) = (right.shape[0], right.shape[1] * right.shape[2]);
    let mut squares = vec![0.0; rank];
    for row in left.data.chunks_exact(rank) {
        squares.iter_mut().zip(row).for_each(|(sum, x)| *sum += x * x);
    }
    let of_right = right.data.chunks_exact(across).map(|row| row.iter().map(|x| x * x).sum::<f64>());
    let scales: Vec<f64> = squares
        .iter()
        .zip(of_right)
        // what one side has nothing of can't be balanced
        .map(|(&l, r)| if l > 0.0 && r > 0.0 { (r / l).sqrt().sqrt() } else { 1.0 })
        .collect();
    for row in left.data.chunks_exact_mut(rank) {
        row.iter_mut().zip(&scales).for_each(|(x, scale)| *x *= scale);
    }
    for (row, scale) in right.data.chunks_exact_mut(across).zip(&scales) {
        for x in row {
            *x /= scale;
        }
    }
    scales.iter().fold(0.0, |most, scale| most.max((scale - 1.0).abs()))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{decaying, random};
    use super::super::train_spectra;
    use super::*;

    fn is_balanced(train: &TensorTrain) -> bool {
        let norms: Vec<f64> = train.cores.iter().map(DenseTensor::norm_squared).collect();
        norms.iter().all(|x| (x - norms[0]).abs() < 1e-2 * norms[0])
    }

    #[test]
    fn full_ranks_are_exact() {
        for (shape, ranks) in
            [(&[4, 5, 3, 2][..], &[4, 6, 2][..]), (&[3, 7], &[3]), (&[6, 1, 3, 1], &[3, 3, 1]), (&[5], &[])]
        {
            let t = random(1, shape);
            let found = tensor_train(&t, ranks, 1).unwrap();
            assert_eq!(found.error_squared, t.distance_squared(&found.reconstruct()));
            assert!(found.error_squared < 1e-26 * t.norm_squared(), "{shape:?} {}", found.error_squared);
            assert!(is_balanced(&found));
        }
    }

    #[test]
    fn the_error_is_within_the_bounds_and_the_cores_have_one_norm() {
        let t = decaying(2, &[8, 3, 3, 9]);
        let spectra = train_spectra(&t, 1).unwrap();
        for ranks in [[1, 1, 1], [3, 4, 3], [5, 9, 6], [8, 20, 8]] {
            let found = tensor_train(&t, &ranks, 1).unwrap();
            let tails: Vec<f64> = spectra.iter().zip(ranks).map(|(s, rank)| s.tail_squared(rank)).collect();
            let (most, sum) = (tails.iter().fold(0.0f64, |a, &b| a.max(b)), tails.iter().sum::<f64>());
            let error = t.distance_squared(&found.reconstruct());
            assert!(error <= sum + 1e-12 && error >= most - 1e-12, "{error} {most} {sum}");
            assert!((found.error_squared - error).abs() <= 1e-12 * t.norm_squared());
            assert!(is_balanced(&found));
            for (k, core) in found.cores.iter().enumerate() {
                let rank =
                    |bond: usize| if bond == 0 { 1 } else { ranks.get(bond - 1).copied().unwrap_or(1) };
                assert_eq!(core.shape, [rank(k), t.shape[k], rank(k + 1)]);
            }
        }
    }

    #[test]
    fn a_planted_train_is_found_again() {
        let cores = [random(3, &[1, 9, 2]), random(4, &[2, 3, 3]), random(5, &[3, 8, 1])];
        let t = reconstruct(&cores, 1);
        let found = tensor_train(&t, &[2, 3], 1).unwrap();
        assert!(found.error_squared < 1e-26 * t.norm_squared(), "{}", found.error_squared);
    }

    #[test]
    fn zeros_stay_zeros_threads_change_no_bit_and_ranks_are_checked() {
        let zeros = DenseTensor::new(vec![3, 4, 2], vec![0.0; 24]);
        let found = tensor_train(&zeros, &[2, 2], 1).unwrap();
        assert_eq!((found.error_squared, found.reconstruct()), (0.0, zeros));
        let t = random(6, &[40, 3, 3, 36]);
        let (one, two) =
            (tensor_train(&t, &[20, 40, 30], 1).unwrap(), tensor_train(&t, &[20, 40, 30], 2).unwrap());
        assert_eq!(one.cores, two.cores);
        let error = tensor_train(&t, &[20, 61, 30], 1).unwrap_err();
        assert_eq!(error, LinalgError::RankOutOfRange { rank: 61, rows: 60, cols: 108 });
        assert!(matches!(tensor_train(&t, &[0, 1, 1], 1), Err(LinalgError::RankOutOfRange { rank: 0, .. })));
    }
}
