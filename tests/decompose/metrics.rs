//! Factors that are near in a metric.

use faer::{Mat, MatRef};
use fnl::decompose::{
    Layout, Metric, Scheme, Unfolding, error_of, factor, factor_in, spectrum_in, weight_spectrum,
};
use fnl::linalg::{Cholesky, SvdOptions};
use std::sync::Arc;

const ROWS: usize = 9;
const COLS: usize = 14;

fn random(seed: u64, rows: usize, cols: usize) -> Mat<f64> {
    use rand::{Rng as _, SeedableRng as _};
    let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
    Mat::from_fn(rows, cols, |_, _| rng.random::<f64>() * 2.0 - 1.0)
}

/// Second moments of rows that are far from independent and of the same size.
fn moments(seed: u64, samples: usize, width: usize) -> Mat<f64> {
    let rows = random(seed, samples, width) * random(seed + 1, width, width);
    let scaled = Mat::from_fn(samples, width, |i, j| rows[(i, j)] * (1.0 + j as f64));
    scaled.transpose() * &scaled
}

fn unfolding() -> Unfolding {
    Unfolding::new(Layout::Linear, Scheme::Matrix, &[ROWS, COLS], 1).unwrap()
}

fn weight() -> Vec<f64> {
    let weight = random(3, ROWS, COLS);
    (0..ROWS * COLS).map(|at| weight[(at / COLS, at % COLS)]).collect()
}

/// `tr(G E H Et)` of the error of factors.
fn squared_error(data: &[f64], again: &[f64], outputs: MatRef<'_, f64>, inputs: MatRef<'_, f64>) -> f64 {
    let error = Mat::from_fn(ROWS, COLS, |i, j| data[i * COLS + j] - again[i * COLS + j]);
    let product = outputs * &error * inputs * error.transpose();
    (0..ROWS).map(|i| product[(i, i)]).sum()
}

#[test]
fn errors_are_the_spectrums_tail_and_less_than_those_of_other_metrics() {
    let (data, unfolding, options) = (weight(), unfolding(), SvdOptions::default());
    let (inputs, outputs) = (moments(5, 40, COLS), moments(7, 40, ROWS));
    let sides = |damping| {
        (
            Arc::new(Cholesky::new(inputs.as_ref(), damping).unwrap()),
            Arc::new(Cholesky::new(outputs.as_ref(), damping).unwrap()),
        )
    };
    let (input_root, output_root) = sides(0.0);
    let identity = Mat::<f64>::identity(ROWS, ROWS);
    let cases = [
        (Metric::whitened(input_root.clone()), identity.as_ref(), inputs.as_ref()),
        (Metric::fisher(input_root, output_root), outputs.as_ref(), inputs.as_ref()),
    ];
    for rank in [1, 3, 6, ROWS] {
        let mut found = Vec::new();
        let plain = factor(&data, &unfolding, rank, &options).unwrap();
        for (metric, outputs, inputs) in &cases {
            let spectrum = spectrum_in(metric, &data, &unfolding, 1).unwrap();
            let factored = factor_in(metric, &data, &unfolding, rank, &options).unwrap();
            let again = unfolding.collapse(&factored.factors, 1).unwrap();
            let error = squared_error(&data, &again, *outputs, *inputs);
            let whole = spectrum.norm_squared();
            assert!((error - spectrum.tail_squared(rank)).abs() < 1e-10 * whole, "{rank}: {error}");
            assert!((factored.relative_error - spectrum.relative_error(rank)).abs() < 1e-7);
            let of_plain = unfolding.collapse(&plain.factors, 1).unwrap();
            let of_plain = squared_error(&data, &of_plain, *outputs, *inputs);
            assert!(error <= of_plain + 1e-10 * whole, "{rank}: {error} against {of_plain}");
            found.push(again);
        }
        // each is the best in its own metric
        let (_, outputs, inputs) = &cases[1];
        let [whitened, fisher] = [0, 1].map(|i| squared_error(&data, &found[i], *outputs, *inputs));
        assert!(rank == ROWS || fisher < whitened, "{rank}: {fisher} against {whitened}");
    }
}

