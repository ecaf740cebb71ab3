use super::Contraction;
use candle_core::{Result, Tensor};

/// A core `(r_1, ..., r_d, rest...)` and a factor `(n_k, r_k)` for each of its first modes.
///
/// ```text
/// W = C x_1 U_1 ... x_d U_d,     G_k = U_k^T U_k
/// gradient of |W|^2 / 2:  C:  C x_1 G_1 ... x_d G_d,     U_k:  U_k (C x_j G_j, all j but k)_(k) C_(k)^T
/// ```
pub(super) struct Tucker {
    pub(super) core: Tensor,
    pub(super) factors: Vec<Tensor>,
}

impl Contraction for Tucker {
    fn product(&self) -> Result<Tensor> {
        by_all(&self.core, &self.factors, None)
    }

    fn gradients(&self, gradient: &Tensor) -> Result<Vec<Tensor>> {
        let transposed = self.factors.iter().map(Tensor::t).collect::<Result<Vec<_>>>()?;
        let mut found = vec![by_all(gradient, &transposed, None)?];
        for mode in 0..self.factors.len() {
            // All other factors are taken out of the gradient, which leaves (r_1, .., n_k, .., r_d).
            let left = unfolded(&by_all(gradient, &transposed, Some(mode))?, mode)?;
            found.push(left.matmul(&unfolded(&self.core, mode)?.t()?)?);
        }
        Ok(found)
    }

    fn decay(&self) -> Result<Vec<Tensor>> {
        let grams = self.grams()?;
        let mut found = vec![by_all(&self.core, &grams, None)?];
        for (mode, factor) in self.factors.iter().enumerate() {
            let weighed = unfolded(&by_all(&self.core, &grams, Some(mode))?, mode)?;
            found.push(factor.matmul(&weighed.matmul(&unfolded(&self.core, mode)?.t()?)?)?);
        }
        Ok(found)
    }

    fn norm_squared(&self) -> Result<Tensor> {
        (&self.core * by_all(&self.core, &self.grams()?, None)?)?.sum_all()
    }
}

impl Tucker {
    fn grams(&self) -> Result<Vec<Tensor>> {
        self.factors.iter().map(|factor| factor.t()?.matmul(factor)).collect()
    }
}

/// A tensor times a matrix along each of its first modes, but for one.
fn by_all(tensor: &Tensor, matrices: &[Tensor], except: Option<usize>) -> Result<Tensor> {
    let mut product = tensor.clone();
    for (mode, matrix) in matrices.iter().enumerate().filter(|(mode, _)| Some(*mode) != except) {
        product = by(&product, mode, matrix)?;
    }
    Ok(product)
}

/// A tensor times a matrix along one mode: the mode's size becomes the matrix's rows.
fn by(tensor: &Tensor, mode: usize, matrix: &Tensor) -> Result<Tensor> {
    let mut shape = tensor.dims().to_vec();
    shape[mode] = matrix.dim(0)?;
    if mode == 0 {
        return matrix.contiguous()?.matmul(&tensor.reshape((tensor.dim(0)?, ()))?)?.reshape(shape);
    }
    if mode + 1 == shape.len() {
        let rows = tensor.reshape(((), tensor.dim(mode)?))?;
        return rows.matmul(&matrix.t()?)?.reshape(shape);
    }
    let front = shape.remove(mode);
    shape.insert(0, front);
    let product = matrix.contiguous()?.matmul(&unfolded(tensor, mode)?)?.reshape(shape)?;
    let mut order: Vec<usize> = (1..tensor.rank()).collect();
    order.insert(mode, 0);
    product.permute(order)?.contiguous()
}

/// The tensor as a matrix `(n_k, rest)`.
fn unfolded(tensor: &Tensor, mode: usize) -> Result<Tensor> {
    let mut order: Vec<usize> = (0..tensor.rank()).collect();
    let front = order.remove(mode);
    order.insert(0, front);
    tensor.permute(order)?.contiguous()?.reshape((tensor.dim(mode)?, ()))
}
