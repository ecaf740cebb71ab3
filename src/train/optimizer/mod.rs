//! Steps along gradients, with state that is saved and loaded exactly.

mod adamw;
mod decay;
mod lamb;
mod memory;
mod options;
mod sgd;

pub use adamw::{AdamW, AdamWOptions};
pub use decay::{Decay, DecayTable};
pub use lamb::{Lamb, LambOptions};
pub use options::OptimizerOptions;
pub use sgd::{Sgd, SgdOptions};

use super::GradientSum;
use crate::layers::Parameters;
use candle_core::{DType, Result, Tensor, Var};
use indexmap::IndexMap;
use std::fmt::Debug;

/// What a step is made from.
#[derive(Clone, Copy, Debug)]
pub struct Update<'a> {
    /// The gradients of the loss.
    pub gradients: &'a GradientSum,
    /// Which parameters are decayed, how, and how much.
    pub decay: &'a DecayTable,
    /// For parameters with [`Decay::Frobenius`] the gradient of `|A B|^2 / 2`, not yet times lambda.
    pub frobenius: &'a IndexMap<String, Tensor>,
    /// The learning rate of this step.
    pub learning_rate: f64,
}

/// A rule that changes parameters along their gradients.
///
/// Parameters without a gradient are left alone. On the CPU parameters of f32 are changed in place by one loop each;
/// elsewhere by candle's operations, in f32, or in f64 for parameters of f64.
///
/// # Determinism
///
/// Neither the number of threads nor the machine's vector instructions change a result on the CPU.
///
/// # Examples
///
/// ```
/// use candle_core::{Device, Tensor};
/// use fnl::layers::{Parameters, Role};
/// use fnl::train::{Decay, DecayTable, GradientSum, OptimizerOptions, SgdOptions, Update};
///
/// let mut parameters = Parameters::new();
/// let w = parameters.insert("w", &Tensor::new(&[1f32], &Device::Cpu)?, Role::Weight)?;
/// let mut gradients = GradientSum::new();
/// gradients.insert("w", Tensor::new(&[0.25f32], &Device::Cpu)?);
/// let decay: DecayTable = [("w".to_owned(), Decay::Weight(0.25))].into_iter().collect();
/// let mut optimizer = OptimizerOptions::Sgd(SgdOptions { momentum: 0.0, nesterov: false }).build()?;
/// let update = Update { gradients: &gradients, decay: &decay, frobenius: &Default::default(), learning_rate: 0.5 };
/// optimizer.step(&parameters, &update)?;
/// assert_eq!(w.to_vec1::<f32>()?, [0.75]); // 1 - 0.5 (0.25 + 0.25 1)
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Optimizer: Debug + Send + Sync {
    /// The name, as options have it.
    fn name(&self) -> &'static str;

    /// Changes all parameters that have a gradient.
    ///
    /// # Errors
    ///
    /// - a gradient of another shape than its parameter;
    /// - a parameter with [`Decay::Frobenius`] whose penalty has no gradient
    fn step(&mut self, parameters: &Parameters, update: &Update<'_>) -> Result<()>;

    /// Copies everything that later steps depend on, on the CPU: `step`, the count of steps, and buffers by
    /// kind and parameter, `momentum.fc.weight`.
    ///
    /// # Errors
    ///
    /// - a device that fails
    fn state(&self) -> Result<IndexMap<String, Tensor>>;

    /// Continues from a state: the next steps are, bit for bit, those that would have followed it.
    ///
    /// # Errors
    ///
    /// - a state without `step`, or without a buffer of a trained parameter once steps were taken;
    /// - a buffer of another shape, or one that belongs to no parameter or to another optimizer
    fn load(&mut self, parameters: &Parameters, state: &IndexMap<String, Tensor>) -> Result<()>;

    /// Multiplies the buffers of a parameter, element by element, so that what is masked has no momentum.
    ///
    /// # Errors
    ///
    /// - a mask of another shape
    fn mask(&mut self, name: &str, mask: &Tensor) -> Result<()>;
}

/// What one parameter's step is made from.
#[derive(Clone, Copy, Debug)]
struct Part<'a> {
    name: &'a str,
    var: &'a Var,
    gradient: &'a Tensor,
    /// Lambda of the weight decay, 0 for none.
    weight: f64,
    /// Lambda of the penalty on the product and the penalty's gradient.
    frobenius: Option<(f64, &'a Tensor)>,
}

impl Part<'_> {
    /// The element type of buffers and of what is computed.
    fn dtype(&self) -> DType {
        memory::dtype(self.var)
    }

    /// The parameter and its gradient, in that type.
    fn wide(&self) -> Result<(Tensor, Tensor)> {
        let dtype = self.dtype();
        Ok((self.var.as_detached_tensor().to_dtype(dtype)?, self.gradient.to_dtype(dtype)?))
    }

    /// What decay adds to a gradient: `lambda p`, or `lambda` times the penalty's gradient.
    fn add_decay(&self, to: Tensor, p: &Tensor) -> Result<Tensor> {
        let sum = if self.weight == 0.0 { to } else { (to + p.affine(self.weight, 0.0)?)? };
        match self.frobenius {
            None => Ok(sum),
            Some((lambda, penalty)) => sum + penalty.to_dtype(self.dtype())?.affine(lambda, 0.0)?,
        }
    }

    /// Sets the parameter, rounded to its own type.
    fn set(&self, p: &Tensor) -> Result<()> {
        self.var.set(&p.to_dtype(self.var.dtype())?)
    }

    /// The penalty's gradient and its factor for a loop; 0 where there is none.
    fn penalty(&self) -> (f32, Option<&Tensor>) {
        self.frobenius.map_or((0.0, None), |(lambda, penalty)| (lambda as f32, Some(penalty)))
    }
}

/// The parameters that have a gradient.
fn parts<'a>(parameters: &'a Parameters, update: &Update<'a>) -> Result<Vec<Part<'a>>> {
    let mut parts = Vec::with_capacity(parameters.len());
    for (name, parameter) in parameters.trained() {
        let Some(gradient) = update.gradients.get(name) else { continue };
        let var = parameter.var();
        let decay = update.decay.get(name);
        let frobenius = match decay {
            Decay::Frobenius(lambda) => match update.frobenius.get(name) {
                Some(penalty) => Some((lambda, penalty)),
                None => candle_core::bail!("the penalty on the product with `{name}` has no gradient"),
            },
            _ => None,
        };
        for (what, tensor) in [("gradient", Some(gradient)), ("penalty", frobenius.map(|(_, tensor)| tensor))]
        {
            if let Some(tensor) = tensor
                && tensor.dims() != var.dims()
            {
                candle_core::bail!(
                    "the {what} of `{name}` has shape {:?}, expected {:?}",
                    tensor.dims(),
                    var.dims()
                );
            }
        }
        let weight = if let Decay::Weight(lambda) = decay { lambda } else { 0.0 };
        parts.push(Part { name, var, gradient, weight, frobenius });
    }
    Ok(parts)
}
