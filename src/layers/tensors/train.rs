use super::Contraction;
use candle_core::{Result, Tensor};

/// Cores `(r_{k-1}, n_k, r_k)`, whose first and last ranks are one.
///
/// ```text
/// W[j_1, ..., j_d] = G_1[j_1] ... G_d[j_d]
/// gradient of |W|^2 / 2:  G_k:  L_{k-1} G_k R_{k+1}
/// L_k = sum_j G_k[j]^T L_{k-1} G_k[j],     R_k = sum_j G_k[j] R_{k+1} G_k[j]^T,     L_0 = R_{d+1} = 1
/// ```
pub(super) struct Train {
    pub(super) cores: Vec<Tensor>,
}

impl Contraction for Train {
    fn product(&self) -> Result<Tensor> {
        let sizes = self.cores.iter().map(|core| core.dim(1)).collect::<Result<Vec<_>>>()?;
        let all = self.lefts()?;
        all[self.cores.len()].reshape(sizes)
    }

    fn gradients(&self, gradient: &Tensor) -> Result<Vec<Tensor>> {
        let (lefts, rights) = (self.lefts()?, self.rights()?);
        let mut found = Vec::new();
        for (k, core) in self.cores.iter().enumerate() {
            let (left, right) = (&lefts[k], &rights[k + 1]);
            let (before, ranks) = left.dims2()?;
            let (_, size, next) = core.dims3()?;
            // (before, n_k after) -> (r_{k-1}, n_k, after) -> (r_{k-1}, n_k, r_k)
            let outer = left.t()?.contiguous()?.matmul(&gradient.reshape((before, ()))?)?;
            let inner = outer.reshape((ranks * size, ()))?.matmul(&right.t()?.contiguous()?)?;
            found.push(inner.reshape((ranks, size, next))?);
        }
        Ok(found)
    }

    fn decay(&self) -> Result<Vec<Tensor>> {
        let mut rights = vec![self.one()?];
        for core in self.cores.iter().rev() {
            let last = &rights[rights.len() - 1];
            rights.push(weighed_right(core, last)?.matmul(&flat_right(core)?.t()?)?);
        }
        rights.reverse();
        let (mut left, mut found) = (self.one()?, Vec::new());
        for (core, right) in self.cores.iter().zip(&rights[1..]) {
            let (ranks, size, next) = core.dims3()?;
            let weighed = left.matmul(&core.reshape((ranks, size * next))?)?.reshape((ranks * size, next))?;
            found.push(weighed.matmul(right)?.reshape((ranks, size, next))?);
            left = core.reshape((ranks * size, next))?.t()?.contiguous()?.matmul(&weighed)?;
        }
        Ok(found)
    }

    fn norm_squared(&self) -> Result<Tensor> {
        let mut left = self.one()?;
        for core in &self.cores {
            let (ranks, size, next) = core.dims3()?;
            let weighed = left.matmul(&core.reshape((ranks, size * next))?)?.reshape((ranks * size, next))?;
            left = core.reshape((ranks * size, next))?.t()?.contiguous()?.matmul(&weighed)?;
        }
        left.sum_all()
    }
}

impl Train {
    fn one(&self) -> Result<Tensor> {
        Tensor::ones((1, 1), self.cores[0].dtype(), self.cores[0].device())
    }

    /// The products of the first `k` cores, `(n_1 ... n_k, r_k)`, from none to all.
    fn lefts(&self) -> Result<Vec<Tensor>> {
        let mut lefts = vec![self.one()?];
        for core in &self.cores {
            let (ranks, size, next) = core.dims3()?;
            let product = lefts[lefts.len() - 1].matmul(&core.reshape((ranks, size * next))?)?;
            lefts.push(product.reshape(((), next))?);
        }
        Ok(lefts)
    }

    /// The products of the cores from `k` on, `(r_{k-1}, n_k ... n_d)`, from all to none.
    fn rights(&self) -> Result<Vec<Tensor>> {
        let mut rights = vec![self.one()?];
        for core in self.cores.iter().rev() {
            let (ranks, size, next) = core.dims3()?;
            let product = core.reshape((ranks * size, next))?.matmul(&rights[rights.len() - 1])?;
            rights.push(product.reshape((ranks, ()))?);
        }
        rights.reverse();
        Ok(rights)
    }
}

/// `G_k` as `(r_{k-1}, n_k r_k)`.
fn flat_right(core: &Tensor) -> Result<Tensor> {
    core.reshape((core.dim(0)?, ()))
}

/// `G_k R` as `(r_{k-1}, n_k r_k)`, for a symmetric `R`.
fn weighed_right(core: &Tensor, right: &Tensor) -> Result<Tensor> {
    let (ranks, size, next) = core.dims3()?;
    core.reshape((ranks * size, next))?.matmul(right)?.reshape((ranks, ()))
}
