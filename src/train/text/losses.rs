use crate::layers::{Operation, View};
use candle_core::{Device, Result, Tensor, bail};
use std::sync::Arc;

/// Cosines of pairs held against scores: `weight` times the mean of `(x_2i . x_2i+1 - s_i)^2`.
///
/// # Shapes
///
/// | | |
/// | --- | --- |
/// | input | `(2 n, d)`: rows of length one, the two of each pair behind each other, with `n` scores |
/// | output | `()` |
///
/// # Reference
///
/// Reimers, Gurevych, "Sentence-BERT", 2019, section 3, regression objective.
#[derive(Clone, Debug)]
pub struct PairCosines {
    scores: Arc<[f32]>,
    weight: f64,
}

impl PairCosines {
    /// The loss for these scores, from -1 to 1.
    #[must_use]
    pub fn new(scores: &[f32], weight: f64) -> Self {
        Self { scores: scores.into(), weight }
    }

    fn width(&self, shape: &[usize]) -> Result<usize> {
        match *shape {
            [rows, width] if rows == 2 * self.scores.len() && rows > 0 => Ok(width),
            _ => bail!("{} scores of pairs for rows of shape {shape:?}", self.scores.len()),
        }
    }

    /// The two rows of each pair, and by how much their cosine misses the score.
    fn pairs<'a>(
        &'a self,
        rows: &'a [f32],
        width: usize,
    ) -> impl Iterator<Item = (&'a [f32], &'a [f32], f64)> {
        rows.chunks_exact(2 * width.max(1)).zip(self.scores.iter()).map(move |(pair, &score)| {
            let (x, y) = pair.split_at(width);
            let cosine: f64 = x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
            (x, y, cosine - f64::from(score))
        })
    }
}

