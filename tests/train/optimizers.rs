//! Steps are PyTorch's, or the paper's, computed anew in f64.

use crate::recorded::{farthest, recorded};
use candle_core::{DType, Device, Result, Tensor};
use fnl::layers::{Parameters, Role};
use fnl::train::{
    AdamWOptions, Decay, DecayTable, GradientSum, LambOptions, OptimizerOptions, SgdOptions, Update,
    clip_gradients, gradient_norm,
};
use indexmap::IndexMap;

/// f32 rounds each of 8 steps' handful of operations on numbers below 4.
const ROUNDING: f64 = 1e-6;

#[test]
fn steps_are_torchs() -> Result<()> {
    let recorded = recorded();
    for run in &recorded.optimizers {
        let parameters = recorded.parameters()?;
        let decay: DecayTable =
            recorded.shapes.keys().map(|name| (name.clone(), Decay::Weight(run.weight_decay))).collect();
        let mut optimizer = run.options.build().unwrap();
        for (step, after) in run.after.iter().enumerate() {
            let gradients = recorded.gradients(step)?;
            let update = Update {
                gradients: &gradients,
                decay: &decay,
                frobenius: &IndexMap::new(),
                learning_rate: recorded.rates[step],
            };
            optimizer.step(&parameters, &update)?;
            for (name, parameter) in parameters.iter() {
                let error = farthest(parameter.var(), &after[name])?;
                assert!(error < ROUNDING, "{:?}, step {step}, {name}: {error:e}", run.options);
            }
        }
    }
    Ok(())
}

/// Numbers that differ, of both signs.
fn wave(count: usize, seed: f64) -> Vec<f64> {
    (0..count).map(|i| ((i as f64 + seed) * 12.9898).sin()).collect()
}

/// One parameter in f64, as the formulas say.
struct Reference {
    p: Vec<f64>,
    m: Vec<f64>,
    v: Vec<f64>,
}

impl Reference {
    fn new(p: &[f64]) -> Self {
        Self { p: p.to_vec(), m: vec![0.0; p.len()], v: vec![0.0; p.len()] }
    }

    /// `lambda p`, or `lambda` times the penalty's gradient.
    fn pull(&self, i: usize, decay: Decay, penalty: &[f64]) -> f64 {
        match decay {
            Decay::Weight(lambda) => lambda * self.p[i],
            Decay::Frobenius(lambda) => lambda * penalty[i],
            _ => 0.0,
        }
    }

    fn step(
        &mut self,
        options: &OptimizerOptions,
        t: i32,
        rate: f64,
        g: &[f64],
        decay: Decay,
        penalty: &[f64],
    ) {
        match *options {
            OptimizerOptions::Sgd(SgdOptions { momentum, nesterov }) => {
                for (i, g) in g.iter().enumerate() {
                    let d = g + self.pull(i, decay, penalty);
                    self.m[i] = momentum * self.m[i] + d;
                    self.p[i] -= rate * if nesterov { d + momentum * self.m[i] } else { self.m[i] };
                }
            }
            OptimizerOptions::AdamW(AdamWOptions { beta1, beta2, epsilon }) => {
                for (i, &g) in g.iter().enumerate() {
                    let u = self.direction(i, [beta1, beta2], epsilon, t, g);
                    self.p[i] -= rate * (u + self.pull(i, decay, penalty));
                }
            }
            OptimizerOptions::Lamb(LambOptions { beta1, beta2, epsilon }) => {
                let u: Vec<f64> = (0..self.p.len())
                    .map(|i| {
                        self.direction(i, [beta1, beta2], epsilon, t, g[i]) + self.pull(i, decay, penalty)
                    })
                    .collect();
                let norm = |xs: &[f64]| xs.iter().map(|x| x * x).sum::<f64>().sqrt();
                let (of_p, of_u) = (norm(&self.p), norm(&u));
                let ratio = if of_p > 0.0 && of_u > 0.0 { of_p / of_u } else { 1.0 };
                for (p, u) in self.p.iter_mut().zip(u) {
                    *p -= rate * ratio * u;
                }
            }
            _ => unreachable!("an optimizer without a formula here"),
        }
    }

    fn direction(&mut self, i: usize, betas: [f64; 2], epsilon: f64, t: i32, g: f64) -> f64 {
        self.m[i] = betas[0] * self.m[i] + (1.0 - betas[0]) * g;
        self.v[i] = betas[1] * self.v[i] + (1.0 - betas[1]) * g * g;
        let (m, v) = (self.m[i] / (1.0 - betas[0].powi(t)), self.v[i] / (1.0 - betas[1].powi(t)));
        m / (v.sqrt() + epsilon)
    }
}

fn all_options() -> Vec<OptimizerOptions> {
    vec![
        OptimizerOptions::Sgd(SgdOptions { momentum: 0.0, nesterov: false }),
        OptimizerOptions::Sgd(SgdOptions { momentum: 0.9, nesterov: false }),
        OptimizerOptions::Sgd(SgdOptions::default()),
        OptimizerOptions::AdamW(AdamWOptions::default()),
        OptimizerOptions::Lamb(LambOptions::default()),
    ]
}

