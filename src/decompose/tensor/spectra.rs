use super::DenseTensor;
use super::leading::{gram_spectrum, leading_vectors};
use crate::linalg::{LinalgError, Spectrum, Team};

/// Computes the singular values of the unfolding along each of these modes, which bound what a Tucker decomposition loses:
/// at least the largest of the tails at its ranks, and after a HOSVD at most their sum.
///
/// Values come from Gram matrices: their absolute error is about `1e-8 s_1` at worst, below the rounding of `f32` weights.
///
/// # Errors
/// - [`LinalgError::Empty`] and [`LinalgError::NotFinite`]
///
/// # Panics
/// If there is no such mode.
///
/// # Reference
/// L. De Lathauwer, B. De Moor, J. Vandewalle, "A multilinear singular value decomposition", 2000, property 10.
///
/// # Examples
/// ```
/// use fnl::decompose::tensor::{DenseTensor, mode_spectra};
/// // e_0 x e_0 x e_0 + 2 e_1 x e_1 x e_0
/// let t = DenseTensor::new(vec![2, 2, 1], vec![1.0, 0.0, 0.0, 2.0]);
/// let spectra = mode_spectra(&t, &[0, 2], 1)?;
/// assert!((spectra[0].values()[0] - 2.0).abs() < 1e-12);
/// assert!((spectra[1].values()[0] - 5f64.sqrt()).abs() < 1e-12);
/// # Ok::<(), fnl::linalg::LinalgError>(())
/// ```
pub fn mode_spectra(
    tensor: &DenseTensor,
    modes: &[usize],
    threads: usize,
) -> Result<Vec<Spectrum>, LinalgError> {
    tensor.require_usable()?;
    let team = Team::new(threads);
    Ok(modes.iter().map(|&mode| gram_spectrum(&team, tensor.unfold(mode).as_ref())).collect())
}

/// Computes the singular values of the d - 1 sequential unfoldings `(n_1 .. n_k, n_(k+1) .. n_d)`, which bound what a tensor
/// train loses: at least the largest of the tails at its ranks, and after a TT-SVD at most their sum.
///
/// Values have the errors of [`mode_spectra`].
///
/// # Errors
/// - [`LinalgError::Empty`] and [`LinalgError::NotFinite`]
///
/// # Reference
/// I. Oseledets, "Tensor-train decomposition", 2011, theorem 2.2.
pub fn train_spectra(tensor: &DenseTensor, threads: usize) -> Result<Vec<Spectrum>, LinalgError> {
    tensor.require_usable()?;
    let team = Team::new(threads);
    Ok((1..tensor.shape.len()).map(|modes| gram_spectrum(&team, tensor.split(modes))).collect())
}

/// The squared errors of all truncations of one higher-order SVD, each looked up.
///
/// With the full HOSVD `T = S x_1 U_1 .. x_d U_d`, cutting the ranks to `r_1 .. r_d` loses the squares of the core's elements
/// outside its leading part. They are kept as sums over d parts that don't overlap, where mode k is the first to
/// exceed its rank: sums of squares alone, so small errors keep their digits.
#[derive(Clone, Debug)]
pub struct HosvdErrors {
    sizes: Vec<usize>,
    /// For each k the array of shape `(n_1 + 1, .., n_k + 1)` of what lies below the ranks before k and not below rank k.
    outside: Vec<Vec<f64>>,
}

/// Computes the full HOSVD over these modes, the others left whole, and the errors of its truncations.
///
/// # Errors
/// - [`LinalgError::Empty`] and [`LinalgError::NotFinite`]
/// - [`LinalgError::NoConvergence`] if an eigenvalue iteration fails
///
/// # Panics
/// If there is no such mode, or a mode is named twice.
///
/// # Examples
/// ```
/// use fnl::decompose::tensor::{DenseTensor, hosvd_errors};
/// let t = DenseTensor::new(vec![2, 2], vec![3.0, 0.0, 0.0, 1.0]);
/// let errors = hosvd_errors(&t, &[0, 1], 1)?;
/// assert!((errors.error_squared(&[1, 1]) - 1.0).abs() < 1e-12);
/// assert_eq!(errors.error_squared(&[2, 2]), 0.0);
/// # Ok::<(), fnl::linalg::LinalgError>(())
/// ```
pub fn hosvd_errors(
    tensor: &DenseTensor,
    modes: &[usize],
    threads: usize,
) -> Result<HosvdErrors, LinalgError> {
    tensor.require_usable()?;
    let team = Team::new(threads);
    let order = modes_first(modes, tensor.shape.len());
    let mut core = tensor.permuted(&order);
    for (k, &mode) in modes.iter().enumerate() {
        let unfolded = tensor.unfold(mode);
        // A mode larger than all others together has no more directions than those.
        let count = unfolded.nrows().min(unfolded.ncols());
        let vectors = leading_vectors(&team, unfolded.as_ref(), count, threads)?;
        core = core.mode_product_by(&team, k, vectors.transpose());
    }
    Ok(HosvdErrors::of_core(&core, modes.len()))
}

fn modes_first(modes: &[usize], axes: usize) -> Vec<usize> {
    let others = (0..axes).filter(|axis| !modes.contains(axis));
    modes.iter().copied().chain(others).collect()
}

