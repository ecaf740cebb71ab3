//! Numbers from PyTorch 2.15, recorded by `torch_steps.py`.

use candle_core::{Device, Result, Tensor};
use fnl::layers::{Parameters, Role};
use fnl::train::{GradientSum, OptimizerOptions};
use indexmap::IndexMap;
use serde::Deserialize;

pub type Values = IndexMap<String, Vec<f64>>;

#[derive(Deserialize)]
pub struct Recorded {
    pub shapes: IndexMap<String, Vec<usize>>,
    pub start: Values,
    pub rates: Vec<f64>,
    pub gradients: Vec<Values>,
    pub optimizers: Vec<Run>,
    pub clips: Vec<Clip>,
    pub logits: Vec<f64>,
    pub teacher: Vec<f64>,
    pub labels: Vec<u32>,
    pub losses: Vec<Loss>,
    pub distillations: Vec<Loss>,
    pub schedules: Vec<Rates>,
}

#[derive(Deserialize)]
pub struct Run {
    pub options: OptimizerOptions,
    pub weight_decay: f64,
    pub after: Vec<Values>,
}

#[derive(Deserialize)]
pub struct Clip {
    pub max_norm: f64,
    pub norm: f64,
    pub clipped: Values,
}

#[derive(Deserialize)]
pub struct Loss {
    pub label_smoothing: f64,
    #[serde(default)]
    pub temperature: f64,
    #[serde(default)]
    pub weight: f64,
    pub loss: f64,
    pub gradient: Vec<f64>,
}

#[derive(Deserialize)]
pub struct Rates {
    pub schedule: String,
    pub rates: Vec<f64>,
}

pub fn recorded() -> Recorded {
    serde_json::from_str(include_str!("torch_steps.json")).unwrap()
}

impl Recorded {
    pub fn tensor(&self, values: &Values, name: &str) -> Result<Tensor> {
        let values: Vec<f32> = values[name].iter().map(|&value| value as f32).collect();
        Tensor::from_vec(values, self.shapes[name].as_slice(), &Device::Cpu)
    }

    pub fn parameters(&self) -> Result<Parameters> {
        let mut parameters = Parameters::new();
        for name in self.shapes.keys() {
            parameters.insert(name, &self.tensor(&self.start, name)?, Role::Weight)?;
        }
        Ok(parameters)
    }

    pub fn gradients(&self, step: usize) -> Result<GradientSum> {
        let mut sum = GradientSum::new();
        for name in self.shapes.keys() {
            sum.insert(name, self.tensor(&self.gradients[step], name)?);
        }
        Ok(sum)
    }
}

/// The largest difference of any two elements.
pub fn farthest(found: &Tensor, expected: &[f64]) -> Result<f64> {
    let found = found.to_dtype(candle_core::DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
    assert_eq!(found.len(), expected.len());
    Ok(found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max))
}