/// Every optimizer with every decay, in the loops of f32 and in candle's operations of f64; the larger tensor is cut into pieces.
#[test]
fn steps_are_the_formulas() -> Result<()> {
    let shapes: [&[usize]; 2] = [&[3, 5], &[330, 331]];
    for (dtype, tolerance) in [(DType::F32, 2e-6), (DType::F64, 1e-12)] {
        for options in all_options() {
            for decay in [Decay::None, Decay::Weight(0.02), Decay::Frobenius(0.02)] {
                for shape in shapes {
                    let count = shape.iter().product();
                    let start = wave(count, 0.0);
                    let tensor =
                        |values: &[f64]| Tensor::from_slice(values, shape, &Device::Cpu)?.to_dtype(dtype);
                    let mut parameters = Parameters::new();
                    parameters.insert("w", &tensor(&start)?, Role::Factor)?;
                    let table: DecayTable = [("w".to_owned(), decay)].into_iter().collect();
                    let mut optimizer = options.build().unwrap();
                    let mut reference = Reference::new(&start);
                    for t in 1..=3 {
                        let (g, penalty) =
                            (wave(count, f64::from(t) * 0.37), wave(count, f64::from(t) * 0.71));
                        let mut gradients = GradientSum::new();
                        gradients.insert("w", tensor(&g)?);
                        let frobenius = IndexMap::from([("w".to_owned(), tensor(&penalty)?)]);
                        let update = Update {
                            gradients: &gradients,
                            decay: &table,
                            frobenius: &frobenius,
                            learning_rate: 0.05,
                        };
                        optimizer.step(&parameters, &update)?;
                        reference.step(&options, t, 0.05, &g, decay, &penalty);
                    }
                    let found = parameters.get("w").unwrap().var();
                    let error = farthest(found, &reference.p)?;
                    // Adam's direction divides by roots of tiny squares, where the gradient nearly vanishes.
                    assert!(error < tolerance, "{options:?} {decay:?} {shape:?} {dtype:?}: {error:e}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn a_weight_of_zeros_takes_lambs_step_without_ratio() -> Result<()> {
    for dtype in [DType::F32, DType::F64] {
        let mut parameters = Parameters::new();
        let zeros = Tensor::zeros(2, dtype, &Device::Cpu)?;
        let w = parameters.insert("w", &zeros, Role::Weight)?;
        let mut gradients = GradientSum::new();
        gradients.insert("w", Tensor::new(&[0.5f64, -2.0], &Device::Cpu)?.to_dtype(dtype)?);
        let mut optimizer = OptimizerOptions::Lamb(LambOptions::default()).build().unwrap();
        let (decay, frobenius) = (DecayTable::new(), IndexMap::new());
        let update =
            Update { gradients: &gradients, decay: &decay, frobenius: &frobenius, learning_rate: 0.5 };
        optimizer.step(&parameters, &update)?;
        // The first direction is the gradient's sign, but for epsilon.
        assert!(farthest(&w, &[-0.5, 0.5])? < 1e-5);
    }
    Ok(())
}

/// A gradient that is the parameter itself, as that of `|w|^2 / 2` is, is read before it changes.
#[test]
fn a_parameter_may_be_its_own_gradient() -> Result<()> {
    for options in all_options() {
        let step = |own: bool| -> Result<Vec<f32>> {
            let mut parameters = Parameters::new();
            let w = parameters.insert("w", &Tensor::new(&[0.5f32, -2.0], &Device::Cpu)?, Role::Weight)?;
            let mut gradients = GradientSum::new();
            gradients.insert("w", if own { w.as_detached_tensor() } else { w.copy()? });
            let (decay, frobenius) = (DecayTable::new(), IndexMap::new());
            let update =
                Update { gradients: &gradients, decay: &decay, frobenius: &frobenius, learning_rate: 0.5 };
            options.build().unwrap().step(&parameters, &update)?;
            w.to_vec1()
        };
        let (own, copied) = (step(true)?, step(false)?);
        assert_eq!(own, copied);
        assert_ne!(own, [0.5, -2.0]);
    }
    Ok(())
}

#[test]
fn what_has_no_gradient_stays() -> Result<()> {
    for options in all_options() {
        let mut parameters = Parameters::new();
        let w = parameters.insert("w", &Tensor::new(&[0.5f32, -2.0], &Device::Cpu)?, Role::Weight)?;
        let mean =
            parameters.insert("mean", &Tensor::new(&[0.5f32, -2.0], &Device::Cpu)?, Role::Statistic)?;
        let mut gradients = GradientSum::new();
        gradients.insert("mean", Tensor::new(&[1f32, 1.0], &Device::Cpu)?);
        let decay: DecayTable =
            ["w", "mean"].map(|name| (name.to_owned(), Decay::Weight(0.1))).into_iter().collect();
        let update =
            Update { gradients: &gradients, decay: &decay, frobenius: &IndexMap::new(), learning_rate: 0.5 };
        options.build().unwrap().step(&parameters, &update)?;
        assert_eq!(w.to_vec1::<f32>()?, [0.5, -2.0]);
        assert_eq!(mean.to_vec1::<f32>()?, [0.5, -2.0]);
    }
    Ok(())
}

#[test]
fn steps_refuse_what_does_not_fit() -> Result<()> {
    let mut parameters = Parameters::new();
    parameters.insert("w", &Tensor::new(&[0.5f32, -2.0], &Device::Cpu)?, Role::Weight)?;
    let mut optimizer = OptimizerOptions::default().build().unwrap();
    let refusal = |gradient: &[f32], penalty: Option<&[f32]>, optimizer: &mut dyn fnl::train::Optimizer| {
        let mut gradients = GradientSum::new();
        gradients.insert("w", Tensor::new(gradient, &Device::Cpu).unwrap());
        let decay: DecayTable = [("w".to_owned(), Decay::Frobenius(0.1))].into_iter().collect();
        let frobenius = penalty
            .map(|values| ("w".to_owned(), Tensor::new(values, &Device::Cpu).unwrap()))
            .into_iter()
            .collect();
        let update =
            Update { gradients: &gradients, decay: &decay, frobenius: &frobenius, learning_rate: 0.5 };
        optimizer.step(&parameters, &update).unwrap_err().to_string()
    };
    assert!(
        refusal(&[1.0, 1.0], None, optimizer.as_mut())
            .starts_with("the penalty on the product with `w` has no gradient")
    );
    assert!(
        refusal(&[1.0], Some(&[1.0, 1.0]), optimizer.as_mut())
            .starts_with("the gradient of `w` has shape [1], expected [2]")
    );
    assert!(
        refusal(&[1.0, 1.0], Some(&[1.0]), optimizer.as_mut())
            .starts_with("the penalty of `w` has shape [1], expected [2]")
    );
    Ok(())
}

#[test]
fn clipping_is_torchs() -> Result<()> {
    let recorded = recorded();
    for clip in &recorded.clips {
        let mut gradients = recorded.gradients(0)?;
        let norm = clip_gradients(&mut gradients, clip.max_norm)?;
        assert!((norm - clip.norm).abs() < 1e-6, "{norm} {}", clip.norm);
        for (name, gradient) in gradients.iter() {
            assert!(farthest(gradient, &clip.clipped[name])? < 1e-7);
        }
    }
    Ok(())
}

#[test]
fn a_norm_is_that_of_all_elements() -> Result<()> {
    for dtype in [DType::F32, DType::F64] {
        let values = wave(100_003, 0.5);
        let tensor = Tensor::from_slice(&values, values.len(), &Device::Cpu)?.to_dtype(dtype)?;
        let mut gradients = GradientSum::new();
        gradients.insert("w", tensor.narrow(0, 0, 70_001)?);
        gradients.insert("v", tensor.narrow(0, 70_001, 30_002)?);
        let expected = values.iter().map(|x| x * x).sum::<f64>().sqrt();
        let norm = gradient_norm(&gradients)?;
        // The elements were rounded to f32 before they were squared in f64.
        assert!((norm / expected - 1.0).abs() < 1e-7, "{norm} {expected}");
        gradients.insert("x", Tensor::new(&[f32::INFINITY], &Device::Cpu)?);
        assert_eq!(clip_gradients(&mut gradients, 1.0)?, f64::INFINITY);
        assert_eq!(
            gradients.get("w").unwrap().get(0)?.to_dtype(DType::F64)?.to_scalar::<f64>()?,
            tensor.get(0)?.to_dtype(DType::F64)?.to_scalar::<f64>()?
        );
    }
    Ok(())
}

#[test]
fn options_refuse_what_is_no_rule() {
    let refused = |options: OptimizerOptions| options.build().unwrap_err().to_string();
    let sgd = |momentum, nesterov| OptimizerOptions::Sgd(SgdOptions { momentum, nesterov });
    assert_eq!(refused(sgd(1.0, false)), "momentum 1 is not from 0 to below 1");
    assert_eq!(refused(sgd(f64::NAN, false)), "momentum NaN is not from 0 to below 1");
    assert_eq!(refused(sgd(0.0, true)), "nesterov needs a momentum above 0");
    let lamb = LambOptions { epsilon: 0.0, ..LambOptions::default() };
    assert_eq!(refused(OptimizerOptions::Lamb(lamb)), "epsilon 0 is not a number above 0");
    let adamw = AdamWOptions { beta2: -0.1, ..AdamWOptions::default() };
    assert_eq!(refused(OptimizerOptions::AdamW(adamw)), "beta2 -0.1 is not from 0 to below 1");
    let unknown = "adam".parse::<OptimizerOptions>().unwrap_err();
    assert_eq!(unknown.to_string(), "unknown optimizer `adam`, expected one of sgd, adamw, lamb");
}
