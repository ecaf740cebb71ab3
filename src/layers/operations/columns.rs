use crate::layers::operation::Needs;
use crate::layers::{Operation, View};
use candle_core::{D, Result, Tensor, bail};

/// Some columns of each row: `(..., d) -> (..., count)`, from the column `start` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Columns {
    start: usize,
    count: usize,
}

impl Columns {
    /// So many columns from this one on.
    #[must_use]
    pub fn new(start: usize, count: usize) -> Self {
        Self { start, count }
    }

    fn width(&self, shape: &[usize]) -> Result<usize> {
        match shape.last() {
            Some(&width) if self.start + self.count <= width => Ok(width),
            _ => bail!("columns {} to {} of rows of {shape:?}", self.start, self.start + self.count),
        }
    }
}

impl Operation for Columns {
    fn name(&self) -> &'static str {
        "columns"
    }

    fn compose(&self, inputs: &[Tensor]) -> Result<Tensor> {
        inputs[0].narrow(D::Minus1, self.start, self.count)?.contiguous()
    }

    fn forward(&self, inputs: &[View<'_>]) -> Result<(Vec<f32>, Vec<usize>)> {
        let width = self.width(inputs[0].shape)?;
        let rows = inputs[0].data.chunks_exact(width.max(1));
        let mut shape = inputs[0].shape.to_vec();
        if let Some(last) = shape.last_mut() {
            *last = self.count;
        }
        Ok((rows.flat_map(|row| &row[self.start..][..self.count]).copied().collect(), shape))
    }

    fn backward(
        &self,
        inputs: &[View<'_>],
        _output: View<'_>,
        gradient: View<'_>,
        _wanted: &[bool],
    ) -> Result<Vec<Option<Vec<f32>>>> {
        let width = self.width(inputs[0].shape)?;
        let mut found = vec![0.0; inputs[0].shape.iter().product()];
        let rows = found.chunks_exact_mut(width.max(1)).zip(gradient.data.chunks_exact(self.count.max(1)));
        for (row, dy) in rows {
            row[self.start..][..self.count].copy_from_slice(dy);
        }
        Ok(vec![Some(found)])
    }

    fn needs(&self) -> Needs {
        Needs { inputs: false, output: false }
    }
}
