//! What a tape collects: sums over uses, nothing for constants, the same bits with any number of threads.

use crate::agreement::{Pairing, assert_close, assert_same, norm, random, run, wide};
use candle_core::{DType, Device, Result, Tensor, Var};
use fnl::layers::operations::{Add, GlobalAverage, MaxPool, Product, Relu};
use fnl::layers::{BatchNorm, Conv2d, Convolution, Linear, Node, Statistics, Tape};

fn training() -> Tape {
    Tape::training()
}

#[test]
fn a_parameter_used_twice_gets_both_gradients() -> Result<()> {
    let (xs, weight) = (random(1, &[3, 4]), Var::from_tensor(&random(2, &[4, 4]))?);
    // x Wt Wt + x: asked for once, and once for each use
    let act = |tape: &Tape, again: bool| {
        let first = tape.parameter(&weight);
        let second = if again { tape.parameter(&weight) } else { first.clone() };
        let ys = tape.apply(Product::new(false), &[&tape.constant(&xs), &first])?;
        tape.apply(Product::new(false), &[&ys, &second])
    };
    let exact = Var::from_tensor(&wide(&weight))?;
    let ys = wide(&xs).matmul(&exact.t()?)?.matmul(&exact.t()?)?;
    let store = (ys * wide(&random(99, &[3, 4])))?.sum_all()?.backward()?;
    for again in [false, true] {
        for tape in [training(), Tape::candle()] {
            let (_, found) = run(tape, |tape| act(tape, again))?;
            assert_close("twice", found.get(&weight).unwrap(), store.get(&exact).unwrap(), 16);
        }
    }
    Ok(())
}

#[test]
fn a_node_used_twice_gets_both_gradients() -> Result<()> {
    let var = Var::from_tensor(&random(1, &[5]))?;
    // y = relu(x) + relu(x) + x: three paths, two of them one node, one of them the parameter itself
    let (ys, found) = run(training(), |tape| {
        let xs = tape.parameter(&var);
        let positive = tape.apply(Relu, &[&xs])?;
        let double = tape.apply(Add, &[&positive, &positive])?;
        tape.apply(Add, &[&double, &xs])
    })?;
    let weights = random(99, ys.dims()).to_vec1::<f32>()?;
    let expected: Vec<f32> = var
        .to_vec1::<f32>()?
        .iter()
        .zip(&weights)
        .map(|(x, w)| if *x > 0.0 { 3.0 * w } else { *w })
        .collect();
    // three equal numbers added one after the other: rounded twice
    let expected = Tensor::new(expected, &Device::Cpu)?;
    assert_close("node", found.get(&var).unwrap(), &expected, 2);
    Ok(())
}

#[test]
fn a_result_used_again_after_the_loss_keeps_its_gradient() -> Result<()> {
    // What is computed beside the loss and not part of it does not disturb.
    let var = Var::from_tensor(&random(1, &[3, 4]))?;
    let plain = run(training(), |tape| tape.apply(Relu, &[&tape.parameter(&var)]))?.1;
    let beside = run(training(), |tape| {
        let xs = tape.parameter(&var);
        let ys = tape.apply(Relu, &[&xs])?;
        tape.apply(Add, &[&ys, &xs])?;
        Ok(ys)
    })?
    .1;
    assert_same("beside", beside.get(&var).unwrap(), plain.get(&var).unwrap());
    Ok(())
}

#[test]
fn constants_and_inference_leave_no_gradients() -> Result<()> {
    let (used, unused) = (Var::from_tensor(&random(1, &[3, 4]))?, Var::from_tensor(&random(2, &[3, 4]))?);
    let add = |tape: &Tape, second: &Node| {
        let first = tape.parameter(&used);
        let _ = tape.parameter(&unused); // asked for, not used
        tape.apply(Add, &[&first, second])
    };
    let (_, found) = run(training(), |tape| add(tape, &tape.constant(unused.as_tensor())))?;
    assert!(found.get(&used).is_some() && found.get(&unused).is_none());
    let (_, found) = run(Tape::inference(), |tape| add(tape, &tape.constant(unused.as_tensor())))?;
    assert!(found.get(&used).is_none() && found.get(&unused).is_none());
    let refused = run(training(), |tape| {
        let constant = tape.constant(used.as_tensor());
        tape.apply(Add, &[&constant, &constant])
    });
    assert!(refused.is_err(), "a loss without parameters has no gradients, and was not meant");
    // Nothing of what inference computes is tracked by candle either.
    let tape = Tape::inference();
    let ys = add(&tape, &tape.parameter(&unused))?;
    assert!(!ys.tensor().track_op());
    Ok(())
}

/// A network with an operation of each kind.
struct Small {
    first: Conv2d,
    norm: BatchNorm,
    second: Conv2d,
    linear: Linear,
}

