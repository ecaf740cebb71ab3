//! Truncated singular value decompositions: what is asked for, and the way from the request to the answer.

use std::fmt;

use faer::{Mat, MatRef};
use serde::{Deserialize, Serialize};

use super::exact::{exact, gram_values, values};
use super::krylov::{krylov, krylov_pays};
use super::orthonormal::triangle;
use super::product::{Team, magnitude, product, residual};
use super::refine::{Triples, refine};
use super::{LinalgError, Scalar, Spectrum, TruncatedSvd};

/// Which method computes a truncated decomposition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum SvdMethod {
    /// The faster of the two for the shape and rank.
    #[default]
    Auto,
    /// A direct method: all singular values, the optimum to rounding.
    Exact,
    /// Block Krylov, stopped when the kept energy has converged, and the direct method where it doesn't converge.
    Iterative,
}

/// Which computation a decomposition came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum SvdPath {
    /// Bidiagonalization of the matrix.
    Svd,
    /// Eigenvectors of the Gram matrix of the smaller side, in `f32` for an `f32` matrix whose kept singular values are within a factor of 8, in
    /// `f64` otherwise; then a projection of the matrix on their space.
    Gram,
    /// A block Krylov space.
    Krylov,
}

impl fmt::Display for SvdPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Svd => "svd",
            Self::Gram => "gram",
            Self::Krylov => "krylov",
        })
    }
}

/// How to compute a truncated decomposition.
///
/// # Examples
/// ```
/// use fnl::linalg::{SvdMethod, SvdOptions};
/// let options = SvdOptions { threads: 2, ..SvdOptions::default() };
/// assert_eq!(options.method, SvdMethod::Auto);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SvdOptions {
    /// The method; by default chosen by shape and rank.
    pub method: SvdMethod,
    /// Threads to use inside this one matrix, by default 1. They change the time, never the result.
    pub threads: usize,
}

impl Default for SvdOptions {
    fn default() -> Self {
        Self { method: SvdMethod::Auto, threads: 1 }
    }
}

/// Computes the best approximation of rank `rank` of a matrix, `W ~ U diag(s) Vt`, with a certificate of its error.
///
/// The error reported is computed from `W` and the returned basis, as `|W|^2 - |U^T W|^2` or, where that would
/// cancel, as the measured residual: it holds whichever method ran.
///
/// # Shapes
/// | value | shape |
/// | --- | --- |
/// | `w` | `(m, n)`, any strides |
/// | `u` | `(m, rank)` |
/// | `s` | `rank` |
/// | `v` | `(n, rank)` |
///
/// # Dtypes
/// `f32` or `f64` in, the same out. Norms, small eigenproblems and errors are in `f64`, large products in the type of the matrix; an `f32` Gram matrix
/// is used only where its rounding costs less than 1e-9 of the energy. Magnitudes near the limits of the type are scaled by a power of two first.
///
/// # Determinism
/// Equal bits for equal input on one machine, for every number of threads. The largest entry of each column of `u`
/// is positive (the first one on ties).
///
/// # Errors
/// - [`LinalgError::Empty`] for a matrix without elements
/// - [`LinalgError::RankOutOfRange`] for a rank of 0, or above the smaller side
/// - [`LinalgError::NotFinite`] for an infinite or undefined element
/// - [`LinalgError::NoConvergence`] if an eigenvalue iteration fails
///
/// # Reference
/// C. Musco, C. Musco, "Randomized block Krylov methods for stronger and faster approximate singular value
/// decomposition", 2015, for the iterative method.
///
/// # Examples
/// ```
/// use faer::Mat;
/// use fnl::linalg::{SvdOptions, truncated_svd};
/// // diag(1, 2, 3): rank 2 misses the 1
/// let w = Mat::from_fn(3, 3, |i, j| if i == j { i as f32 + 1.0 } else { 0.0 });
/// let svd = truncated_svd(w.as_ref(), 2, &SvdOptions::default())?;
/// assert!((svd.s[0] - 3.0).abs() < 1e-6 && (svd.s[1] - 2.0).abs() < 1e-6);
/// assert!((svd.tail_squared - 1.0).abs() < 1e-5);
/// # Ok::<(), fnl::linalg::LinalgError>(())
/// ```
pub fn truncated_svd<T: Scalar>(
    w: MatRef<'_, T>,
    rank: usize,
    options: &SvdOptions,
) -> Result<TruncatedSvd<T>, LinalgError> {
    let (rows, cols) = (w.nrows(), w.ncols());
    let team = Team::new(options.threads);
    let prepared = Prepared::new(&team, w)?;
    if rank == 0 || rank > rows.min(cols) {
        return Err(LinalgError::RankOutOfRange { rank, rows, cols });
    }
    let tall = prepared.tall();
    let iterate = match options.method {
        SvdMethod::Exact => false,
        SvdMethod::Iterative => true,
        SvdMethod::Auto => krylov_pays(tall.nrows(), tall.ncols(), rank),
    };
    let basis = if iterate { krylov(&team, tall, rank, prepared.norm_squared) } else { None };
    let (triples, values, path) = match basis {
        Some(basis) => refine(&team, tall, basis.as_ref()).map(|triples| (triples, None, SvdPath::Krylov)),
        None => exact(&team, tall, rank),
    }
    .ok_or(LinalgError::NoConvergence { rows, cols })?;
    let missed = tail_squared(&team, tall, prepared.norm_squared, &triples);
    let Triples { u, s, v, .. } = triples;
    let (u, v) = if prepared.wide { (v, u) } else { (u, v) };
    let unscale = prepared.scale.recip();
    let mut result = TruncatedSvd {
        u,
        s: s.into_iter().map(|value| value * unscale).collect(),
        v,
        norm_squared: prepared.norm_squared * unscale * unscale,
        tail_squared: missed * unscale * unscale,
        path,
        spectrum: values
            .map(|values| Spectrum::new(values.into_iter().map(|value| value * unscale).collect())),
    };
    result.fix_signs();
    Ok(result)
}

