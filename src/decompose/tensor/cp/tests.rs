use super::super::tests::{decaying, random};
use super::*;

fn planted(seed: u64, shape: &[usize], rank: usize) -> DenseTensor {
    let factors: Vec<_> =
        shape.iter().enumerate().map(|(k, &n)| random(seed + k as u64, &[n, rank]).unfold(0)).collect();
    components::reconstruct(&factors)
}

fn is_balanced(found: &Cp) -> bool {
    let norms = |r: usize| found.factors.iter().map(move |f| f.col(r).norm_l2()).collect::<Vec<_>>();
    let all: Vec<Vec<f64>> = (0..found.factors[0].ncols()).map(norms).collect();
    let even = all.iter().all(|norms| norms.iter().all(|x| (x - norms[0]).abs() <= 1e-12 * norms[0]));
    even && all.windows(2).all(|pair| pair[0][0] >= pair[1][0] * (1.0 - 1e-12))
}

#[test]
fn a_planted_sum_is_found_again() {
    for (shape, rank) in [(&[8, 7, 3, 3][..], 4), (&[6, 9, 5], 3), (&[7, 5], 2), (&[6, 1, 8, 1], 2)] {
        let t = planted(1, shape, rank);
        let options = CpOptions { sweeps: 2000, tolerance: 1e-12, restarts: 2, ..CpOptions::default() };
        let found = cp(&t, rank, &options).unwrap();
        let measured = t.distance_squared(&found.reconstruct());
        assert!(measured < 1e-12 * t.norm_squared(), "{shape:?}: {}", measured / t.norm_squared());
        assert!((measured - found.error_squared).abs() < 1e-20 * t.norm_squared());
        assert!(is_balanced(&found));
    }
}

#[test]
fn the_error_is_measured_and_falls_with_the_rank() {
    let t = decaying(5, &[9, 8, 3, 3]);
    let mut last = t.norm_squared();
    for rank in [1, 3, 8, 20, 40] {
        let found = cp(&t, rank, &CpOptions::default()).unwrap();
        let measured = t.distance_squared(&found.reconstruct());
        assert!((found.error_squared - measured).abs() < 1e-12 * t.norm_squared());
        assert!(measured < last, "rank {rank}: {measured} {last}");
        assert!(is_balanced(&found));
        last = measured;
    }
}

#[test]
fn as_many_components_as_fibres_are_exact() {
    // every tensor is a sum of one component for each of its shortest fibres' places
    let t = random(6, &[4, 3, 2]);
    let options = CpOptions { sweeps: 3000, tolerance: 1e-14, ..CpOptions::default() };
    let found = cp(&t, 6, &options).unwrap();
    assert!(found.error_squared < 1e-12 * t.norm_squared(), "{}", found.error_squared / t.norm_squared());
}

#[test]
fn for_a_matrix_the_error_is_that_of_its_svd() {
    let t = decaying(7, &[12, 9]);
    let tail = crate::linalg::spectrum(t.split(1), 1).unwrap().tail_squared(3);
    let found = cp(&t, 3, &CpOptions::default()).unwrap();
    assert!((found.error_squared - tail).abs() < 1e-6 * tail, "{} {tail}", found.error_squared);
}

#[test]
fn where_no_best_approximation_exists_components_cancel() {
    // a x a x b + a x b x a + b x a x a has rank 3, and is a limit of tensors of rank 2
    let mut data = vec![0.0; 8];
    (data[1], data[2], data[4]) = (1.0, 1.0, 1.0);
    let t = DenseTensor::new(vec![2, 2, 2], data);
    let options = CpOptions { sweeps: 1000, tolerance: 1e-9, restarts: 1, ..CpOptions::default() };
    let found = cp(&t, 2, &options).unwrap();
    assert!(found.degeneracy > 10.0, "{}", found.degeneracy);
    assert!(found.error_squared < 0.01 * t.norm_squared(), "{}", found.error_squared);
    assert!(found.factors.iter().all(|f| f.col_iter().all(|c| c.iter().all(|x| x.is_finite()))));
    let stable = cp(&t, 3, &options).unwrap();
    assert!(stable.error_squared < 1e-8 * t.norm_squared(), "{}", stable.error_squared);
}

#[test]
fn damping_keeps_components_small_and_costs_little() {
    let t = random(9, &[16, 14, 3, 3]);
    let damped = cp(&t, 20, &CpOptions::default()).unwrap();
    let plain = cp(&t, 20, &CpOptions { damping: 0.0, ..CpOptions::default() }).unwrap();
    assert!(damped.degeneracy < 0.5 * plain.degeneracy, "{} {}", damped.degeneracy, plain.degeneracy);
    assert!(
        damped.error_squared < 1.1 * plain.error_squared,
        "{} {}",
        damped.error_squared,
        plain.error_squared
    );
}

#[test]
fn equal_seeds_and_any_threads_give_equal_bits() {
    let t = random(8, &[32, 40, 3, 3]);
    let options = CpOptions { sweeps: 8, restarts: 1, seed: 3, ..CpOptions::default() };
    let one = cp(&t, 50, &options).unwrap();
    let two = cp(&t, 50, &CpOptions { threads: 2, ..options }).unwrap();
    assert!(one.factors.iter().zip(&two.factors).all(|(x, y)| x == y));
    let other = cp(&t, 50, &CpOptions { seed: 4, ..options }).unwrap();
    assert!(one.factors[0] != other.factors[0]);
}

#[test]
fn zeros_stay_zeros_and_what_is_not_finite_is_refused() {
    let mut t = DenseTensor::new(vec![3, 4, 2], vec![0.0; 24]);
    let found = cp(&t, 5, &CpOptions::default()).unwrap();
    assert_eq!((found.error_squared, found.degeneracy), (0.0, 0.0));
    assert!(found.factors.iter().all(|f| f.norm_max() == 0.0));
    t.data[7] = f64::INFINITY;
    assert!(matches!(cp(&t, 2, &CpOptions::default()), Err(LinalgError::NotFinite { .. })));
    t.data[7] = 1.0;
    assert!(matches!(cp(&t, 0, &CpOptions::default()), Err(LinalgError::RankOutOfRange { rank: 0, .. })));
}
