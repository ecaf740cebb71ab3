use super::chain::Execution;
use super::operations::{Activation, Add, After, FinishedProduct, Product, SmoothActivation};
use super::tape::{Node, Tape};
use super::weight::Weight;
use crate::decompose::{Layout, Ranks, Scheme};
use candle_core::{Module, Result, Tensor, Var};

/// A linear layer, dense or factored: `y = x Wt + b`, with `W` or with `A B` in its place.
///
/// # Shapes
///
/// | | shape |
/// | --- | --- |
/// | input | `(..., in)` |
/// | weight | `(out, in)`; `(in, out)` for a transposed one |
/// | output | `(..., out)` |
///
/// # Examples
///
/// ```
/// use candle_core::{Device, Module, Tensor};
/// use fnl::layers::Linear;
///
/// let weight = Tensor::new(&[[1f32, 2.0, 3.0], [2.0, 4.0, 6.0]], &Device::Cpu)?; // of rank one
/// let dense = Linear::dense(&weight, None)?;
/// let factored = dense.factored(1)?;
/// assert_eq!(factored.weight().parameters(), 5);
/// let xs = Tensor::new(&[[1f32, 0.0, -1.0]], &Device::Cpu)?;
/// let difference = (dense.forward(&xs)? - factored.forward(&xs)?)?.abs()?.sum_all()?.to_scalar::<f32>()?;
/// assert!(difference < 1e-5);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Weight,
    bias: Option<Var>,
    transposed: bool,
    execution: Execution,
}

impl Linear {
    /// The layer of this weight and bias; `transposed` for a weight stored `(in, out)`.
    #[must_use]
    pub fn new(weight: Weight, bias: Option<Var>, transposed: bool) -> Self {
        Self { weight, bias, transposed, execution: Execution::Auto }
    }

    /// A dense layer that starts with copies of these tensors, the weight stored `(out, in)`.
    ///
    /// # Errors
    ///
    /// - a device that fails
    pub fn dense(weight: &Tensor, bias: Option<&Tensor>) -> Result<Self> {
        Ok(Self::new(Weight::dense(weight)?, bias.map(Var::from_tensor).transpose()?, false))
    }

    /// The layer of rank `rank` that is nearest to this one, with tensors of its own.
    ///
    /// # Errors
    ///
    /// - as [`Weight::factored`]
    pub fn factored(&self, rank: usize) -> Result<Self> {
        self.with_scheme(Scheme::Matrix, rank)
    }

    /// As [`Linear::factored`], by any scheme that linear layers have.
    ///
    /// # Errors
    ///
    /// - as [`Weight::factored`]
    pub fn with_scheme(&self, scheme: Scheme, ranks: impl Into<Ranks>) -> Result<Self> {
        let layout = if self.transposed { Layout::TransposedLinear } else { Layout::Linear };
        let weight = Weight::factored(&self.weight.collapse()?, layout, scheme, 1, ranks)?;
        let bias = self.bias.as_ref().map(|bias| Var::from_tensor(bias.as_tensor())).transpose()?;
        Ok(Self { weight, bias, ..self.clone() })
    }

    /// The dense layer that computes the same.
    ///
    /// # Errors
    ///
    /// - a device that fails
    pub fn collapse(&self) -> Result<Self> {
        let bias = self.bias.as_ref().map(|bias| Var::from_tensor(bias.as_tensor())).transpose()?;
        Ok(Self { weight: Weight::dense(&self.weight.collapse()?)?, bias, ..self.clone() })
    }

    /// The same layer, its factors run this way.
    #[must_use]
    pub fn with_execution(self, execution: Execution) -> Self {
        Self { execution, ..self }
    }

    /// The weight.
    #[must_use]
    pub fn weight(&self) -> &Weight {
        &self.weight
    }

    /// The bias.
    #[must_use]
    pub fn bias(&self) -> Option<&Var> {
        self.bias.as_ref()
    }