/// Computes all `min(m, n)` singular values of a matrix, without vectors.
///
/// An `f32` matrix goes through its `f64` Gram matrix: values have an absolute error of about `1e-8 s_1` at worst, a tenth of
/// what the rounding of the matrix to `f32` did to them. An `f64` matrix is bidiagonalized.
///
/// # Determinism
/// Equal bits for every number of threads.
///
/// # Errors
/// Those of [`truncated_svd`], except that there is no rank.
///
/// # Examples
/// ```
/// use faer::Mat;
/// use fnl::linalg::spectrum;
/// let w = Mat::from_fn(2, 3, |i, j| if i == j { 3.0 + i as f64 } else { 0.0 });
/// let spectrum = spectrum(w.as_ref(), 1)?;
/// assert!((spectrum.values()[0] - 4.0).abs() < 1e-12 && (spectrum.values()[1] - 3.0).abs() < 1e-12);
/// # Ok::<(), fnl::linalg::LinalgError>(())
/// ```
pub fn spectrum<T: Scalar>(w: MatRef<'_, T>, threads: usize) -> Result<Spectrum, LinalgError> {
    let team = Team::new(threads);
    let prepared = Prepared::new(&team, w)?;
    let error = LinalgError::NoConvergence { rows: w.nrows(), cols: w.ncols() };
    let unscale = prepared.scale.recip();
    let values = values(&team, prepared.tall()).ok_or(error)?;
    Ok(Spectrum::new(values.into_iter().map(|value| value * unscale).collect()))
}

/// The singular values of `A B`, as many as it has at most: where factors are thin, those of the small `R_A R_Bt` of their
/// QR decompositions.
pub(crate) fn product_spectrum(
    a: MatRef<'_, f64>,
    b: MatRef<'_, f64>,
    threads: usize,
) -> Result<Spectrum, LinalgError> {
    require_finite(a)?;
    require_finite(b)?;
    let team = Team::new(threads);
    if a.ncols() >= a.nrows().min(b.ncols()) {
        return spectrum(product(&team, a, b).as_ref(), threads);
    }
    let (of_a, of_b) = (triangle(a.to_owned()), triangle(b.transpose().to_owned()));
    spectrum(product(&team, of_a.as_ref(), of_b.transpose()).as_ref(), threads)
}

