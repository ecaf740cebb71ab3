//! Kernels factored in a metric of their patches.

use faer::Mat;
use fnl::decompose::{Layout, Metric, Scheme, Unfolding, factor, factor_in, spectrum_in};
use fnl::linalg::{Cholesky, SvdOptions};
use rand::{Rng as _, SeedableRng as _};
use std::sync::Arc;

const SHAPES: [[usize; 4]; 5] = [[6, 4, 3, 3], [4, 6, 3, 2], [8, 3, 1, 4], [5, 4, 4, 1], [7, 5, 1, 1]];

fn random(seed: u64, rows: usize, cols: usize) -> Mat<f64> {
    let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
    Mat::from_fn(rows, cols, |_, _| rng.random::<f64>() * 2.0 - 1.0)
}

/// Patches that are far from independent, as rows.
fn patches(width: usize) -> Mat<f64> {
    let rows = random(5, 6 * width, width) * random(6, width, width);
    Mat::from_fn(6 * width, width, |i, j| rows[(i, j)] * (1.0 + (j % 5) as f64))
}

/// `|X (K - K')t|^2` for patches as rows.
fn lost(xs: &Mat<f64>, kernel: &[f64], again: &[f64]) -> f64 {
    let width = xs.ncols();
    let out = kernel.len() / width;
    let error = Mat::from_fn(out, width, |o, at| kernel[o * width + at] - again[o * width + at]);
    (xs * error.transpose()).squared_norm_l2()
}

#[test]
fn calibrated_factors_lose_less_of_what_a_layer_gives_than_plain_ones_whatever_the_scheme() {
    let options = SvdOptions::default();
    for shape in SHAPES {
        let width = shape[1..].iter().product();
        let values = random(3, shape[0], width);
        let kernel: Vec<f64> = (0..shape[0] * width).map(|at| values[(at / width, at % width)]).collect();
        let xs = patches(width);
        let moments = xs.transpose() * &xs;
        let metric = Metric::whitened(Arc::new(Cholesky::new(moments.as_ref(), 0.0).unwrap()));
        let whole = lost(&xs, &kernel, &vec![0.0; kernel.len()]);
        for scheme in [Scheme::Spatial, Scheme::Channel] {
            let unfolding = Unfolding::new(Layout::Conv2d, scheme, &shape, 1).unwrap();
            let spectrum = spectrum_in(&metric, &kernel, &unfolding, 1).unwrap();
            assert!((spectrum.norm_squared() - whole).abs() < 1e-10 * whole);
            for rank in [1, 2, unfolding.max_rank() / 2, unfolding.max_rank()] {
                let case = format!("{shape:?} {scheme} {rank}");
                let error = |factored: &fnl::decompose::Factored<f64>| {
                    lost(&xs, &kernel, &unfolding.collapse(&factored.factors, 1).unwrap())
                };
                let factored = factor_in(&metric, &kernel, &unfolding, rank, &options).unwrap();
                let (found, told) = (error(&factored), factored.relative_error.powi(2) * whole);
                // Both are sums of squares; the root that was told is off by a few of f64's last digits.
                assert!((found - told).abs() < 1e-10 * whole, "{case}: {found}, told {told}");
                let plain = error(&factor(&kernel, &unfolding, rank, &options).unwrap());
                assert!(found <= plain + 1e-12 * whole, "{case}: {found}, plain {plain}");
                let exact = scheme == Scheme::Channel || shape[2] == 1;
                let least = spectrum.tail_squared(rank);
                assert!(!exact || (found - least).abs() < 1e-10 * whole, "{case}: {found}, least {least}");
                assert!(rank < unfolding.max_rank() || found < 1e-18 * whole, "{case}: {found}");
            }
        }
    }
}

#[test]
fn factors_of_a_kernel_are_balanced_and_the_same_each_time() {
    let unfolding = Unfolding::new(Layout::Conv2d, Scheme::Spatial, &[6, 4, 3, 3], 1).unwrap();
    let kernel: Vec<f32> = (0..6 * 36).map(|at| ((at * 37 % 101) as f32 / 50.0) - 1.0).collect();
    let xs = patches(36);
    let moments = xs.transpose() * &xs;
    let metric = Metric::whitened(Arc::new(Cholesky::new(moments.as_ref(), 1e-3).unwrap()));
    let run = || factor_in(&metric, &kernel, &unfolding, 3, &SvdOptions::default()).unwrap();
    let factored = run();
    assert_eq!(factored.factors, run().factors);
    let squares = |data: &[f32]| data.iter().map(|x| f64::from(x * x)).sum::<f64>();
    let [first, last] = [0, 1].map(|index| squares(&factored.factors[index].data));
    // Equal Gram matrices have equal traces; f32's last digits over 48 elements each.
    assert!((first / last - 1.0).abs() < 1e-5, "{first} {last}");
}

#[test]
fn a_kernel_of_zeros_and_moments_of_another_size_are_told() {
    let unfolding = Unfolding::new(Layout::Conv2d, Scheme::Spatial, &[6, 4, 3, 3], 1).unwrap();
    let metric = |n: usize| {
        let xs = patches(n);
        Metric::whitened(Arc::new(Cholesky::new((xs.transpose() * &xs).as_ref(), 1e-3).unwrap()))
    };
    let zeros = factor_in(&metric(36), &[0.0f32; 216], &unfolding, 2, &SvdOptions::default()).unwrap();
    assert!(zeros.relative_error == 0.0 && zeros.factors.iter().all(|f| f.data.iter().all(|&x| x == 0.0)));
    let error = factor_in(&metric(12), &[1.0f32; 216], &unfolding, 2, &SvdOptions::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "statistics of 0 outputs and 12 inputs do not fit a matrix of shape [6, 36]"
    );
}
