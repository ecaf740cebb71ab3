use crate::layers::operation::Needs;
use crate::layers::{Operation, Sequences, View};
use candle_core::{D, Result, Tensor, bail};

/// The mean of each sequence's rows: `(tokens, d) -> (sequences, d)`.
#[derive(Clone, Debug)]
pub struct SequenceMean {
    sequences: Sequences,
}

impl SequenceMean {
    /// The means of these sequences.
    #[must_use]
    pub fn new(sequences: &Sequences) -> Self {
        Self { sequences: sequences.clone() }
    }

    fn width(&self, shape: &[usize]) -> Result<usize> {
        match shape {
            &[tokens, width] if tokens == self.sequences.tokens() => Ok(width),
            _ => bail!("sequences of {} tokens, found {shape:?}", self.sequences.tokens()),
        }
    }

    /// The matrix that makes means of rows, `(sequences, tokens)`, of their element type and on their device.
    fn averages(&self, rows: &Tensor) -> Result<Tensor> {
        let (count, tokens) = (self.sequences.count(), self.sequences.tokens());
        let mut averages = vec![0.0; count * tokens];
        for (range, row) in self.sequences.ranges().zip(averages.chunks_exact_mut(tokens.max(1))) {
            let part = 1.0 / range.len() as f64;
            row[range].fill(part);
        }
        Tensor::from_vec(averages, (count, tokens), rows.device())?.to_dtype(rows.dtype())
    }
}

impl Operation for SequenceMean {
    fn name(&self) -> &'static str {
        "sequence_mean"
    }

    fn is_precise(&self) -> bool {
        true
    }

    fn compose(&self, inputs: &[Tensor]) -> Result<Tensor> {
        self.width(inputs[0].dims())?;
        self.averages(&inputs[0])?.matmul(&inputs[0])
    }

    fn compose_backward(
        &self,
        inputs: &[Tensor],
        _output: &Tensor,
        gradient: &Tensor,
        _wanted: &[bool],
    ) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(self.averages(&inputs[0])?.t()?.matmul(gradient)?)])
    }

    fn forward(&self, inputs: &[View<'_>]) -> Result<(Vec<f32>, Vec<usize>)> {
        let width = self.width(inputs[0].shape)?;
        let mut means = vec![0.0; self.sequences.count() * width];
        for (range, to) in self.sequences.ranges().zip(means.chunks_exact_mut(width.max(1))) {
            let part = 1.0 / range.len() as f32;
            for row in range {
                to.iter_mut().zip(&inputs[0].data[row * width..]).for_each(|(to, x)| *to += part * x);
            }
        }
        Ok((means, vec![self.sequences.count(), width]))
    }

    fn backward(
        &self,
        inputs: &[View<'_>],
        _output: View<'_>,
        gradient: View<'_>,
        _wanted: &[bool],
    ) -> Result<Vec<Option<Vec<f32>>>> {
        let width = self.width(inputs[0].shape)?;
        let mut found = Vec::with_capacity(self.sequences.tokens() * width);
        for (range, dy) in self.sequences.ranges().zip(gradient.data.chunks_exact(width.max(1))) {
            let part = 1.0 / range.len() as f32;
            for _ in range {
                found.extend(dy.iter().map(|dy| part * dy));
            }
        }
        Ok(vec![Some(found)])
    }

    fn needs(&self) -> Needs {
        Needs { inputs: false, output: false }
    }
}

/// Rows divided by their Euclidean norms; a row of zeros stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnitRows;

/// The least norm that is divided by, as PyTorch has it.
const LEAST_NORM: f32 = 1e-12;

fn norm(row: &[f32]) -> f32 {
    let squares: f64 = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    (squares.sqrt() as f32).max(LEAST_NORM)
}

impl Operation for UnitRows {
    fn name(&self) -> &'static str {
        "unit_rows"
    }

    fn is_precise(&self) -> bool {
        true
    }

    fn compose(&self, inputs: &[Tensor]) -> Result<Tensor> {
        let least = f64::from(LEAST_NORM) * f64::from(LEAST_NORM);
        let norm = inputs[0].sqr()?.sum_keepdim(D::Minus1)?.maximum(least)?.sqrt()?;
        inputs[0].broadcast_div(&norm)
    }

    fn forward(&self, inputs: &[View<'_>]) -> Result<(Vec<f32>, Vec<usize>)> {
        let width = inputs[0].shape.last().copied().unwrap_or(1).max(1);
        let unit = |row: &[f32]| {
            let norm = norm(row);
            row.iter().map(|x| x / norm).collect::<Vec<_>>()
        };
        Ok((inputs[0].data.chunks_exact(width).flat_map(unit).collect(), inputs[0].shape.to_vec()))
    }

    fn backward(
        &self,
        inputs: &[View<'_>],
        _output: View<'_>,
        gradient: View<'_>,
        _wanted: &[bool],
    ) -> Result<Vec<Option<Vec<f32>>>> {
        let width = inputs[0].shape.last().copied().unwrap_or(1).max(1);
        let rows = inputs[0].data.chunks_exact(width).zip(gradient.data.chunks_exact(width));
        let found = rows.flat_map(|(row, dy)| {
            let norm = norm(row);
            // the part along the row is taken off
            let along: f32 = row.iter().zip(dy).map(|(x, dy)| x / norm * dy).sum();
            row.iter().zip(dy).map(move |(x, dy)| (dy - x / norm * along) / norm).collect::<Vec<_>>()
        });
        Ok(vec![Some(found.collect())])
    }
}
