//! Every operation but the convolution: loops, compositions and differences agree.

use crate::agreement::{agree, check, random, randoms};
use candle_core::{DType, Device, Result, Tensor};
use fnl::layers::Operation;
use fnl::layers::operations::{
    Add, GlobalAverage, Lookup, MaxPool, Normalization, PadChannels, Product, Reconstruction, Relu, Reshape,
    ScaleShift,
};
use std::sync::Arc;

#[test]
fn products() -> Result<()> {
    for (seed, input) in (0..).zip([&[5usize, 7][..], &[2, 3, 7], &[1, 7], &[2, 1, 4, 7]]) {
        for transposed in [false, true] {
            let weight: &[usize] = if transposed { &[7, 6] } else { &[6, 7] };
            let make = || Arc::new(Product::new(transposed)) as Arc<dyn Operation>;
            let what = format!("product {input:?} {weight:?}");
            check(&what, &make, &randoms(seed, &[input, weight]), 10)?;
            check(&what, &make, &randoms(seed, &[input, weight, &[6]]), 10)?;
        }
    }
    // larger than the blocks of a matrix product
    let make = || Arc::new(Product::new(false)) as Arc<dyn Operation>;
    check("product", &make, &randoms(9, &[&[130, 67], &[129, 67], &[129]]), 130)
}

#[test]
fn lookups() -> Result<()> {
    let indices = Tensor::new(&[[3u32, 0, 3], [4, 3, 1]], &Device::Cpu)?; // repeated, and one left out
    for dtype in [DType::U32, DType::U8, DType::I64] {
        let indices = indices.to_dtype(dtype)?;
        let make = || Arc::new(Lookup::new(&indices)) as Arc<dyn Operation>;
        check("lookup", &make, &[random(1, &[5, 4])], 3)?;
    }
    // more of them than are summed together
    let many: Vec<u32> = (0..9_000).map(|place| place * place % 7).collect();
    let make =
        || Arc::new(Lookup::new(&Tensor::new(many.as_slice(), &Device::Cpu).unwrap())) as Arc<dyn Operation>;
    agree("many lookups", &make, &[random(1, &[8, 3])], 9_000)?;
    let beyond = Lookup::new(&Tensor::new(&[5u32], &Device::Cpu)?);
    let error = fnl::layers::Tape::inference();
    let error = error.apply(beyond, &[&error.constant(&random(1, &[5, 4]))]).unwrap_err();
    assert!(error.to_string().starts_with("index 5 exceeds a table of 5 rows"), "{error}");
    Ok(())
}

/// Inputs `(b, c, ...)` of a normalization, with positions above, at and below the width of vectors.
const PLANES: [&[usize]; 6] =
    [&[4, 3, 5, 6], &[7, 3], &[3, 5, 9], &[2, 17, 1, 1], &[3, 2, 4, 8], &[2, 4, 3, 11]];

#[test]
fn normalizations() -> Result<()> {
    for (seed, shape) in (0..).zip(PLANES) {
        let channels = [shape[1]];
        let terms = shape.iter().product::<usize>() / shape[1];
        for relu in [false, true] {
            let make = || Arc::new(Normalization::new(1e-5, relu)) as Arc<dyn Operation>;
            let what = format!("normalization {shape:?}, rectified: {relu}");
            // Two samples of one position are normalized to -1 and 1 and lose their gradient: epsilon keeps it.
            let make: &dyn Fn() -> Arc<dyn Operation> =
                if terms == 2 { &|| Arc::new(Normalization::new(1.0, relu)) } else { &make };
            // The gradient is what remains when its mean and its part along the input are taken off: it cancels.
            let mut inputs = randoms(seed, &[shape, &channels, &channels]);
            check(&what, make, &inputs, 4 * terms)?;
            inputs.push(random(seed + 77, shape));
            check(&format!("{what}, residual"), make, &inputs, 4 * terms)?;
        }
    }
    Ok(())
}

#[test]
fn normalizations_far_from_zero_keep_their_digits() -> Result<()> {
    // A mean of 100 beside a deviation of 0.6: the input's own rounding, 100 eps / 0.6, is in the result.
    let inputs = randoms(5, &[&[4, 3, 5, 7], &[3], &[3]]);
    let far = inputs[0].affine(1.0, 100.0)?;
    let make = || Arc::new(Normalization::new(1e-5, false)) as Arc<dyn Operation>;
    agree("far", &make, &[far, inputs[1].clone(), inputs[2].clone()], 170 * 140)
}

#[test]
fn scales_and_shifts() -> Result<()> {
    for (seed, shape) in (0..).zip(PLANES) {
        let channels = [shape[1]];
        let terms = shape.iter().product::<usize>() / shape[1];
        for relu in [false, true] {
            let make = || Arc::new(ScaleShift::new(relu)) as Arc<dyn Operation>;
            let what = format!("scale and shift {shape:?}, rectified: {relu}");
            let mut inputs = randoms(seed, &[shape, &channels, &channels]);
            check(&what, &make, &inputs, terms)?;
            inputs.push(random(seed + 77, shape));
            check(&format!("{what}, residual"), &make, &inputs, terms)?;
        }
    }
    Ok(())
}

