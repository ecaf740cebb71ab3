use crate::layers::{Gradients, Parameters};
use candle_core::{Result, Tensor, bail};
use indexmap::IndexMap;

/// The gradients of a network's parameters by name, summed over micro-batches.
///
/// # Examples
///
/// ```
/// use candle_core::{Device, Tensor};
/// use fnl::layers::{Parameters, Role, Tape};
/// use fnl::train::GradientSum;
///
/// let mut parameters = Parameters::new();
/// let w = parameters.insert("w", &Tensor::new(&[3f32], &Device::Cpu)?, Role::Weight)?;
/// let mut sum = GradientSum::new();
/// for _ in 0..2 {
///     let tape = Tape::candle();
///     let loss = tape.constant(&w.as_tensor().sqr()?.sum_all()?); // its gradient is 2 w
///     sum.add(&parameters, &tape.backward(&loss)?, 0.5)?; // half of each of two micro-batches
/// }
/// assert_eq!(sum.get("w").unwrap().to_vec1::<f32>()?, [6.0]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct GradientSum {
    entries: IndexMap<String, Tensor>,
}

impl GradientSum {
    /// No gradients.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the gradients of trained parameters, each times `scale`: one over the number of micro-batches makes the sum a mean.
    ///
    /// A parameter on which the result did not depend is left out, and optimizers leave it alone.
    ///
    /// # Errors
    ///
    /// - a gradient of another shape than the one before
    pub fn add(&mut self, parameters: &Parameters, gradients: &Gradients, scale: f64) -> Result<()> {
        for (name, parameter) in parameters.trained() {
            let Some(gradient) = gradients.get(parameter.var()) else { continue };
            let gradient = gradient.detach();
            let gradient = if scale == 1.0 { gradient } else { gradient.affine(scale, 0.0)? };
            match self.entries.get_mut(name) {
                None => {
                    self.entries.insert(name.to_owned(), gradient);
                }
                Some(sum) => *sum = (&*sum + gradient)?,
            }
        }
        Ok(())
    }

    /// Sets one gradient.
    pub fn insert(&mut self, name: &str, gradient: Tensor) {
        self.entries.insert(name.to_owned(), gradient);
    }

    /// The gradient of the parameter of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.entries.get(name)
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.entries.iter().map(|(name, gradient)| (name.as_str(), gradient))
    }

    /// Multiplies all by a number.
    ///
    /// # Errors
    ///
    /// - a device that fails
    pub fn scale(&mut self, factor: f64) -> Result<()> {
        for gradient in self.entries.values_mut() {
            *gradient = gradient.affine(factor, 0.0)?;
        }
        Ok(())
    }

    /// Multiplies one, element by element.
    ///
    /// # Errors
    ///
    /// - a factor of another shape
    pub fn multiply(&mut self, name: &str, factor: &Tensor) -> Result<()> {
        let Some(gradient) = self.entries.get_mut(name) else { return Ok(()) };
        if gradient.dims() != factor.dims() {
            bail!(
                "a factor of shape {:?} for the gradient of `{name}`, shape {:?}",
                factor.dims(),
                gradient.dims()
            );
        }
        *gradient = gradient.mul(&factor.to_dtype(gradient.dtype())?)?;
        Ok(())
    }

    /// Forgets all, for the next step.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
