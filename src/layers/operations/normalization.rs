use super::compose;
use crate::layers::operation::Needs;
use crate::layers::{Operation, View, kernels};
use candle_core::{Device, Result, Tensor, bail};
use std::sync::OnceLock;

/// Batch normalization with a batch's own statistics, what is added to it, and its rectifier, in one step.
///
/// ```text
/// y = (x - mean) / sqrt(variance + epsilon) * scale + shift [+ residual],   [y = max(y, 0)]
/// ```
///
/// Mean and variance are a channel's, over samples and positions; the variance is the biased one.
///
/// # Shapes
///
/// | | shape |
/// | --- | --- |
/// | input, residual, output | `(b, c, ...)` |
/// | scale, shift | `(c)` |
///
/// # Reference
///
/// Ioffe, Szegedy, "Batch Normalization", 2015, algorithm 1.
#[derive(Debug)]
pub struct Normalization {
    epsilon: f64,
    relu: bool,
    statistics: OnceLock<[Tensor; 2]>,
}

impl Normalization {
    /// Normalization whose variances get `epsilon` added; with a rectifier after it or not.
    #[must_use]
    pub fn new(epsilon: f64, relu: bool) -> Self {
        Self { epsilon, relu, statistics: OnceLock::new() }
    }

    /// Mean and biased variance of the batch that went through, shape `(c)` each.
    #[must_use]
    pub fn statistics(&self) -> Option<&[Tensor; 2]> {
        self.statistics.get()
    }

    fn keep(&self, mean: Tensor, variance: Tensor) -> Result<()> {
        match self.statistics.set([mean, variance]) {
            Ok(()) => Ok(()),
            Err(_) => bail!("a normalization is applied once"),
        }
    }
}

/// `(b, c, ...)` as samples, channels, positions.
fn planes(shape: &[usize]) -> Result<[usize; 3]> {
    match shape {
        [b, c, positions @ ..] => Ok([*b, *c, positions.iter().product()]),
        _ => bail!("batch normalization needs an input (b, c, ...), found {shape:?}"),
    }
}

