//! Factors of more than full rank, and of three layers: the weight itself, and nothing that training can't reach.

use crate::agreement::{Pairing, assert_close, random, wide};
use crate::chains::{WEIGHTS, matrices};
use candle_core::{Device, Result, Tensor, Var};
use fnl::decompose::{Factor, Scheme, Unfolding, overcomplete};
use fnl::layers::{Execution, Linear, Tape, Weight};
use fnl::linalg::SvdOptions;

fn unfolding(index: usize) -> Unfolding {
    let (layout, scheme, shape, groups) = WEIGHTS[index];
    Unfolding::new(layout, scheme, shape, groups).unwrap()
}

#[test]
fn wide_and_deep_factors_are_the_weight() -> Result<()> {
    for (index, weight) in matrices().enumerate() {
        let (layout, scheme, shape, groups) = weight;
        let unfolding = unfolding(index);
        let full = unfolding.max_rank();
        for rank in [full, full + 1, 2 * full + 3] {
            let what = format!("{weight:?} at rank {rank}");
            let dense = random(4, shape);
            let elements = wide(&dense).flatten_all()?.to_vec1::<f64>()?;
            let factors =
                overcomplete(&elements, &unfolding, rank, &SvdOptions::default(), 3).unwrap().factors;
            assert_eq!(
                factors.iter().map(|factor| factor.shape.clone()).collect::<Vec<_>>(),
                unfolding.factor_shapes(rank),
                "{what}"
            );
            let again = Tensor::from_vec(unfolding.collapse(&factors, 1).unwrap(), shape, &Device::Cpu)?;
            assert_close(&what, &again, &wide(&dense), 40 * rank);
            // and in f32, as layers have them: each of `rank` products is rounded
            let layer = Weight::factored(&dense, layout, scheme, groups, rank)?;
            assert_close(&what, &layer.collapse()?, &dense, 4 * rank);
        }
    }
    Ok(())
}

#[test]
fn deep_starts_with_the_identity_in_the_middle() {
    for (index, (_, scheme, shape, groups)) in matrices().enumerate() {
        let unfolding = unfolding(index);
        let elements = wide(&random(4, shape)).flatten_all().unwrap().to_vec1::<f64>().unwrap();
        for rank in [2, unfolding.max_rank(), unfolding.max_rank() + 2] {
            let factors =
                overcomplete(&elements, &unfolding, rank, &SvdOptions::default(), 3).unwrap().factors;
            if scheme != Scheme::Deep {
                assert_eq!(factors.len(), 2);
                continue;
            }
            assert_eq!(factors.len(), 3);
            let expected: Vec<f64> = (0..groups * rank * rank)
                .map(|at| f64::from(u8::from(at / rank % rank == at % rank)))
                .collect();
            assert_eq!(factors[1].data, expected);
        }
    }
}

#[test]
fn deep_products_have_the_middle_between() {
    // (1 2; 3 4) (0 1; 2 3) (5 6; 7 8) as factors of a linear weight: the last layer's matrix comes first
    let unfolding = Unfolding::new(fnl::decompose::Layout::Linear, Scheme::Deep, &[2, 2], 1).unwrap();
    let factor = |data: [f64; 4]| Factor { shape: vec![2, 2], data: data.to_vec() };
    let factors = [factor([5.0, 6.0, 7.0, 8.0]), factor([0.0, 1.0, 2.0, 3.0]), factor([1.0, 2.0, 3.0, 4.0])];
    // (1 2; 3 4) (0 1; 2 3) = (4 7; 8 15); times (5 6; 7 8)
    assert_eq!(unfolding.collapse(&factors, 1).unwrap(), [69.0, 80.0, 145.0, 168.0]);
}

/// The gradients of a weight's factors when the dense weight's gradient is random numbers.
fn gradients(weight: &Weight) -> Result<Vec<Tensor>> {
    let tape = Tape::training();
    let dense = weight.chain().unwrap().reconstruct(&tape)?;
    let loss = tape.apply(Pairing(random(5, dense.dims())), &[&dense])?;
    let found = tape.backward(&loss)?;
    Ok(weight.vars().iter().map(|var| found.get(var).unwrap().clone()).collect())
}

#[test]
fn every_element_of_wide_factors_is_trained() -> Result<()> {
    for (index, (layout, scheme, shape, groups)) in matrices().enumerate() {
        let rank = unfolding(index).max_rank() + 4;
        let weight = Weight::factored(&random(4, shape), layout, scheme, groups, rank)?;
        let step = |weight: &Weight| -> Result<Vec<bool>> {
            let gradients = gradients(weight)?;
            let mut all = Vec::new();
            for (var, gradient) in weight.vars().iter().zip(&gradients) {
                let elements = gradient.flatten_all()?.to_vec1::<f32>()?;
                all.push(elements.iter().all(|element| *element != 0.0));
                var.set(&(var.as_detached_tensor() - (gradient * 0.1)?)?)?;
            }
            Ok(all)
        };
        let what = format!("{layout:?} {scheme} {shape:?}");
        // The layer that has the zeros gets a gradient everywhere, since what it meets is random;
        let zeros = if layout == fnl::decompose::Layout::Embedding { 0 } else { weight.vars().len() - 1 };
        assert!(step(&weight)?[zeros], "{what}");
        // after which it has none left, and nothing else is cut off.
        assert_eq!(step(&weight)?, vec![true; weight.vars().len()], "{what}");
    }
    Ok(())
}

#[test]
fn random_rows_depend_on_the_seed_alone() {
    let unfolding = unfolding(0);
    let elements = wide(&random(4, unfolding.shape())).flatten_all().unwrap().to_vec1::<f64>().unwrap();
    let factors =
        |seed| overcomplete(&elements, &unfolding, 9, &SvdOptions::default(), seed).unwrap().factors;
    assert_eq!(factors(1), factors(1));
    assert_ne!(factors(1), factors(2));
    // the rows of full rank are the spectral ones under every seed
    let spectral = unfolding.max_rank() * unfolding.cols();
    assert_eq!(factors(1)[0].data[..spectral], factors(2)[0].data[..spectral]);
}

#[test]
fn ranks_of_zero_and_weights_that_are_not_finite_are_refused() -> Result<()> {
    let dense = Linear::dense(&random(1, &[4, 5]), None)?.with_execution(Execution::Sequence);
    assert!(dense.factored(0).unwrap_err().to_string().contains("rank 0"));
    let mut elements = random(1, &[20]).to_vec1::<f32>()?;
    elements[7] = f32::NAN;
    let broken = Tensor::from_vec(elements, (4, 5), &Device::Cpu)?;
    let error = Linear::new(Weight::Dense(Var::from_tensor(&broken)?), None, false).factored(2).unwrap_err();
    assert!(error.to_string().contains("[1, 2]"), "{error}");
    Ok(())
}
