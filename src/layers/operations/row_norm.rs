use super::compose;
use crate::layers::kernels::RowNorm;
use crate::layers::{Operation, View};
use candle_core::{D, Result, Tensor, bail};

/// Normalization of rows, each by its own statistics: layer normalization, or normalization by the root mean square.
///
/// ```text
/// layer        y = (x - mean(x)) / sqrt(mean((x - mean(x))^2) + epsilon) * scale + shift
/// mean square  y = x / sqrt(mean(x^2) + epsilon) * scale
/// ```
///
/// # Shapes
///
/// | | shape |
/// | --- | --- |
/// | input, output | `(..., d)` |
/// | scale | `(d)` |
/// | shift, of layer normalization | `(d)` |
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowNormalization {
    norm: RowNorm,
}

impl RowNormalization {
    /// Layer normalization.
    #[must_use]
    pub fn layer(epsilon: f64) -> Self {
        Self { norm: RowNorm { centered: true, epsilon: epsilon as f32 } }
    }

    /// Normalization by the root mean square.
    #[must_use]
    pub fn mean_square(epsilon: f64) -> Self {
        Self { norm: RowNorm { centered: false, epsilon: epsilon as f32 } }
    }

    fn check(inputs: &[&[usize]]) -> Result<()> {
        let width = inputs[0].last().copied().unwrap_or(0);
        match inputs[1..].iter().find(|shape| **shape != [width]) {
            Some(shape) => bail!("rows of {:?} can't be scaled or shifted by {shape:?}", inputs[0]),
            None => Ok(()),
        }
    }
}

impl Operation for RowNormalization {
    fn name(&self) -> &'static str {
        "row_normalization"
    }

    fn is_precise(&self) -> bool {
        true
    }

    fn compose(&self, inputs: &[Tensor]) -> Result<Tensor> {
        Self::check(&inputs.iter().map(Tensor::dims).collect::<Vec<_>>())?;
        let mut xs = inputs[0].clone();
        if self.norm.centered {
            xs = xs.broadcast_sub(&xs.mean_keepdim(D::Minus1)?)?;
        }
        let deviation = (xs.sqr()?.mean_keepdim(D::Minus1)? + f64::from(self.norm.epsilon))?.sqrt()?;
        let ys = xs.broadcast_div(&deviation)?.broadcast_mul(&inputs[1])?;
        match inputs.get(2) {
            Some(shift) => ys.broadcast_add(shift),
            None => Ok(ys),
        }
    }

    fn forward(&self, inputs: &[View<'_>]) -> Result<(Vec<f32>, Vec<usize>)> {
        Self::check(&inputs.iter().map(|view| view.shape).collect::<Vec<_>>())?;
        let shift = inputs.get(2).map_or(&[][..], |shift| shift.data);
        Ok((self.norm.apply(inputs[0].data, inputs[1].data, shift), inputs[0].shape.to_vec()))
    }

    fn backward(
        &self,
        inputs: &[View<'_>],
        _output: View<'_>,
        gradient: View<'_>,
        wanted: &[bool],
    ) -> Result<Vec<Option<Vec<f32>>>> {
        let found = self.norm.backward(inputs[0].data, inputs[1].data, gradient.data);
        Ok(wanted.iter().zip(found).map(|(wanted, found)| wanted.then_some(found)).collect())
    }

    fn compose_backward(
        &self,
        inputs: &[Tensor],
        _output: &Tensor,
        gradient: &Tensor,
        wanted: &[bool],
    ) -> Result<Vec<Option<Tensor>>> {
        let mean = |xs: &Tensor| xs.mean_keepdim(D::Minus1);
        let mut xs = inputs[0].clone();
        if self.norm.centered {
            xs = xs.broadcast_sub(&mean(&xs)?)?;
        }
        let inverse = (mean(&xs.sqr()?)? + f64::from(self.norm.epsilon))?.sqrt()?.recip()?;
        let ys = xs.broadcast_mul(&inverse)?;
        // dx = (g - mean(g) - y mean(g y)) / deviation, where g is the gradient of y; without the first mean where none was subtracted
        let g = gradient.broadcast_mul(&inputs[1])?;
        let mut dx = (&g - ys.broadcast_mul(&mean(&(&g * &ys)?)?)?)?;
        if self.norm.centered {
            dx = dx.broadcast_sub(&mean(&g)?)?;
        }
        let rows = |xs: &Tensor| compose::sum_per_channel(&xs.reshape(((), inputs[1].elem_count()))?);
        let mut found = vec![Some(dx.broadcast_mul(&inverse)?), Some(rows(&(gradient * ys)?)?)];
        if wanted.len() > 2 {
            found.push(Some(rows(gradient)?));
        }
        Ok(found)
    }
}
