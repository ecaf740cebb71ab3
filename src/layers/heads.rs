use super::parameters::Parameters;
use candle_core::{DType, Result, Tensor, bail};
use indexmap::IndexMap;

/// The rows, or columns, of a weight that belong to the heads of an attention: `width` for each head, one head behind the
/// other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadWeight {
    /// The weight's name.
    pub name: String,
    /// The axis along which heads lie: 0 for what makes queries, keys and values of a linear layer `(out, in)`, 1 for what
    /// takes their output.
    pub axis: usize,
    /// Where the first head begins.
    pub start: usize,
}

impl HeadWeight {
    /// The heads of a whole weight along an axis.
    #[must_use]
    pub fn new(name: &str, axis: usize) -> Self {
        Self { name: name.to_owned(), axis, start: 0 }
    }

    /// The heads of a weight `(heads, width, d)`.
    fn split(&self, weight: &Tensor, heads: usize, width: usize) -> Result<Tensor> {
        let part = weight.narrow(self.axis, self.start, heads * width)?;
        let part = if self.axis == 0 { part } else { part.t()? };
        part.contiguous()?.reshape((heads, width, ()))
    }
}

/// Two weights of an attention whose product is what a head computes with: queries and keys, `Q_h^T K_h`, whose scores are
/// the product's bilinear form; or output and values, `O_h V_h`, which is applied to what is attended to.
///
/// # Reference
///
/// Khodak, Tenenholtz, Mackey, Fusi, "Initialization and Regularization of Factorized Neural Layers", 2021, section 5.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadProduct {
    /// The attention's name.
    pub name: String,
    /// What it is.
    pub kind: HeadProductKind,
    /// What queries are made by, or what takes the heads' output.
    pub left: HeadWeight,
    /// What keys or values are made by.
    pub right: HeadWeight,
    /// Heads on the left, and on the right, where they may be shared by several of the left.
    pub heads: [usize; 2],
    /// Elements of a head.
    pub width: usize,
}

/// Which product of an attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeadProductKind {
    /// Queries and keys.
    QueryKey,
    /// Output and values.
    OutputValue,
}

impl HeadProduct {
    /// The gradient of half the squared norm of all heads' products with respect to both weights, zero where they belong to
    /// no head of this product: from Gram matrices of the heads' width, the products are never formed.
    ///
    /// For `P_h = A_h^T B_h`, with `A_h` and `B_h` `(width, d)`, it is `B_h B_h^T A_h` and `A_h A_h^T B_h`, the latter summed
    /// over heads that share `B_h`.
    ///
    /// # Errors
    ///
    /// - weights that are not there, or of another shape
    pub fn frobenius_gradients(&self, parameters: &Parameters) -> Result<IndexMap<String, Tensor>> {
        let [heads, shared] = self.heads;
        let group = heads / shared.max(1);
        let weight = |part: &HeadWeight| match parameters.get(&part.name) {
            Some(parameter) => Ok(parameter.var().as_tensor().detach()),
            None => bail!("no weight `{}`", part.name),
        };
        let (left_weight, right_weight) = (weight(&self.left)?, weight(&self.right)?);
        let left = self.left.split(&left_weight, heads, self.width)?;
        let right = self.right.split(&right_weight, shared, self.width)?;
        let right_gram = right.matmul(&right.transpose(1, 2)?.contiguous()?)?;
        let of_left = right_gram
            .unsqueeze(1)?
            .broadcast_as((shared, group, self.width, self.width))?
            .contiguous()?
            .reshape((heads, self.width, self.width))?
            .matmul(&left)?;
        let grams = left.matmul(&left.transpose(1, 2)?.contiguous()?)?;
        let grams = grams.reshape((shared, group, self.width, self.width))?.sum(1)?;
        let of_right = grams.matmul(&right)?;
        let mut found = IndexMap::new();
        for (part, gradient, weight) in
            [(&self.left, of_left, &left_weight), (&self.right, of_right, &right_weight)]
        {
            let rows = gradient.dim(0)? * self.width;
            let gradient = gradient.reshape((rows, ()))?;
            let gradient = if part.axis == 0 { gradient } else { gradient.t()?.contiguous()? };
            let whole = gradient.pad_with_zeros(
                part.axis,
                part.start,
                weight.dim(part.axis)?.saturating_sub(part.start + rows),
            )?;
            match found.get_mut(&part.name) {
                None => {
                    found.insert(part.name.clone(), whole);
                }
                Some(sum) => *sum = (&*sum + whole)?,
            }
        }
        Ok(found)
    }

