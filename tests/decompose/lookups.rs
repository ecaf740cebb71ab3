//! Linear layers, transposed ones and embeddings: the chain is run, row by row.

use crate::reference::{distance, norm, numbers, product, rng, transposed};
use fnl::decompose::{Factored, Layout, Scheme, Unfolding, factor};
use fnl::linalg::SvdOptions;

const TOKENS: usize = 7;

fn tolerance(weight: &[f64], xs: &[f64]) -> f64 {
    // Two products and a decomposition in f64, of these norms.
    32.0 * f64::EPSILON * (weight.len() as f64).sqrt() * norm(weight) * norm(xs)
}

fn at_rank(weight: &[f64], unfolding: &Unfolding, rank: usize) -> (Factored<f64>, Vec<f64>) {
    let factored = factor(weight, unfolding, rank, &SvdOptions::default()).unwrap();
    let dense = if rank == unfolding.max_rank() {
        weight.to_vec()
    } else {
        unfolding.collapse(&factored.factors, 1).unwrap()
    };
    (factored, dense)
}

#[test]
fn linear_chains_compute_what_the_layer_does() {
    let mut rng = rng(21);
    for (out, inner) in [(9, 14), (14, 9), (8, 8), (1, 6), (6, 1)] {
        let weight = numbers(&mut rng, out * inner);
        let xs = numbers(&mut rng, TOKENS * inner);
        let unfolding = Unfolding::new(Layout::Linear, Scheme::Matrix, &[out, inner], 1).unwrap();
        for rank in [unfolding.max_rank(), unfolding.max_rank().div_ceil(2)] {
            let (factored, dense) = at_rank(&weight, &unfolding, rank);
            let [first, second] = factored.factors.as_slice() else { panic!("two layers") };
            assert_eq!((&first.shape[..], &second.shape[..]), (&[rank, inner][..], &[out, rank][..]));
            // y = x Wt, twice
            let hidden = product(&xs, &transposed(&first.data, inner), inner);
            let ys = product(&hidden, &transposed(&second.data, rank), rank);
            let expected = product(&xs, &transposed(&dense, inner), inner);
            assert!(distance(&ys, &expected) <= tolerance(&weight, &xs), "({out}, {inner}) at rank {rank}");
        }
    }
}

#[test]
fn transposed_linear_chains_stay_in_their_layout() {
    let mut rng = rng(22);
    for (inner, out) in [(9, 14), (14, 9), (8, 8), (1, 6)] {
        let weight = numbers(&mut rng, inner * out);
        let xs = numbers(&mut rng, TOKENS * inner);
        let unfolding = Unfolding::new(Layout::TransposedLinear, Scheme::Matrix, &[inner, out], 1).unwrap();
        for rank in [unfolding.max_rank(), unfolding.max_rank().div_ceil(2)] {
            let (factored, dense) = at_rank(&weight, &unfolding, rank);
            let [first, second] = factored.factors.as_slice() else { panic!("two layers") };
            assert_eq!((&first.shape[..], &second.shape[..]), (&[inner, rank][..], &[rank, out][..]));
            // y = x W, twice
            let ys = product(&product(&xs, &first.data, inner), &second.data, rank);
            let expected = product(&xs, &dense, inner);
            assert!(distance(&ys, &expected) <= tolerance(&weight, &xs), "({inner}, {out}) at rank {rank}");
        }
    }
}

#[test]
fn embedding_chains_look_up_and_then_multiply() {
    let mut rng = rng(23);
    for (vocabulary, width) in [(20, 6), (5, 9)] {
        let weight = numbers(&mut rng, vocabulary * width);
        let unfolding = Unfolding::new(Layout::Embedding, Scheme::Matrix, &[vocabulary, width], 1).unwrap();
        for rank in [unfolding.max_rank(), 3] {
            let (factored, dense) = at_rank(&weight, &unfolding, rank);
            let [table, linear] = factored.factors.as_slice() else { panic!("two layers") };
            assert_eq!((&table.shape[..], &linear.shape[..]), (&[vocabulary, rank][..], &[width, rank][..]));
            for token in 0..vocabulary {
                let row = &table.data[token * rank..(token + 1) * rank];
                let ys = product(row, &transposed(&linear.data, rank), rank);
                let expected = &dense[token * width..(token + 1) * width];
                // A lookup is a product with a unit vector.
                assert!(
                    distance(&ys, expected) <= tolerance(&weight, &[1.0]),
                    "token {token} at rank {rank}"
                );
            }
        }
    }
}

#[test]
fn a_transposed_weight_has_the_factors_of_its_transpose() {
    let mut rng = rng(24);
    let (inner, out, rank) = (10, 6, 3);
    let weight = numbers(&mut rng, inner * out);
    let stored = Unfolding::new(Layout::TransposedLinear, Scheme::Matrix, &[inner, out], 1).unwrap();
    let usual = Unfolding::new(Layout::Linear, Scheme::Matrix, &[out, inner], 1).unwrap();
    let ours = factor(&weight, &stored, rank, &SvdOptions::default()).unwrap().factors;
    let theirs = factor(&transposed(&weight, out), &usual, rank, &SvdOptions::default()).unwrap().factors;
    for (ours, theirs) in ours.iter().zip(&theirs) {
        let apart = distance(&ours.data, &transposed(&theirs.data, theirs.shape[1]));
        assert!(apart <= 32.0 * f64::EPSILON * 60f64.sqrt() * norm(&weight), "{apart:e}");
    }
}
