use faer::{Mat, MatRef};

use super::DenseTensor;
use super::dense::inverse;
use super::leading::leading_vectors;
use crate::linalg::{LinalgError, Team};

/// Sweeps over the modes, at most.
const MOST_SWEEPS: usize = 50;
/// A sweep that lowers the error by less than this part of it is the last.
const LEAST_GAIN: f64 = 1e-4;
/// A difference of squared norms below this part of them is replaced by a measured residual.
const MEASURED: f64 = 1e-6;

/// A Tucker decomposition: `T ~ S x_1 U_1 .. x_k U_k` over some modes, the others left whole.
///
/// # Shapes
/// | field | shape |
/// | --- | --- |
/// | `core` | the tensor's, with `r_mode` in place of `n_mode` |
/// | `factors` | `(n_mode, r_mode)` for each mode in the order they were given in, orthonormal columns |
#[derive(Clone, Debug)]
pub struct Tucker {
    /// `S = T x_1 U_1t .. x_k U_kt`.
    pub core: DenseTensor,
    /// `U_1 .. U_k`.
    pub factors: Vec<Mat<f64>>,
    /// `|T - S x_1 U_1 .. x_k U_k|^2`: the difference of the squared norms of the tensor and its core, measured where
    /// that would cancel.
    pub error_squared: f64,
    /// `|T|^2`.
    pub norm_squared: f64,
    /// Sweeps over the modes after the start.
    pub sweeps: usize,
    modes: Vec<usize>,
}

impl Tucker {
    /// The modes that were decomposed.
    #[must_use]
    pub fn modes(&self) -> &[usize] {
        &self.modes
    }

    /// The approximation itself, of the tensor's shape.
    #[must_use]
    pub fn reconstruct(&self) -> DenseTensor {
        self.reconstruct_by(&Team::new(1))
    }

    fn reconstruct_by(&self, team: &Team) -> DenseTensor {
        let mut tensor = self.core.clone();
        for (&mode, factor) in self.modes.iter().zip(&self.factors) {
            tensor = tensor.mode_product_by(team, mode, factor.as_ref());
        }
        tensor
    }
}

/// Computes a Tucker decomposition over these modes at these ranks: a truncated higher-order SVD, refined mode by mode (HOOI)
/// until a sweep lowers the error by less than 1e-4 of it, or 50 sweeps.
///
/// Each step is the best for its mode while the others stand still, so the error falls from that of the
/// HOSVD, which is at most `sqrt(k)` times the least possible one.
///
/// # Determinism
/// Equal bits for equal input on one machine, for every number of threads.
///
/// # Errors
/// - [`LinalgError::Empty`] and [`LinalgError::NotFinite`]
/// - [`LinalgError::RankOutOfRange`] for a rank of 0 or above the size of its mode
/// - [`LinalgError::NoConvergence`] if an eigenvalue iteration fails
///
/// # Panics
/// If there is no such mode, a mode is named twice, or there are not as many ranks as modes.
///
/// # Reference
/// L. De Lathauwer, B. De Moor, J. Vandewalle, "A multilinear singular value decomposition" and "On the best rank-1 and
/// rank-(R1, .., RN) approximation of higher-order tensors", both 2000.
///
/// # Examples
/// ```
/// use fnl::decompose::tensor::{DenseTensor, tucker};
/// // 2 e_0 x e_1 x (1, 1) has rank one
/// let t = DenseTensor::new(vec![2, 2, 2], vec![0.0, 0.0, 2.0, 2.0, 0.0, 0.0, 0.0, 0.0]);
/// let found = tucker(&t, &[0, 1], &[1, 1], 1)?;
/// assert_eq!(found.core.shape, [1, 1, 2]);
/// assert!(found.error_squared < 1e-24);
/// # Ok::<(), fnl::linalg::LinalgError>(())
/// ```
pub fn tucker(
    tensor: &DenseTensor,
    modes: &[usize],
    ranks: &[usize],
    threads: usize,
) -> Result<Tucker, LinalgError> {
    tensor.require_usable()?;
    require_ranks(tensor, modes, ranks)?;
    let iteration = Iteration::new(tensor, modes, ranks, threads);
    let (core, factors, sweeps) = iteration.run()?;
    let norm_squared = tensor.norm_squared();
    let error_squared = (norm_squared - core.norm_squared()).max(0.0);
    let mut found = Tucker { core, factors, error_squared, norm_squared, sweeps, modes: modes.to_vec() };
    if error_squared < MEASURED * norm_squared {
        found.error_squared = tensor.distance_squared(&found.reconstruct_by(&iteration.team));
    }
    Ok(found)
}

