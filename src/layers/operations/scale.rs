use crate::layers::operation::Needs;
use crate::layers::{Operation, View};
use candle_core::{Result, Tensor};

/// Each element times a constant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale(f64);

impl Scale {
    /// Times this.
    #[must_use]
    pub fn new(factor: f64) -> Self {
        Self(factor)
    }
}

impl Operation for Scale {
    fn name(&self) -> &'static str {
        "scale"
    }

    fn compose(&self, inputs: &[Tensor]) -> Result<Tensor> {
        &inputs[0] * self.0
    }

    fn forward(&self, inputs: &[View<'_>]) -> Result<(Vec<f32>, Vec<usize>)> {
        let factor = self.0 as f32;
        Ok((inputs[0].data.iter().map(|x| factor * x).collect(), inputs[0].shape.to_vec()))
    }

    fn backward(
        &self,
        _inputs: &[View<'_>],
        _output: View<'_>,
        gradient: View<'_>,
        _wanted: &[bool],
    ) -> Result<Vec<Option<Vec<f32>>>> {
        let factor = self.0 as f32;
        Ok(vec![Some(gradient.data.iter().map(|dy| factor * dy).collect())])
    }

    fn needs(&self) -> Needs {
        Needs { inputs: false, output: false }
    }

    fn compose_backward(
        &self,
        _inputs: &[Tensor],
        _output: &Tensor,
        gradient: &Tensor,
        _wanted: &[bool],
    ) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some((gradient * self.0)?)])
    }
}
