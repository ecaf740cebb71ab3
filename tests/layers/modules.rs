//! Layers, dense and factored: the same function at full rank, the collapsed layer's at any, and candle's modules.

use crate::agreement::{Pairing, assert_close, random, run, wide};
use candle_core::{Device, Module, Result, Tensor, Var};
use candle_nn::Optimizer as _;
use fnl::decompose::{Layout, Scheme, Unfolding};
use fnl::layers::operations::Activation;
use fnl::layers::{Conv1d, Conv2d, Convolution, Embedding, Execution, Linear, Tape, Weight};

const EXECUTIONS: [Execution; 3] = [Execution::Sequence, Execution::Product, Execution::Auto];
const SCHEMES: [Scheme; 3] = [Scheme::Spatial, Scheme::Channel, Scheme::Deep];

/// Input, kernel, stride, padding, dilation and groups.
pub(crate) type Geometry = ([usize; 4], [usize; 4], [usize; 2], [usize; 2], [usize; 2], usize);

pub(crate) const GEOMETRIES: [Geometry; 11] = [
    ([2, 4, 9, 8], [6, 4, 3, 3], [1, 1], [1, 1], [1, 1], 1),
    ([2, 4, 9, 8], [6, 4, 3, 3], [2, 2], [1, 1], [1, 1], 1),
    ([1, 4, 9, 8], [6, 4, 3, 3], [1, 2], [0, 1], [1, 1], 1),
    ([2, 4, 9, 8], [6, 4, 3, 3], [3, 1], [1, 0], [1, 1], 1),
    ([1, 4, 9, 11], [6, 4, 5, 3], [1, 1], [2, 1], [2, 1], 1),
    ([2, 4, 9, 11], [6, 4, 2, 4], [2, 3], [1, 3], [3, 2], 1),
    ([2, 4, 9, 8], [6, 2, 3, 3], [1, 1], [1, 1], [1, 1], 2),
    ([1, 6, 9, 8], [6, 1, 3, 3], [2, 2], [1, 1], [1, 1], 6),
    ([2, 4, 9, 8], [6, 4, 1, 1], [2, 2], [0, 0], [1, 1], 1),
    ([2, 4, 9, 8], [6, 4, 1, 5], [1, 2], [0, 2], [1, 1], 1),
    ([2, 4, 9, 8], [6, 4, 5, 1], [2, 1], [2, 0], [1, 1], 1),
];

pub(crate) fn conv2d((_, kernel, stride, padding, dilation, groups): Geometry) -> Result<Conv2d> {
    let mut config = Convolution::new(stride, padding);
    config.dilation = dilation;
    config.groups = groups;
    Conv2d::dense(&random(2, &kernel), Some(&random(3, &kernel[..1])), config)
}

/// Terms that a factored layer adds at most: those of the dense layer, each with the rounding of its `rank` products.
fn terms(kernel: &[usize], rank: usize) -> usize {
    kernel.iter().skip(1).product::<usize>().max(kernel[0]) * rank
}

#[test]
fn convolutions_at_full_rank_are_the_dense_ones() -> Result<()> {
    for geometry in GEOMETRIES {
        let (input, kernel, .., groups) = geometry;
        let (dense, xs) = (conv2d(geometry)?, random(1, &input));
        let expected = dense.forward(&xs)?;
        for scheme in SCHEMES {
            let full = Unfolding::new(Layout::Conv2d, scheme, &kernel, groups).unwrap().max_rank();
            for rank in [full, full + 5] {
                for execution in EXECUTIONS {
                    let what = format!("{geometry:?} {scheme} {rank} {execution:?}");
                    let factored = dense.factored(scheme, rank)?.with_execution(execution);
                    assert_eq!(factored.weight().chain().unwrap().ranks().largest(), rank, "{what}");
                    assert_close(&what, &factored.forward(&xs)?, &expected, terms(&kernel, rank));
                }
            }
        }
    }
    Ok(())
}