impl Operation for PairCosines {
    fn name(&self) -> &'static str {
        "pair_cosines"
    }

    fn is_precise(&self) -> bool {
        true
    }

    fn compose(&self, inputs: &[Tensor]) -> Result<Tensor> {
        let rows = &inputs[0];
        let width = self.width(rows.dims())?;
        let pairs = rows.reshape((self.scores.len(), 2, width))?;
        let cosines = pairs.get_on_dim(1, 0)?.mul(&pairs.get_on_dim(1, 1)?)?.sum(1)?;
        let scores = Tensor::from_slice(&self.scores, self.scores.len(), &Device::Cpu)?;
        let scores = scores.to_device(rows.device())?.to_dtype(rows.dtype())?;
        (cosines - scores)?.sqr()?.mean_all()? * self.weight
    }

    fn forward(&self, inputs: &[View<'_>]) -> Result<(Vec<f32>, Vec<usize>)> {
        let width = self.width(inputs[0].shape)?;
        let sum: f64 = self.pairs(inputs[0].data, width).map(|(.., miss)| miss * miss).sum();
        Ok((vec![(self.weight * sum / self.scores.len() as f64) as f32], Vec::new()))
    }

    fn backward(
        &self,
        inputs: &[View<'_>],
        _: View<'_>,
        gradient: View<'_>,
        _: &[bool],
    ) -> Result<Vec<Option<Vec<f32>>>> {
        let width = self.width(inputs[0].shape)?;
        let scale = 2.0 * self.weight * f64::from(gradient.data[0]) / self.scores.len() as f64;
        let mut found = Vec::with_capacity(inputs[0].data.len());
        for (x, y, miss) in self.pairs(inputs[0].data, width) {
            let scale = (scale * miss) as f32;
            found.extend(y.iter().map(|y| scale * y));
            found.extend(x.iter().map(|x| scale * x));
        }
        Ok(vec![Some(found)])
    }
}

/// `weight` times the squared distance of a tensor from another: what a teacher has in its place.
///
/// # Shapes
///
/// | | |
/// | --- | --- |
/// | input and target | any, the same |
/// | output | `()` |
#[derive(Clone, Debug)]
pub struct SquaredDistance {
    target: Tensor,
    weight: f64,
}

impl SquaredDistance {
    /// The distance from this tensor.
    #[must_use]
    pub fn new(target: &Tensor, weight: f64) -> Self {
        Self { target: target.detach(), weight }
    }

    fn differences<T>(
        &self,
        input: &View<'_>,
        act: impl FnOnce(&mut dyn Iterator<Item = f32>) -> T,
    ) -> Result<T> {
        if self.target.dims() != input.shape {
            bail!("a target of shape {:?} for {:?}", self.target.dims(), input.shape);
        }
        let target = self.target.to_device(&Device::Cpu)?.to_dtype(candle_core::DType::F32)?.contiguous()?;
        crate::train::slices::lend_ref(&target, |target| {
            Ok(act(&mut input.data.iter().zip(target).map(|(x, t)| x - t)))
        })
    }
}

impl Operation for SquaredDistance {
    fn name(&self) -> &'static str {
        "squared_distance"
    }

    fn is_precise(&self) -> bool {
        true
    }

    fn compose(&self, inputs: &[Tensor]) -> Result<Tensor> {
        let target = self.target.to_device(inputs[0].device())?.to_dtype(inputs[0].dtype())?;
        (&inputs[0] - target)?.sqr()?.sum_all()? * self.weight
    }

    fn forward(&self, inputs: &[View<'_>]) -> Result<(Vec<f32>, Vec<usize>)> {
        let sum: f64 = self.differences(&inputs[0], |differences| {
            differences.map(|difference| f64::from(difference) * f64::from(difference)).sum()
        })?;
        Ok((vec![(self.weight * sum) as f32], Vec::new()))
    }

    fn backward(
        &self,
        inputs: &[View<'_>],
        _: View<'_>,
        gradient: View<'_>,
        _: &[bool],
    ) -> Result<Vec<Option<Vec<f32>>>> {
        let scale = (2.0 * self.weight) as f32 * gradient.data[0];
        let found = self.differences(&inputs[0], |differences| {
            differences.map(|difference| scale * difference).collect::<Vec<_>>()
        })?;
        Ok(vec![Some(found)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::Tape;
    use candle_core::{DType, Var};

    /// Loops and compositions agree, on the loss and on its gradient.
    #[test]
    fn losses_agree_with_their_compositions() -> Result<()> {
        let rows = Tensor::new(&[[0.6f32, 0.8], [1.0, 0.0], [0.0, -1.0], [0.8, 0.6]], &Device::Cpu)?;
        let target = rows.affine(0.5, 0.1)?;
        let operations: [Arc<dyn Operation>; 2] =
            [Arc::new(PairCosines::new(&[0.9, 0.2], 0.7)), Arc::new(SquaredDistance::new(&target, 0.3))];
        for operation in operations {
            let found = |tape: Tape, dtype: DType| -> Result<(f64, Vec<f64>)> {
                let x = Var::from_tensor(&rows.to_dtype(dtype)?)?;
                let loss = tape.apply_shared(Arc::clone(&operation), &[&tape.parameter(&x)])?;
                let value = loss.tensor().to_dtype(DType::F64)?.to_scalar::<f64>()?;
                let gradients = tape.backward(&loss)?;
                let gradient = gradients.get(&x).unwrap().to_dtype(DType::F64)?.flatten_all()?.to_vec1()?;
                Ok((value, gradient))
            };
            let (loops, by_loops) = found(Tape::training(), DType::F32)?;
            let (composed, by_candle) = found(Tape::candle(), DType::F64)?;
            assert!((loops - composed).abs() < 1e-6, "{operation:?}: {loops} {composed}");
            for (one, other) in by_loops.iter().zip(&by_candle) {
                assert!((one - other).abs() < 1e-6, "{operation:?}: {by_loops:?} {by_candle:?}");
            }
        }
        Ok(())
    }
}
