use crate::layers::{Operation, View};
use candle_core::{DType, Result, Tensor, bail};

/// Rows whose gradients are summed by one product.
const TOGETHER: usize = 4096;

/// Rows of a table: `(vocabulary, d)` and indices of any shape -> `(..., d)`.
#[derive(Clone, Debug)]
pub struct Lookup {
    indices: Tensor,
}

impl Lookup {
    /// The rows of these indices, of an integer type.
    #[must_use]
    pub fn new(indices: &Tensor) -> Self {
        Self { indices: indices.clone() }
    }

    fn positions(&self, rows: usize) -> Result<Vec<usize>> {
        let dtype = self.indices.dtype();
        if !matches!(dtype, DType::U8 | DType::U32 | DType::I64) {
            bail!("indices are {dtype:?}, expected whole numbers");
        }
        if dtype == DType::I64 {
            let least = self.indices.flatten_all()?.to_vec1::<i64>()?.into_iter().min().unwrap_or(0);
            if least < 0 {
                bail!("index {least} is below 0");
            }
        }
        let indices = self.indices.to_dtype(DType::U32)?.flatten_all()?.to_vec1::<u32>()?;
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
        let indices = self.indices.to_device(inputs[0].device())?.flatten_all()?;
        let rows = inputs[0].index_select(&indices, 0)?;
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

    fn compose_backward(
        &self,
        inputs: &[Tensor],
        _output: &Tensor,
        gradient: &Tensor,
        _wanted: &[bool],
    ) -> Result<Vec<Option<Tensor>>> {
        // Rows that were looked up, by what each has become: (u, t) (t, d) -> (u, d). Candle's own sums over rows that may be
        // the same run one after the other.
        let (rows, _) = inputs[0].dims2()?;
        let positions = self.positions(rows)?;
        let mut places = vec![u32::MAX; rows];
        let mut looked_up = Vec::new();
        for &position in &positions {
            if places[position] == u32::MAX {
                places[position] = looked_up.len() as u32;
                looked_up.push(position as u32);
            }
        }
        let device = gradient.device();
        let column = Tensor::new(looked_up, device)?.unsqueeze(1)?;
        let count = column.dim(0)?;
        let dy = gradient.reshape((positions.len(), ()))?;
        let mut sums = Tensor::zeros((count, dy.dim(1)?), dy.dtype(), device)?;
        for (index, part) in positions.chunks(TOGETHER).enumerate() {
            let of_token: Vec<u32> = part.iter().map(|&position| position as u32).collect();
            let is_of = column.broadcast_eq(&Tensor::new(of_token, device)?.unsqueeze(0)?)?;
            let dy = dy.narrow(0, index * TOGETHER, part.len())?;
            sums = (sums + is_of.to_dtype(dy.dtype())?.matmul(&dy)?)?;
        }
        let sums = sums.pad_with_zeros(0, 0, 1)?;
        // all others are the row of zeros after them
        let places: Vec<u32> = places.into_iter().map(|place| place.min(count as u32)).collect();
        Ok(vec![Some(sums.index_select(&Tensor::new(places, device)?, 0)?)])
    }
}
