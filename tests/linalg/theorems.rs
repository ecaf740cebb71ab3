//! Eckart and Young, and what follows.

use faer::Mat;
use fnl::linalg::{Scalar, SvdMethod, SvdOptions, TruncatedSvd, residual_norm_squared, truncated_svd};
use proptest::prelude::*;

use crate::matrices::{distance, double, orthonormality, reference_values, single, tail, uniform};

fn options(method: SvdMethod) -> SvdOptions {
    SvdOptions { method, ..SvdOptions::default() }
}

/// Everything that must hold of a decomposition of w, with tolerances of `c eps sqrt(size) norm`.
fn check<T: Scalar>(w: &Mat<T>, svd: &TruncatedSvd<T>, rank: usize) {
    let (m, n) = (w.nrows(), w.ncols());
    let wide = double(w);
    let norm = wide.norm_l2();
    let rounding = T::PRECISION * ((m * n) as f64).sqrt();
    // c = 4: a few roundings of each entry
    let tolerance = 4.0 * rounding;
    assert_eq!((svd.u.nrows(), svd.u.ncols(), svd.v.nrows(), svd.v.ncols()), (m, rank, n, rank));
    assert_eq!((svd.s.len(), svd.rank()), (rank, rank));
    assert!(orthonormality(&svd.u) <= tolerance.max(8.0 * T::PRECISION), "U: {}", orthonormality(&svd.u));
    assert!(orthonormality(&svd.v) <= tolerance.max(8.0 * T::PRECISION), "V: {}", orthonormality(&svd.v));
    assert!(svd.s.windows(2).all(|pair| pair[0] >= pair[1]), "descending: {:?}", svd.s);
    // error = tail of the spectrum; f32 goes through Gram matrices, whose values near 0 are good to sqrt(eps_64)
    let values = reference_values(&wide);
    let best = tail(&values, rank);
    let (a, b) = svd.balanced_factors();
    let error = distance(&wide, &(double(&a) * double(&b)));
    assert!(error >= best * (1.0 - 1e-6) - tolerance * norm, "better than the best? {error} {best}");
    assert!(error <= best * (1.0 + 1e-6) + tolerance * norm, "error {error}, least possible {best}");
    for (i, (s, value)) in svd.s.iter().zip(&values).enumerate() {
        assert!((s - value).abs() <= tolerance * norm, "value {i}: {s}, expected {value}");
    }
    // the certificate is what is measured
    let measured = residual_norm_squared(w.as_ref(), a.as_ref(), b.as_ref(), 1);
    let certified = svd.tail_squared;
    assert!((measured.sqrt() - error).abs() <= tolerance * norm);
    // c = 16: |W|^2 and |U^T W|^2 are sums of rounded products
    assert!(
        (certified - measured).abs()
            <= 1e-3 * measured + 16.0 * (tolerance * norm).powi(2) + 16.0 * T::PRECISION * norm * norm
    );
    assert!((svd.relative_error() - error / norm).abs() <= 1e-3 * error / norm + tolerance);
    // balanced factors have equal Gram matrices
    let (a, b) = (double(&a), double(&b));
    assert!(distance(&(a.transpose() * &a), &(&b * b.transpose())) <= tolerance * norm);
    // the largest entry of a left vector is positive
    for j in 0..rank {
        let largest = svd
            .u
            .col(j)
            .iter()
            .map(|x| x.to_f64())
            .fold(0.0f64, |a, x| if x.abs() > a.abs() { x } else { a });
        assert!(largest > 0.0);
    }
}

#[test]
fn exact_decompositions_reach_the_optimum_for_every_shape() {
    for (seed, (m, n)) in
        [(40, 40), (90, 30), (30, 90), (130, 129), (1, 7), (7, 1), (1, 1), (200, 2)].into_iter().enumerate()
    {
        let w = uniform(m, n, seed as u64);
        let w32 = single(&w);
        for rank in [1, m.min(n).div_ceil(8), m.min(n).div_ceil(2), m.min(n)] {
            check(&w, &truncated_svd(w.as_ref(), rank, &options(SvdMethod::Exact)).unwrap(), rank);
            check(&w32, &truncated_svd(w32.as_ref(), rank, &options(SvdMethod::Exact)).unwrap(), rank);
        }
    }
}

#[test]
fn full_rank_gives_the_matrix_back() {
    let w = uniform(70, 50, 1);
    let w32 = single(&w);
    let svd = truncated_svd(w32.as_ref(), 50, &SvdOptions::default()).unwrap();
    let c = 4.0 * f64::from(f32::EPSILON) * (70.0f64 * 50.0).sqrt();
    assert!(distance(&double(&svd.reconstruct()), &double(&w32)) <= c * w.norm_l2());
    assert!(svd.energy() > 1.0 - 1e-9 && svd.relative_error() < 1e-5);
}

#[test]
fn the_error_falls_with_the_rank() {
    let w = single(&uniform(60, 45, 2));
    let tails: Vec<f64> = (1..=45)
        .map(|rank| truncated_svd(w.as_ref(), rank, &SvdOptions::default()).unwrap().tail_squared)
        .collect();
    assert!(tails.windows(2).all(|pair| pair[0] > pair[1]), "{tails:?}");
}

#[test]
fn a_transposed_matrix_has_the_transposed_approximation() {
    let w = single(&uniform(64, 300, 3));
    let a = truncated_svd(w.as_ref(), 9, &SvdOptions::default()).unwrap();
    let b = truncated_svd(w.transpose(), 9, &SvdOptions::default()).unwrap();
    let c = 16.0 * f64::from(f32::EPSILON) * (64.0f64 * 300.0).sqrt();
    let difference = distance(&double(&a.reconstruct()), &double(&b.reconstruct().transpose().to_owned()));
    assert!(difference <= c * double(&w).norm_l2(), "{difference}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, rng_algorithm: prop::test_runner::RngAlgorithm::ChaCha, ..ProptestConfig::default() })]

    #[test]
    fn small_matrices_of_any_shape_and_rank(m in 1usize..24, n in 1usize..24, share in 0.0f64..1.0, seed in 0u64..1000, repeat in 1usize..4) {
        // repeated rows make it rank-deficient now and then
        let full = uniform(m, n, seed);
        let w = Mat::from_fn(m, n, |i, j| full[(i / repeat, j)]);
        let rank = 1 + (share * (m.min(n) - 1) as f64) as usize;
        for method in [SvdMethod::Exact, SvdMethod::Iterative, SvdMethod::Auto] {
            check(&w, &truncated_svd(w.as_ref(), rank, &options(method)).unwrap(), rank);
            let w = single(&w);
            check(&w, &truncated_svd(w.as_ref(), rank, &options(method)).unwrap(), rank);
        }
    }
}