fn require_ranks(tensor: &DenseTensor, modes: &[usize], ranks: &[usize]) -> Result<(), LinalgError> {
    assert_eq!(modes.len(), ranks.len(), "every mode has a rank");
    for (&mode, &rank) in modes.iter().zip(ranks) {
        let rows = tensor.shape[mode];
        if rank == 0 || rank > rows {
            // the mode itself is the limit, however little stands beside it
            let cols = (tensor.data.len() / rows).max(rows);
            return Err(LinalgError::RankOutOfRange { rank, rows, cols });
        }
    }
    Ok(())
}

/// The tensor with its modes as the last axes, the largest last, so that products along them are few and large.
struct Iteration {
    tensor: DenseTensor,
    /// Where each axis of `tensor` was.
    order: Vec<usize>,
    /// For each decomposed axis of `tensor`, in the order of work: the axis, its rank, and its place in the caller's list.
    steps: Vec<(usize, usize, usize)>,
    team: Team,
    threads: usize,
}

impl Iteration {
    fn new(tensor: &DenseTensor, modes: &[usize], ranks: &[usize], threads: usize) -> Self {
        let mut listed: Vec<usize> = (0..modes.len()).collect();
        listed.sort_by_key(|&k| tensor.shape[modes[k]]);
        let whole = tensor.shape.len() - modes.len();
        let others = (0..tensor.shape.len()).filter(|axis| !modes.contains(axis));
        let order: Vec<usize> = others.chain(listed.iter().map(|&k| modes[k])).collect();
        let steps = listed.iter().enumerate().map(|(at, &k)| (whole + at, ranks[k], k)).collect();
        Self { tensor: tensor.permuted(&order), order, steps, team: Team::new(threads), threads }
    }

    /// The core and the factors, in the caller's order, and the number of sweeps.
    fn run(&self) -> Result<(DenseTensor, Vec<Mat<f64>>, usize), LinalgError> {
        let mut factors = Vec::with_capacity(self.steps.len());
        for (at, &(axis, rank, _)) in self.steps.iter().enumerate() {
            // the first one is replaced before it is used
            let n = self.tensor.shape[axis];
            let start =
                if at == 0 { Mat::identity(n, rank) } else { self.leading(&self.tensor, axis, rank)? };
            factors.push(start);
        }
        let (core, sweeps) = self.sweep(&mut factors)?;
        let back = inverse(&self.order);
        let mut in_order: Vec<(usize, Mat<f64>)> =
            self.steps.iter().map(|step| step.2).zip(factors).collect();
        in_order.sort_by_key(|(place, _)| *place);
        Ok((core.permuted(&back), in_order.into_iter().map(|(_, factor)| factor).collect(), sweeps))
    }

    fn sweep(&self, factors: &mut [Mat<f64>]) -> Result<(DenseTensor, usize), LinalgError> {
        let norm_squared = self.tensor.norm_squared();
        let mut core = self.tensor.clone();
        let mut before = f64::INFINITY;
        for sweep in 1..=MOST_SWEEPS {
            for (at, &(axis, rank, _)) in self.steps.iter().enumerate() {
                core = self.projected(factors, at);
                factors[at] = self.leading(&core, axis, rank)?;
            }
            if let (Some(&(axis, ..)), Some(factor)) = (self.steps.last(), factors.last()) {
                core = core.mode_product_by(&self.team, axis, factor.transpose());
            }
            let error = (norm_squared - core.norm_squared()).max(0.0).sqrt();
            // with one mode, or nothing but rounding left, there is nothing to alternate
            if error >= (1.0 - LEAST_GAIN) * before || error < 1e-7 * norm_squared.sqrt() || factors.len() < 2
            {
                return Ok((core, sweep));
            }
            before = error;
        }
        Ok((core, MOST_SWEEPS))
    }

    /// The tensor in the bases of all modes but one.
    fn projected(&self, factors: &[Mat<f64>], but: usize) -> DenseTensor {
        let mut tensor = None;
        // the last axis first: that is one product
        for (at, &(axis, ..)) in self.steps.iter().enumerate().rev().filter(|&(at, _)| at != but) {
            let from = tensor.as_ref().unwrap_or(&self.tensor);
            tensor = Some(from.mode_product_by(&self.team, axis, factors[at].transpose()));
        }
        tensor.unwrap_or_else(|| self.tensor.clone())
    }

