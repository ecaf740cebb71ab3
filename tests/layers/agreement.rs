//! An operation against itself: loops in f32, its composition in f64 with candle's gradients, and central differences.

use candle_core::{DType, Device, Result, Tensor, Var};
use fnl::layers::{Gradients, Needs, Node, Operation, Tape, View};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;

/// Uniform numbers between -1 and 1, f32.
pub(crate) fn random(seed: u64, shape: &[usize]) -> Tensor {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| random.random_range(-1.0..1.0)).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// The inputs of an operation, each from a seed of its own.
pub(crate) fn randoms(seed: u64, shapes: &[&[usize]]) -> Vec<Tensor> {
    shapes.iter().zip(seed * 100..).map(|(shape, seed)| random(seed, shape)).collect()
}

pub(crate) fn wide(tensor: &Tensor) -> Tensor {
    tensor.to_dtype(DType::F64).unwrap()
}

/// The Frobenius norm.
pub(crate) fn norm(tensor: &Tensor) -> f64 {
    wide(tensor).sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap().sqrt()
}

/// Asserts `|found - expected| <= 8 eps sqrt(terms) |expected|`.
///
/// Each element is a sum of `terms` products. Their rounding errors are at most `eps` each and as good as independent, so
/// that they grow with the root of their number; 8 stands for what a chain of a few operations adds, and for cancellation.
#[track_caller]
pub(crate) fn assert_close(what: &str, found: &Tensor, expected: &Tensor, terms: usize) {
    assert_eq!(found.dims(), expected.dims(), "{what}");
    let epsilon = if found.dtype() == DType::F64 { f64::EPSILON } else { f64::from(f32::EPSILON) };
    let difference = norm(&(wide(found) - wide(expected)).unwrap());
    let allowed = 8.0 * epsilon * (terms as f64).sqrt() * norm(expected);
    assert!(difference <= allowed, "{what}: {difference:e} exceeds {allowed:e}");
}

/// Asserts that two tensors hold the same bits.
#[track_caller]
pub(crate) fn assert_same(what: &str, found: &Tensor, expected: &Tensor) {
    let bits = |tensor: &Tensor| -> Vec<u32> {
        tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
    };
    assert_eq!(found.dims(), expected.dims(), "{what}");
    assert!(bits(found) == bits(expected), "{what}: other bits");
}

/// The inner product with a fixed tensor: makes a scalar of anything.
#[derive(Debug)]
pub(crate) struct Pairing(pub(crate) Tensor);