/// The singular values of a matrix to 1e-8 of the largest, as roots of its Gram matrix's eigenvalues: many times faster than
/// [`spectrum`] in f64.
pub(crate) fn rough_spectrum(w: MatRef<'_, f64>, threads: usize) -> Result<Spectrum, LinalgError> {
    let team = Team::new(threads);
    let prepared = Prepared::new(&team, w)?;
    let unscale = prepared.scale.recip();
    Ok(Spectrum::new(gram_values(&team, prepared.tall()).into_iter().map(|value| value * unscale).collect()))
}

/// A matrix that is known to be finite, of harmless magnitude, and to be taken transposed if it is wide.
struct Prepared<'a, T> {
    view: MatRef<'a, T>,
    copy: Option<Mat<T>>,
    wide: bool,
    scale: f64,
    norm_squared: f64,
}

impl<'a, T: Scalar> Prepared<'a, T> {
    fn new(team: &Team, w: MatRef<'a, T>) -> Result<Self, LinalgError> {
        let (rows, cols) = (w.nrows(), w.ncols());
        if rows == 0 || cols == 0 {
            return Err(LinalgError::Empty { rows, cols });
        }
        let Some((largest, norm_squared)) = magnitude(team, w) else {
            return Err(first_not_finite(w));
        };
        let wide = cols > rows;
        let view = if wide { w.transpose() } else { w };
        let harmless = (T::SAFE_MAGNITUDE.recip()..=T::SAFE_MAGNITUDE).contains(&largest) || largest == 0.0;
        // decompositions read columns or rows as slices
        let strided = w.row_stride().unsigned_abs().min(w.col_stride().unsigned_abs()) != 1;
        if harmless && !strided {
            return Ok(Self { view, copy: None, wide, scale: 1.0, norm_squared });
        }
        let scale = if harmless { 1.0 } else { (-largest.log2().round()).exp2() };
        let copy =
            Mat::from_fn(view.nrows(), view.ncols(), |i, j| T::from_f64(view[(i, j)].to_f64() * scale));
        let (_, norm_squared) = magnitude(team, copy.as_ref()).unwrap_or((largest, norm_squared));
        Ok(Self { view, copy: Some(copy), wide, scale, norm_squared })
    }

    /// The matrix, or its transpose, with at least as many rows as columns.
    fn tall(&self) -> MatRef<'_, T> {
        self.copy.as_ref().map_or(self.view, Mat::as_ref)
    }
}

/// Refuses a matrix with an element that is infinite or no number.
pub(crate) fn require_finite<T: Scalar>(w: MatRef<'_, T>) -> Result<(), LinalgError> {
    match magnitude(&Team::new(1), w) {
        Some(_) => Ok(()),
        None => Err(first_not_finite(w)),
    }
}

fn first_not_finite<T: Scalar>(w: MatRef<'_, T>) -> LinalgError {
    let positions = (0..w.nrows()).flat_map(|row| (0..w.ncols()).map(move |col| (row, col)));
    let found = positions.map(|(row, col)| (row, col, w[(row, col)].to_f64())).find(|x| !x.2.is_finite());
    let (row, col, value) = found.unwrap_or((0, 0, f64::NAN));
    LinalgError::NotFinite { row, col, value }
}

/// `|W - U S Vt|^2`, from the captured energy unless too few digits of the difference would be left.
fn tail_squared<T: Scalar>(team: &Team, w: MatRef<'_, T>, norm_squared: f64, triples: &Triples<T>) -> f64 {
    let tail = norm_squared - triples.captured;
    // captured is right to about PRECISION; measure where less than three digits of the tail would be
    if tail > 1e3 * T::PRECISION * norm_squared {
        return tail;
    }
    let scaled = Mat::from_fn(triples.u.nrows(), triples.s.len(), |i, j| {
        T::from_f64(triples.u[(i, j)].to_f64() * triples.s[j])
    });
    residual(team, w, scaled.as_ref(), triples.v.transpose())
}
