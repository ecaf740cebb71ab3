use super::alternating::Kernel;
use super::chain::Pair;
use super::{DecomposeError, Factored, Unfolding};
use crate::linalg::{self, Cholesky, LinalgError, Scalar, Spectrum, SvdOptions};
use faer::{Mat, MatRef};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What factors of a weight are made to be near in.
///
/// | method | what is least | reference |
/// | --- | --- | --- |
/// | `plain` | `\|W - A B\|^2` | Eckart, Young, 1936 |
/// | `diagonal` | `\|(W - A B) D\|^2`, `D` the root of each input's mean magnitude | Yuan et al., "ASVD", 2023 |
/// | `whitened` | the mean of `\|(W - A B) x\|^2` over calibration inputs `x` | Wang et al., "SVD-LLM", 2024 |
/// | `fisher` | the mean of `(g . (W - A B) x)^2` with the gradients `g` of what the model says, inputs and gradients taken to be independent | Chekalina et al., "Generalized Fisher-Weighted SVD", 2025 |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Method {
    /// The weight's own elements.
    #[default]
    Plain,
    /// Inputs, each for itself.
    Diagonal,
    /// Inputs.
    Whitened,
    /// Inputs, and what outputs mean to the model.
    Fisher,
}

impl Method {
    /// The method's name in recipes and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Diagonal => "diagonal",
            Self::Whitened => "whitened",
            Self::Fisher => "fisher",
        }
    }
}

/// One side of a metric.
#[derive(Clone, Debug)]
pub(super) enum Side {
    Identity,
    Diagonal(Arc<[f64]>),
    Full(Arc<Cholesky>),
}

/// A norm of a layer's error: `|Lt (W - A B) R|`, where `G = L Lt` weighs outputs and `H = R Rt` inputs.
///
/// The best approximation of rank r in it comes from the truncated SVD of `Lt W R`, and its squared error is the tail of that
/// matrix's spectrum. The inputs of a convolution are its patches, of one group, in the order `(i, kh, kw)` of its kernel;
/// the scheme `spatial` is then no approximation of one matrix, and both its factors are refitted in turns instead.
///
/// # Examples
///
/// ```
/// use faer::mat;
/// use fnl::decompose::{Layout, Metric, Scheme, Unfolding, factor_in};
/// use fnl::linalg::{Cholesky, SvdOptions};
/// use std::sync::Arc;
///
/// // The second input is hardly ever there, so rank one is spent on the first.
/// let inputs = mat![[1.0, 0.0], [0.0, 1e-6]];
/// let metric = Metric::whitened(Arc::new(Cholesky::new(inputs.as_ref(), 0.0).unwrap()));
/// let unfolding = Unfolding::new(Layout::Linear, Scheme::Matrix, &[2, 2], 1)?;
/// let factored = factor_in(&metric, &[1.0f32, 0.0, 0.0, 5.0], &unfolding, 1, &SvdOptions::default())?;
/// let again = unfolding.collapse(&factored.factors, 1)?;
/// assert!((again[0] - 1.0).abs() < 1e-6 && again[3].abs() < 1e-4);
/// # Ok::<(), fnl::decompose::DecomposeError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Metric {
    method: Method,
    pub(super) outputs: Side,
    pub(super) inputs: Side,
}

impl Metric {
    /// Every element counts the same.
    #[must_use]
    pub fn plain() -> Self {
        Self { method: Method::Plain, outputs: Side::Identity, inputs: Side::Identity }
    }

    /// Each input counts as its scale says, none of which is zero.
    #[must_use]
    pub fn diagonal(scales: &[f64]) -> Self {
        Self { method: Method::Diagonal, outputs: Side::Identity, inputs: Side::Diagonal(scales.into()) }
    }

    /// Outputs count the same, and inputs as their second moments say.
    #[must_use]
    pub fn whitened(inputs: Arc<Cholesky>) -> Self {
        Self { method: Method::Whitened, outputs: Side::Identity, inputs: Side::Full(inputs) }
    }

