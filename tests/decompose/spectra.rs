//! Errors, spectra and the balance of factors, on weights whose singular values are known.

use crate::reference::{Known, distance, falling, norm, numbers, rng, transposed};
use fnl::decompose::{Factor, Layout, Scheme, Unfolding, error_of, factor, weight_spectrum};
use fnl::linalg::{SvdMethod, SvdOptions};

const METHODS: [SvdMethod; 3] = [SvdMethod::Auto, SvdMethod::Exact, SvdMethod::Iterative];

#[test]
fn the_error_is_the_tail_of_the_spectrum_and_falls_with_the_rank() {
    let mut rng = rng(41);
    for (rows, cols) in [(24, 16), (16, 24), (16, 16)] {
        let known = Known::new(&mut rng, rows, cols, falling(16));
        let weight = known.matrix();
        let unfolding = Unfolding::new(Layout::Linear, Scheme::Matrix, &[rows, cols], 1).unwrap();
        for method in METHODS {
            let options = SvdOptions { method, ..SvdOptions::default() };
            let mut before = f64::INFINITY;
            for rank in 1..=16 {
                let factored = factor(&weight, &unfolding, rank, &options).unwrap();
                let measured = error_of(&weight, &unfolding, &factored.factors, 1).unwrap();
                let expected = known.tail(rank) / norm(&weight);
                // 32 eps sqrt(size): the rounding of a product, relative to the norm that the error is relative to.
                let allowed = 32.0 * f64::EPSILON * (weight.len() as f64).sqrt();
                assert!(
                    (measured - expected).abs() <= allowed,
                    "{method:?} rank {rank}: {measured} {expected}"
                );
                assert!((factored.relative_error - expected).abs() <= allowed, "{method:?} rank {rank}");
                assert!(measured < before, "{method:?} rank {rank}");
                before = measured;
            }
        }
        let spectrum = weight_spectrum(&weight, &unfolding, 1).unwrap();
        assert!(distance(spectrum.values(), &known.s) <= 32.0 * f64::EPSILON * 16.0 * known.s[0]);
    }
}

#[test]
fn collapsed_factors_are_the_best_approximation() {
    let mut rng = rng(42);
    for layout in [Layout::Linear, Layout::TransposedLinear, Layout::Embedding] {
        let known = Known::new(&mut rng, 18, 12, falling(12));
        let weight = known.matrix();
        let stored = |matrix: Vec<f64>| {
            if layout == Layout::TransposedLinear { transposed(&matrix, 12) } else { matrix }
        };
        let shape = if layout == Layout::TransposedLinear { [12, 18] } else { [18, 12] };
        let unfolding = Unfolding::new(layout, Scheme::Matrix, &shape, 1).unwrap();
        for rank in [1, 4, 11] {
            let factored = factor(&stored(weight.clone()), &unfolding, rank, &SvdOptions::default()).unwrap();
            let collapsed = unfolding.collapse(&factored.factors, 1).unwrap();
            let best = stored(known.best(rank));
            // Singular vectors turn by eps |W| / gap, which moves the approximation by s_1 times that.
            let gap = known.s[rank - 1] - known.s[rank];
            let allowed = 32.0 * f64::EPSILON * (18.0f64 * 12.0).sqrt() * norm(&weight) * known.s[0] / gap;
            assert!(distance(&collapsed, &best) <= allowed, "{layout:?} rank {rank}");
            let error = distance(&collapsed, &stored(weight.clone()));
            assert!((error - known.tail(rank)).abs() <= 32.0 * f64::EPSILON * 15.0 * norm(&weight));
        }
    }
}

/// `sum over all other axes` of the products along `axis`: the Gram matrix of what stands at each place of it.
fn gram(shape: &[usize], data: &[f64], axis: usize) -> Vec<f64> {
    let count = shape[axis];
    let after: usize = shape[axis + 1..].iter().product();
    let mut gram = vec![0.0; count * count];
    for block in data.chunks(count * after) {
        for i in 0..count {
            for j in 0..count {
                gram[i * count + j] +=
                    (0..after).map(|k| block[i * after + k] * block[j * after + k]).sum::<f64>();
            }
        }
    }
    gram
}

#[test]
fn balanced_factors_have_equal_gram_matrices_the_singular_values() {
    let mut rng = rng(43);
    // layout, scheme, shape, groups, and the axis of the rank in each factor
    let cases: [(Layout, Scheme, &[usize], usize, [usize; 2]); 7] = [
        (Layout::Linear, Scheme::Matrix, &[10, 15], 1, [0, 1]),
        (Layout::TransposedLinear, Scheme::Matrix, &[15, 10], 1, [1, 0]),
        (Layout::Embedding, Scheme::Matrix, &[15, 10], 1, [1, 1]),
        (Layout::Conv1d, Scheme::Channel, &[8, 5, 3], 2, [0, 1]),
        (Layout::Conv2d, Scheme::Spatial, &[8, 5, 3, 2], 1, [0, 1]),
        (Layout::Conv2d, Scheme::Spatial, &[8, 5, 2, 3], 2, [0, 1]),
        (Layout::Conv2d, Scheme::Channel, &[8, 5, 3, 3], 2, [0, 1]),
    ];
    for (layout, scheme, shape, groups, axes) in cases {
        let weight = numbers(&mut rng, shape.iter().product());
        let unfolding = Unfolding::new(layout, scheme, shape, groups).unwrap();
        let rank = unfolding.max_rank() - 1;
        let factored = factor(&weight, &unfolding, rank, &SvdOptions::default()).unwrap();
        let mut squares = vec![0.0; rank];
        for group in 0..groups {
            let grams: Vec<Vec<f64>> = factored
                .factors
                .iter()
                .zip(axes)
                .map(|(factor, axis)| {
                    // Groups lie one after the other along the first axis.
                    let part = factor.data.len() / groups;
                    let mut shape = factor.shape.clone();
                    shape[0] /= groups;
                    gram(&shape, &factor.data[group * part..(group + 1) * part], axis)
                })
                .collect();
            // 32 eps sqrt(size) of the weight's norm, which bounds both.
            let allowed = 32.0 * f64::EPSILON * (weight.len() as f64).sqrt() * norm(&weight);
            assert!(distance(&grams[0], &grams[1]) <= allowed, "{layout:?} {scheme} group {group}");
            for i in 0..rank {
                for j in (0..rank).filter(|&j| j != i) {
                    assert!(grams[0][i * rank + j].abs() <= allowed, "{layout:?} {scheme} ({i}, {j})");
                }
                let s = grams[0][i * rank + i];
                assert!(i == 0 || s <= grams[0][(i - 1) * (rank + 1)] + allowed, "descending");
                squares[i] += s * s;
            }
        }
        // What stands on the diagonals are the singular values that the spectrum reports.
        let spectrum = weight_spectrum(&weight, &unfolding, 1).unwrap();
        let roots: Vec<f64> = squares.iter().map(|square| square.sqrt()).collect();
        let allowed = 32.0 * f64::EPSILON * (weight.len() as f64).sqrt() * norm(&weight);
        assert!(distance(&spectrum.values()[..rank], &roots) <= allowed, "{layout:?} {scheme}");
    }
}