    fn leading(&self, tensor: &DenseTensor, axis: usize, rank: usize) -> Result<Mat<f64>, LinalgError> {
        let of = |matrix: MatRef<'_, f64>| leading_vectors(&self.team, matrix, rank, self.threads);
        if axis + 1 == tensor.shape.len() {
            return of(tensor.split(axis).transpose());
        }
        of(tensor.unfold(axis).as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::super::hosvd_errors;
    use super::super::tests::{decaying, random};
    use super::*;

    fn orthonormality(u: &Mat<f64>) -> f64 {
        (u.transpose() * u - Mat::<f64>::identity(u.ncols(), u.ncols())).norm_max()
    }

    #[test]
    fn full_ranks_are_exact_whatever_the_modes() {
        for shape in [&[6, 5, 3, 3][..], &[9, 2, 2], &[4, 4], &[5, 1, 7, 1]] {
            let t = random(1, shape);
            for modes in [&[0, 1][..], &[1, 0], &[1]] {
                let ranks: Vec<usize> = modes.iter().map(|&mode| t.shape[mode]).collect();
                let found = tucker(&t, modes, &ranks, 1).unwrap();
                assert!(found.error_squared < 1e-26 * t.norm_squared(), "{shape:?} {}", found.error_squared);
                assert!(t.distance_squared(&found.reconstruct()) < 1e-26 * t.norm_squared());
                assert!(found.factors.iter().all(|u| orthonormality(u) < 1e-12));
            }
        }
    }

    #[test]
    fn a_planted_core_is_found_again() {
        let mut t = random(2, &[3, 2, 3, 3]);
        t = t.mode_product(0, random(3, &[10, 3]).unfold(0).as_ref());
        t = t.mode_product(1, random(4, &[8, 2]).unfold(0).as_ref());
        let found = tucker(&t, &[0, 1], &[3, 2], 1).unwrap();
        assert!(found.error_squared < 1e-24 * t.norm_squared(), "{}", found.error_squared);
    }

    #[test]
    fn the_error_is_the_distance_and_never_above_that_of_the_hosvd() {
        let t = decaying(5, &[8, 9, 3, 2]);
        for modes in [&[0, 1][..], &[1, 3, 0], &[0, 1, 2, 3]] {
            let bound = hosvd_errors(&t, modes, 1).unwrap();
            for rank in 1..=6 {
                let ranks: Vec<usize> = modes.iter().map(|&mode| rank.min(t.shape[mode])).collect();
                let found = tucker(&t, modes, &ranks, 1).unwrap();
                let measured = t.distance_squared(&found.reconstruct());
                assert!((found.error_squared - measured).abs() < 1e-12 * t.norm_squared());
                let hosvd = bound.error_squared(&ranks);
                assert!(found.error_squared <= hosvd + 1e-12 * t.norm_squared(), "{hosvd}");
                for (factor, (&mode, &rank)) in found.factors.iter().zip(modes.iter().zip(&ranks)) {
                    assert_eq!((factor.nrows(), factor.ncols()), (t.shape[mode], rank));
                    assert!(orthonormality(factor) < 1e-12);
                }
            }
        }
    }

    #[test]
    fn threads_change_no_bit_and_zeros_stay_zeros() {
        let t = random(6, &[40, 36, 3, 3]);
        let (one, two) =
            (tucker(&t, &[0, 1], &[12, 9], 1).unwrap(), tucker(&t, &[0, 1], &[12, 9], 2).unwrap());
        assert_eq!(one.core, two.core);
        assert!(one.factors.iter().zip(&two.factors).all(|(x, y)| x == y));
        let zeros = DenseTensor::new(vec![4, 3, 2], vec![0.0; 24]);
        let found = tucker(&zeros, &[0, 1], &[2, 2], 1).unwrap();
        assert_eq!((found.error_squared, found.core.norm_squared()), (0.0, 0.0));
        assert!(found.factors.iter().all(|u| orthonormality(u) < 1e-12));
    }

    #[test]
    fn ranks_beyond_a_mode_are_refused() {
        let t = random(7, &[3, 4, 2]);
        let error = tucker(&t, &[1, 0], &[4, 4], 1).unwrap_err();
        assert_eq!(error, LinalgError::RankOutOfRange { rank: 4, rows: 3, cols: 8 });
        assert!(matches!(tucker(&t, &[0], &[0], 1), Err(LinalgError::RankOutOfRange { rank: 0, .. })));
    }
}