    /// Every tensor that is trained.
    #[must_use]
    pub fn vars(&self) -> Vec<Var> {
        self.weight.vars().iter().chain(&self.bias).cloned().collect()
    }

    /// Multiply-adds for an input of this shape.
    #[must_use]
    pub fn multiply_adds(&self, input: &[usize]) -> u64 {
        let rows: usize = input.iter().rev().skip(1).product();
        let product = self.weight.shape().iter().product::<usize>() as u64 * rows as u64;
        match &self.weight {
            Weight::Dense(_) => product,
            Weight::Factored(chain) => {
                let sequence = chain.parameters() as u64 * rows as u64;
                self.execution
                    .of(chain.format())
                    .cheaper(sequence, product + chain.reconstruction_multiply_adds())
                    .1
            }
        }
    }

    /// Runs the layer in a computation.
    ///
    /// # Errors
    ///
    /// - an input whose last axis is not `in`
    pub fn forward_on(&self, tape: &Tape, xs: &Node) -> Result<Node> {
        self.run(tape, xs, None)
    }

    /// Runs the layer and then an activation; where no gradient is wanted, while the results are in the cache.
    ///
    /// # Errors
    ///
    /// - an input whose last axis is not `in`
    pub fn forward_activated_on(&self, tape: &Tape, xs: &Node, activation: Activation) -> Result<Node> {
        match SmoothActivation::new(activation) {
            Some(smooth) if !tape.is_training() => {
                self.run(tape, xs, Some((After::Activation(smooth), None)))
            }
            _ => activation.apply_on(tape, &self.forward_on(tape, xs)?),
        }
    }

    /// Runs the layer and adds what it makes to `residual`; where no gradient is wanted, while the results are in the cache.
    ///
    /// # Errors
    ///
    /// - an input whose last axis is not `in`; a residual of another shape than the output
    pub fn forward_added_on(&self, tape: &Tape, xs: &Node, residual: &Node) -> Result<Node> {
        if tape.is_training() {
            return tape.apply(Add, &[residual, &self.forward_on(tape, xs)?]);
        }
        self.run(tape, xs, Some((After::Residual, Some(residual))))
    }

    /// Runs the layer and what follows it, with its input.
    fn run(&self, tape: &Tape, xs: &Node, after: Option<(After, Option<&Node>)>) -> Result<Node> {
        let operation = Product::new(self.transposed);
        let bias = self.bias.as_ref().map(|bias| tape.parameter(bias));
        let last = |xs: &Node, weight: &Node| {
            let inputs = [xs, weight].into_iter().chain(&bias);
            match after {
                None => tape.apply(operation, &inputs.collect::<Vec<_>>()),
                Some((after, residual)) => {
                    let inputs: Vec<&Node> = inputs.chain(residual).collect();
                    tape.apply(FinishedProduct::new(operation, after), &inputs)
                }
            }
        };
        let chain = match &self.weight {
            Weight::Dense(weight) => {
                return tape.watched(weight, xs, None, || last(xs, &tape.parameter(weight)));
            }
            Weight::Factored(chain) => chain,
        };
        let rows: usize = xs.dims().iter().rev().skip(1).product();
        let sequence = chain.parameters() as u64 * rows as u64;
        let product = self.weight.shape().iter().product::<usize>() as u64 * rows as u64;
        if self
            .execution
            .of(chain.format())
            .cheaper(sequence, product + chain.reconstruction_multiply_adds())
            .0
        {
            return last(xs, &chain.reconstruct(tape)?);
        }
        let mut ys = xs.clone();
        let (outer, inner) = chain.factors().split_at(chain.factors().len() - 1);
        for factor in outer {
            ys = tape.apply(operation, &[&ys, &tape.parameter(factor)])?;
        }
        last(&ys, &tape.parameter(&inner[0]))
    }
}

impl Module for Linear {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let tape = Tape::candle();
        Ok(self.forward_on(&tape, &tape.constant(xs))?.tensor().clone())
    }
}
