use super::chain::Pair;
use super::metric::{Metric, Side};
use super::{Scheme, Unfolding};
use crate::linalg::{self, Cholesky, LinalgError, Scalar, SvdOptions, SvdPath};
use faer::{Mat, MatRef};
use std::sync::Arc;

/// Rounds of refitting both factors, at most.
const MOST_ROUNDS: usize = 20;
/// A round that gains less than this part of the error is the last.
const LEAST_GAIN: f64 = 2e-3;
/// Steps of conjugate gradients in one round, at most, and the part of the gradient's square at which they end.
const MOST_STEPS: usize = 30;
const SOLVED: f64 = 1e-4;
/// A part of the weight's square that is rounding.
const NOTHING: f64 = 1e-24;

/// A kernel that is split along its two axes in a metric of its whole patches.
///
/// `K` is `(o, kh n)` with `n = i kw` and the rows of the kernel outermost, `H` is `(kh n, kh n)` in the same order. Two
/// layers, `B` of shape `(r, n)` along a row and `A_u` of shape `(o, r)` for each row u, stand for
/// `K' = (A_1 B, ..., A_kh B)`, and their error is `tr(G (K - K') H (K - K')t)`. That is no distance of one matrix from one
/// of rank r, unless `H` is a product of what rows of a patch have in common and what its columns have. So the
/// best factors in the nearest such metric are the start, and both are refitted in turns: `A` by its normal equations,
/// which are small, `B` by conjugate gradients.
pub(super) struct Kernel {
    taps: usize,
    weight: Mat<f64>,
    inputs: Mat<f64>,
    outputs: Option<Mat<f64>>,
}

/// `A` of shape `(o, kh r)`, `B` of shape `(r, n)`, their squared error, and how the start was computed.
struct Factors {
    a: Mat<f64>,
    b: Mat<f64>,
    error: f64,
    path: SvdPath,
}

/// Balanced factors of the unfolded matrix, and what they lose of what there was.
pub(super) struct Alternated {
    pub(super) pair: Pair<f64>,
    /// Squared errors: of the start, and after each round.
    pub(super) errors: Vec<f64>,
    pub(super) norm_squared: f64,
    pub(super) path: SvdPath,
}

impl Kernel {
    /// Whether a weight's scheme is not one matrix in the metrics of its inputs.
    pub(super) fn is_one(unfolding: &Unfolding) -> bool {
        unfolding.base_scheme() == Scheme::Spatial && unfolding.kernel()[2] > 1
    }

    /// A group's matrix, as it is unfolded, in a metric of whole patches.
    pub(super) fn new<T: Scalar>(matrix: MatRef<'_, T>, unfolding: &Unfolding, metric: &Metric) -> Self {
        let [out, channels, taps, across] = unfolding.kernel();
        let n = channels * across;
        let weight = Mat::from_fn(out, taps * n, |o, at| matrix[(o * taps + at / n, at % n)].to_f64());
        // (u, i, v) -> (i, u, v), where it is in a patch
        let place = |at: usize| ((at % n) / across * taps + at / n) * across + at % across;
        let inputs = match &metric.inputs {
            Side::Identity => Mat::identity(taps * n, taps * n),
            Side::Diagonal(scales) => Mat::from_fn(taps * n, taps * n, |i, j| {
                if i == j { scales[place(i)] * scales[place(i)] } else { 0.0 }
            }),
            Side::Full(factors) => {
                let square = factors.square();
                Mat::from_fn(taps * n, taps * n, |i, j| square[(place(i), place(j))])
            }
        };
        let outputs = match &metric.outputs {
            Side::Identity => None,
            Side::Diagonal(scales) => {
                Some(Mat::from_fn(out, out, |i, j| if i == j { scales[i] * scales[i] } else { 0.0 }))
            }
            Side::Full(factors) => Some(factors.square()),
        };
        Self { taps, weight, inputs, outputs }
    }

    fn width(&self) -> usize {
        self.weight.ncols() / self.taps
    }

    /// What columns of a patch have in common, the mean over its rows: `(n, n)`.
    fn across(&self) -> Mat<f64> {
        let n = self.width();
        let mut sum = Mat::zeros(n, n);
        for u in 0..self.taps {
            sum += self.inputs.submatrix(u * n, u * n, n, n);
        }
        sum * faer::Scale(1.0 / self.taps as f64)
    }