    /// The norm of each head's product on the left's heads, for what is shown and tested.
    ///
    /// # Errors
    ///
    /// - as [`HeadProduct::frobenius_gradients`]
    pub fn norms(&self, parameters: &Parameters) -> Result<Vec<f64>> {
        let [heads, shared] = self.heads;
        let of = |part: &HeadWeight, heads: usize| -> Result<Tensor> {
            let Some(parameter) = parameters.get(&part.name) else { bail!("no weight `{}`", part.name) };
            part.split(&parameter.var().as_tensor().to_dtype(DType::F64)?, heads, self.width)
        };
        let (left, right) = (of(&self.left, heads)?, of(&self.right, shared)?);
        let gram = |xs: Tensor| xs.matmul(&xs.t()?.contiguous()?);
        (0..heads)
            .map(|head| {
                let own = gram(left.get(head)?)?;
                let other = gram(right.get(head * shared / heads)?)?;
                Ok(own.mul(&other)?.sum_all()?.to_scalar::<f64>()?.max(0.0).sqrt())
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::Role;
    use candle_core::Device;

    fn product(kind: HeadProductKind, left: HeadWeight, right: HeadWeight, heads: [usize; 2]) -> HeadProduct {
        HeadProduct { name: "attention".to_owned(), kind, left, right, heads, width: 3 }
    }

    /// The closed form against differences of the norms, for separate and joint weights, shared heads, both axes.
    #[test]
    fn gradients_are_those_of_half_the_squared_norm() -> Result<()> {
        let part = |name: &str, axis, start| HeadWeight { name: name.to_owned(), axis, start };
        let cases = [
            product(HeadProductKind::QueryKey, part("q", 0, 0), part("k", 0, 0), [4, 2]),
            product(HeadProductKind::OutputValue, part("o", 1, 0), part("k", 0, 0), [4, 2]),
            product(HeadProductKind::QueryKey, part("joint", 1, 0), part("joint", 1, 12), [4, 4]),
        ];
        for case in cases {
            let mut parameters = Parameters::new();
            for (name, shape) in [("q", (12, 5)), ("k", (6, 5)), ("o", (5, 12)), ("joint", (5, 30))] {
                let values = Tensor::randn(0f64, 1.0, shape, &Device::Cpu)?;
                parameters.insert(name, &values, Role::Weight)?;
            }
            let half = |parameters: &Parameters| -> Result<f64> {
                Ok(case.norms(parameters)?.iter().map(|norm| norm * norm / 2.0).sum())
            };
            for (name, gradient) in case.frobenius_gradients(&parameters)? {
                let var = parameters.get(&name).unwrap().var().clone();
                let (dims, values) = (var.dims().to_vec(), var.flatten_all()?.to_vec1::<f64>()?);
                let gradient = gradient.flatten_all()?.to_vec1::<f64>()?;
                for place in (0..values.len()).step_by(7) {
                    let moved = |by: f64| -> Result<f64> {
                        let mut values = values.clone();
                        values[place] += by;
                        var.set(&Tensor::from_vec(values, dims.as_slice(), &Device::Cpu)?)?;
                        half(&parameters)
                    };
                    let slope = (moved(1e-5)? - moved(-1e-5)?) / 2e-5;
                    moved(0.0)?;
                    assert!(
                        (slope - gradient[place]).abs() < 1e-6 * (1.0 + slope.abs()),
                        "{name}[{place}] of {case:?}: {slope} and {}",
                        gradient[place]
                    );
                }
            }
        }
        Ok(())
    }
}