fn check(inputs: &[View<'_>]) -> Result<[usize; 3]> {
    let planes = planes(inputs[0].shape)?;
    for (what, view) in [("scale", inputs[1]), ("shift", inputs[2])] {
        if view.data.len() != planes[1] {
            bail!("expected a {what} of {} channels, found {:?}", planes[1], view.shape);
        }
    }
    if let Some(residual) = inputs.get(3).filter(|residual| residual.shape != inputs[0].shape) {
        bail!("what is added has shape {:?}, expected {:?}", residual.shape, inputs[0].shape);
    }
    Ok(planes)
}

impl Operation for Normalization {
    fn name(&self) -> &'static str {
        "normalization"
    }

    fn compose(&self, inputs: &[Tensor]) -> Result<Tensor> {
        let shape = inputs[0].dims();
        let [b, c, positions] = planes(shape)?;
        let per_channel = |xs: &Tensor| xs.reshape((1, c, 1));
        let count = (b * positions) as f64;
        let xs = inputs[0].reshape((b, c, positions))?;
        let mean = (compose::sum_per_channel(&xs)? / count)?;
        let centered = xs.broadcast_sub(&per_channel(&mean)?)?;
        let variance = (compose::sum_per_channel(&centered.sqr()?)? / count)?;
        self.keep(mean.detach(), variance.detach())?;
        let scale = (&inputs[1] / (variance + self.epsilon)?.sqrt()?)?;
        let scaled = centered.broadcast_mul(&per_channel(&scale)?)?;
        let ys = scaled.broadcast_add(&per_channel(&inputs[2])?)?.reshape(shape)?;
        let ys = match inputs.get(3) {
            Some(residual) => (ys + residual)?,
            None => ys,
        };
        if self.relu { compose::rectified(&ys) } else { Ok(ys) }
    }

    fn forward(&self, inputs: &[View<'_>]) -> Result<(Vec<f32>, Vec<usize>)> {
        let planes = check(inputs)?;
        let residual = inputs.get(3).map(|view| view.data);
        let done = kernels::normalize(
            planes,
            inputs[0].data,
            inputs[1].data,
            inputs[2].data,
            self.epsilon as f32,
            residual,
            self.relu,
        );
        let statistic = |values: Vec<f32>| Tensor::from_vec(values, planes[1], &Device::Cpu);
        self.keep(statistic(done.mean)?, statistic(done.variance)?)?;
        Ok((done.y, inputs[0].shape.to_vec()))
    }

    fn backward(
        &self,
        inputs: &[View<'_>],
        output: View<'_>,
        gradient: View<'_>,
        wanted: &[bool],
    ) -> Result<Vec<Option<Vec<f32>>>> {
        let Some([mean, variance]) = self.statistics.get() else {
            bail!("a normalization runs backwards after it ran forwards");
        };
        let found = kernels::normalize_backward(
            planes(inputs[0].shape)?,
            inputs[0].data,
            output.data,
            inputs[1].data,
            &mean.to_vec1::<f32>()?,
            &variance.to_vec1::<f32>()?,
            self.epsilon as f32,
            gradient.data,
            self.relu,
            wanted.get(3).copied().unwrap_or(false),
        );
        let mut all = vec![Some(found.dx), Some(found.dscale), Some(found.dshift)];
        if wanted.len() > 3 {
            all.push(found.dresidual);
        }
        Ok(all)
    }

    fn compose_backward(
        &self,
        inputs: &[Tensor],
        output: &Tensor,
        gradient: &Tensor,
        wanted: &[bool],
    ) -> Result<Vec<Option<Tensor>>> {
        let Some([mean, variance]) = self.statistics.get() else {
            bail!("a normalization runs backwards after it ran forwards");
        };
        let shape @ [b, c, positions] = planes(inputs[0].dims())?;
        let per_channel = |xs: &Tensor| xs.reshape((1, c, 1));
        let count = (b * positions) as f64;
        let dy = if self.relu { compose::rectified_gradient(output, gradient)? } else { gradient.clone() };
        let dy_planes = dy.reshape(&shape)?;
        let centered = inputs[0].reshape(&shape)?.broadcast_sub(&per_channel(mean)?)?;
        let inverse = (variance + self.epsilon)?.sqrt()?.recip()?;
        let dshift = compose::sum_per_channel(&dy_planes)?;
        let dscale = (compose::sum_per_channel(&(&dy_planes * &centered)?)? * &inverse)?;
        // dx = a (dy - mean(dy) - y mean(dy y)), where y = (x - mean) / deviation and a = scale / deviation
        let a = (&inputs[1] * &inverse)?;
        let along = ((&a * &inverse)? * (&dscale / count)?)?;
        let still = (&a * (&dshift / count)?)?;
        let dx =
            (dy_planes.broadcast_mul(&per_channel(&a)?)? - centered.broadcast_mul(&per_channel(&along)?)?)?;
        let dx = dx.broadcast_sub(&per_channel(&still)?)?.reshape(inputs[0].shape())?;
        let mut found = vec![Some(dx), Some(dscale), Some(dshift)];
        if let Some(&wanted) = wanted.get(3) {
            found.push(wanted.then_some(dy));
        }
        Ok(found)
    }

    fn needs(&self) -> Needs {
        Needs { inputs: true, output: self.relu }
    }

    fn is_precise(&self) -> bool {
        true
    }
}

/// A scale and a shift for each channel, what is added, and the rectifier: normalization with statistics that are known.
///
/// `y = x * scale + shift [+ residual]`, `[y = max(y, 0)]`; shapes as [`Normalization`]'s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScaleShift {
    /// Whether negative results become zero.
    pub relu: bool,
}

impl ScaleShift {
    /// With a rectifier after it or not.
    #[must_use]
    pub fn new(relu: bool) -> Self {
        Self { relu }
    }
}

impl Operation for ScaleShift {
    fn name(&self) -> &'static str {
        "scale and shift"
    }

    fn compose(&self, inputs: &[Tensor]) -> Result<Tensor> {
        let [_, c, _] = planes(inputs[0].dims())?;
        let mut shape = vec![1; inputs[0].rank()];
        shape[1] = c;
        let scaled = inputs[0].broadcast_mul(&inputs[1].reshape(shape.as_slice())?)?;
        let ys = scaled.broadcast_add(&inputs[2].reshape(shape)?)?;
        let ys = match inputs.get(3) {
            Some(residual) => (ys + residual)?,
            None => ys,
        };
        if self.relu { compose::rectified(&ys) } else { Ok(ys) }
    }

    fn forward(&self, inputs: &[View<'_>]) -> Result<(Vec<f32>, Vec<usize>)> {
        let planes = check(inputs)?;
        let residual = inputs.get(3).map(|view| view.data);
        let [x, scale, shift] = [inputs[0].data, inputs[1].data, inputs[2].data];
        Ok((kernels::scale_shift(planes, x, scale, shift, residual, self.relu), inputs[0].shape.to_vec()))
    }

    fn backward(
        &self,
        inputs: &[View<'_>],
        output: View<'_>,
        gradient: View<'_>,
        wanted: &[bool],
    ) -> Result<Vec<Option<Vec<f32>>>> {
        let [b, c, positions] = planes(inputs[0].shape)?;
        let rectified = self.relu.then(|| kernels::relu_backward(output.data, gradient.data));
        let dy = rectified.as_deref().unwrap_or(gradient.data);
        let mut found = Vec::with_capacity(wanted.len());
        let zeros = vec![0.0; c];
        found.push(
            wanted[0]
                .then(|| kernels::scale_shift([b, c, positions], dy, inputs[1].data, &zeros, None, false)),
        );
        found.push(wanted[1].then(|| {
            let products: Vec<f32> = dy.iter().zip(inputs[0].data).map(|(g, x)| g * x).collect();
            kernels::sum_per_channel([b, c, positions], &products)
        }));
        found.push(wanted[2].then(|| kernels::sum_per_channel([b, c, positions], dy)));
        if let Some(&wanted) = wanted.get(3) {
            found.push(wanted.then(|| dy.to_vec()));
        }
        Ok(found)
    }

    fn needs(&self) -> Needs {
        Needs { inputs: true, output: self.relu }
    }

    fn is_precise(&self) -> bool {
        true
    }
}
