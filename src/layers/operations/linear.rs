use super::{SmoothActivation, compose};
use crate::layers::kernels::{self, Finish};
use crate::layers::{Operation, View};
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

    /// The product of the first two inputs, its rows finished.
    fn finished(self, inputs: &[View<'_>], finish: Finish<'_>) -> Result<(Vec<f32>, Vec<usize>)> {
        let [rows, inner, out] = self.sizes(inputs[0].shape, inputs[1].shape)?;
        if let Some(bias) = finish.bias.filter(|bias| bias.len() != out) {
            bail!("expected a bias of {out} elements, found {}", bias.len());
        }
        let (x, w) = (inputs[0].data, inputs[1].data);
        let ys = kernels::matmul(rows, inner, out, x, false, w, !self.transposed, finish);
        Ok((ys, self.output(inputs)?))
    }

    /// The shape of the output.
    fn output(self, inputs: &[View<'_>]) -> Result<Vec<usize>> {
        let [.., out] = self.sizes(inputs[0].shape, inputs[1].shape)?;
        let mut shape = inputs[0].shape.to_vec();
        if let Some(last) = shape.last_mut() {
            *last = out;
        }
        Ok(shape)
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
        self.finished(inputs, Finish::bias(inputs.get(2).map(|bias| bias.data)))
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
            wanted[0]
                .then(|| kernels::matmul(rows, out, inner, dy, false, w, self.transposed, Finish::default())),
            wanted[1].then(|| {
                if self.transposed {
                    kernels::matmul(inner, rows, out, x, true, dy, false, Finish::default())
                } else {
                    kernels::matmul(out, rows, inner, dy, true, x, false, Finish::default())
                }
            }),
        ];
        if let Some(&wanted) = wanted.get(2) {
            found.push(wanted.then(|| kernels::sum_rows(out, dy)));
        }
        Ok(found)
    }

    fn compose_backward(
        &self,
        inputs: &[Tensor],
        _output: &Tensor,
        gradient: &Tensor,
        wanted: &[bool],
    ) -> Result<Vec<Option<Tensor>>> {
        let [rows, inner, out] = self.sizes(inputs[0].dims(), inputs[1].dims())?;
        let xs = inputs[0].reshape((rows, inner))?;
        let dy = gradient.reshape((rows, out))?;
        let weight = if self.transposed { inputs[1].t()? } else { inputs[1].clone() };
        let gradients: [&dyn Fn() -> Result<Tensor>; 3] = [
            &|| dy.matmul(&weight)?.reshape(inputs[0].shape()),
            &|| if self.transposed { xs.t()?.matmul(&dy) } else { dy.t()?.matmul(&xs) },
            &|| compose::sum_per_channel(&dy),
        ];
        gradients.iter().zip(wanted).map(|(find, wanted)| wanted.then(find).transpose()).collect()
    }

    fn multiply_adds(&self, inputs: &[&[usize]]) -> u64 {
        self.sizes(inputs[0], inputs[1]).map_or(0, |sizes| sizes.iter().map(|&n| n as u64).product())
    }
}

/// What follows a [`Product`] where no gradient is wanted, done while its rows are in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// This activation of each element.
    Activation(SmoothActivation),
    /// The last input, of the output's shape, is added.
    Residual,
}

/// A [`Product`] and what follows it; the inputs are the product's, and that of [`After`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct FinishedProduct {
    product: Product,
    after: After,
}

impl FinishedProduct {
    pub(crate) fn new(product: Product, after: After) -> Self {
        Self { product, after }
    }

    /// The product's inputs, and the one that follows them.
    fn split<T>(self, inputs: &[T]) -> (&[T], Option<&T>) {
        match (self.after, inputs.split_last()) {
            (After::Residual, Some((residual, inputs))) => (inputs, Some(residual)),
            _ => (inputs, None),
        }
    }
}

impl Operation for FinishedProduct {
    fn name(&self) -> &'static str {
        "finished product"
    }

    fn compose(&self, inputs: &[Tensor]) -> Result<Tensor> {
        let (inputs, residual) = self.split(inputs);
        let ys = self.product.compose(inputs)?;
        match (self.after, residual) {
            (After::Activation(activation), _) => activation.compose(&[ys]),
            (After::Residual, Some(residual)) => ys + residual,
            (After::Residual, None) => Ok(ys),
        }
    }

    fn forward(&self, inputs: &[View<'_>]) -> Result<(Vec<f32>, Vec<usize>)> {
        let (inputs, residual) = self.split(inputs);
        if let Some(residual) = residual {
            let output = self.product.output(inputs)?;
            if residual.shape != output {
                bail!("can't add {:?} and {output:?}", residual.shape);
            }
        }
        let activation = match self.after {
            After::Activation(activation) => Some(activation.kind()),
            After::Residual => None,
        };
        let finish = Finish {
            bias: inputs.get(2).map(|bias| bias.data),
            activation,
            residual: residual.map(|residual| residual.data),
        };
        self.product.finished(inputs, finish)
    }

    fn backward(
        &self,
        _inputs: &[View<'_>],
        _output: View<'_>,
        _gradient: View<'_>,
        _wanted: &[bool],
    ) -> Result<Vec<Option<Vec<f32>>>> {
        bail!("a finished product has no gradient: what its activation had is gone")
    }

    fn multiply_adds(&self, inputs: &[&[usize]]) -> u64 {
        self.product.multiply_adds(inputs)
    }
}
