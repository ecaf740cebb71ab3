//! Batch normalization as PyTorch keeps it: by the batch, by running statistics, and how these follow.

use crate::agreement::{Pairing, assert_close, random, randoms, run, wide};
use candle_core::{D, Result, Tensor, Var};
use fnl::layers::{BatchNorm, Statistics, Tape};

struct Layer {
    norm: BatchNorm,
    scale: Var,
    shift: Var,
    mean: Var,
    var: Var,
}

fn layer() -> Result<Layer> {
    let [scale, shift, mean] = [1, 2, 3].map(|seed| random(seed, &[5]));
    let var = random(4, &[5]).abs()?.affine(1.0, 0.5)?;
    let [scale, shift, mean, var] =
        [scale, shift, mean, var].map(|tensor| Var::from_tensor(&tensor).unwrap());
    let norm = BatchNorm::new(scale.clone(), shift.clone(), mean.clone(), var.clone(), 1e-5);
    Ok(Layer { norm, scale, shift, mean, var })
}

fn channels(tensor: &Tensor) -> Result<Tensor> {
    wide(tensor).reshape((1, 5, 1, 1))
}

/// `(x - mean) / sqrt(var + eps) * scale + shift + residual` in f64, rectified.
fn by_hand(layer: &Layer, xs: &Tensor, residual: &Tensor, mean: &Tensor, var: &Tensor) -> Result<Tensor> {
    let deviation = (channels(var)? + 1e-5)?.sqrt()?;
    let normalized = wide(xs).broadcast_sub(&channels(mean)?)?.broadcast_div(&deviation)?;
    let scaled = normalized.broadcast_mul(&channels(&layer.scale)?)?;
    (scaled.broadcast_add(&channels(&layer.shift)?)? + wide(residual))?.relu()
}

#[test]
fn running_statistics_are_used_and_kept() -> Result<()> {
    let (layer, inputs) = (layer()?, randoms(1, &[&[3, 5, 4, 7], &[3, 5, 4, 7]]));
    let (mean, var) = (layer.mean.copy()?, layer.var.copy()?);
    let expected = by_hand(&layer, &inputs[0], &inputs[1], &mean, &var)?;
    for tape in [Tape::inference(), Tape::training(), Tape::candle()] {
        let (xs, residual) = (tape.constant(&inputs[0]), tape.constant(&inputs[1]));
        let ys = layer.norm.forward_on(&tape, &xs, Some(&residual), true, Statistics::Running)?;
        assert_close("running", ys.tensor(), &expected, 4);
    }
    assert_eq!(layer.mean.to_vec1::<f32>()?, mean.to_vec1::<f32>()?);
    assert_eq!(layer.var.to_vec1::<f32>()?, var.to_vec1::<f32>()?);
    Ok(())
}

#[test]
fn running_statistics_leave_scale_and_shift_their_gradients() -> Result<()> {
    let (layer, inputs) = (layer()?, randoms(1, &[&[3, 5, 4, 7], &[3, 5, 4, 7]]));
    let weights = wide(&Pairing(random(99, &[3, 5, 4, 7])).0);
    // of y = n scale + shift where y is positive
    let positive = by_hand(&layer, &inputs[0], &inputs[1], &layer.mean, &layer.var)?.gt(0.0)?;
    let weights = (weights * positive.to_dtype(candle_core::DType::F64)?)?;
    let deviation = (channels(&layer.var)? + 1e-5)?.sqrt()?;
    let normalized = wide(&inputs[0]).broadcast_sub(&channels(&layer.mean)?)?.broadcast_div(&deviation)?;
    let sum = |tensor: Tensor| tensor.sum((0, 2, 3));
    let (scale, shift) = (sum((&weights * normalized)?)?, sum(weights)?);
    for tape in [Tape::training(), Tape::candle()] {
        let (_, found) = run(tape, |tape| {
            let (xs, residual) = (tape.constant(&inputs[0]), tape.constant(&inputs[1]));
            layer.norm.forward_on(tape, &xs, Some(&residual), true, Statistics::Running)
        })?;
        assert_close("scale", found.get(&layer.scale).unwrap(), &scale, 84);
        assert_close("shift", found.get(&layer.shift).unwrap(), &shift, 84);
    }
    Ok(())
}

#[test]
fn batches_are_normalized_and_followed() -> Result<()> {
    for momentum in [0.1, 1.0, 0.0] {
        for tape in [Tape::inference(), Tape::training(), Tape::candle()] {
            let (layer, inputs) = (layer()?, randoms(1, &[&[3, 5, 4, 7], &[3, 5, 4, 7]]));
            let rows = wide(&inputs[0]).transpose(0, 1)?.reshape((5, 84))?;
            let (mean, unbiased) = (rows.mean(D::Minus1)?, rows.var(D::Minus1)?);
            let biased = (&unbiased * (83.0 / 84.0))?;
            let follow =
                |running: &Tensor, batch: &Tensor| (wide(running) * (1.0 - momentum))? + (batch * momentum)?;
            let (next_mean, next_var) = (follow(&layer.mean, &mean)?, follow(&layer.var, &unbiased)?);
            let expected = by_hand(&layer, &inputs[0], &inputs[1], &mean, &biased)?;
            let (xs, residual) = (tape.constant(&inputs[0]), tape.constant(&inputs[1]));
            let statistics = Statistics::Batch { momentum };
            let ys = layer.norm.forward_on(&tape, &xs, Some(&residual), true, statistics)?;
            assert_close("batch", ys.tensor(), &expected, 84);
            assert_close("mean", &layer.mean, &next_mean, 84);
            assert_close("variance", &layer.var, &next_var, 84);
        }
    }
    Ok(())
}

#[test]
fn shapes_that_do_not_fit_are_refused() -> Result<()> {
    let (layer, tape) = (layer()?, Tape::training());
    let statistics = Statistics::Batch { momentum: 0.1 };
    let xs = tape.constant(&random(1, &[3, 4, 2, 2]));
    let error = layer.norm.forward_on(&tape, &xs, None, true, statistics).unwrap_err();
    assert!(error.to_string().starts_with("expected a scale of 4 channels, found [5]"), "{error}");
    let (xs, other) = (tape.constant(&random(1, &[3, 5, 2, 2])), tape.constant(&random(1, &[3, 5, 2, 3])));
    let error = layer.norm.forward_on(&tape, &xs, Some(&other), true, statistics).unwrap_err();
    assert!(error.to_string().starts_with("what is added has shape [3, 5, 2, 3]"), "{error}");
    Ok(())
}
