use crate::layers::{Operation, View, kernels};
use candle_core::{Result, Tensor, bail};

/// A product with a weight, and a bias: `y = x Wt + b`, or `y = x W + b` for a weight stored `(in, out)`.
///
/// # Shapes
///
/// | | shape |
/// | --- | --- |
/// | input | `(..., in)` |
/// | weight | `(out, in)`, or `(in, out)` when `transposed` |
/// | bias, optional | `(out)` |
/// | output | `(..., out)` |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Product {
    /// Whether the weight is stored `(in, out)`.
    pub transposed: bool,
}

impl Product {
    /// A product with a weight stored `(out, in)`, or `(in, out)` when `transposed`.
    #[must_use]
    pub fn new(transposed: bool) -> Self {
        Self { transposed }
    }

    /// Rows of the input, features in, features out.
    fn sizes(self, input: &[usize], weight: &[usize]) -> Result<[usize; 3]> {
        let (Some((&inner, rows)), &[first, second]) = (input.split_last(), weight) else {
            bail!("a product needs an input (..., in) and a matrix, found {input:?} and {weight:?}");
        };
        let (out, expected) = if self.transposed { (second, first) } else { (first, second) };
        if inner != expected {
            bail!("a weight {weight:?} expects {expected} features, found {input:?}");
        }
        Ok([rows.iter().product(), inner, out])
    }
}

impl Operation for Product {
    fn name(&self) -> &'static str {
        "product"
    }

    fn compose(&self, inputs: &[Tensor]) -> Result<Tensor> {
        let (xs, weight) = (&inputs[0], &inputs[1]);
        let [rows, inner, out] = self.sizes(xs.dims(), weight.dims())?;
        let weight = if self.transposed { weight.clone() } else { weight.t()? };
        let mut shape = xs.dims().to_vec();
        if let Some(last) = shape.last_mut() {
            *last = out;
        }
        let ys = xs.reshape((rows, inner))?.matmul(&weight)?.reshape(shape)?;
        match inputs.get(2) {
            Some(bias) => ys.broadcast_add(bias),
            None => Ok(ys),
        }
    }

    fn forward(&self, inputs: &[View<'_>]) -> Result<(Vec<f32>, Vec<usize>)> {
        let [rows, inner, out] = self.sizes(inputs[0].shape, inputs[1].shape)?;
        let bias = inputs.get(2).map(|bias| bias.data);
        if let Some(bias) = bias.filter(|bias| bias.len() != out) {
            bail!("expected a bias of {out} elements, found {}", bias.len());
        }
        let (x, w) = (inputs[0].data, inputs[1].data);
        let ys = kernels::matmul(rows, inner, out, x, false, w, !self.transposed, bias);
        let mut shape = inputs[0].shape.to_vec();
        if let Some(last) = shape.last_mut() {
            *last = out;
        }
        Ok((ys, shape))
    }

    fn backward(
        &self,
        inputs: &[View<'_>],
        _output: View<'_>,
        gradient: View<'_>,
        wanted: &[bool],
    ) -> Result<Vec<Option<Vec<f32>>>> {
        let [rows, inner, out] = self.sizes(inputs[0].shape, inputs[1].shape)?;
        let (x, w, dy) = (inputs[0].data, inputs[1].data, gradient.data);
        let mut found = vec![
            wanted[0].then(|| kernels::matmul(rows, out, inner, dy, false, w, self.transposed, None)),
            wanted[1].then(|| {
                if self.transposed {
                    kernels::matmul(inner, rows, out, x, true, dy, false, None)
                } else {
                    kernels::matmul(out, rows, inner, dy, true, x, false, None)
                }
            }),
        ];
        if let Some(&wanted) = wanted.get(2) {
            found.push(wanted.then(|| kernels::sum_rows(out, dy)));
        }
        Ok(found)
    }

    fn multiply_adds(&self, inputs: &[&[usize]]) -> u64 {
        self.sizes(inputs[0], inputs[1]).map_or(0, |sizes| sizes.iter().map(|&n| n as u64).product())
    }
}
