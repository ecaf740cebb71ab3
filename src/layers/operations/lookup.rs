use crate::layers::{Operation, View};
use candle_core::{Result, Tensor, bail};

/// Rows of a table: `(vocabulary, d)` and indices of any shape -> `(..., d)`.
#[derive(Clone, Debug)]
pub struct Lookup {
    indices: Tensor,
}

impl Lookup {
    /// The rows of these indices, of an unsigned integer type.
    #[must_use]
    pub fn new(indices: &Tensor) -> Self {
        Self { indices: indices.clone() }
    }

    fn positions(&self, rows: usize) -> Result<Vec<usize>> {
        let indices = self.indices.to_dtype(candle_core::DType::U32)?.flatten_all()?.to_vec1::<u32>()?;
        if let Some(index) = indices.iter().find(|&&index| index as usize >= rows) {
            bail!("index {index} exceeds a table of {rows} rows");
        }
        Ok(indices.into_iter().map(|index| index as usize).collect())
    }

    fn shape(&self, width: usize) -> Vec<usize> {
        self.indices.dims().iter().copied().chain([width]).collect()
    }
}

impl Operation for Lookup {
    fn name(&self) -> &'static str {
        "lookup"
    }

    fn compose(&self, inputs: &[Tensor]) -> Result<Tensor> {
        let rows = inputs[0].index_select(&self.indices.flatten_all()?, 0)?;
        rows.reshape(self.shape(inputs[0].dim(1)?))
    }

    fn forward(&self, inputs: &[View<'_>]) -> Result<(Vec<f32>, Vec<usize>)> {
        let &[rows, width] = inputs[0].shape else {
            bail!("a lookup needs a table (vocabulary, d), found {:?}", inputs[0].shape);
        };
        let positions = self.positions(rows)?;
        let mut ys = Vec::with_capacity(positions.len() * width);
        for position in positions {
            ys.extend_from_slice(&inputs[0].data[position * width..(position + 1) * width]);
        }
        Ok((ys, self.shape(width)))
    }

    fn backward(
        &self,
        inputs: &[View<'_>],
        _output: View<'_>,
        gradient: View<'_>,
        _wanted: &[bool],
    ) -> Result<Vec<Option<Vec<f32>>>> {
        let &[rows, width] = inputs[0].shape else { return Ok(vec![None]) };
        let mut found = vec![0.0; rows * width];
        for (position, row) in self.positions(rows)?.into_iter().zip(gradient.data.chunks_exact(width.max(1)))
        {
            for (sum, g) in found[position * width..(position + 1) * width].iter_mut().zip(row) {
                *sum += g;
            }
        }
        Ok(vec![Some(found)])
    }
}
