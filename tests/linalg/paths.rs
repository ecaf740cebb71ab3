//! The iterative path against the optimum, on spectra made to fool it.

use fnl::linalg::{SvdMethod, SvdOptions, SvdPath, residual_norm_squared, truncated_svd};

use crate::matrices::{orthonormality, single, tail, uniform, with_values};

/// Error over the least possible error, and the path taken.
fn judge(w: &faer::Mat<f32>, values: &[f64], rank: usize, method: SvdMethod) -> (f64, SvdPath) {
    let svd = truncated_svd(w.as_ref(), rank, &SvdOptions { method, ..SvdOptions::default() }).unwrap();
    let (a, b) = svd.balanced_factors();
    let error = residual_norm_squared(w.as_ref(), a.as_ref(), b.as_ref(), 1).sqrt();
    // c = 8, for a few hundred products of reflections
    let c = 8.0 * f64::from(f32::EPSILON) * (rank as f64).sqrt();
    assert!(orthonormality(&svd.u) <= c && orthonormality(&svd.v) <= c);
    assert!(
        (svd.tail_squared.sqrt() / error - 1.0).abs() < 1e-3,
        "certified {}, measured {error}",
        svd.tail_squared.sqrt()
    );
    (error / tail(values, rank), svd.path)
}

fn assert_optimal(name: &str, values: &[f64], m: usize, rank: usize) -> SvdPath {
    let w = single(&with_values(m, values.len(), values, 7));
    let (exact, _) = judge(&w, values, rank, SvdMethod::Exact);
    // 1e-6: the matrix was rounded to f32 after its values were set
    assert!((exact - 1.0).abs() < 1e-6, "{name}, exact: {exact}");
    let (iterative, path) = judge(&w, values, rank, SvdMethod::Iterative);
    assert!(iterative < 1.0001, "{name}, iterative by {path}: {iterative}");
    path
}

fn values(n: usize, value: impl Fn(f64) -> f64) -> Vec<f64> {
    (0..n).map(|i| value(i as f64)).collect()
}

#[test]
fn a_slow_power_decay_as_in_trained_weights() {
    let path = assert_optimal("power", &values(512, |i| (1.0 + i / 25.0).powf(-0.6)), 512, 64);
    assert_eq!(path, SvdPath::Krylov);
}

#[test]
fn no_decay_at_all_in_a_gaussian_like_matrix() {
    let w = uniform(640, 512, 3);
    let values = crate::matrices::reference_values(&w);
    let (error, _) = judge(&single(&w), &values, 40, SvdMethod::Iterative);
    assert!(error < 1.0001, "{error}");
    // 1e-9 of the kept energy is 1e-9 of the tail here, and half of that of its root; single() moves it by about 1e-8
    let (error, _) = judge(&single(&w), &values, 40, SvdMethod::Exact);
    assert!((error - 1.0).abs() < 1e-7, "{error}");
}

#[test]
fn more_equal_values_than_a_block_has_columns() {
    // every Krylov space of a block of 32 holds at most 32 of the 60 twos
    assert_optimal("cluster", &values(400, |i| if i < 60.0 { 2.0 } else { 1.0 }), 400, 64);
    assert_optimal(
        "cluster below",
        &values(400, |i| {
            if i < 10.0 {
                3.0
            } else if i < 150.0 {
                1.5
            } else {
                1.0
            }
        }),
        400,
        64,
    );
    assert_optimal(
        "near cluster",
        &values(400, |i| if i < 100.0 { 2.0 - 1e-5 * i } else { 1.0 - 1e-4 * i }),
        450,
        64,
    );
}

#[test]
fn copies_that_every_residual_says_are_not_there() {
    // levels of 80 copies each: a chain of blocks of 32 closes on 32 copies of each, all residuals zero, before the 64 largest are found
    for levels in 3..=7 {
        let n = 80 * levels;
        let spectrum = values(n, |i| 3.0 - 2.0 * (i / 80.0).floor() / levels as f64);
        assert_optimal(&format!("{levels} levels"), &spectrum, n, 64);
    }
}

#[test]
fn gaps_at_beside_and_far_from_the_rank() {
    for edge in [40.0, 63.0, 64.0, 65.0, 100.0] {
        assert_optimal("gap", &values(384, |i| if i < edge { 2.0 - i / 100.0 } else { 0.2 }), 384, 64);
    }
}

#[test]
fn a_few_values_far_above_the_rest() {
    assert_optimal("outliers", &values(384, |i| if i < 3.0 { 1000.0 } else { 2.0 - i / 384.0 }), 500, 48);
    assert_optimal("all alike", &values(384, |_| 1.0), 384, 48);
}

#[test]
fn geometric_decay() {
    assert_optimal("geometric", &values(300, |i| 0.97f64.powf(i)), 300, 40);
    assert_optimal("fast", &values(300, |i| 0.8f64.powf(i)), 300, 20);
}

#[test]
fn exactly_deficient_rank() {
    let w = single(&with_values(300, 260, &[5.0, 4.0, 3.0, 3.0, 1.0], 9));
    for method in [SvdMethod::Exact, SvdMethod::Iterative, SvdMethod::Auto] {
        let svd = truncated_svd(w.as_ref(), 32, &SvdOptions { method, ..SvdOptions::default() }).unwrap();
        // c = 4 roundings of each entry; nothing else is left
        assert!(
            svd.relative_error() < 4.0 * f64::from(f32::EPSILON) * 32f64.sqrt(),
            "{}",
            svd.relative_error()
        );
        assert!((svd.s[4] - 1.0).abs() < 1e-5 && svd.s[5] < 1e-5);
        assert!(orthonormality(&svd.u) < 1e-5 && orthonormality(&svd.v) < 1e-5);
    }
}

#[test]
fn small_values_of_a_double_precision_matrix_are_found() {
    let spectrum = values(60, |i| 10f64.powf(-i / 5.0));
    let w = with_values(90, 60, &spectrum, 11);
    let svd = truncated_svd(w.as_ref(), 50, &SvdOptions::default()).unwrap();
    assert_eq!(svd.path, SvdPath::Svd);
    for (s, expected) in svd.s.iter().zip(&spectrum) {
        // c = 32: bidiagonalization keeps values to rounding of the norm, about 1.6
        assert!((s - expected).abs() < 32.0 * f64::EPSILON * 60f64.sqrt(), "{s} {expected}");
    }
    assert!((svd.tail_squared.sqrt() / tail(&spectrum, 50) - 1.0).abs() < 1e-3);
}
