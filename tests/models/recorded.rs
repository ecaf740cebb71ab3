//! What PyTorch's networks computed in f64, recorded by `torch_networks.py`, and the formula of their weights.

use candle_core::{DType, Device, Result, Tensor};
use fnl::layers::{State, Stored};
use fnl::models::Architecture;
use indexmap::IndexMap;
use serde::Deserialize;

pub(crate) const CLASSES: usize = 7;

#[derive(Deserialize)]
pub(crate) struct Recorded {
    pub(crate) name: String,
    pub(crate) tensors: Vec<(String, Vec<usize>)>,
    #[serde(flatten)]
    pub(crate) run: Option<Run>,
}

/// What four pictures become.
#[derive(Deserialize)]
pub(crate) struct Run {
    pub(crate) side: usize,
    pub(crate) evaluated: Vec<f64>,
    pub(crate) trained: Vec<f64>,
    pub(crate) gradients: IndexMap<String, Vec<f64>>,
    pub(crate) followed: IndexMap<String, Vec<f64>>,
}

pub(crate) fn recorded() -> Vec<Recorded> {
    serde_json::from_str(include_str!("torch_networks.json")).unwrap()
}

/// Numbers between -1 and 1.
pub(crate) fn number(tensor: usize, index: usize) -> f64 {
    let wave = (12.9898 * index as f64 + 78.233 * tensor as f64).sin() * 43_758.545_3;
    (wave - wave.floor()) * 2.0 - 1.0
}

fn numbers(tensor: usize, shape: &[usize], act: impl Fn(f64) -> f64) -> Result<Tensor> {
    let values: Vec<f32> =
        (0..shape.iter().product()).map(|index| act(number(tensor, index)) as f32).collect();
    Tensor::from_vec(values, shape, &Device::Cpu)
}

impl Recorded {
    pub(crate) fn architecture(&self) -> Architecture {
        self.name.parse::<Architecture>().unwrap().with_classes(CLASSES)
    }

    /// The weights of the formula, to be computed with in this type.
    pub(crate) fn state(&self, dtype: DType) -> Result<State> {
        let mut state = State::default();
        for (index, (name, shape)) in self.tensors.iter().enumerate() {
            let fan_in: usize = shape.iter().skip(1).product();
            let tensor = numbers(index, shape, |number| {
                if name.ends_with("running_var") {
                    1.0 + 0.5 * number
                } else if shape.len() > 1 {
                    (6.0 / fan_in as f64).sqrt() * number
                } else if name.ends_with(".weight") {
                    1.0 + 0.3 * number
                } else {
                    0.1 * number
                }
            })?;
            state.tensors.insert(name.clone(), Stored::new(tensor.to_dtype(dtype)?));
        }
        Ok(state)
    }
}

impl Run {
    pub(crate) fn images(&self) -> Result<Tensor> {
        numbers(1000, &[4, 3, self.side, self.side], |number| number)
    }
}

/// The weights of `torch_text.py`'s formula.
pub(crate) fn text_state(tensors: &[(String, Vec<usize>)], dtype: DType) -> State {
    let mut state = State::default();
    for (index, (name, shape)) in tensors.iter().enumerate() {
        let scale = 2.0 / (shape[shape.len() - 1] as f64).sqrt();
        let act = |number: f64| match shape.len() {
            1 if name.ends_with(".weight") => 1.0 + 0.3 * number,
            1 => 0.3 * number,
            _ => scale * number,
        };
        let tensor = numbers(index, shape, act).unwrap();
        state.tensors.insert(name.clone(), Stored::new(tensor.to_dtype(dtype).unwrap()));
    }
    state
}

/// What the gradients are of: the logits' inner product with these.
pub(crate) fn weights() -> Result<Tensor> {
    numbers(2000, &[4, CLASSES], |number| number)
}

/// `|found - expected| / |expected|`, of all elements or of at most 64 evenly spread.
pub(crate) fn relative_error(found: &Tensor, expected: &[f64]) -> Result<f64> {
    let found = found.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
    let step = if found.len() == expected.len() { 1 } else { found.len().div_ceil(64) };
    let found: Vec<f64> = found.into_iter().step_by(step).collect();
    assert_eq!(found.len(), expected.len());
    let squares = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let difference = squares(&mut found.iter().zip(expected).map(|(a, b)| a - b));
    Ok(difference / squares(&mut expected.iter().copied()))
}