#[test]
fn convolutions_at_lower_rank_are_the_collapsed_ones() -> Result<()> {
    for geometry in GEOMETRIES {
        let (input, kernel, .., groups) = geometry;
        let (dense, xs) = (conv2d(geometry)?, random(1, &input));
        for scheme in SCHEMES {
            let full = Unfolding::new(Layout::Conv2d, scheme, &kernel, groups).unwrap().max_rank();
            for rank in [1, full.div_ceil(2)] {
                let factored = dense.factored(scheme, rank)?;
                let collapsed = factored.collapse()?;
                assert!(collapsed.weight().chain().is_none());
                let expected = collapsed.forward(&xs)?;
                for execution in EXECUTIONS {
                    let what = format!("{geometry:?} {scheme} {rank} {execution:?}");
                    let found = factored.clone().with_execution(execution).forward(&xs)?;
                    assert_close(&what, &found, &expected, terms(&kernel, rank));
                }
            }
        }
    }
    Ok(())
}

#[test]
fn gradients_do_not_depend_on_the_execution() -> Result<()> {
    for geometry in GEOMETRIES {
        let (input, kernel, ..) = geometry;
        let xs = random(1, &input);
        for scheme in SCHEMES {
            let layer = conv2d(geometry)?.factored(scheme, 2)?;
            let gradients = |execution| {
                let layer = layer.clone().with_execution(execution);
                let (_, found) = run(Tape::training(), |tape| layer.forward_on(tape, &tape.constant(&xs)))?;
                Ok(layer.vars().iter().map(|var| found.get(var).unwrap().clone()).collect::<Vec<_>>())
            };
            let sequence: Result<Vec<Tensor>> = gradients(Execution::Sequence);
            for (found, expected) in gradients(Execution::Product)?.iter().zip(sequence?) {
                assert_close(&format!("{geometry:?} {scheme}"), found, &expected, 200 * terms(&kernel, 2));
            }
        }
    }
    Ok(())
}

