use crate::decompose::{Layout, Scheme, Unfolding};
use candle_core::{Result, Tensor, bail};

/// The factors of a weight as batches of matrices, a matrix for each group: `W = A B`, or `A M B`.
///
/// | | shape |
/// | --- | --- |
/// | `a` | `(g, rows, r)` |
/// | `m` | `(g, r, r)` |
/// | `b` | `(g, r, cols)` |
#[derive(Clone, Debug)]
pub(crate) struct Matrices {
    pub(crate) a: Tensor,
    pub(crate) m: Option<Tensor>,
    pub(crate) b: Tensor,
}

impl Matrices {
    /// The matrices of a chain's stored factors.
    pub(crate) fn of(unfolding: &Unfolding, factors: &[Tensor]) -> Result<Self> {
        let (first, middle, last) = match factors {
            [first, last] => (first, None, last),
            [first, middle, last] => (first, Some(middle), last),
            _ => bail!("expected two or three factors, found {}", factors.len()),
        };
        let g = unfolding.groups();
        let [_, _, kh, _] = unfolding.kernel();
        let (rows, cols) = (unfolding.rows(), unfolding.cols());
        Ok(match unfolding.layout() {
            Layout::TransposedLinear => Self {
                a: last.t()?.unsqueeze(0)?,
                m: middle.map(|m| m.t()?.unsqueeze(0)).transpose()?,
                b: first.t()?.unsqueeze(0)?,
            },
            Layout::Embedding => Self {
                a: first.unsqueeze(0)?,
                m: middle.map(|m| m.t()?.unsqueeze(0)).transpose()?,
                b: last.t()?.unsqueeze(0)?,
            },
            _ => {
                let rank = first.dim(0)? / g;
                let a = if unfolding.base_scheme() == Scheme::Spatial {
                    // (g o, r, kh, 1) -> (g, o, r, kh) -> (g, o kh, r)
                    last.reshape((g, rows / kh, rank, kh))?.transpose(2, 3)?.reshape((g, rows, rank))?
                } else {
                    last.reshape((g, rows, rank))?
                };
                let m = middle.map(|m| m.reshape((g, rank, rank))).transpose()?;
                Self { a, m, b: first.reshape((g, rank, cols))? }
            }
        })
    }

    /// The stored factors of these matrices, the first layer's first.
    pub(crate) fn factors(&self, unfolding: &Unfolding) -> Result<Vec<Tensor>> {
        let rank = self.b.dim(1)?;
        let [_, _, kh, _] = unfolding.kernel();
        let shapes = unfolding.factor_shapes(rank);
        let stored = match unfolding.layout() {
            Layout::TransposedLinear => [
                Some(self.b.squeeze(0)?.t()?),
                self.m.as_ref().map(|m| m.squeeze(0)?.t()).transpose()?,
                Some(self.a.squeeze(0)?.t()?),
            ],
            Layout::Embedding => [
                Some(self.a.squeeze(0)?),
                self.m.as_ref().map(|m| m.squeeze(0)?.t()).transpose()?,
                Some(self.b.squeeze(0)?.t()?),
            ],
            _ => {
                let last = if unfolding.base_scheme() == Scheme::Spatial {
                    let (g, rows) = (unfolding.groups(), unfolding.rows());
                    self.a.reshape((g, rows / kh, kh, rank))?.transpose(2, 3)?
                } else {
                    self.a.clone()
                };
                [Some(self.b.clone()), self.m.clone(), Some(last)]
            }
        };
        let reshaped = |(tensor, shape): (Tensor, Vec<usize>)| tensor.contiguous()?.reshape(shape);
        stored.into_iter().flatten().zip(shapes).map(reshaped).collect()
    }

    /// `A B`, or `A M B`: `(g, rows, cols)`.
    pub(crate) fn product(&self) -> Result<Tensor> {
        let a = match &self.m {
            Some(m) => self.a.contiguous()?.matmul(&m.contiguous()?)?,
            None => self.a.contiguous()?,
        };
        a.matmul(&self.b.contiguous()?)
    }
}

/// The stored weight of a product, `(g, rows, cols)`.
pub(crate) fn weight_of(unfolding: &Unfolding, product: &Tensor) -> Result<Tensor> {
    let [o, i, kh, kw] = unfolding.kernel();
    let weight = match (unfolding.layout(), unfolding.base_scheme()) {
        (Layout::TransposedLinear, _) => product.squeeze(0)?.t()?,
        // (g, o kh, i kw) -> (g o, i, kh, kw)
        (_, Scheme::Spatial) => product.reshape((unfolding.groups() * o, kh, i, kw))?.transpose(1, 2)?,
        _ => product.clone(),
    };
    weight.contiguous()?.reshape(unfolding.shape())
}

/// The product that a stored weight is, `(g, rows, cols)`: what [`weight_of`] undoes.
pub(crate) fn product_of(unfolding: &Unfolding, weight: &Tensor) -> Result<Tensor> {
    let [o, i, kh, kw] = unfolding.kernel();
    let product = match (unfolding.layout(), unfolding.base_scheme()) {
        (Layout::TransposedLinear, _) => weight.t()?,
        (_, Scheme::Spatial) => weight.reshape((unfolding.groups() * o, i, kh, kw))?.transpose(1, 2)?,
        _ => weight.clone(),
    };
    product.contiguous()?.reshape((unfolding.groups(), unfolding.rows(), unfolding.cols()))
}