    /// Outputs count as the second moments of their gradients say, inputs as their own.
    #[must_use]
    pub fn fisher(inputs: Arc<Cholesky>, outputs: Arc<Cholesky>) -> Self {
        Self { method: Method::Fisher, outputs: Side::Full(outputs), inputs: Side::Full(inputs) }
    }

    /// The same, its inputs counting as another metric's do.
    #[must_use]
    pub fn with_inputs_of(self, other: &Self) -> Self {
        Self { inputs: other.inputs.clone(), ..self }
    }

    /// What it is made of.
    #[must_use]
    pub fn method(&self) -> Method {
        self.method
    }

    /// Whether errors of different layers are in one unit: what the model's output loses.
    #[must_use]
    pub fn is_common(&self) -> bool {
        self.method == Method::Fisher
    }

    fn check(&self, unfolding: &Unfolding) -> Result<(), DecomposeError> {
        let fits = |side: &Side, size: usize| match side {
            Side::Identity => true,
            Side::Diagonal(scales) => scales.len() == size,
            Side::Full(factors) => factors.lower().nrows() == size,
        };
        // A kernel's inputs are its patches, whatever the scheme.
        let [out, channels, down, across] = unfolding.kernel();
        let expected = [out, channels * down * across];
        if fits(&self.outputs, expected[0]) && fits(&self.inputs, expected[1]) {
            return Ok(());
        }
        let found = |side: &Side| match side {
            Side::Identity => 0,
            Side::Diagonal(scales) => scales.len(),
            Side::Full(factors) => factors.lower().nrows(),
        };
        Err(DecomposeError::Metric { expected, found: [found(&self.outputs), found(&self.inputs)] })
    }

    /// `Lt W R`.
    pub(super) fn weighed<T: Scalar>(&self, w: MatRef<'_, T>) -> Mat<f64> {
        self.of_outputs(self.of_inputs(Mat::from_fn(w.nrows(), w.ncols(), |i, j| w[(i, j)].to_f64())))
    }

    /// `W R`.
    pub(super) fn of_inputs(&self, mut product: Mat<f64>) -> Mat<f64> {
        match &self.inputs {
            Side::Identity => {}
            Side::Diagonal(scales) => {
                for (j, scale) in scales.iter().enumerate() {
                    product.col_mut(j).iter_mut().for_each(|x| *x *= scale);
                }
            }
            Side::Full(factors) => product = linalg::matmul(product.as_ref(), factors.lower(), 1),
        }
        product
    }

    /// `Lt W`.
    pub(super) fn of_outputs(&self, product: Mat<f64>) -> Mat<f64> {
        match &self.outputs {
            Side::Full(factors) => linalg::matmul(factors.lower().transpose(), product.as_ref(), 1),
            _ => product,
        }
    }

    /// The balanced factors of what has these in the metric: `Lt^-1 A`, `B R^-1`.
    pub(super) fn unweighed(&self, (a, b): Pair<f64>) -> Result<Pair<f64>, LinalgError> {
        let a = match &self.outputs {
            Side::Full(factors) => linalg::matmul(factors.inverse().transpose(), a.as_ref(), 1),
            _ => a,
        };
        let b = match &self.inputs {
            Side::Identity => b,
            Side::Diagonal(scales) => Mat::from_fn(b.nrows(), b.ncols(), |i, j| b[(i, j)] / scales[j]),
            Side::Full(factors) => linalg::matmul(b.as_ref(), factors.inverse(), 1),
        };
        linalg::balance(a.as_ref(), b.as_ref())
    }
}

