use super::compose;
use crate::layers::operation::Needs;
use crate::layers::{Geometry, Operation, View, kernels};
use candle_core::{D, Result, Tensor, bail};
use std::sync::OnceLock;

/// The mean of each channel over its positions: `(b, c, ...) -> (b, c)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GlobalAverage;

fn planes(shape: &[usize]) -> Result<[usize; 3]> {
    match shape {
        [b, c, positions @ ..] => Ok([*b, *c, positions.iter().product()]),
        _ => bail!("pooling needs an input (b, c, ...), found {shape:?}"),
    }
}

impl Operation for GlobalAverage {
    fn name(&self) -> &'static str {
        "global average"
    }

    fn compose(&self, inputs: &[Tensor]) -> Result<Tensor> {
        let [b, c, positions] = planes(inputs[0].dims())?;
        inputs[0].reshape((b, c, positions))?.mean(D::Minus1)
    }

    fn forward(&self, inputs: &[View<'_>]) -> Result<(Vec<f32>, Vec<usize>)> {
        let shape @ [b, c, _] = planes(inputs[0].shape)?;
        Ok((kernels::global_average(shape, inputs[0].data), vec![b, c]))
    }

    fn backward(
        &self,
        inputs: &[View<'_>],
        _output: View<'_>,
        gradient: View<'_>,
        _wanted: &[bool],
    ) -> Result<Vec<Option<Vec<f32>>>> {
        Ok(vec![Some(kernels::global_average_backward(planes(inputs[0].shape)?, gradient.data))])
    }

    fn needs(&self) -> Needs {
        Needs { inputs: false, output: false }
    }
}

/// The largest of each window: `(b, c, h, w) -> (b, c, h', w')`; outside the input there is nothing.
#[derive(Debug)]
pub struct MaxPool {
    size: usize,
    stride: usize,
    padding: usize,
    /// Where in its plane each largest element was.
    places: OnceLock<Vec<u32>>,
}

impl MaxPool {
    /// Square windows of this size, stride and padding.
    #[must_use]
    pub fn new(size: usize, stride: usize, padding: usize) -> Self {
        Self { size, stride, padding, places: OnceLock::new() }
    }

    fn geometry(&self, shape: &[usize]) -> Result<Geometry> {
        let channels = shape.get(1).copied().unwrap_or(0);
        let (stride, padding) = ([self.stride; 2], [self.padding; 2]);
        Geometry::new(shape, &[channels, 1, self.size, self.size], stride, padding, [1; 2], channels)
    }
}

impl Operation for MaxPool {
    fn name(&self) -> &'static str {
        "max pool"
    }

    fn compose(&self, inputs: &[Tensor]) -> Result<Tensor> {
        let g = self.geometry(inputs[0].dims())?;
        let mut xs = inputs[0].clone();
        if self.padding > 0 {
            for axis in [2, 3] {
                let mut edge = xs.dims().to_vec();
                edge[axis] = self.padding;
                let edge = Tensor::zeros(edge, xs.dtype(), xs.device())?.affine(1.0, f64::NEG_INFINITY)?;
                xs = Tensor::cat(&[&edge, &xs, &edge], axis)?;
            }
        }
        // Candle's own pooling has no padding, and a gradient only for windows that do not overlap: each tap is a tensor
        // here, and the largest is picked from them.
        let mut taps = Vec::with_capacity(self.size * self.size);
        for y in 0..self.size {
            let rows = xs.narrow(2, y, (g.output[0] - 1) * self.stride + 1)?;
            let rows = compose::every(&rows, 2, self.stride)?;
            for x in 0..self.size {
                let tap = rows.narrow(3, x, (g.output[1] - 1) * self.stride + 1)?;
                taps.push(compose::every(&tap, 3, self.stride)?);
            }
        }
        let taps = Tensor::stack(&taps, D::Minus1)?;
        let largest = taps.detach().argmax_keepdim(D::Minus1)?;
        taps.contiguous()?.gather(&largest, D::Minus1)?.squeeze(D::Minus1)
    }

    fn forward(&self, inputs: &[View<'_>]) -> Result<(Vec<f32>, Vec<usize>)> {
        let geometry = self.geometry(inputs[0].shape)?;
        let (ys, places) = kernels::max_pool(&geometry, inputs[0].data);
        match self.places.set(places) {
            Ok(()) => Ok((ys, geometry.output_shape().to_vec())),
            Err(_) => bail!("a pooling is applied once"),
        }
    }

    fn backward(
        &self,
        inputs: &[View<'_>],
        _output: View<'_>,
        gradient: View<'_>,
        _wanted: &[bool],
    ) -> Result<Vec<Option<Vec<f32>>>> {
        let Some(places) = self.places.get() else { bail!("a pooling runs backwards after it ran forwards") };
        let geometry = self.geometry(inputs[0].shape)?;
        Ok(vec![Some(kernels::max_pool_backward(&geometry, places, gradient.data))])
    }

    fn needs(&self) -> Needs {
        Needs { inputs: false, output: false }
    }
}