#[test]
fn the_spectrum_of_groups_gives_the_error_of_one_rank_for_all() {
    let mut rng = rng(44);
    let (rows, cols, groups) = (6, 15, 3);
    // Spectra that differ by group, so that an average would not do.
    let parts: Vec<Vec<f64>> = vec![
        vec![5.0, 4.0, 3.0, 2.0, 1.0, 0.5],
        vec![9.0, 0.9, 0.8, 0.3, 0.2, 0.1],
        vec![2.0, 1.9, 1.8, 1.7, 1.6, 1.5],
    ];
    let known: Vec<Known> = parts.iter().map(|s| Known::new(&mut rng, rows, cols, s.clone())).collect();
    let weight: Vec<f64> = known.iter().flat_map(Known::matrix).collect();
    let unfolding = Unfolding::new(Layout::Conv1d, Scheme::Channel, &[rows * groups, 5, 3], groups).unwrap();
    let spectrum = weight_spectrum(&weight, &unfolding, 1).unwrap();
    let expected: Vec<f64> = (0..6).map(|i| norm(&[parts[0][i], parts[1][i], parts[2][i]])).collect();
    assert!(distance(spectrum.values(), &expected) <= 1e-13 * norm(&weight), "{:?}", spectrum.values());
    for rank in 1..=6 {
        let factored = factor(&weight, &unfolding, rank, &SvdOptions::default()).unwrap();
        let measured = error_of(&weight, &unfolding, &factored.factors, 1).unwrap();
        let tails: Vec<f64> = known.iter().map(|known| known.tail(rank)).collect();
        assert!((measured - norm(&tails) / norm(&weight)).abs() <= 1e-13, "rank {rank}");
        assert!((spectrum.relative_error(rank) - measured).abs() <= 1e-13, "rank {rank}");
    }
}

#[test]
fn the_error_of_given_factors_is_that_of_their_product() {
    let mut rng = rng(45);
    let unfolding = Unfolding::new(Layout::Conv2d, Scheme::Spatial, &[6, 4, 3, 3], 2).unwrap();
    let weight = numbers(&mut rng, 6 * 4 * 9);
    // Not the factors of any decomposition.
    let factors: Vec<Factor<f64>> = unfolding
        .factor_shapes(3)
        .into_iter()
        .map(|shape| Factor { data: numbers(&mut rng, shape.iter().product()), shape })
        .collect();
    let found = error_of(&weight, &unfolding, &factors, 1).unwrap();
    let product = unfolding.collapse(&factors, 1).unwrap();
    let expected = distance(&weight, &product) / norm(&weight);
    assert!((found - expected).abs() <= 32.0 * f64::EPSILON * expected, "{found} {expected}");
    assert!(expected > 0.5);
}

#[test]
fn threads_and_methods_change_no_bit() {
    let mut rng = rng(46);
    let weight: Vec<f32> = numbers(&mut rng, 96 * 80).into_iter().map(|x| x as f32).collect();
    let unfolding = Unfolding::new(Layout::Linear, Scheme::Matrix, &[96, 80], 1).unwrap();
    for method in METHODS {
        let of = |threads| factor(&weight, &unfolding, 9, &SvdOptions { method, threads }).unwrap().factors;
        let bits = |factors: Vec<Factor<f32>>| -> Vec<u32> {
            factors.iter().flat_map(|f| f.data.iter().map(|x| x.to_bits())).collect()
        };
        let one = bits(of(1));
        for threads in [1, 2, 3] {
            assert_eq!(bits(of(threads)), one, "{method:?} {threads}");
        }
    }
}

#[test]
fn a_zero_weight_has_no_error_at_any_rank() {
    let unfolding = Unfolding::new(Layout::Linear, Scheme::Matrix, &[5, 4], 1).unwrap();
    let factored = factor(&[0.0f32; 20], &unfolding, 2, &SvdOptions::default()).unwrap();
    assert_eq!(factored.relative_error, 0.0);
    assert_eq!(error_of(&[0.0f32; 20], &unfolding, &factored.factors, 1).unwrap(), 0.0);
    assert!(unfolding.collapse(&factored.factors, 1).unwrap().iter().all(|&x| x == 0.0));
}
