//! Layers whose weights are tensors: the same function at full rank, the collapsed layer's at any.

use crate::agreement::{assert_close, random, run};
use crate::modules::{GEOMETRIES, conv2d};
use candle_core::{Device, Module, Result, Tensor, Var};
use fnl::decompose::{Format, Layout, Pairs, Ranks, Scheme};
use fnl::layers::{Conv1d, Embedding, Execution, Linear, Tape, Weight};

const TENSORS: [Scheme; 3] = [Scheme::Tucker, Scheme::Cp, Scheme::TensorTrain];
const EXECUTIONS: [Execution; 3] = [Execution::Sequence, Execution::Product, Execution::Auto];

/// Sums of products of up to four factors, and what alternating least squares leaves of them.
const TERMS: usize = 4000;

/// The format of a kernel and its largest ranks, where it has one.
fn full(layout: Layout, scheme: Scheme, kernel: &[usize]) -> Option<Ranks> {
    Some(Format::new(layout, scheme, kernel, 1, &Pairs::default()).ok()?.max_ranks())
}

#[test]
fn convolutions_at_full_rank_are_the_dense_ones() -> Result<()> {
    for geometry in GEOMETRIES.into_iter().filter(|geometry| geometry.5 == 1) {
        let (input, kernel, ..) = geometry;
        let (dense, xs) = (conv2d(geometry)?, random(1, &input));
        let expected = dense.forward(&xs)?;
        for scheme in TENSORS {
            let Some(ranks) = full(Layout::Conv2d, scheme, &kernel) else {
                assert_eq!(kernel[2..], [1, 1], "only kernels of one tap are no tensors");
                continue;
            };
            for execution in EXECUTIONS {
                let factored = dense.factored(scheme, ranks)?.with_execution(execution);
                let what = format!("{geometry:?} {scheme} {execution:?}");
                assert_close(&what, &factored.forward(&xs)?, &expected, TERMS);
            }
        }
    }
    Ok(())
}

#[test]
fn convolutions_at_lower_rank_are_the_collapsed_ones_and_so_are_their_gradients() -> Result<()> {
    for geometry in GEOMETRIES.into_iter().filter(|geometry| geometry.5 == 1) {
        let (input, kernel, ..) = geometry;
        let (dense, xs) = (conv2d(geometry)?, random(1, &input));
        for scheme in TENSORS.into_iter().filter(|scheme| full(Layout::Conv2d, *scheme, &kernel).is_some()) {
            for rank in [1, 2, 3] {
                let factored = dense.factored(scheme, rank)?;
                let expected = factored.collapse()?.forward(&xs)?;
                let mut found: Vec<Vec<Tensor>> = Vec::new();
                for execution in EXECUTIONS {
                    let what = format!("{geometry:?} {scheme} {rank} {execution:?}");
                    let layer = factored.clone().with_execution(execution);
                    assert_close(&what, &layer.forward(&xs)?, &expected, TERMS);
                    let count = layer.multiply_adds(&input)?;
                    let tape = Tape::inference();
                    layer.forward_on(&tape, &tape.constant(&xs))?;
                    assert_eq!(tape.multiply_adds(), count, "{what}");
                    let (_, gradients) =
                        run(Tape::training(), |tape| layer.forward_on(tape, &tape.constant(&xs)))?;
                    let vars = layer.vars();
                    found.push(vars.iter().map(|var| gradients.get(var).unwrap().clone()).collect());
                }
                for others in &found[1..] {
                    for (one, other) in found[0].iter().zip(others) {
                        assert_close(&format!("{geometry:?} {scheme} {rank}"), other, one, 100 * TERMS);
                    }
                }
            }
        }
    }
    Ok(())
}

#[test]
fn convolutions_of_one_axis() -> Result<()> {
    for (stride, padding, dilation) in [(1, 1, 1), (2, 2, 1), (3, 0, 2)] {
        let (xs, weight, bias) = (random(1, &[2, 4, 13]), random(2, &[6, 4, 3]), random(3, &[6]));
        let layer = Conv1d::new(
            Weight::dense(&weight)?,
            Some(Var::from_tensor(&bias)?),
            stride,
            padding,
            dilation,
            1,
        )?;
        let expected = layer.forward(&xs)?;
        for scheme in TENSORS {
            let most = full(Layout::Conv1d, scheme, &[6, 4, 3]).unwrap();
            for execution in EXECUTIONS {
                let whole = layer.factored(scheme, most)?.with_execution(execution);
                assert_close(&format!("{scheme}"), &whole.forward(&xs)?, &expected, TERMS);
                let factored = layer.factored(scheme, 2)?.with_execution(execution);
                let collapsed = factored.collapse()?.forward(&xs)?;
                assert_close(&format!("{scheme} 2"), &factored.forward(&xs)?, &collapsed, TERMS);
            }
        }
    }
    Ok(())
}

#[test]
fn linear_layers_and_embeddings() -> Result<()> {
    let (xs, weight) = (random(1, &[2, 3, 12]), random(2, &[8, 12]));
    let transposed = weight.t()?.contiguous()?;
    for scheme in [Scheme::Tucker, Scheme::TensorTrain] {
        for (layout, weight) in [(Layout::Linear, &weight), (Layout::TransposedLinear, &transposed)] {
            let dense = Linear::new(Weight::dense(weight)?, None, layout == Layout::TransposedLinear);
            let most = full(layout, scheme, weight.dims()).unwrap();
            let whole = dense.with_scheme(scheme, most)?;
            assert_close(&format!("{scheme}"), &whole.forward(&xs)?, &dense.forward(&xs)?, TERMS);
            let factored = dense.with_scheme(scheme, 3)?;
            assert_close("3", &factored.forward(&xs)?, &factored.collapse()?.forward(&xs)?, TERMS);
        }
        let (table, rows) = (random(3, &[15, 8]), Tensor::new(&[0u32, 14, 3, 3], &Device::Cpu)?);
        let dense = Embedding::new(Weight::dense(&table)?);
        let most = full(Layout::Embedding, scheme, &[15, 8]).unwrap();
        let whole = Embedding::new(Weight::factored(&table, Layout::Embedding, scheme, 1, most)?);
        assert_close("table", &whole.forward(&rows)?, &dense.forward(&rows)?, TERMS);
        let scores = |layer: &Embedding| -> Result<Tensor> {
            let tape = Tape::candle();
            Ok(layer.scores_on(&tape, &tape.constant(&random(5, &[2, 8])), None)?.tensor().clone())
        };
        assert_close("scores", &scores(&whole)?, &scores(&dense)?, TERMS);
    }
    Ok(())
}