#[test]
fn what_is_left_at_zero_has_no_gradient() -> Result<()> {
    // a third of the elements is exactly zero, as after other rectifiers
    let steps = random(3, &[4, 3, 5, 6]).affine(1.5, 0.0)?.round()?;
    let (ones, zeros) =
        (Tensor::ones(3, DType::F32, &Device::Cpu)?, Tensor::zeros(3, DType::F32, &Device::Cpu)?);
    agree("relu", &|| Arc::new(Relu), std::slice::from_ref(&steps), 1)?;
    agree("scale", &|| Arc::new(ScaleShift::new(true)), &[steps, ones, zeros], 120)
}

#[test]
fn sums_and_rectifiers() -> Result<()> {
    for (seed, shape) in (0..).zip([&[3usize, 4, 5][..], &[1], &[67], &[2, 3, 7, 9]]) {
        check("add", &|| Arc::new(Add), &randoms(seed, &[shape, shape]), 1)?;
        check("relu", &|| Arc::new(Relu), &[random(seed, shape)], 1)?;
    }
    Ok(())
}

#[test]
fn averages_and_shapes() -> Result<()> {
    for (seed, shape) in (0..).zip([&[3usize, 4, 5, 7][..], &[2, 5, 1, 1], &[2, 3, 9], &[1, 4, 8, 8]]) {
        check("average", &|| Arc::new(GlobalAverage), &[random(seed, shape)], 64)?;
    }
    check("reshape", &|| Arc::new(Reshape::new(&[4, 15])), &[random(1, &[3, 4, 5])], 1)?;
    for (stride, channels) in [(1, 0), (1, 2), (2, 0), (2, 3), (3, 1)] {
        for (h, w) in [(6, 6), (5, 7), (1, 4), (4, 1), (9, 8)] {
            let make = || Arc::new(PadChannels::new(stride, channels)) as Arc<dyn Operation>;
            check(&format!("shortcut {stride} {channels} {h} {w}"), &make, &[random(1, &[2, 3, h, w])], 1)?;
        }
    }
    Ok(())
}

/// Size, stride and padding of windows.
const WINDOWS: [(usize, usize, usize); 8] =
    [(2, 2, 0), (3, 2, 1), (3, 1, 1), (2, 1, 0), (3, 3, 1), (1, 2, 0), (5, 2, 2), (2, 3, 1)];

#[test]
fn largest_of_windows() -> Result<()> {
    for (size, stride, padding) in WINDOWS {
        for (h, w) in [(8, 8), (7, 9), (5, 6), (32, 17)] {
            let make = || Arc::new(MaxPool::new(size, stride, padding)) as Arc<dyn Operation>;
            let what = format!("pool {size} {stride} {padding}, {h} x {w}");
            check(&what, &make, &[random(1, &[2, 3, h, w])], 9)?;
            // all below zero: what lies around the picture never wins
            agree(&what, &make, &[random(1, &[2, 3, h, w]).affine(0.5, -1.0)?], 9)?;
            // many equal ones: the first takes the gradient
            agree(&what, &make, &[random(1, &[2, 3, h, w]).affine(1.5, 0.0)?.round()?], 9)?;
        }
    }
    Ok(())
}

#[test]
fn what_is_no_number_is_the_largest_of_a_window() -> Result<()> {
    let xs = [f64::NAN, 1.0, 2.0, 3.0, 4.0, f64::NAN, 6.0, 5.0];
    let xs = Tensor::new(&xs, &Device::Cpu)?.reshape((1, 2, 2, 2))?;
    let composed =
        MaxPool::new(2, 2, 0).compose(std::slice::from_ref(&xs))?.flatten_all()?.to_vec1::<f64>()?;
    assert!(composed.iter().all(|y| y.is_nan()), "{composed:?}");
    let tape = fnl::layers::Tape::inference();
    let looped = tape.apply(MaxPool::new(2, 2, 0), &[&tape.constant(&xs.to_dtype(DType::F32)?)])?;
    let looped = looped.tensor().flatten_all()?.to_vec1::<f32>()?;
    assert!(looped.iter().all(|y| y.is_nan()), "{looped:?}");
    Ok(())
}

#[test]
fn reconstructions() -> Result<()> {
    for (layout, scheme, shape, groups) in crate::chains::WEIGHTS {
        for rank in [1, 3, 11] {
            let (format, ranks) = crate::chains::format((layout, scheme, shape, groups), rank);
            let shapes = format.factor_shapes(&ranks);
            let inputs = randoms(rank as u64, &shapes.iter().map(Vec::as_slice).collect::<Vec<_>>());
            let make = || Arc::new(Reconstruction::new(&format)) as Arc<dyn Operation>;
            check(&format!("reconstruction {layout:?} {scheme} {rank}"), &make, &inputs, 60)?;
        }
    }
    Ok(())
}