impl HosvdErrors {
    /// The squared error `|T - T_r|^2` of the HOSVD truncated to these ranks, one for each mode in the order they were given
    /// in. A rank above a mode's size is that size.
    ///
    /// # Panics
    /// If there are not as many ranks as modes.
    #[must_use]
    pub fn error_squared(&self, ranks: &[usize]) -> f64 {
        assert_eq!(ranks.len(), self.sizes.len(), "every mode has a rank");
        let mut place = 0;
        let parts = self.outside.iter().zip(&self.sizes).zip(ranks);
        let look_up = |((outside, &size), &rank): ((&Vec<f64>, &usize), &usize)| {
            place = place * (size + 1) + rank.min(size);
            outside[place]
        };
        parts.map(look_up).sum()
    }

    /// `|T|^2`.
    #[must_use]
    pub fn norm_squared(&self) -> f64 {
        self.outside.first().map_or(0.0, |outside| outside[0])
    }

    /// From a core whose first axes are the modes.
    fn of_core(core: &DenseTensor, modes: usize) -> Self {
        let sizes = core.shape[..modes].to_vec();
        let of_part = |k: usize| {
            let rest = core.shape[k + 1..].iter().product();
            let squares = core.data.chunks_exact(rest).map(|part| part.iter().map(|x| x * x).sum());
            let mut sums = Sums { shape: sizes[..=k].to_vec(), data: squares.collect() };
            sums.cumulate(k, true);
            (0..k).for_each(|axis| sums.cumulate(axis, false));
            sums.data
        };
        let outside = (0..modes).map(of_part).collect();
        Self { sizes, outside }
    }
}

/// An array in row-major order.
struct Sums {
    shape: Vec<usize>,
    data: Vec<f64>,
}

impl Sums {
    /// Replaces an axis of n places by one of n + 1: place r holds the sum over the places below r, or over those from r on.
    fn cumulate(&mut self, axis: usize, from_end: bool) {
        let n = self.shape[axis];
        let after: usize = self.shape[axis + 1..].iter().product();
        let mut data = Vec::with_capacity(self.data.len() / n * (n + 1));
        for slab in self.data.chunks_exact(n * after) {
            let start = data.len();
            data.resize(start + (n + 1) * after, 0.0);
            let sums = &mut data[start..];
            for step in 0..n {
                let (place, from, to) =
                    if from_end { (n - 1 - step, n - step, n - 1 - step) } else { (step, step, step + 1) };
                for a in 0..after {
                    sums[to * after + a] = sums[from * after + a] + slab[place * after + a];
                }
            }
        }
        self.shape[axis] = n + 1;
        self.data = data;
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{decaying, random};
    use super::*;
    use crate::linalg::spectrum;

    #[test]
    fn spectra_are_those_of_the_unfoldings() {
        let t = decaying(1, &[6, 5, 3, 4]);
        for (mode, found) in mode_spectra(&t, &[0, 1, 2, 3], 1).unwrap().iter().enumerate() {
            let expected = spectrum(t.unfold(mode).as_ref(), 1).unwrap();
            assert_eq!(found.values().len(), expected.values().len());
            for (x, y) in found.values().iter().zip(expected.values()) {
                assert!((x - y).abs() < 1e-8 * expected.values()[0], "{x} {y}");
            }
        }
        let trains = train_spectra(&t, 1).unwrap();
        assert_eq!(trains.iter().map(|s| s.values().len()).collect::<Vec<_>>(), [6, 12, 4]);
        for (k, found) in trains.iter().enumerate() {
            let expected = spectrum(t.split(k + 1), 1).unwrap();
            assert!((found.tail_squared(2) - expected.tail_squared(2)).abs() < 1e-12 * t.norm_squared());
        }
    }

    #[test]
    fn errors_are_those_of_the_truncated_decomposition() {
        let t = decaying(2, &[5, 6, 2, 3]);
        for modes in [&[0, 1][..], &[1, 0], &[3, 0, 1], &[0, 1, 2, 3]] {
            let errors = hosvd_errors(&t, modes, 1).unwrap();
            assert!((errors.norm_squared() - t.norm_squared()).abs() < 1e-12 * t.norm_squared());
            for rank in 1..=5 {
                let ranks: Vec<usize> = modes.iter().map(|&mode| rank.min(t.shape[mode])).collect();
                let mut truncated = t.clone();
                for (&mode, &rank) in modes.iter().zip(&ranks) {
                    let u = leading_vectors(&Team::new(1), t.unfold(mode).as_ref(), rank, 1).unwrap();
                    truncated = truncated.mode_product(mode, (&u * u.transpose()).as_ref());
                }
                let measured = t.distance_squared(&truncated);
                let told = errors.error_squared(&ranks);
                assert!((measured - told).abs() < 1e-12 * t.norm_squared(), "{modes:?} {measured} {told}");
            }
            let whole: Vec<usize> = modes.iter().map(|&mode| t.shape[mode]).collect();
            assert_eq!(errors.error_squared(&whole), 0.0);
        }
    }

    #[test]
    fn what_is_not_finite_is_refused() {
        let mut t = random(3, &[3, 2, 2]);
        t.data[5] = f64::NAN;
        let refused = |error: LinalgError| matches!(error, LinalgError::NotFinite { row: 1, col: 1, .. });
        assert!(refused(mode_spectra(&t, &[0], 1).unwrap_err()));
        assert!(refused(train_spectra(&t, 1).unwrap_err()));
        assert!(refused(hosvd_errors(&t, &[0, 1], 1).unwrap_err()));
    }
}
