use super::chain::Pair;
use super::{DecomposeError, Factored, Unfolding, factor};
use crate::linalg::{Scalar, SvdOptions};
use faer::Mat;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// Factors a weight at any rank, also beyond its largest: what is trained and collapsed afterwards.
///
/// Up to the largest possible rank the factors are those of [`factor`]. Beyond it (*wide*), the further columns of `A`
/// are zeros and the further rows of `B` random, of the length that the others have on average: the product is the
/// weight itself, and gradients reach every element. A `deep` unfolding gets the identity in the middle.
///
/// # Determinism
///
/// The random rows depend on the seed alone.
///
/// # Errors
///
/// As [`factor`].
///
/// # Reference
///
/// Khodak, Tenenholtz, Mackey, Fusi, "Initialization and Regularization of Factorized Neural Layers", ICLR 2021,
/// section 4 (wide and deep).
///
/// # Examples
///
/// ```
/// use fnl::decompose::{Layout, Scheme, Unfolding, overcomplete};
/// use fnl::linalg::SvdOptions;
///
/// let weight = [1.0f32, 2.0, 3.0, 5.0];
/// let unfolding = Unfolding::new(Layout::Linear, Scheme::Matrix, &[2, 2], 1)?;
/// let wide = overcomplete(&weight, &unfolding, 6, &SvdOptions::default(), 0)?;
/// assert_eq!(wide.factors[0].shape, [6, 2]);
/// let again = unfolding.collapse(&wide.factors, 1)?;
/// assert!(weight.iter().zip(&again).all(|(x, y)| (x - y).abs() < 1e-5));
/// # Ok::<(), fnl::decompose::DecomposeError>(())
/// ```
pub fn overcomplete<T: Scalar>(
    data: &[T],
    unfolding: &Unfolding,
    rank: usize,
    options: &SvdOptions,
    seed: u64,
) -> Result<Factored<T>, DecomposeError> {
    let spectral = rank.min(unfolding.max_rank());
    let mut factored = factor(data, unfolding, spectral, options)?;
    if rank > spectral {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let pairs = unfolding.pairs(&factored.factors)?;
        let wide: Vec<Pair<T>> = pairs.iter().map(|pair| widen(pair, rank, &mut random)).collect();
        factored.factors = unfolding.chain(&wide);
    }
    Ok(factored)
}

fn widen<T: Scalar>((a, b): &Pair<T>, rank: usize, random: &mut ChaCha8Rng) -> Pair<T> {
    let given = b.nrows();
    let squares: f64 =
        (0..b.ncols()).flat_map(|j| (0..given).map(move |i| (i, j))).map(|at| b[at].to_f64().powi(2)).sum();
    // Uniform on (-limit, limit) has the variance limit^2 / 3.
    let limit = (3.0 * squares / (given * b.ncols()) as f64).sqrt();
    let wide_a = Mat::from_fn(a.nrows(), rank, |i, k| if k < given { a[(i, k)] } else { T::from_f64(0.0) });
    let mut wide_b =
        Mat::from_fn(rank, b.ncols(), |k, j| if k < given { b[(k, j)] } else { T::from_f64(0.0) });
    for k in given..rank {
        for j in 0..b.ncols() {
            wide_b[(k, j)] = T::from_f64(limit * (2.0 * random.random::<f64>() - 1.0));
        }
    }
    (wide_a, wide_b)
}
