use crate::layers::operation::Needs;
use crate::layers::{Node, Operation, Tape, View};
use candle_core::{Result, Tensor, bail};
use rand::{RngCore as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use std::cell::Cell;

/// Each element left out with probability `rate`, the others divided by `1 - rate`, as drawn from a seed and a place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    rate: f64,
    seed: u64,
    place: u64,
}

impl Dropout {
    /// What each of so many elements is multiplied by.
    fn factors(&self, count: usize) -> Result<Vec<f32>> {
        if !(0.0..1.0).contains(&self.rate) {
            bail!("a dropout rate of {}, expected from 0 to below 1", self.rate);
        }
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        random.set_stream(self.place);
        let least = (self.rate * 2f64.powi(32)) as u64;
        let kept = (1.0 / (1.0 - self.rate)) as f32;
        Ok((0..count).map(|_| if u64::from(random.next_u32()) < least { 0.0 } else { kept }).collect())
    }

    fn times(&self, xs: &[f32]) -> Result<Vec<f32>> {
        Ok(self.factors(xs.len())?.into_iter().zip(xs).map(|(factor, x)| factor * x).collect())
    }
}

impl Operation for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn compose(&self, inputs: &[Tensor]) -> Result<Tensor> {
        let factors = self.factors(inputs[0].elem_count())?;
        let factors = Tensor::from_vec(factors, inputs[0].shape(), inputs[0].device())?;
        &inputs[0] * factors.to_dtype(inputs[0].dtype())?
    }

    fn forward(&self, inputs: &[View<'_>]) -> Result<(Vec<f32>, Vec<usize>)> {
        Ok((self.times(inputs[0].data)?, inputs[0].shape.to_vec()))
    }

    fn backward(
        &self,
        _inputs: &[View<'_>],
        _output: View<'_>,
        gradient: View<'_>,
        _wanted: &[bool],
    ) -> Result<Vec<Option<Vec<f32>>>> {
        Ok(vec![Some(self.times(gradient.data)?)])
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
        Ok(vec![Some(self.compose(std::slice::from_ref(gradient))?)])
    }
}

/// Dropout at every place of a computation, each with draws of its own.
///
/// # Determinism
///
/// What is left out depends on the seed and on how many places came before: another seed is due for each step.
///
/// # Reference
///
/// Srivastava et al., "Dropout", 2014.
///
/// # Examples
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use fnl::layers::{Tape, operations::Dropouts};
///
/// let tape = Tape::inference();
/// let ones = tape.constant(&Tensor::ones(10_000, DType::F32, &Device::Cpu)?);
/// let ys = Dropouts::new(0.25, 7).apply_on(&tape, &ones)?;
/// let kept = ys.tensor().to_vec1::<f32>()?.into_iter().filter(|&y| y == 1.0 / 0.75).count();
/// assert!((7_350..7_650).contains(&kept)); // 7500, give or take three deviations of 43
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Dropouts {
    rate: f64,
    seed: u64,
    places: Cell<u64>,
}

impl Dropouts {
    /// Dropout of this rate, from 0 to below 1.
    #[must_use]
    pub fn new(rate: f64, seed: u64) -> Self {
        Self { rate, seed, places: Cell::new(0) }
    }

    /// Leaves elements out at the next place of a computation.
    ///
    /// # Errors
    ///
    /// - a rate that is not from 0 to below 1
    pub fn apply_on(&self, tape: &Tape, xs: &Node) -> Result<Node> {
        let place = self.places.get();
        self.places.set(place + 1);
        if self.rate == 0.0 {
            return Ok(xs.clone());
        }
        tape.apply(Dropout { rate: self.rate, seed: self.seed, place }, &[xs])
    }
}
