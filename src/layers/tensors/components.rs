use super::Contraction;
use candle_core::{Result, Tensor};

/// A sum of `r` products of vectors: outputs `(o, r)`, and rows of `(r, n_k)` for each other mode.
///
/// ```text
/// W = O (B_1 * ... * B_d),  rows multiplied with each other to (r, n_1 ... n_d)
/// gradient of |W|^2 / 2:  O:  O (G_1 . ... . G_d),     B_k:  (O^T O . G_j, all j but k) B_k,     G_k = B_k B_k^T
/// ```
pub(super) struct Components {
    pub(super) out: Tensor,
    pub(super) inner: Vec<Tensor>,
}

impl Contraction for Components {
    fn product(&self) -> Result<Tensor> {
        let mut shape = vec![self.out.dim(0)?];
        shape.extend(self.inner.iter().map(|factor| factor.dim(1)).collect::<Result<Vec<_>>>()?);
        self.out.matmul(&self.rows()?)?.reshape(shape)
    }

    fn gradients(&self, gradient: &Tensor) -> Result<Vec<Tensor>> {
        let gradient = gradient.reshape((gradient.dim(0)?, ()))?;
        let mut found = vec![gradient.matmul(&self.rows()?.t()?)?];
        let ranks = self.out.dim(1)?;
        let sizes = self.inner.iter().map(|factor| factor.dim(1)).collect::<Result<Vec<_>>>()?;
        let shape: Vec<usize> = std::iter::once(ranks).chain(sizes.iter().copied()).collect();
        let weighed = self.out.t()?.contiguous()?.matmul(&gradient)?.reshape(shape)?;
        for mode in 0..self.inner.len() {
            let mut left = weighed.clone();
            for (other, factor) in self.inner.iter().enumerate().filter(|(other, _)| *other != mode) {
                let mut along = vec![1; self.inner.len() + 1];
                (along[0], along[other + 1]) = (ranks, sizes[other]);
                left = left.broadcast_mul(&factor.reshape(along)?)?.sum_keepdim(other + 1)?;
            }
            found.push(left.reshape((ranks, sizes[mode]))?);
        }
        Ok(found)
    }

    fn decay(&self) -> Result<Vec<Tensor>> {
        let grams = self.grams()?;
        let all_but = |except: usize| {
            let mut others =
                grams.iter().enumerate().filter(|(at, _)| *at != except).map(|(_, gram)| gram.clone());
            let first = others.next().map_or_else(|| grams[0].ones_like(), Ok)?;
            others.try_fold(first, |product, gram| product * gram)
        };
        let mut found = vec![self.out.matmul(&all_but(0)?)?];
        for (mode, factor) in self.inner.iter().enumerate() {
            found.push(all_but(mode + 1)?.matmul(factor)?);
        }
        Ok(found)
    }

    fn norm_squared(&self) -> Result<Tensor> {
        let grams = self.grams()?;
        grams[1..].iter().try_fold(grams[0].clone(), |product, gram| product * gram)?.sum_all()
    }
}

impl Components {
    /// Gram matrices `(r, r)`: that of outputs, then each other mode's.
    fn grams(&self) -> Result<Vec<Tensor>> {
        let out = self.out.t()?.contiguous()?.matmul(&self.out);
        std::iter::once(out).chain(self.inner.iter().map(|factor| factor.matmul(&factor.t()?))).collect()
    }

    /// Rows `(r, n_1 ... n_d)`.
    fn rows(&self) -> Result<Tensor> {
        let ranks = self.out.dim(1)?;
        let mut rows = self.inner[0].clone();
        for factor in &self.inner[1..] {
            rows = rows.unsqueeze(2)?.broadcast_mul(&factor.unsqueeze(1)?)?.reshape((ranks, ()))?;
        }
        Ok(rows)
    }
}