#[test]
fn multiply_adds_are_those_that_are_done() -> Result<()> {
    let counted = |act: &dyn Fn(&Tape) -> Result<()>| -> Result<u64> {
        let tape = Tape::inference();
        act(&tape)?;
        Ok(tape.multiply_adds())
    };
    for geometry in GEOMETRIES {
        let (input, kernel, ..) = geometry;
        let (dense, xs) = (conv2d(geometry)?, random(1, &input));
        let ys = dense.forward(&xs)?;
        // a product for each element of the result and each element of its kernel
        let by_hand = (ys.elem_count() * kernel[1..].iter().product::<usize>()) as u64;
        assert_eq!(dense.multiply_adds(&input)?, by_hand);
        for scheme in SCHEMES {
            for rank in [1, 4, 9] {
                let mut counts = Vec::new();
                for execution in EXECUTIONS {
                    let layer = dense.factored(scheme, rank)?.with_execution(execution);
                    let count = counted(&|tape| layer.forward_on(tape, &tape.constant(&xs)).map(|_| ()))?;
                    assert_eq!(layer.multiply_adds(&input)?, count, "{geometry:?} {scheme} {rank}");
                    counts.push(count);
                }
                assert_eq!(counts[2], counts[0].min(counts[1]), "the cheaper one");
            }
        }
    }
    for scheme in [Scheme::Matrix, Scheme::Deep] {
        for rank in [1, 5, 12] {
            for execution in EXECUTIONS {
                let dense = Linear::dense(&random(1, &[7, 9]), None)?;
                assert_eq!(dense.multiply_adds(&[2, 3, 9]), 6 * 63);
                let layer = dense.with_scheme(scheme, rank)?.with_execution(execution);
                let xs = random(2, &[2, 3, 9]);
                let count = counted(&|tape| layer.forward_on(tape, &tape.constant(&xs)).map(|_| ()))?;
                assert_eq!(layer.multiply_adds(&[2, 3, 9]), count, "{scheme} {rank} {execution:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn convolutions_of_one_axis() -> Result<()> {
    // input, kernel, stride, padding, dilation, groups
    let cases: [([usize; 3], [usize; 3], usize, usize, usize, usize); 5] = [
        ([2, 4, 11], [6, 4, 3], 1, 1, 1, 1),
        ([3, 4, 12], [6, 4, 5], 2, 2, 1, 1),
        ([1, 4, 13], [6, 2, 2], 3, 0, 2, 2),
        ([2, 6, 9], [6, 1, 3], 1, 2, 2, 6),
        ([2, 4, 9], [6, 4, 1], 1, 0, 1, 1),
    ];
    for case in cases {
        let (input, kernel, stride, padding, dilation, groups) = case;
        let (xs, weight, bias) = (random(1, &input), random(2, &kernel), random(3, &kernel[..1]));
        let layer = Conv1d::new(
            Weight::dense(&weight)?,
            Some(Var::from_tensor(&bias)?),
            stride,
            padding,
            dilation,
            groups,
        )?;
        let expected = wide(&xs).conv1d(&wide(&weight), padding, stride, dilation, groups)?;
        let expected = expected.broadcast_add(&wide(&bias).reshape((1, (), 1))?)?;
        let what = format!("{case:?}");
        assert_close(&what, &layer.forward(&xs)?, &expected, terms(&kernel, 1));
        let full = kernel[0] / groups.min(kernel[1] * kernel[2] * groups);
        for rank in [full.min(kernel[1] * kernel[2]), 8] {
            for execution in EXECUTIONS {
                let factored = layer.factored(Scheme::Channel, rank)?.with_execution(execution);
                assert_close(&what, &factored.forward(&xs)?, &expected, terms(&kernel, rank));
            }
        }
        for execution in EXECUTIONS {
            let factored = layer.factored(Scheme::Channel, 1)?.with_execution(execution);
            let expected = factored.collapse()?.forward(&xs)?;
            assert_close(&what, &factored.forward(&xs)?, &expected, terms(&kernel, 1));
        }
    }
    Ok(())
}

#[test]
fn linear_layers() -> Result<()> {
    let (xs, weight, bias) = (random(1, &[2, 3, 9]), random(2, &[7, 9]), random(3, &[7]));
    let expected = wide(&xs).reshape((6, 9))?.matmul(&wide(&weight).t()?)?;
    let expected = expected.broadcast_add(&wide(&bias))?.reshape((2, 3, 7))?;
    let plain = Linear::dense(&weight, Some(&bias))?;
    let stored = weight.t()?.contiguous()?;
    let transposed = Linear::new(Weight::dense(&stored)?, Some(Var::from_tensor(&bias)?), true);
    for dense in [plain, transposed] {
        assert_close("dense", &dense.forward(&xs)?, &expected, 9);
        for scheme in [Scheme::Matrix, Scheme::Deep] {
            for execution in EXECUTIONS {
                for rank in [7, 12] {
                    let factored = dense.with_scheme(scheme, rank)?.with_execution(execution);
                    assert_close(&format!("{scheme} {rank}"), &factored.forward(&xs)?, &expected, 9 * rank);
                }
                let factored = dense.with_scheme(scheme, 3)?.with_execution(execution);
                let collapsed = factored.collapse()?.forward(&xs)?;
                assert_close("rank 3", &factored.forward(&xs)?, &collapsed, 27);
            }
        }
    }
    Ok(())
}

#[test]
fn embeddings() -> Result<()> {
    let table = random(1, &[13, 5]);
    let indices = Tensor::new(&[[3u32, 12, 3], [0, 7, 1]], &Device::Cpu)?;
    let dense = Embedding::new(Weight::dense(&table)?);
    let expected = table.index_select(&indices.flatten_all()?, 0)?.reshape((2, 3, 5))?;
    assert_eq!(dense.forward(&indices)?.to_vec3::<f32>()?, expected.to_vec3::<f32>()?);
    for rank in [5, 9] {
        assert_close("full rank", &dense.factored(rank)?.forward(&indices)?, &expected, 5 * rank);
    }
    let factored = dense.factored(2)?;
    assert_close("rank 2", &factored.forward(&indices)?, &factored.collapse()?.forward(&indices)?, 10);
    let deep = Embedding::new(Weight::factored(&table, Layout::Embedding, Scheme::Deep, 1, 5)?);
    // a middle layer that is not symmetric
    deep.vars()[1].set(&random(4, &[5, 5]))?;
    assert_close("deep", &deep.forward(&indices)?, &deep.collapse()?.forward(&indices)?, 125);
    Ok(())
}

#[test]
fn middle_layers_that_are_not_symmetric() -> Result<()> {
    let xs = random(1, &[2, 9]);
    for transposed in [false, true] {
        let weight = random(2, if transposed { &[9, 7] } else { &[7, 9] });
        let layer = Linear::new(Weight::dense(&weight)?, None, transposed).with_scheme(Scheme::Deep, 4)?;
        layer.vars()[1].set(&random(3, &[4, 4]))?;
        let expected = layer.collapse()?.forward(&xs)?;
        for execution in EXECUTIONS {
            let found = layer.clone().with_execution(execution).forward(&xs)?;
            assert_close(&format!("{transposed} {execution:?}"), &found, &expected, 4 * 9 * 4);
        }
    }
    for geometry in GEOMETRIES {
        let (input, kernel, .., groups) = geometry;
        let layer = conv2d(geometry)?.factored(Scheme::Deep, 3)?;
        layer.vars()[1].set(&random(3, &[3 * groups, 3, 1, 1]))?;
        let xs = random(1, &input);
        let expected = layer.collapse()?.forward(&xs)?;
        let found = layer.with_execution(Execution::Sequence).forward(&xs)?;
        assert_close(&format!("{geometry:?}"), &found, &expected, 3 * terms(&kernel, 3));
    }
    Ok(())
}

/// A candle model out of factored layers.
struct Classifier {
    convolution: Conv2d,
    linear: Linear,
}

impl Module for Classifier {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let ys = self.convolution.forward(xs)?.tanh()?;
        self.linear.forward(&ys.mean((2, 3))?)
    }
}

#[test]
fn candle_trains_layers_as_its_own() -> Result<()> {
    let layers = |scheme, rank| -> Result<Classifier> {
        let convolution = conv2d(GEOMETRIES[1])?.factored(scheme, rank)?;
        Ok(Classifier { convolution, linear: Linear::dense(&random(5, &[5, 6]), None)?.factored(3)? })
    };
    let (xs, target) = (Var::from_tensor(&random(1, &GEOMETRIES[1].0))?, random(9, &[2, 5]));
    for scheme in SCHEMES {
        let model = layers(scheme, 3)?;
        let vars = [model.convolution.vars(), model.linear.vars()].concat();
        let loss = || (model.forward(&xs)? - &target)?.sqr()?.sum_all();
        let before = loss()?;
        let found = before.backward()?;
        assert!(found.get(&xs).is_some(), "gradients go through to what comes before");
        let expected: Vec<Tensor> = vars
            .iter()
            .map(|var| var.as_detached_tensor() - (found.get(var).unwrap() * 0.02)?)
            .collect::<Result<_>>()?;
        let mut sgd = candle_nn::SGD::new(vars.clone(), 0.02)?;
        sgd.step(&found)?;
        for (var, expected) in vars.iter().zip(&expected) {
            assert_close("step", var, expected, 1);
        }
        for _ in 0..5 {
            sgd.backward_step(&loss()?)?;
        }
        assert!(loss()?.to_scalar::<f32>()? < 0.8 * before.to_scalar::<f32>()?, "{scheme}");
    }
    Ok(())
}

#[test]
fn candles_gradients_are_the_tapes() -> Result<()> {
    for geometry in GEOMETRIES {
        let (input, kernel, ..) = geometry;
        let xs = random(1, &input);
        for scheme in SCHEMES {
            let layer = conv2d(geometry)?.factored(scheme, 3)?;
            let (ys, own) = run(Tape::training(), |tape| layer.forward_on(tape, &tape.constant(&xs)))?;
            let by_module = layer.forward(&xs)?;
            let store = (&by_module * Pairing(random(99, ys.dims())).0)?.sum_all()?.backward()?;
            for var in layer.vars() {
                let what = format!("{geometry:?} {scheme}");
                assert_close(&what, own.get(&var).unwrap(), store.get(&var).unwrap(), 20 * terms(&kernel, 3));
            }
        }
    }
    Ok(())
}

/// Without gradients the activation and the sum are made with the product, with gradients after it; in f64 candle composes them.
#[test]
fn what_follows_a_linear_layer_is_the_same_with_gradients_and_without() -> Result<()> {
    let (xs, weight, bias) = (random(1, &[2, 70, 12]), random(2, &[9, 12]), random(3, &[9]));
    let residual = random(4, &[2, 70, 9]);
    let dense = Linear::dense(&weight, Some(&bias))?;
    for layer in [dense.clone(), dense.factored(3)?, Linear::dense(&weight, None)?] {
        let tapes = [Tape::inference(), Tape::candle()];
        for activation in
            [Activation::Relu, Activation::Gelu, Activation::GeluNew, Activation::Silu, Activation::Tanh]
        {
            let run = |tape: &Tape| {
                layer
                    .forward_activated_on(tape, &tape.constant(&xs), activation)
                    .map(|ys| ys.tensor().clone())
            };
            assert_close(&format!("{activation:?}"), &run(&tapes[0])?, &run(&tapes[1])?, 12);
        }
        let run = |tape: &Tape| {
            layer
                .forward_added_on(tape, &tape.constant(&xs), &tape.constant(&residual))
                .map(|ys| ys.tensor().clone())
        };
        assert_close("a sum", &run(&tapes[0])?, &run(&tapes[1])?, 12);
        assert_eq!(tapes[0].multiply_adds(), tapes[1].multiply_adds());
    }
    let tape = Tape::inference();
    // as many elements are not the same shape, with gradients or without
    let wrong = random(5, &[140, 9]);
    for tape in [&tape, &Tape::candle()] {
        let error = dense.forward_added_on(tape, &tape.constant(&xs), &tape.constant(&wrong)).unwrap_err();
        assert!(error.to_string().starts_with("can't add [140, 9] and [2, 70, 9]"), "{error}");
    }
    let layer = Linear::dense(&wide(&weight), Some(&wide(&bias)))?;
    let (xs, residual) = (tape.constant(&wide(&xs)), tape.constant(&wide(&residual)));
    let plain = layer.forward_on(&tape, &xs)?;
    let activated = layer.forward_activated_on(&tape, &xs, Activation::Gelu)?;
    assert_close("gelu in f64", activated.tensor(), &plain.tensor().gelu_erf()?, 1);
    let sum = layer.forward_added_on(&tape, &xs, &residual)?;
    assert_close("a sum in f64", sum.tensor(), &(plain.tensor() + residual.tensor())?, 1);
    Ok(())
}

/// What `compress` makes of convolutions of one axis is built by name, and computes what its collapsed form does.
#[test]
fn recorded_convolutions_of_one_axis_are_built() -> anyhow::Result<()> {
    use fnl::checkpoint::Checkpoint;
    use fnl::commands::{CompressOptions, compress};
    use fnl::layers::{Builder, State};
    use fnl::plan::{NoProgress, RankRule, Recipe, Rule};
    let folder = tempfile::tempdir()?;
    let mut recipe = Recipe::default();
    recipe.rules.push(Rule::new(RankRule::Rank(16)));
    let mut options = CompressOptions::new("fixtures/silero_vad_16k.safetensors".parse()?, recipe);
    let path = folder.path().join("factored.safetensors");
    options.output = Some(path.clone());
    compress(&options, &NoProgress)?;
    let factored = State::read(&Checkpoint::open_path(&path)?)?;
    let mut config = Convolution::default();
    (config.stride, config.padding) = ([1, 2], [0, 1]);
    let xs = random(1, &[2, 129, 20]);
    let run = |state: &State| -> anyhow::Result<Tensor> {
        let layer = Builder::new(state, &Device::Cpu).conv1d("conv1", [128, 129, 3], config, true)?;
        assert_eq!(layer.weight().chain().is_some(), !state.modules.is_empty());
        Ok(layer.forward(&xs)?)
    };
    assert_close("conv1", &run(&factored)?, &run(&factored.collapsed()?)?, 400);
    // Without its record nobody could read it again.
    assert!(factored.write(&fnl::checkpoint::OutputOptions::file(&folder.path().join("x")), None).is_err());
    Ok(())
}
