//! Operations on tokens: loops, compositions and differences agree.

use crate::agreement::{agree, assert_same, check, random, randoms};
use candle_core::{Device, Result, Tensor};
use fnl::layers::operations::{
    Activation, Attention, Columns, Multiply, PictureTokens, Rotary, RowNormalization, Scale, SequenceMean,
    SmoothActivation, UnitRows,
};
use fnl::layers::{Operation, Sequences, Tape};
use std::sync::Arc;

#[test]
fn smooth_activations() -> Result<()> {
    for activation in [Activation::Gelu, Activation::GeluNew, Activation::Silu, Activation::Tanh] {
        let operation = SmoothActivation::new(activation).expect("it is smooth");
        let make = || Arc::new(operation) as Arc<dyn Operation>;
        // the distribution's approximation is within 1.5e-7, beside which the rounding of f32 is 0.6e-7
        check(&format!("{activation:?}"), &make, &[random(1, &[3, 67])], 8)?;
        agree(&format!("{activation:?}, far"), &make, &[random(2, &[501]).affine(9.0, 0.0)?], 40)?;
    }
    assert_eq!(SmoothActivation::new(Activation::Relu), None);
    check("multiply", &|| Arc::new(Multiply), &randoms(3, &[&[5, 7], &[5, 7]]), 1)
}

#[test]
fn patches_become_tokens_and_rows_are_scaled() -> Result<()> {
    let make = || Arc::new(PictureTokens) as Arc<dyn Operation>;
    // the token's gradient sums as many numbers as there are pictures
    check("picture tokens", &make, &randoms(4, &[&[3, 5, 2, 4], &[1, 1, 5], &[1, 9, 5]]), 3)?;
    let wrong = randoms(5, &[&[3, 5, 2, 4], &[1, 1, 5], &[1, 8, 5]]);
    assert!(PictureTokens.compose(&wrong).unwrap_err().to_string().contains("do not fit 8 patches"));
    check("scale", &|| Arc::new(Scale::new(-2.5)), &[random(6, &[3, 7])], 1)
}

#[test]
fn normalizations_of_rows() -> Result<()> {
    for (seed, shape) in (0..).zip([&[5usize, 7][..], &[3, 48], &[130, 19], &[2, 3, 33]]) {
        let width = shape[shape.len() - 1];
        let rows = shape.iter().product::<usize>() / width;
        let make = || Arc::new(RowNormalization::layer(1e-5)) as Arc<dyn Operation>;
        check(
            &format!("layer {shape:?}"),
            &make,
            &randoms(seed, &[shape, &[width], &[width]]),
            4 * width + rows,
        )?;
        let make = || Arc::new(RowNormalization::mean_square(1e-6)) as Arc<dyn Operation>;
        check(
            &format!("mean square {shape:?}"),
            &make,
            &randoms(seed, &[shape, &[width]]),
            4 * width + rows,
        )?;
    }
    Ok(())
}

#[test]
fn attention_within_sequences() -> Result<()> {
    let sequences = Sequences::new(&[3, 1, 5])?;
    let keys = Sequences::new(&[4, 2, 5])?;
    // heads, those of keys, widths of keys and of values
    for (seed, (heads, shared, width, value)) in
        (0..).zip([(2, 2, 4, 4), (4, 2, 3, 5), (3, 1, 8, 2), (2, 1, 11, 8)])
    {
        for causal in [false, true] {
            for other in [false, true] {
                let keys = if other { &keys } else { &sequences };
                let attention =
                    Attention::new(&sequences, heads, 0.7).with_keys(keys).with_shared_heads(shared);
                let attention = if causal { attention.causal() } else { attention };
                let inputs = randoms(
                    seed,
                    &[
                        &[9, heads * width],
                        &[keys.tokens(), shared * width],
                        &[keys.tokens(), shared * value],
                    ],
                );
                let make = || Arc::new(attention.clone()) as Arc<dyn Operation>;
                check(&format!("attention {attention:?}"), &make, &inputs, 40)?;
            }
        }
    }
    // more queries than are held at once
    let long = Sequences::new(&[300, 129])?;
    let attention = Attention::new(&long, 2, 0.3).causal();
    let make = || Arc::new(attention.clone()) as Arc<dyn Operation>;
    agree("long attention", &make, &randoms(9, &[&[429, 20], &[429, 20], &[429, 16]]), 300)
}

