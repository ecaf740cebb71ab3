use super::compose;
use crate::layers::operation::Needs;
use crate::layers::{Geometry, Operation, View, kernels};
use candle_core::{D, DType, Result, Tensor, bail};
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

    /// Each window's elements, `(b, c, h', w', size^2)`.
    fn taps(&self, xs: &Tensor) -> Result<Tensor> {
        let g = self.geometry(xs.dims())?;
        let mut xs = xs.clone();
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
        Tensor::stack(&compose::taps(&g, &xs)?, D::Minus1)?.contiguous()
    }
}

/// Where the last axis has its largest element, the first where several are: on a GPU candle takes any of them.
fn first_largest(taps: &Tensor) -> Result<Tensor> {
    let count = taps.dim(D::Minus1)?;
    let order: Vec<f32> = (1..=count).rev().map(|place| place as f32).collect();
    let order = Tensor::new(order, taps.device())?;
    let is_largest = taps.broadcast_eq(&taps.max_keepdim(D::Minus1)?)?.to_dtype(DType::F32)?;
    // what is no number counts as larger than any
    let is_none = taps.ne(taps)?.to_dtype(DType::F32)?;
    let ranks = (is_largest.broadcast_mul(&order)? + is_none.broadcast_mul(&(&order + count as f64)?)?)?;
    ranks.argmax_keepdim(D::Minus1)
}

impl Operation for MaxPool {
    fn name(&self) -> &'static str {
        "max pool"
    }

    fn compose(&self, inputs: &[Tensor]) -> Result<Tensor> {
        let taps = self.taps(&inputs[0])?;
        let largest = first_largest(&taps.detach())?;
        taps.gather(&largest, D::Minus1)?.squeeze(D::Minus1)
    }

    fn compose_backward(
        &self,
        inputs: &[Tensor],
        _output: &Tensor,
        gradient: &Tensor,
        _wanted: &[bool],
    ) -> Result<Vec<Option<Tensor>>> {
        let g = self.geometry(inputs[0].dims())?;
        let largest = first_largest(&self.taps(&inputs[0])?)?.squeeze(D::Minus1)?;
        let zeros = gradient.zeros_like()?;
        let parts = 0..self.size * self.size;
        let part = |tap: usize| largest.eq(tap as u32)?.where_cond(gradient, &zeros);
        Ok(vec![Some(compose::put_back(&g, parts.map(part))?)])
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