    /// The metric of the unfolded matrix that is nearest: outputs and rows of the patch on one side, its columns on the other.
    ///
    /// None where there is nothing to measure in.
    pub(super) fn product_metric(&self) -> Option<Metric> {
        let (n, taps, out) = (self.width(), self.taps, self.weight.nrows());
        let across = self.across();
        let trace = |u: usize, v: usize| (0..n).map(|i| self.inputs[(u * n + i, v * n + i)]).sum::<f64>();
        let whole = (0..n).map(|i| across[(i, i)]).sum::<f64>();
        let down = Mat::from_fn(taps, taps, |u, v| trace(u, v) / whole);
        let rows = Mat::from_fn(out * taps, out * taps, |i, j| {
            let weight = match &self.outputs {
                Some(outputs) => outputs[(i / taps, j / taps)],
                None => f64::from(u8::from(i / taps == j / taps)),
            };
            weight * down[(i % taps, j % taps)]
        });
        let inputs = Arc::new(Cholesky::new(across.as_ref(), 0.0)?);
        Some(Metric::fisher(inputs, Arc::new(Cholesky::new(rows.as_ref(), 0.0)?)))
    }

    /// `tr(G D H Dt)`.
    fn square(&self, difference: MatRef<'_, f64>) -> f64 {
        let right = linalg::matmul(difference, self.inputs.as_ref(), 1);
        let both = self.weigh_outputs(right);
        let columns = both.col_iter().zip(difference.col_iter());
        columns.map(|(x, y)| x.iter().zip(y.iter()).map(|(x, y)| x * y).sum::<f64>()).sum()
    }

    /// The square of the weight itself.
    pub(super) fn norm_squared(&self) -> f64 {
        from_zero(self.square(self.weight.as_ref()))
    }

