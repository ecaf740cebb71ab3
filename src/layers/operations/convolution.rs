use super::compose;
use crate::layers::operation::gradients_by_candle;
use crate::layers::{Geometry, Operation, View, kernels};
use candle_core::{Result, Tensor};

/// A two-dimensional convolution with stride, padding and dilation per axis, and groups.
///
/// ```text
/// y[b, o, p, q] = bias[o] + sum_{i, u, v} w[o, i, u, v] x[b, i, p sh + u dh - ph, q sw + v dw - pw]
/// ```
///
/// # Shapes
///
/// | | shape |
/// | --- | --- |
/// | input | `(b, c, h, w)` |
/// | kernel | `(o, c / groups, kh, kw)` |
/// | bias, optional | `(o)` |
/// | output | `(b, o, h', w')` |
///
/// # Determinism
///
/// On the CPU neither the result nor the gradients depend on the number of threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Convolution {
    /// Steps down and across.
    pub stride: [usize; 2],
    /// Zeros above and below, left and right.
    pub padding: [usize; 2],
    /// Steps between taps, down and across.
    pub dilation: [usize; 2],
    /// Groups that share no channels.
    pub groups: usize,
}

impl Default for Convolution {
    fn default() -> Self {
        Self { stride: [1; 2], padding: [0; 2], dilation: [1; 2], groups: 1 }
    }
}

impl Convolution {
    /// A convolution of one group without dilation.
    #[must_use]
    pub fn new(stride: [usize; 2], padding: [usize; 2]) -> Self {
        Self { stride, padding, ..Self::default() }
    }

    /// Where the taps lie for an input and a kernel of these shapes.
    ///
    /// # Errors
    ///
    /// - as [`Geometry::new`]
    pub fn geometry(&self, input: &[usize], kernel: &[usize]) -> Result<Geometry> {
        Geometry::new(input, kernel, self.stride, self.padding, self.dilation, self.groups)
    }
}

impl Operation for Convolution {
    fn name(&self) -> &'static str {
        "convolution"
    }

    fn compose(&self, inputs: &[Tensor]) -> Result<Tensor> {
        let geometry = self.geometry(inputs[0].dims(), inputs[1].dims())?;
        let ys = compose::convolution(&geometry, &inputs[0], &inputs[1])?;
        match inputs.get(2) {
            Some(bias) => ys.broadcast_add(&bias.reshape((1, (), 1, 1))?),
            None => Ok(ys),
        }
    }

    fn forward(&self, inputs: &[View<'_>]) -> Result<(Vec<f32>, Vec<usize>)> {
        let geometry = self.geometry(inputs[0].shape, inputs[1].shape)?;
        let bias = inputs.get(2).map(|bias| bias.data);
        if let Some(bias) = bias.filter(|bias| bias.len() != geometry.out_channels) {
            candle_core::bail!("expected a bias of {} elements, found {}", geometry.out_channels, bias.len());
        }
        let ys = kernels::convolve(&geometry, inputs[0].data, inputs[1].data, bias);
        Ok((ys, geometry.output_shape().to_vec()))
    }

    fn backward(
        &self,
        inputs: &[View<'_>],
        _output: View<'_>,
        gradient: View<'_>,
        wanted: &[bool],
    ) -> Result<Vec<Option<Vec<f32>>>> {
        let geometry = self.geometry(inputs[0].shape, inputs[1].shape)?;
        let mut found = vec![
            wanted[0].then(|| kernels::convolve_backward_input(&geometry, gradient.data, inputs[1].data)),
            wanted[1].then(|| kernels::convolve_backward_kernel(&geometry, inputs[0].data, gradient.data)),
        ];
        if let Some(&wanted) = wanted.get(2) {
            let [b, o, h, w] = geometry.output_shape();
            found.push(wanted.then(|| kernels::sum_per_channel([b, o, h * w], gradient.data)));
        }
        Ok(found)
    }

    fn compose_backward(
        &self,
        inputs: &[Tensor],
        _output: &Tensor,
        gradient: &Tensor,
        wanted: &[bool],
    ) -> Result<Vec<Option<Tensor>>> {
        let geometry = self.geometry(inputs[0].dims(), inputs[1].dims())?;
        if geometry.groups > 1 && !geometry.is_depthwise() {
            return gradients_by_candle(|inputs| self.compose(inputs), inputs, gradient, wanted);
        }
        let gradients: [&dyn Fn() -> Result<Tensor>; 3] = [
            &|| compose::convolution_backward_input(&geometry, gradient, &inputs[1]),
            &|| compose::convolution_backward_kernel(&geometry, &inputs[0], gradient),
            &|| compose::sum_per_channel(gradient),
        ];
        gradients.iter().zip(wanted).map(|(find, wanted)| wanted.then(find).transpose()).collect()
    }

    fn multiply_adds(&self, inputs: &[&[usize]]) -> u64 {
        self.geometry(inputs[0], inputs[1]).map_or(0, |geometry| geometry.multiply_adds())
    }
}