#[test]
fn kept_keys_give_what_all_tokens_give() -> Result<()> {
    let (q, k, v) = (random(1, &[7, 6]), random(2, &[7, 6]), random(3, &[7, 6]));
    let run = |attention: Attention, inputs: [&Tensor; 3]| {
        let tape = Tape::inference();
        let nodes = inputs.map(|tensor| tape.constant(tensor));
        Ok::<_, candle_core::Error>(
            tape.apply(attention, &[&nodes[0], &nodes[1], &nodes[2]])?.tensor().clone(),
        )
    };
    let whole = Sequences::new(&[7])?;
    let all = run(Attention::new(&whole, 2, 1.0).causal(), [&q, &k, &v])?;
    let last = Attention::new(&Sequences::new(&[2])?, 2, 1.0).with_keys(&whole).causal();
    let last = run(last, [&q.narrow(0, 5, 2)?, &k, &v])?;
    let difference = (all.narrow(0, 5, 2)? - last)?.abs()?.max_all()?.to_scalar::<f32>()?;
    assert!(difference < 1e-6, "{difference}");
    Ok(())
}

/// Heads go one by one or side by side, as there are threads for them.
#[test]
fn attention_is_the_same_for_every_number_of_threads() -> Result<()> {
    let sequences = Sequences::new(&[20, 1, 9, 17])?;
    let inputs = randoms(11, &[&[47, 32], &[47, 16], &[47, 8]]);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let tape = Tape::inference();
            let nodes = [0, 1, 2].map(|index: usize| tape.constant(&inputs[index]));
            let attention = Attention::new(&sequences, 2, 0.4).with_shared_heads(1).causal();
            Ok::<_, candle_core::Error>(
                tape.apply(attention, &[&nodes[0], &nodes[1], &nodes[2]])?.tensor().clone(),
            )
        })
    };
    assert_same("eight threads", &run(8)?, &run(1)?);
    Ok(())
}

#[test]
fn attention_refuses_what_does_not_fit() -> Result<()> {
    let sequences = Sequences::new(&[3])?;
    let refused = |attention: Attention, shapes: [&[usize]; 3]| {
        let tape = Tape::inference();
        let nodes = shapes.map(|shape| tape.constant(&random(1, shape)));
        tape.apply(attention, &[&nodes[0], &nodes[1], &nodes[2]]).unwrap_err().to_string()
    };
    let error = refused(Attention::new(&sequences, 2, 1.0), [&[3, 4], &[3, 4], &[2, 4]]);
    assert!(error.contains("do not fit 2 and 2 heads of 3 and 3 tokens"), "{error}");
    let error = refused(Attention::new(&sequences, 3, 1.0).with_shared_heads(2), [&[3, 6], &[3, 4], &[3, 4]]);
    assert!(error.starts_with("3 heads of queries can't share 2"), "{error}");
    let fewer = Attention::new(&sequences, 1, 1.0).with_keys(&Sequences::new(&[2])?).causal();
    let error = refused(fewer, [&[3, 2], &[2, 2], &[2, 2]]);
    assert!(error.starts_with("sequence 0 has fewer keys"), "{error}");
    assert!(Sequences::new(&[2, 0]).unwrap_err().to_string().starts_with("sequence 1 has no tokens"));
    Ok(())
}

#[test]
fn rotations_means_and_unit_rows() -> Result<()> {
    let rotary = Rotary::new(Arc::from([0usize, 1, 2, 0, 700]), Rotary::frequencies(6, 10_000.0));
    let make = || Arc::new(rotary.clone()) as Arc<dyn Operation>;
    check("rotary", &make, &[random(1, &[5, 12])], 4)?;
    // a rotation keeps the norm
    let (tape, xs) = (Tape::inference(), random(2, &[5, 12]));
    let turned = tape.apply(rotary, &[&tape.constant(&xs)])?;
    let norm = |xs: &Tensor| xs.sqr()?.sum(1)?.to_vec1::<f32>();
    for (before, after) in norm(&xs)?.iter().zip(norm(turned.tensor())?) {
        assert!((before - after).abs() < 1e-5 * before, "{before} {after}");
    }
    let sequences = Sequences::new(&[2, 1, 4])?;
    let make = || Arc::new(SequenceMean::new(&sequences)) as Arc<dyn Operation>;
    check("means", &make, &[random(3, &[7, 5])], 5)?;
    check("columns", &|| Arc::new(Columns::new(2, 3)), &[random(6, &[4, 7])], 1)?;
    check("unit rows", &|| Arc::new(UnitRows), &[random(4, &[7, 5])], 12)?;
    let zeros = Tensor::zeros((1, 3), candle_core::DType::F32, &Device::Cpu)?;
    let unit = tape.apply(UnitRows, &[&tape.constant(&zeros)])?;
    assert_eq!(unit.tensor().to_vec2::<f32>()?, [[0.0; 3]]);
    Ok(())
}
