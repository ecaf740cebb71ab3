use crate::layers::operation::Needs;
use crate::layers::{Operation, View};
use candle_core::{Result, Tensor, bail};

/// The same elements in another shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reshape(Vec<usize>);

impl Reshape {
    /// To this shape.
    #[must_use]
    pub fn new(shape: &[usize]) -> Self {
        Self(shape.to_vec())
    }
}

impl Operation for Reshape {
    fn name(&self) -> &'static str {
        "reshape"
    }

    fn compose(&self, inputs: &[Tensor]) -> Result<Tensor> {
        inputs[0].reshape(self.0.as_slice())
    }

    fn forward(&self, inputs: &[View<'_>]) -> Result<(Vec<f32>, Vec<usize>)> {
        if self.0.iter().product::<usize>() != inputs[0].data.len() {
            bail!("{:?} can't get the shape {:?}", inputs[0].shape, self.0);
        }
        Ok((inputs[0].data.to_vec(), self.0.clone()))
    }

    fn backward(
        &self,
        _inputs: &[View<'_>],
        _output: View<'_>,
        gradient: View<'_>,
        _wanted: &[bool],
    ) -> Result<Vec<Option<Vec<f32>>>> {
        Ok(vec![Some(gradient.data.to_vec())])
    }

    fn needs(&self) -> Needs {
        Needs { inputs: false, output: false }
    }

    fn compose_backward(
        &self,
        inputs: &[Tensor],
        _output: &Tensor,
        gradient: &Tensor,
        _wanted: &[bool],
    ) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(gradient.reshape(inputs[0].shape())?)])
    }
}

/// Every second row and column, and channels of zeros on both sides: a shortcut without parameters.
///
/// `(b, c, h, w) -> (b, c + 2 channels, ceil(h / stride), ceil(w / stride))`
///
/// # Reference
///
/// He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, section 3.3, option A.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PadChannels {
    stride: usize,
    channels: usize,
}

impl PadChannels {
    /// Every `stride`-th pixel, and `channels` more channels before and as many after.
    #[must_use]
    pub fn new(stride: usize, channels: usize) -> Self {
        Self { stride: stride.max(1), channels }
    }

    fn output(self, [b, c, h, w]: [usize; 4]) -> [usize; 4] {
        [b, c + 2 * self.channels, h.div_ceil(self.stride), w.div_ceil(self.stride)]
    }
}

fn four(shape: &[usize]) -> Result<[usize; 4]> {
    match shape {
        &[b, c, h, w] => Ok([b, c, h, w]),
        _ => bail!("a shortcut needs an input (b, c, h, w), found {shape:?}"),
    }
}

impl Operation for PadChannels {
    fn name(&self) -> &'static str {
        "shortcut"
    }

    fn compose(&self, inputs: &[Tensor]) -> Result<Tensor> {
        let [_, _, h, w] = four(inputs[0].dims())?;
        let mut xs = inputs[0].clone();
        for (axis, size) in [(2, h), (3, w)] {
            if self.stride > 1 {
                let kept: Vec<u32> = (0..size as u32).step_by(self.stride).collect();
                xs = xs.contiguous()?.index_select(&Tensor::new(kept, xs.device())?, axis)?;
            }
        }
        xs.pad_with_zeros(1, self.channels, self.channels)
    }

    fn forward(&self, inputs: &[View<'_>]) -> Result<(Vec<f32>, Vec<usize>)> {
        let shape @ [b, c, h, w] = four(inputs[0].shape)?;
        let [_, o, oh, ow] = self.output(shape);
        let mut ys = vec![0.0; b * o * oh * ow];
        for (plane, xs) in inputs[0].data.chunks_exact((h * w).max(1)).enumerate() {
            let (sample, channel) = (plane / c, plane % c);
            let start = (sample * o + self.channels + channel) * oh * ow;
            for (y, row) in ys[start..start + oh * ow].chunks_exact_mut(ow).enumerate() {
                let from = &xs[y * self.stride * w..(y * self.stride + 1) * w];
                for (y, x) in row.iter_mut().zip(from.iter().step_by(self.stride)) {
                    *y = *x;
                }
            }
        }
        Ok((ys, vec![b, o, oh, ow]))
    }

    fn backward(
        &self,
        inputs: &[View<'_>],
        _output: View<'_>,
        gradient: View<'_>,
        _wanted: &[bool],
    ) -> Result<Vec<Option<Vec<f32>>>> {
        let shape @ [b, c, h, w] = four(inputs[0].shape)?;
        let [_, o, oh, ow] = self.output(shape);
        let mut dx = vec![0.0; b * c * h * w];
        for (plane, xs) in dx.chunks_exact_mut((h * w).max(1)).enumerate() {
            let (sample, channel) = (plane / c, plane % c);
            let start = (sample * o + self.channels + channel) * oh * ow;
            for (y, row) in gradient.data[start..start + oh * ow].chunks_exact(ow).enumerate() {
                let to = &mut xs[y * self.stride * w..(y * self.stride + 1) * w];
                for (g, x) in row.iter().zip(to.iter_mut().step_by(self.stride)) {
                    *x = *g;
                }
            }
        }
        Ok(vec![Some(dx)])
    }

    fn needs(&self) -> Needs {
        Needs { inputs: false, output: false }
    }
}