impl Operation for Pairing {
    fn name(&self) -> &'static str {
        "pairing"
    }

    fn compose(&self, inputs: &[Tensor]) -> Result<Tensor> {
        let weights = self.0.to_device(inputs[0].device())?.to_dtype(inputs[0].dtype())?;
        (&inputs[0] * weights)?.sum_all()
    }

    fn forward(&self, inputs: &[View<'_>]) -> Result<(Vec<f32>, Vec<usize>)> {
        let weights = self.0.flatten_all()?.to_vec1::<f32>()?;
        let sum: f64 = weights.iter().zip(inputs[0].data).map(|(w, x)| f64::from(w * x)).sum();
        Ok((vec![sum as f32], vec![]))
    }

    fn backward(
        &self,
        _inputs: &[View<'_>],
        _output: View<'_>,
        gradient: View<'_>,
        _wanted: &[bool],
    ) -> Result<Vec<Option<Vec<f32>>>> {
        let weights = self.0.flatten_all()?.to_vec1::<f32>()?;
        Ok(vec![Some(weights.iter().map(|weight| weight * gradient.data[0]).collect())])
    }

    fn needs(&self) -> Needs {
        Needs { inputs: false, output: false }
    }
}

/// The result of a computation, and the gradients of its pairing with random numbers.
pub(crate) fn run(tape: Tape, act: impl FnOnce(&Tape) -> Result<Node>) -> Result<(Tensor, Gradients)> {
    let ys = act(&tape)?;
    let loss = tape.apply(Pairing(random(99, ys.dims())), &[&ys])?;
    Ok((ys.tensor().detach(), tape.backward(&loss)?))
}

/// An operation for each application.
pub(crate) type Make<'a> = &'a dyn Fn() -> Arc<dyn Operation>;

/// The composition in f64: its result, and the gradients of its pairing with random numbers.
fn composed(make: Make<'_>, inputs: &[Tensor]) -> Result<(Tensor, Vec<Tensor>)> {
    let vars: Vec<Var> = inputs.iter().map(|input| Var::from_tensor(&wide(input))).collect::<Result<_>>()?;
    let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let ys = make().compose(&tensors)?;
    let store = Pairing(random(99, ys.dims())).compose(std::slice::from_ref(&ys))?.backward()?;
    let gradients = vars.iter().map(|var| store.get(var).unwrap().clone()).collect();
    Ok((ys.detach(), gradients))
}

/// The composition in f32 on a GPU agrees with that in f64 on the processor, whose result and gradients these are.
#[cfg(feature = "cuda")]
fn agree_on_gpu(
    what: &str,
    make: Make<'_>,
    inputs: &[Tensor],
    (ys, gradients): (&Tensor, &[Tensor]),
    terms: usize,
) -> Result<()> {
    static GPU: std::sync::OnceLock<Device> = std::sync::OnceLock::new();
    let gpu = GPU.get_or_init(|| Device::new_cuda(0).expect("tests with the feature `cuda` need a GPU"));
    let there = |input: &Tensor| Var::from_tensor(&input.to_device(gpu)?);
    let vars: Vec<Var> = inputs.iter().map(there).collect::<Result<_>>()?;
    let (found, store) = run(Tape::training(), |tape| {
        let nodes: Vec<Node> = vars.iter().map(|var| tape.parameter(var)).collect();
        tape.apply_shared(make(), &nodes.iter().collect::<Vec<_>>())
    })?;
    // A root, an exponential or an error function may be off by four units in the last place there.
    let terms = 16 * terms;
    let what = format!("{what}, on the GPU");
    assert_close(&what, &found.to_device(&Device::Cpu)?, ys, terms);
    for (index, (var, gradient)) in vars.iter().zip(gradients).enumerate() {
        let found = store.get(var).unwrap().to_device(&Device::Cpu)?;
        assert_close(&format!("{what}, gradient {index}"), &found, gradient, terms);
    }
    Ok(())
}

/// The composition's own gradients are candle's, in f64, together and alone.
fn agree_composed(
    what: &str,
    make: Make<'_>,
    inputs: &[Tensor],
    gradients: &[Tensor],
    terms: usize,
) -> Result<()> {
    let vars: Vec<Var> = inputs.iter().map(|input| Var::from_tensor(&wide(input))).collect::<Result<_>>()?;
    let found = |wanted: &dyn Fn(usize) -> bool| {
        run(Tape::training(), |tape| {
            let node = |(index, var): (usize, &Var)| {
                if wanted(index) { tape.parameter(var) } else { tape.constant(&var.as_detached_tensor()) }
            };
            let nodes: Vec<Node> = vars.iter().enumerate().map(node).collect();
            tape.apply_shared(make(), &nodes.iter().collect::<Vec<_>>())
        })
    };
    let (_, all) = found(&|_| true)?;
    for (index, (var, gradient)) in vars.iter().zip(gradients).enumerate() {
        let what = format!("{what}, gradient {index} of its composition");
        assert_close(&what, all.get(var).unwrap(), gradient, terms);
        let (_, alone) = found(&|wanted| wanted == index)?;
        assert_close(&what, alone.get(var).unwrap(), gradient, terms);
    }
    Ok(())
}

/// The loops agree with the composition in f64, on a tape and through candle; `terms` as in [`assert_close`].
pub(crate) fn agree(what: &str, make: Make<'_>, inputs: &[Tensor], terms: usize) -> Result<()> {
    let (ys, gradients) = composed(make, inputs)?;
    let vars: Vec<Var> = inputs.iter().map(Var::from_tensor).collect::<Result<_>>()?;
    let apply = |tape: &Tape, wanted: &dyn Fn(usize) -> bool| {
        let node = |(index, var): (usize, &Var)| {
            if wanted(index) { tape.parameter(var) } else { tape.constant(&var.as_detached_tensor()) }
        };
        let nodes: Vec<Node> = vars.iter().enumerate().map(node).collect();
        tape.apply_shared(make(), &nodes.iter().collect::<Vec<_>>())
    };
    let (own, found) = run(Tape::training(), |tape| apply(tape, &|_| true))?;
    let (candle, found_by_candle) = run(Tape::candle(), |tape| apply(tape, &|_| true))?;
    assert_close(what, &own, &ys, terms);
    assert_close(what, &candle, &ys, terms);
    assert_same(what, apply(&Tape::inference(), &|_| true)?.tensor(), &own);
    for (index, (var, gradient)) in vars.iter().zip(&gradients).enumerate() {
        let what = format!("{what}, gradient {index}");
        let own = found.get(var).unwrap();
        assert_close(&what, own, gradient, terms);
        assert_close(&what, found_by_candle.get(var).unwrap(), gradient, terms);
        // A gradient does not depend on which others are wanted.
        let (_, alone) = run(Tape::training(), |tape| apply(tape, &|wanted| wanted == index))?;
        assert_same(&what, alone.get(var).unwrap(), own);
        for other in vars.iter().enumerate().filter(|(other, _)| *other != index) {
            assert!(alone.get(other.1).is_none(), "{what}: a constant has a gradient");
        }
    }
    agree_composed(what, make, inputs, &gradients, terms)?;
    #[cfg(feature = "cuda")]
    agree_on_gpu(what, make, inputs, (&ys, &gradients), terms)?;
    Ok(())
}

/// Candle's gradients of the composition are those of central differences, along random directions.
pub(crate) fn differ(what: &str, make: Make<'_>, inputs: &[Tensor]) -> Result<()> {
    const STEP: f64 = 1e-5;
    let (ys, gradients) = composed(make, inputs)?;
    let pairing = Pairing(random(99, ys.dims()));
    for (index, gradient) in gradients.iter().enumerate() {
        for seed in 0..3 {
            let direction = wide(&random(1000 + seed, gradient.dims()));
            let at = |step: f64| -> Result<f64> {
                let mut moved: Vec<Tensor> = inputs.iter().map(wide).collect();
                moved[index] = (&moved[index] + (&direction * step)?)?;
                pairing.compose(&[make().compose(&moved)?])?.to_scalar::<f64>()
            };
            let found = (at(STEP)? - at(-STEP)?) / (2.0 * STEP);
            let expected = (gradient * &direction)?.sum_all()?.to_scalar::<f64>()?;
            // Third derivatives times 1e-10, and the rounding of two sums over the step.
            let size = norm(gradient) * norm(&direction);
            let allowed = 1e-7 * size + 4.0 * f64::EPSILON * norm(&ys) * norm(&pairing.0) / STEP;
            assert!((found - expected).abs() <= allowed, "{what}, gradient {index}: {found} {expected}");
        }
    }
    Ok(())
}

/// Both.
pub(crate) fn check(what: &str, make: Make<'_>, inputs: &[Tensor], terms: usize) -> Result<()> {
    agree(what, make, inputs, terms)?;
    differ(what, make, inputs)
}