/// Factors a weight at a rank, as near as possible in a metric; balanced.
///
/// The relative error is that of the metric, as is the spectrum. It is the least possible, except for kernels of several rows
/// in scheme `spatial`, whose factors start from the best ones in the nearest metric that has such, and only get better.
///
/// # Determinism
///
/// The bytes of the factors depend on the weight, the metric, the rank and the method alone.
///
/// # Errors
///
/// - [`DecomposeError::Metric`] when the metric is of another size;
/// - as [`factor`](super::factor)
pub fn factor_in<T: Scalar>(
    metric: &Metric,
    data: &[T],
    unfolding: &Unfolding,
    rank: usize,
    options: &SvdOptions,
) -> Result<Factored<T>, DecomposeError> {
    metric.check(unfolding)?;
    let (mut pairs, mut norm_squared, mut tail_squared, mut path) = (Vec::new(), 0.0, 0.0, None);
    for (group, matrix) in unfolding.matrices(data)?.iter().enumerate() {
        let locate = |error| super::weight::located(error, unfolding, group);
        // What is not finite is told by its place in the weight.
        linalg::require_finite(matrix.as_ref()).map_err(locate)?;
        if Kernel::is_one(unfolding) {
            let kernel = Kernel::new(matrix.as_ref(), unfolding, metric);
            let done = kernel.factor(rank, options).map_err(locate)?;
            norm_squared += done.norm_squared;
            tail_squared += done.errors.last().copied().unwrap_or(0.0);
            path.get_or_insert(done.path);
            pairs.push((narrowed(&done.pair.0), narrowed(&done.pair.1)));
            continue;
        }
        let weighed = metric.weighed(matrix.as_ref());
        let svd = linalg::truncated_svd(weighed.as_ref(), rank, options).map_err(locate)?;
        norm_squared += svd.norm_squared;
        tail_squared += svd.tail_squared;
        path.get_or_insert(svd.path);
        let (a, b) = metric.unweighed(svd.balanced_factors()).map_err(locate)?;
        pairs.push((narrowed(&a), narrowed(&b)));
    }
    Ok(Factored {
        factors: unfolding.chain(&pairs),
        relative_error: super::weight::ratio(tail_squared, norm_squared),
        path,
        spectrum: None,
        degeneracy: None,
    })
}

fn narrowed<T: Scalar>(matrix: &Mat<f64>) -> Mat<T> {
    Mat::from_fn(matrix.nrows(), matrix.ncols(), |i, j| T::from_f64(matrix[(i, j)]))
}

/// All singular values of a weight in a metric: what a rank leaves out is the error in it.
///
/// For kernels of several rows in scheme `spatial` they are those in the nearest metric that has such, and what a rank leaves
/// out is about the error.
///
/// # Errors
///
/// - as [`factor_in`]
pub fn spectrum_in<T: Scalar>(
    metric: &Metric,
    data: &[T],
    unfolding: &Unfolding,
    threads: usize,
) -> Result<Spectrum, DecomposeError> {
    metric.check(unfolding)?;
    let of_group = |(group, matrix): (usize, &super::unfolding::GroupMatrix<'_, T>)| {
        let locate = |error| super::weight::located(error, unfolding, group);
        linalg::require_finite(matrix.as_ref()).map_err(locate)?;
        if Kernel::is_one(unfolding) {
            let kernel = Kernel::new(matrix.as_ref(), unfolding, metric);
            let nearest = kernel.product_metric().unwrap_or_else(Metric::plain);
            let found =
                linalg::spectrum(nearest.weighed(matrix.as_ref()).as_ref(), threads).map_err(locate)?;
            let scale = (kernel.norm_squared() / found.norm_squared().max(f64::MIN_POSITIVE)).sqrt();
            return Ok(Spectrum::new(found.values().iter().map(|value| scale * value).collect()));
        }
        linalg::spectrum(metric.weighed(matrix.as_ref()).as_ref(), threads).map_err(locate)
    };
    let spectra =
        unfolding.matrices(data)?.iter().enumerate().map(of_group).collect::<Result<Vec<_>, _>>()?;
    Ok(super::weight::over_groups(&spectra))
}
