//! Numbers from PyTorch 2.15, recorded by `torch_steps.py`.

use candle_core::{Device, Result, Tensor};
use fnl::layers::{Parameters, Role};
use fnl::train::{GradientSum, OptimizerOptions};
use indexmap::IndexMap;
use serde::Deserialize;

pub(crate) type Values = IndexMap<String, Vec<f64>>;

#[derive(Deserialize)]
pub(crate) struct Recorded {
    pub(crate) shapes: IndexMap<String, Vec<usize>>,
    pub(crate) start: Values,
    pub(crate) rates: Vec<f64>,
    pub(crate) gradients: Vec<Values>,
    pub(crate) optimizers: Vec<Run>,
    pub(crate) clips: Vec<Clip>,
    pub(crate) logits: Vec<f64>,
    pub(crate) teacher: Vec<f64>,
    pub(crate) labels: Vec<u32>,
    pub(crate) losses: Vec<Loss>,
    pub(crate) distillations: Vec<Loss>,
    pub(crate) schedules: Vec<Rates>,
}

#[derive(Deserialize)]
pub(crate) struct Run {
    pub(crate) options: OptimizerOptions,
    pub(crate) weight_decay: f64,
    pub(crate) after: Vec<Values>,
}

#[derive(Deserialize)]
pub(crate) struct Clip {
    pub(crate) max_norm: f64,
    pub(crate) norm: f64,
    pub(crate) clipped: Values,
}

#[derive(Deserialize)]
pub(crate) struct Loss {
    pub(crate) label_smoothing: f64,
    #[serde(default)]
    pub(crate) temperature: f64,
    #[serde(default)]
    pub(crate) weight: f64,
    pub(crate) value: f64,
    pub(crate) gradient: Vec<f64>,
}

#[derive(Deserialize)]
pub(crate) struct Rates {
    pub(crate) schedule: String,
    pub(crate) rates: Vec<f64>,
}

pub(crate) fn recorded() -> Recorded {
    serde_json::from_str(include_str!("torch_steps.json")).unwrap()
}

impl Recorded {
    pub(crate) fn tensor(&self, values: &Values, name: &str) -> Result<Tensor> {
        let values: Vec<f32> = values[name].iter().map(|&value| value as f32).collect();
        Tensor::from_vec(values, self.shapes[name].as_slice(), &Device::Cpu)
    }

    pub(crate) fn parameters(&self) -> Result<Parameters> {
        let mut parameters = Parameters::new();
        for name in self.shapes.keys() {
            parameters.insert(name, &self.tensor(&self.start, name)?, Role::Weight)?;
        }
        Ok(parameters)
    }

    pub(crate) fn gradients(&self, step: usize) -> Result<GradientSum> {
        let mut sum = GradientSum::new();
        for name in self.shapes.keys() {
            sum.insert(name, self.tensor(&self.gradients[step], name)?);
        }
        Ok(sum)
    }
}

/// The largest difference of any two elements.
pub(crate) fn farthest(found: &Tensor, expected: &[f64]) -> Result<f64> {
    let found = found.to_dtype(candle_core::DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
    assert_eq!(found.len(), expected.len());
    Ok(found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max))
}