impl Small {
    fn new() -> Result<Self> {
        let config = Convolution::new([1; 2], [1; 2]);
        let dense = |seed, shape: &[usize]| Conv2d::dense(&random(seed, shape), None, config);
        let var = |tensor: Tensor| Var::from_tensor(&tensor);
        Ok(Self {
            first: dense(1, &[13, 3, 3, 3])?.factored(fnl::decompose::Scheme::Spatial, 5)?,
            norm: BatchNorm::new(
                var(random(2, &[13]))?,
                var(random(3, &[13]))?,
                var(random(4, &[13]))?,
                var(random(5, &[13]).abs()?)?,
                1e-5,
            ),
            second: dense(6, &[17, 13, 3, 3])?,
            linear: Linear::dense(&random(7, &[4, 17]), Some(&random(8, &[4])))?,
        })
    }

    fn forward(&self, tape: &Tape, xs: &Node, statistics: Statistics) -> Result<Node> {
        let ys = self.first.forward_on(tape, xs)?;
        let ys = self.norm.forward_on(tape, &ys, None, true, statistics)?;
        let ys = tape.apply(MaxPool::new(3, 2, 1), &[&ys])?;
        let ys = self.second.forward_on(tape, &ys)?;
        self.linear.forward_on(tape, &tape.apply(GlobalAverage, &[&ys])?)
    }

    fn vars(&self) -> Vec<Var> {
        [self.first.vars(), self.second.vars(), self.linear.vars()].concat()
    }
}

#[test]
fn gradients_have_the_same_bits_on_any_number_of_threads() -> Result<()> {
    let xs = random(20, &[9, 3, 19, 21]);
    let on = |threads: usize| -> Result<Vec<Tensor>> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let network = Small::new()?;
            let statistics = Statistics::Batch { momentum: 0.1 };
            let (ys, found) = run(training(), |tape| network.forward(tape, &tape.constant(&xs), statistics))?;
            let gradients = network.vars().iter().map(|var| found.get(var).unwrap().clone()).collect();
            Ok([vec![ys], gradients].concat())
        })
    };
    let one = on(1)?;
    for threads in [2, 3, 5] {
        for (found, expected) in on(threads)?.iter().zip(&one) {
            assert_same(&format!("{threads} threads"), found, expected);
        }
    }
    Ok(())
}

#[test]
fn fewer_bits_are_near_and_gradients_stay_f32() -> Result<()> {
    let (network, xs) = (Small::new()?, random(20, &[4, 3, 9, 10]));
    let statistics = Statistics::Batch { momentum: 0.1 };
    let (ys, full) = run(Tape::candle(), |tape| network.forward(tape, &tape.constant(&xs), statistics))?;
    let narrow = Tape::candle().with_autocast(Some(DType::F16));
    let tape = &narrow;
    let found = network.forward(tape, &tape.constant(&xs), statistics)?;
    assert_eq!(found.tensor().dtype(), DType::F16);
    // Eleven bits of mantissa, 2^-12 for each of some ten roundings.
    let off = |found: &Tensor, expected: &Tensor| -> Result<f64> {
        Ok(norm(&(wide(found) - wide(expected))?) / norm(expected))
    };
    assert!(off(found.tensor(), &ys)? < 10.0 / 4096.0);
    let loss = (found.tensor().to_dtype(DType::F32)? * Pairing(random(99, ys.dims())).0)?.sum_all()?;
    let store = loss.backward()?;
    for var in network.vars() {
        let gradient = store.get(&var).unwrap();
        assert_eq!(gradient.dtype(), DType::F32);
        // a largest element may be another one, and take its gradient along
        assert!(off(gradient, full.get(&var).unwrap())? < 0.2);
    }
    Ok(())
}

#[test]
fn what_has_no_gradients_on_a_tape_is_refused() -> Result<()> {
    let var = Var::from_tensor(&random(1, &[5]))?;
    let (one, other) = (training(), training());
    let ys = one.apply(Relu, &[&one.parameter(&var)])?;
    // Past the tape: a tensor's own operations leave no record.
    let outside = one.constant(&ys.tensor().sqr()?.sum_all()?);
    let error = one.backward(&outside).unwrap_err().to_string();
    assert!(error.contains("depends on no parameter"), "{error}");
    assert!(other.apply(Relu, &[&ys]).is_err());
    let error = other.backward(&ys).unwrap_err().to_string();
    assert!(error.contains("another tape"), "{error}");
    Ok(())
}

#[test]
fn networks_and_optimizers_are_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<fnl::models::Network>();
    shared::<fnl::models::TextNetwork>();
    shared::<Box<dyn fnl::train::Optimizer>>();
}
