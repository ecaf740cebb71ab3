use super::{DecomposeError, Factor, Unfolding};
use crate::linalg::{self, LinalgError, Scalar, Spectrum, SvdOptions, SvdPath};

/// A weight's factors, and what the decomposition found.
#[derive(Clone, Debug)]
pub struct Factored<T> {
    /// The weights of the chain, in the order in which it runs.
    pub factors: Vec<Factor<T>>,
    /// `|W - A B| / |W|` as certified by the decomposition, before any rounding to a narrower dtype.
    pub relative_error: f64,
    /// The way that the decomposition of matrices went (the first group's).
    pub path: Option<SvdPath>,
    /// All singular values, where the decomposition yields them.
    pub spectrum: Option<Spectrum>,
    /// Of a sum of components: their squared norms, summed, over that of the weight. 1 for orthogonal ones; large where they
    /// cancel each other.
    pub degeneracy: Option<f64>,
}

/// The singular values of a weight, over its groups.
///
/// Value `i` of a grouped convolution is the root of the sum of squares of the groups' value `i`, so that
/// the tail from `r` on is the error of giving every group rank `r`.
pub type WeightSpectrum = Spectrum;

/// Factors a weight at a rank: the best approximation of each group's matrix, its factors balanced.
///
/// # Shapes
///
/// | | shape |
/// | --- | --- |
/// | `data` | the unfolding's, row-major |
/// | `factors` | [`Unfolding::factor_shapes`] |
///
/// # Determinism
///
/// The bytes of the factors depend on the weight, the rank and the method alone.
///
/// # Errors
///
/// - [`DecomposeError::NotFinite`] with the place of a NaN or an infinity;
/// - [`DecomposeError::Length`] when the data is not the unfolding's;
/// - [`DecomposeError::Linalg`] when the rank is out of range or nothing converged.
pub fn factor<T: Scalar>(
    data: &[T],
    unfolding: &Unfolding,
    rank: usize,
    options: &SvdOptions,
) -> Result<Factored<T>, DecomposeError> {
    let (mut pairs, mut spectra) = (Vec::new(), Vec::new());
    let (mut norm_squared, mut tail_squared, mut path) = (0.0, 0.0, None);
    for (group, matrix) in unfolding.matrices(data)?.iter().enumerate() {
        let svd = linalg::truncated_svd(matrix.as_ref(), rank, options)
            .map_err(|error| located(error, unfolding, group))?;
        norm_squared += svd.norm_squared;
        tail_squared += svd.tail_squared;
        path.get_or_insert(svd.path);
        pairs.push(svd.balanced_factors());
        spectra.extend(svd.spectrum);
    }
    let spectrum = (spectra.len() == unfolding.groups()).then(|| over_groups(&spectra));
    Ok(Factored {
        factors: unfolding.chain(&pairs),
        relative_error: ratio(tail_squared, norm_squared),
        path,
        spectrum,
        degeneracy: None,
    })
}

/// All singular values of a weight.
///
/// # Errors
///
/// As [`factor`].
pub fn weight_spectrum<T: Scalar>(
    data: &[T],
    unfolding: &Unfolding,
    threads: usize,
) -> Result<WeightSpectrum, DecomposeError> {
    let spectra = unfolding
        .matrices(data)?
        .iter()
        .enumerate()
        .map(|(group, matrix)| {
            linalg::spectrum(matrix.as_ref(), threads).map_err(|error| located(error, unfolding, group))
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(over_groups(&spectra))
}

/// `|W - A B| / |W|` of given factors, the differences squared and summed in f64; 0 for a zero weight
/// that the factors match.
///
/// # Errors
///
/// - [`DecomposeError::FactorShape`] when the factors do not form the weight's chain;
/// - [`DecomposeError::Length`] when the data is not the unfolding's.
pub fn error_of<T: Scalar>(
    data: &[T],
    unfolding: &Unfolding,
    factors: &[Factor<T>],
    threads: usize,
) -> Result<f64, DecomposeError> {
    let mut residual = 0.0;
    for (matrix, (a, b)) in unfolding.matrices(data)?.iter().zip(unfolding.pairs(factors)?) {
        residual += linalg::residual_norm_squared(matrix.as_ref(), a.as_ref(), b.as_ref(), threads);
    }
    let norm: f64 = data.iter().map(|&x| x.to_f64() * x.to_f64()).sum();
    Ok(ratio(residual, norm))
}

/// `sqrt(part / whole)`, where nothing of nothing is nothing.
pub(super) fn ratio(part: f64, whole: f64) -> f64 {
    if part <= 0.0 { 0.0 } else { (part / whole).sqrt() }
}

pub(super) fn over_groups(spectra: &[Spectrum]) -> Spectrum {
    if let [one] = spectra {
        return one.clone();
    }
    let longest = spectra.iter().map(|s| s.values().len()).max().unwrap_or(0);
    let value =
        |i: usize| spectra.iter().filter_map(|s| s.values().get(i)).map(|v| v * v).sum::<f64>().sqrt();
    Spectrum::new((0..longest).map(value).collect())
}

pub(super) fn located(error: LinalgError, unfolding: &Unfolding, group: usize) -> DecomposeError {
    match error {
        LinalgError::NotFinite { row, col, value } => {
            DecomposeError::NotFinite { index: unfolding.index_of(group, row, col), value }
        }
        other => DecomposeError::Linalg(other),
    }
}