    /// The square of what these factors lose.
    fn lost(&self, a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> f64 {
        from_zero(self.square(self.difference(a, b).as_ref()))
    }

    /// `G X`.
    fn weigh_outputs(&self, x: Mat<f64>) -> Mat<f64> {
        match &self.outputs {
            Some(outputs) => linalg::matmul(outputs.as_ref(), x.as_ref(), 1),
            None => x,
        }
    }

    /// `K - (A_1 B, ..., A_kh B)` for `A` of shape `(o, kh r)`.
    fn difference(&self, a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Mat<f64> {
        let (n, rank) = (self.width(), b.nrows());
        let mut difference = self.weight.clone();
        for u in 0..self.taps {
            let product = linalg::matmul(a.subcols(u * rank, rank), b, 1);
            let mut part = difference.as_mut().subcols_mut(u * n, n);
            part -= product;
        }
        difference
    }

    /// The `A` that loses least with this `B`: `K H Pt (P H Pt)^-1` with `P` the block diagonal of `B`, whatever `G` is.
    fn refit_last(&self, b: MatRef<'_, f64>) -> Option<Mat<f64>> {
        let (n, rank) = (self.width(), b.nrows());
        let mut seen = Mat::zeros(self.taps * rank, self.taps * n); // P H
        for u in 0..self.taps {
            let rows = linalg::matmul(b, self.inputs.subrows(u * n, n), 1);
            seen.as_mut().subrows_mut(u * rank, rank).copy_from(rows.as_ref());
        }
        let mut normal = Mat::zeros(self.taps * rank, self.taps * rank);
        for u in 0..self.taps {
            let columns = linalg::matmul(seen.as_ref().subcols(u * n, n), b.transpose(), 1);
            normal.as_mut().subcols_mut(u * rank, rank).copy_from(columns.as_ref());
        }
        let mut solution = linalg::matmul(seen.as_ref(), self.weight.transpose(), 1);
        Cholesky::new(normal.as_ref(), 0.0)?.solve_in_place(solution.as_mut());
        Some(solution.transpose().to_owned())
    }

    /// A `B` that loses less with this `A`, by conjugate gradients from the one at hand.
    ///
    /// They are preconditioned by what the normal equations would be if rows of a patch had nothing in common.
    fn refit_first(&self, a: MatRef<'_, f64>, b: &mut Mat<f64>, across: &Cholesky) {
        let (n, rank, taps) = (self.width(), b.nrows(), self.taps);
        let weighed = self.weigh_outputs(a.to_owned());
        let gram = linalg::matmul(weighed.transpose(), a, 1); // (kh r, kh r)
        let mut own = Mat::<f64>::zeros(rank, rank);
        for u in 0..taps {
            own += gram.submatrix(u * rank, u * rank, rank, rank);
        }
        let Some(own) = Cholesky::new(own.as_ref(), 1e-12) else { return };
        let precondition = |x: &Mat<f64>| {
            let mut x = x.clone();
            own.solve_in_place(x.as_mut());
            across.solve_in_place(x.as_mut().transpose_mut());
            x
        };
        // sum_u At_u G (sum_v A_v D H_vu)
        let normal = |d: &Mat<f64>| {
            let mut seen = Mat::zeros(taps * rank, taps * n);
            for v in 0..taps {
                let rows = linalg::matmul(d.as_ref(), self.inputs.subrows(v * n, n), 1);
                seen.as_mut().subrows_mut(v * rank, rank).copy_from(rows.as_ref());
            }
            let mut sum = Mat::<f64>::zeros(rank, n);
            for u in 0..taps {
                sum += linalg::matmul(gram.subrows(u * rank, rank), seen.as_ref().subcols(u * n, n), 1);
            }
            sum
        };
        let lost = linalg::matmul(self.difference(a, b.as_ref()).as_ref(), self.inputs.as_ref(), 1);
        let mut residual = Mat::<f64>::zeros(rank, n);
        for u in 0..taps {
            let part = weighed.as_ref().subcols(u * rank, rank).transpose();
            residual += linalg::matmul(part, lost.as_ref().subcols(u * n, n), 1);
        }
        let mut ahead = precondition(&residual);
        let mut direction = ahead.clone();
        let mut slope = inner(&residual, &ahead);
        let first = slope;
        for _ in 0..MOST_STEPS {
            if slope <= SOLVED * first || slope <= 0.0 {
                return;
            }
            let bent = normal(&direction);
            let curvature = inner(&direction, &bent);
            if curvature <= 0.0 || !curvature.is_finite() {
                return;
            }
            let step = slope / curvature;
            *b += &direction * faer::Scale(step);
            residual -= &bent * faer::Scale(step);
            ahead = precondition(&residual);
            let next = inner(&residual, &ahead);
            direction = &ahead + &direction * faer::Scale(next / slope);
            slope = next;
        }
    }

    /// The best factors of the unfolded matrix in a metric that has such.
    fn start(&self, metric: &Metric, rank: usize, options: &SvdOptions) -> Result<Factors, LinalgError> {
        let (n, taps, out) = (self.width(), self.taps, self.weight.nrows());
        let unfolded = Mat::from_fn(out * taps, n, |row, at| self.weight[(row / taps, row % taps * n + at)]);
        let svd = linalg::truncated_svd(metric.weighed(unfolded.as_ref()).as_ref(), rank, options)?;
        let path = svd.path;
        let (stacked, b) = metric.unweighed(svd.balanced_factors())?;
        // (o kh, r) -> (o, kh r)
        let a = Mat::from_fn(out, taps * rank, |o, at| stacked[(o * taps + at / rank, at % rank)]);
        let error = self.lost(a.as_ref(), b.as_ref());
        Ok(Factors { a, b, error, path })
    }

    /// Both factors refitted; none where that gains nothing, or rounding is all that is left.
    fn refit(&self, factors: &Factors, across: &Cholesky) -> Option<Factors> {
        let mut b = factors.b.clone();
        self.refit_first(factors.a.as_ref(), &mut b, across);
        let a = self.refit_last(b.as_ref())?;
        let error = self.lost(a.as_ref(), b.as_ref());
        (error < factors.error).then_some(Factors { a, b, error, path: factors.path })
    }

    /// Factors of the unfolded matrix at a rank; balanced.
    ///
    /// # Errors
    ///
    /// - those of [`linalg::truncated_svd`]
    pub(super) fn factor(&self, rank: usize, options: &SvdOptions) -> Result<Alternated, LinalgError> {
        let (taps, out, norm_squared) = (self.taps, self.weight.nrows(), self.norm_squared());
        // The best in no metric at all is looked at too, so that the end is never worse than it.
        let mut factors = self.start(&Metric::plain(), rank, options)?;
        if let Some(metric) = self.product_metric() {
            let other = self.start(&metric, rank, options)?;
            if other.error < factors.error {
                factors = other;
            }
        }
        let mut errors = vec![factors.error];
        let across = Cholesky::new(self.across().as_ref(), 0.0);
        while let Some(across) = &across
            && errors.len() <= MOST_ROUNDS
            && factors.error > NOTHING * norm_squared
        {
            let Some(refitted) = self.refit(&factors, across) else { break };
            let is_last = refitted.error > (1.0 - LEAST_GAIN) * factors.error;
            factors = refitted;
            errors.push(factors.error);
            if is_last {
                break;
            }
        }
        let Factors { a, b, path, .. } = factors;
        let stacked = Mat::from_fn(out * taps, rank, |row, k| a[(row / taps, row % taps * rank + k)]);
        let pair = linalg::balance(stacked.as_ref(), b.as_ref())?;
        Ok(Alternated { pair, errors, norm_squared, path })
    }
}

/// A square that rounding may have left below zero; what is no number stays none, so that it never counts as less.
fn from_zero(square: f64) -> f64 {
    if square < 0.0 { 0.0 } else { square }
}

/// `sum_ij x_ij y_ij`.
fn inner(x: &Mat<f64>, y: &Mat<f64>) -> f64 {
    let columns = x.col_iter().zip(y.col_iter());
    columns.map(|(x, y)| x.iter().zip(y.iter()).map(|(x, y)| x * y).sum::<f64>()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decompose::Layout;
    use rand::{Rng as _, SeedableRng as _};

    fn random(seed: u64, rows: usize, cols: usize) -> Mat<f64> {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        Mat::from_fn(rows, cols, |_, _| rng.random::<f64>() * 2.0 - 1.0)
    }

    /// A kernel `(6, 4, 3, 2)` and second moments of patches and gradients that are far from independent.
    fn kernel(with_outputs: bool) -> Kernel {
        let unfolding = Unfolding::new(Layout::Conv2d, Scheme::Spatial, &[6, 4, 3, 2], 1).unwrap();
        let moments = |seed: u64, n: usize| {
            let rows = random(seed, 3 * n, n) * random(seed + 1, n, n);
            Arc::new(Cholesky::new((rows.transpose() * &rows).as_ref(), 1e-3).unwrap())
        };
        let metric = if with_outputs {
            Metric::fisher(moments(1, 24), moments(3, 6))
        } else {
            Metric::whitened(moments(1, 24))
        };
        Kernel::new(random(5, 18, 8).as_ref(), &unfolding, &metric)
    }

    #[test]
    fn what_is_no_number_is_never_less() {
        assert_eq!((from_zero(-1e-18), from_zero(2.0)), (0.0, 2.0));
        assert!(from_zero(f64::NAN).is_nan());
        let kernel = kernel(false);
        let broken = Mat::from_fn(kernel.weight.nrows(), 3, |_, _| f64::NAN);
        let b = random(7, 1, kernel.width());
        assert!(kernel.lost(broken.as_ref(), b.as_ref()).is_nan());
    }

    #[test]
    fn every_round_loses_less_and_the_last_is_stationary() {
        for with_outputs in [false, true] {
            let kernel = kernel(with_outputs);
            for rank in [1, 2, 4, 6] {
                let done = kernel.factor(rank, &SvdOptions::default()).unwrap();
                assert!(done.errors.len() > 1, "nothing was gained at rank {rank}");
                assert!(done.errors.windows(2).all(|pair| pair[1] < pair[0]), "{:?}", done.errors);
                assert!(done.errors[0] < done.norm_squared);
                // The error is that of the balanced factors, and to the last factor it is stationary: random changes of
                // it lose more.
                let (stacked, b) = &done.pair;
                let a = Mat::from_fn(6, 3 * rank, |o, at| stacked[(o * 3 + at / rank, at % rank)]);
                let lost = |a: &Mat<f64>, b: &Mat<f64>| {
                    kernel.square(kernel.difference(a.as_ref(), b.as_ref()).as_ref())
                };
                let least = lost(&a, b);
                let told = done.errors[done.errors.len() - 1];
                assert!((least - told).abs() < 1e-9 * done.norm_squared, "{least} {told}");
                for seed in 0..20 {
                    let change = random(100 + seed, 6, 3 * rank) * faer::Scale(1e-3);
                    assert!(lost(&(&a + change), b) > least);
                }
            }
        }
    }

    #[test]
    fn where_patches_are_products_the_start_is_the_best_and_stays() {
        let mut kernel = kernel(true);
        let (down, across) = (random(7, 9, 3), random(8, 20, 8));
        let (down, across) = (down.transpose() * &down, across.transpose() * &across);
        kernel.inputs = Mat::from_fn(24, 24, |i, j| down[(i / 8, j / 8)] * across[(i % 8, j % 8)]);
        let metric = kernel.product_metric().unwrap();
        let unfolded = Mat::from_fn(18, 8, |row, at| kernel.weight[(row / 3, row % 3 * 8 + at)]);
        let spectrum = linalg::spectrum(metric.weighed(unfolded.as_ref()).as_ref(), 1).unwrap();
        for rank in [1, 3, 5] {
            let done = kernel.factor(rank, &SvdOptions::default()).unwrap();
            let tail = spectrum.tail_squared(rank);
            for error in done.errors {
                assert!((error - tail).abs() < 1e-8 * done.norm_squared, "{rank}: {error} {tail}");
            }
        }
    }
}