#[test]
fn factors_are_balanced_and_the_sign_of_their_columns_is_fixed() {
    let inputs = Arc::new(Cholesky::new(moments(5, 40, COLS).as_ref(), 1e-3).unwrap());
    let metric = Metric::whitened(inputs);
    let factored = factor_in(&metric, &weight(), &unfolding(), 4, &SvdOptions::default()).unwrap();
    let b = MatRef::from_row_major_slice(&factored.factors[0].data, 4, COLS);
    let a = MatRef::from_row_major_slice(&factored.factors[1].data, ROWS, 4);
    let difference = a.transpose() * a - b * b.transpose();
    assert!(difference.norm_max() < 1e-11, "{}", difference.norm_max());
    for k in 0..4 {
        let largest = (0..ROWS).map(|i| a[(i, k)]).max_by(|x, y| x.abs().total_cmp(&y.abs())).unwrap();
        assert!(largest > 0.0);
    }
}

#[test]
fn equal_scales_and_no_metric_are_the_plain_decomposition() {
    let (data, unfolding, options) = (weight(), unfolding(), SvdOptions::default());
    let plain = factor(&data, &unfolding, 3, &options).unwrap();
    let spectrum = weight_spectrum(&data, &unfolding, 1).unwrap();
    for metric in [Metric::plain(), Metric::diagonal(&[2.0; COLS])] {
        let factored = factor_in(&metric, &data, &unfolding, 3, &options).unwrap();
        for (one, other) in factored.factors.iter().zip(&plain.factors) {
            let difference = one.data.iter().zip(&other.data).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(difference < 1e-12, "{difference}");
        }
        assert!((factored.relative_error - spectrum.relative_error(3)).abs() < 1e-12);
    }
}

#[test]
fn fewer_samples_than_inputs_and_inputs_that_are_never_there_are_no_obstacle() {
    let (data, unfolding) = (weight(), unfolding());
    let mut few = moments(11, 5, COLS); // of rank five
    for i in 0..COLS {
        few[(i, 2)] = 0.0;
        few[(2, i)] = 0.0;
    }
    for damping in [0.0, 1e-8, 1e-3] {
        let metric = Metric::whitened(Arc::new(Cholesky::new(few.as_ref(), damping).unwrap()));
        let factored = factor_in(&metric, &data, &unfolding, 5, &SvdOptions::default()).unwrap();
        let again = unfolding.collapse(&factored.factors, 1).unwrap();
        let identity = Mat::<f64>::identity(ROWS, ROWS);
        let error = squared_error(&data, &again, identity.as_ref(), few.as_ref());
        let whole = squared_error(&data, &vec![0.0; ROWS * COLS], identity.as_ref(), few.as_ref());
        assert!(error.abs() < 10.0 * damping.max(1e-9) * whole, "damping {damping}: {}", error / whole);
        assert!(error_of(&data, &unfolding, &factored.factors, 1).unwrap().is_finite());
    }
    assert!(Cholesky::new(Mat::<f64>::zeros(3, 3).as_ref(), 1e-3).is_none());
    assert!(Cholesky::new(Mat::<f64>::full(3, 3, f64::NAN).as_ref(), 1e-3).is_none());
}

#[test]
fn metrics_of_another_size_and_weights_that_are_not_finite_are_refused() {
    let metric = Metric::diagonal(&[1.0; 5]);
    let error = factor_in(&metric, &weight(), &unfolding(), 2, &SvdOptions::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "statistics of 0 outputs and 5 inputs do not fit a matrix of shape [9, 14]"
    );
    let mut broken = weight();
    broken[2 * COLS + 3] = f64::INFINITY;
    let metric = Metric::diagonal(&[1.0; COLS]);
    let error = factor_in(&metric, &broken, &unfolding(), 2, &SvdOptions::default()).unwrap_err();
    assert_eq!(error.to_string(), "element [2, 3] of the weight is inf");
}
