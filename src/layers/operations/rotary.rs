use crate::layers::operation::Needs;
use crate::layers::{Operation, View};
use candle_core::{Result, Tensor, bail};
use std::sync::Arc;

/// Rotates pairs of each head's elements by angles that grow with the token's position.
///
/// Element `i` of the first half of a head is paired with element `i` of the second, as Hugging Face's checkpoints have it,
/// and turned by `position * frequency_i`.
///
/// # Shapes
///
/// Input and output `(tokens, heads * width)`, with one position for each token.
///
/// # Reference
///
/// Su et al., "RoFormer", 2021, section 3.2.
#[derive(Clone, Debug)]
pub struct Rotary {
    positions: Arc<[usize]>,
    frequencies: Arc<[f64]>,
}

impl Rotary {
    /// The rotation of tokens at these positions, heads being twice as wide as there are frequencies.
    #[must_use]
    pub fn new(positions: Arc<[usize]>, frequencies: Arc<[f64]>) -> Self {
        Self { positions, frequencies }
    }

    /// `theta^(-2 i / width)`.
    #[must_use]
    pub fn frequencies(width: usize, theta: f64) -> Arc<[f64]> {
        (0..width / 2).map(|i| theta.powf(-2.0 * i as f64 / width as f64)).collect()
    }

    /// Cosine and sine of each token's angles.
    fn angles(&self) -> (Vec<f32>, Vec<f32>) {
        let turns = self.positions.iter().flat_map(|&position| {
            self.frequencies.iter().map(move |frequency| (position as f64 * frequency).sin_cos())
        });
        turns.map(|(sin, cos)| (cos as f32, sin as f32)).unzip()
    }

    fn turned(&self, data: &[f32], shape: &[usize], direction: f32) -> Result<Vec<f32>> {
        let half = self.frequencies.len();
        let &[tokens, width] = shape else { bail!("a rotation needs (tokens, d), found {shape:?}") };
        if tokens != self.positions.len() || half == 0 || width % (2 * half) != 0 {
            bail!("a rotation of {} tokens, heads of {}, found {shape:?}", self.positions.len(), 2 * half);
        }
        let (cos, sin) = self.angles();
        let mut turned = vec![0.0; data.len()];
        let rows = data.chunks_exact(width).zip(turned.chunks_exact_mut(width));
        for ((row, to), (cos, sin)) in rows.zip(cos.chunks_exact(half).zip(sin.chunks_exact(half))) {
            for (head, to) in row.chunks_exact(2 * half).zip(to.chunks_exact_mut(2 * half)) {
                let ((first, second), (to_first, to_second)) = (head.split_at(half), to.split_at_mut(half));
                for i in 0..half {
                    to_first[i] = first[i] * cos[i] - direction * second[i] * sin[i];
                    to_second[i] = second[i] * cos[i] + direction * first[i] * sin[i];
                }
            }
        }
        Ok(turned)
    }
}

impl Operation for Rotary {
    fn name(&self) -> &'static str {
        "rotary"
    }

    fn is_precise(&self) -> bool {
        true
    }

    fn compose(&self, inputs: &[Tensor]) -> Result<Tensor> {
        let half = self.frequencies.len();
        let (tokens, width) = inputs[0].dims2()?;
        let (cos, sin) = self.angles();
        let angles = |values: Vec<f32>| {
            Tensor::from_vec(values, (tokens, 1, half), inputs[0].device())?.to_dtype(inputs[0].dtype())
        };
        let (cos, sin) = (angles(cos)?, angles(sin)?);
        let heads = inputs[0].reshape((tokens, width / (2 * half), 2 * half))?;
        let (first, second) = (heads.narrow(2, 0, half)?, heads.narrow(2, half, half)?);
        let to_first = (first.broadcast_mul(&cos)? - second.broadcast_mul(&sin)?)?;
        let to_second = (second.broadcast_mul(&cos)? + first.broadcast_mul(&sin)?)?;
        Tensor::cat(&[to_first, to_second], 2)?.reshape((tokens, width))
    }

    fn forward(&self, inputs: &[View<'_>]) -> Result<(Vec<f32>, Vec<usize>)> {
        Ok((self.turned(inputs[0].data, inputs[0].shape, 1.0)?, inputs[0].shape.to_vec()))
    }

    fn backward(
        &self,
        _inputs: &[View<'_>],
        _output: View<'_>,
        gradient: View<'_>,
        _wanted: &[bool],
    ) -> Result<Vec<Option<Vec<f32>>>> {
        Ok(vec![Some(self.turned(gradient.data, gradient.shape, -1.0)?)])
    }

    fn needs(&self) -> Needs {
        Needs { inputs: false, output: false }
    }
}
