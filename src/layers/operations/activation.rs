use super::compose;
use crate::layers::operation::Needs;
use crate::layers::{Operation, View, kernels};
use candle_core::{Result, Tensor, bail};

/// `max(x, 0)`, whose gradient at zero is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Relu;

impl Operation for Relu {
    fn name(&self) -> &'static str {
        "relu"
    }

    fn compose(&self, inputs: &[Tensor]) -> Result<Tensor> {
        compose::rectified(&inputs[0])
    }

    fn forward(&self, inputs: &[View<'_>]) -> Result<(Vec<f32>, Vec<usize>)> {
        Ok((kernels::relu(inputs[0].data), inputs[0].shape.to_vec()))
    }

    fn backward(
        &self,
        _inputs: &[View<'_>],
        output: View<'_>,
        gradient: View<'_>,
        _wanted: &[bool],
    ) -> Result<Vec<Option<Vec<f32>>>> {
        Ok(vec![Some(kernels::relu_backward(output.data, gradient.data))])
    }

    fn compose_backward(
        &self,
        _inputs: &[Tensor],
        output: &Tensor,
        gradient: &Tensor,
        _wanted: &[bool],
    ) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(compose::rectified_gradient(output, gradient)?)])
    }

    fn needs(&self) -> Needs {
        Needs { inputs: false, output: true }
    }
}

/// The sum of two tensors of one shape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Add;

impl Operation for Add {
    fn name(&self) -> &'static str {
        "add"
    }

    fn compose(&self, inputs: &[Tensor]) -> Result<Tensor> {
        &inputs[0] + &inputs[1]
    }

    fn forward(&self, inputs: &[View<'_>]) -> Result<(Vec<f32>, Vec<usize>)> {
        if inputs[0].shape != inputs[1].shape {
            bail!("can't add {:?} and {:?}", inputs[0].shape, inputs[1].shape);
        }
        Ok((kernels::add(inputs[0].data, inputs[1].data), inputs[0].shape.to_vec()))
    }

    fn backward(
        &self,
        _inputs: &[View<'_>],
        _output: View<'_>,
        gradient: View<'_>,
        wanted: &[bool],
    ) -> Result<Vec<Option<Vec<f32>>>> {
        Ok(wanted.iter().map(|&wanted| wanted.then(|| gradient.data.to_vec())).collect())
    }

    fn compose_backward(
        &self,
        _inputs: &[Tensor],
        _output: &Tensor,
        gradient: &Tensor,
        wanted: &[bool],
    ) -> Result<Vec<Option<Tensor>>> {
        Ok(wanted.iter().map(|&wanted| wanted.then(|| gradient.clone())).collect())
    }

    fn needs(&self) -> Needs {
        Needs { inputs: false, output: false }
    }
}
