//! Sums of outer products of vectors.

mod alternating;
mod arranged;
mod components;

use faer::Mat;

use super::DenseTensor;
use crate::linalg::{LinalgError, Team};
use alternating::Alternation;
use arranged::Arranged;
pub(crate) use components::reconstruct;

/// How to look for a CP decomposition.
///
/// # Examples
/// ```
/// use fnl::decompose::tensor::CpOptions;
/// let options = CpOptions { restarts: 2, ..CpOptions::default() };
/// assert_eq!(options.threads, 1);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CpOptions {
    /// Random starts beside the one from the higher-order SVD, by default one. The best end is kept.
    pub restarts: usize,
    /// Sweeps over the modes from each start, at most, by default 100.
    pub sweeps: usize,
    /// The relative change of the error below which sweeps end, by default 1e-6.
    pub tolerance: f64,
    /// How much the normal equations are damped, as a part of the mean of their diagonal for each part of `|T|^2` that is
    /// missed: 1e-2 by default, 0 for plain least squares.
    ///
    /// It keeps components small that would grow while they cancel each other. On the kernels of ResNet-56 the default
    /// makes [`Cp::degeneracy`] 4 rather than 50, and the error after 100 sweeps is the same. Where the error falls to
    /// nothing, so does the damping: exact decompositions are found exactly.
    pub damping: f64,
    /// Where the random parts of starts come from.
    pub seed: u64,
    /// Threads to use, by default 1. They change the time, never the result.
    pub threads: usize,
}

impl Default for CpOptions {
    fn default() -> Self {
        Self { restarts: 1, sweeps: 100, tolerance: 1e-6, damping: 1e-2, seed: 0, threads: 1 }
    }
}

/// A CP decomposition: `T ~ sum_r a_r x b_r x .. `, a sum of outer products of vectors.
///
/// # Shapes
/// `factors[k]` is `(n_k, R)`, its column r the vector of component r along mode k.
#[derive(Clone, Debug)]
pub struct Cp {
    /// A matrix for each mode. The vectors of a component have equal norms, components come in falling order of norm, and the
    /// largest entry of each vector is positive but in the last mode.
    pub factors: Vec<Mat<f64>>,
    /// `|T - sum_r a_r x b_r x .. |^2`, measured.
    pub error_squared: f64,
    /// `|T|^2`.
    pub norm_squared: f64,
    /// The sum of the squared norms of the components over `|T|^2`: the kept energy where they are orthogonal, large
    /// where they cancel each other.
    pub degeneracy: f64,
    /// Sweeps over the modes from the start that was kept.
    pub sweeps: usize,
    /// The start that was kept: 0 for the one from the higher-order SVD.
    pub start: usize,
}

impl Cp {
    /// The approximation itself, of the tensor's shape.
    #[must_use]
    pub fn reconstruct(&self) -> DenseTensor {
        components::reconstruct(&self.factors)
    }
}

/// Computes a CP decomposition of rank R by alternating least squares.
///
/// The start is the higher-order SVD: the leading left singular vectors of each unfolding, random columns beyond a mode's
/// size. Each sweep solves for one factor after the other, and steps are stretched along the direction of the last one as long as
/// that lowers the error. The normal equations `X H = M` become `X (H + d I) = M` with
/// `d = damping * |T - T'|^2 / |T|^2 * tr(H) / R`.
///
/// A best approximation of rank R need not exist: then components diverge slowly while the error falls
/// towards one that isn't reached, and [`Cp::degeneracy`] says so.
///
/// # Determinism
/// Equal bits for equal input and seed on one machine, for every number of threads.
///
/// # Errors
/// - [`LinalgError::Empty`] and [`LinalgError::NotFinite`]
/// - [`LinalgError::RankOutOfRange`] for a rank of 0
/// - [`LinalgError::NoConvergence`] if an eigenvalue iteration fails
///
/// # Panics
/// If the tensor has fewer than two axes.
///
/// # Reference
/// J. Carroll, J. Chang, "Analysis of individual differences in multidimensional scaling via an N-way generalization
/// of Eckart-Young decomposition", 1970; R. Harshman, "Foundations of the PARAFAC procedure", 1970; V. de Silva, L.-H. Lim,
/// "Tensor rank and the ill-posedness of the best low-rank approximation problem", 2008.
///
/// # Examples
/// ```
/// use fnl::decompose::tensor::{CpOptions, DenseTensor, cp};
/// // (1, 2) x (1, 0, 1) x (3, 1)
/// let t = vec![3.0, 1.0, 0.0, 0.0, 3.0, 1.0, 6.0, 2.0, 0.0, 0.0, 6.0, 2.0];
/// let found = cp(&DenseTensor::new(vec![2, 3, 2], t), 1, &CpOptions::default())?;
/// assert!(found.error_squared < 1e-24);
/// assert!((found.factors[0][(1, 0)] / found.factors[0][(0, 0)] - 2.0).abs() < 1e-12);
/// # Ok::<(), fnl::linalg::LinalgError>(())
/// ```
pub fn cp(tensor: &DenseTensor, rank: usize, options: &CpOptions) -> Result<Cp, LinalgError> {
    tensor.require_usable()?;
    assert!(tensor.shape.len() >= 2, "a decomposition has at least two modes");
    if rank == 0 {
        let view = tensor.split(1);
        return Err(LinalgError::RankOutOfRange { rank, rows: view.nrows(), cols: view.ncols() });
    }
    let arranged = Arranged::new(tensor);
    let mut alternation = Alternation::new(&arranged, rank, Team::new(options.threads));
    let mut best = None;
    for start in 0..=options.restarts {
        let factors = if start == 0 {
            components::spectral_start(&arranged, rank, options)?
        } else {
            components::random_start(&arranged.sizes, rank, options.seed.wrapping_add(start as u64))
        };
        let end = alternation.run(factors, options);
        if best.as_ref().is_none_or(|(_, least): &(usize, alternating::End)| end.error < least.error) {
            best = Some((start, end));
        }
    }
    let Some((start, end)) = best else { unreachable!("there is at least one start") };
    let (factors, squares) = components::in_order(end.factors, &arranged.order);
    let in_arrangement: Vec<_> = arranged.order.iter().map(|&axis| factors[axis].clone()).collect();
    let error_squared = arranged.residual(&in_arrangement, options.threads);
    let degeneracy = if arranged.norm_squared > 0.0 { squares / arranged.norm_squared } else { 0.0 };
    let norm_squared = arranged.norm_squared;
    Ok(Cp { factors, error_squared, norm_squared, degeneracy, sweeps: end.sweeps, start })
}

#[cfg(test)]
mod tests;
