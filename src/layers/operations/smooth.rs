use super::Relu;
use crate::layers::kernels::Smooth;
use crate::layers::{Node, Operation, Tape, View};
use candle_core::{Result, Tensor, bail};
use serde::{Deserialize, Serialize};

/// An activation between layers, under the name that Hugging Face's configurations have for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Activation {
    /// `max(x, 0)`.
    Relu,
    /// `x P(X <= x)` for a standard normal `X`.
    Gelu,
    /// The same, its distribution approximated by a hyperbolic tangent.
    #[serde(alias = "gelu_pytorch_tanh", alias = "gelu_fast")]
    GeluNew,
    /// `x / (1 + exp(-x))`.
    #[serde(alias = "swish")]
    Silu,
    /// The hyperbolic tangent.
    Tanh,
}

impl Activation {
    /// Applies it to each element in a computation.
    ///
    /// # Errors
    ///
    /// - a device that fails
    pub fn apply_on(self, tape: &Tape, xs: &Node) -> Result<Node> {
        match SmoothActivation::new(self) {
            Some(smooth) => tape.apply(smooth, &[xs]),
            None => tape.apply(Relu, &[xs]),
        }
    }
}

/// Applies an [`Activation`] that is smooth to each element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SmoothActivation {
    kind: Smooth,
}

impl SmoothActivation {
    /// The operation of an activation; none for the rectifier, which is [`Relu`](super::Relu).
    #[must_use]
    pub fn new(activation: Activation) -> Option<Self> {
        let kind = match activation {
            Activation::Relu => return None,
            Activation::Gelu => Smooth::Gelu,
            Activation::GeluNew => Smooth::GeluTanh,
            Activation::Silu => Smooth::Silu,
            Activation::Tanh => Smooth::Tanh,
        };
        Some(Self { kind })
    }

    /// Its loops.
    pub(super) fn kind(self) -> Smooth {
        self.kind
    }
}

impl Operation for SmoothActivation {
    fn name(&self) -> &'static str {
        "activation"
    }

    fn compose(&self, inputs: &[Tensor]) -> Result<Tensor> {
        match self.kind {
            Smooth::Gelu => inputs[0].gelu_erf(),
            Smooth::GeluTanh => inputs[0].gelu(),
            Smooth::Silu => inputs[0].silu(),
            Smooth::Tanh => inputs[0].tanh(),
        }
    }

    fn forward(&self, inputs: &[View<'_>]) -> Result<(Vec<f32>, Vec<usize>)> {
        Ok((self.kind.apply(inputs[0].data), inputs[0].shape.to_vec()))
    }

    fn backward(
        &self,
        inputs: &[View<'_>],
        _output: View<'_>,
        gradient: View<'_>,
        _wanted: &[bool],
    ) -> Result<Vec<Option<Vec<f32>>>> {
        Ok(vec![Some(self.kind.backward(inputs[0].data, gradient.data))])
    }
}

/// The product of two tensors of one shape, element by element.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Multiply;

impl Operation for Multiply {
    fn name(&self) -> &'static str {
        "multiply"
    }

    fn compose(&self, inputs: &[Tensor]) -> Result<Tensor> {
        &inputs[0] * &inputs[1]
    }

    fn forward(&self, inputs: &[View<'_>]) -> Result<(Vec<f32>, Vec<usize>)> {
        if inputs[0].shape != inputs[1].shape {
            bail!("can't multiply {:?} and {:?}", inputs[0].shape, inputs[1].shape);
        }
        Ok((products(inputs[0].data, inputs[1].data), inputs[0].shape.to_vec()))
    }

    fn backward(
        &self,
        inputs: &[View<'_>],
        _output: View<'_>,
        gradient: View<'_>,
        wanted: &[bool],
    ) -> Result<Vec<Option<Vec<f32>>>> {
        Ok(vec![
            wanted[0].then(|| products(inputs[1].data, gradient.data)),
            wanted[1].then(|| products(inputs[0].data, gradient.data)),
        ])
    }

    fn compose_backward(
        &self,
        inputs: &[Tensor],
        _output: &Tensor,
        gradient: &Tensor,
        wanted: &[bool],
    ) -> Result<Vec<Option<Tensor>>> {
        let products = inputs.iter().rev().map(|other| other * gradient);
        products.zip(wanted).map(|(found, wanted)| wanted.then_some(found).transpose()).collect()
    }
}

fn products(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a * b).collect()
}
