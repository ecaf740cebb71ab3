use super::operations::RowNormalization;
use super::tape::{Node, Tape};
use candle_core::{Module, Result, Tensor, Var};

/// Normalization of rows with a scale, and a shift where their mean is taken off: layer normalization, or normalization by the
/// root mean square.
///
/// # Shapes
///
/// Input and output `(..., d)`.
#[derive(Clone, Debug)]
pub struct RowNorm {
    operation: RowNormalization,
    scale: Var,
    shift: Option<Var>,
}

impl RowNorm {
    /// Layer normalization with these tensors, shape `(d)` each.
    #[must_use]
    pub fn layer(scale: Var, shift: Var, epsilon: f64) -> Self {
        Self { operation: RowNormalization::layer(epsilon), scale, shift: Some(shift) }
    }

    /// Normalization by the root mean square with this tensor, shape `(d)`.
    #[must_use]
    pub fn mean_square(scale: Var, epsilon: f64) -> Self {
        Self { operation: RowNormalization::mean_square(epsilon), scale, shift: None }
    }

    /// Runs the layer in a computation.
    ///
    /// # Errors
    ///
    /// - an input with rows of another length
    pub fn forward_on(&self, tape: &Tape, xs: &Node) -> Result<Node> {
        let scale = tape.parameter(&self.scale);
        let shift = self.shift.as_ref().map(|shift| tape.parameter(shift));
        let inputs: Vec<&Node> = [xs, &scale].into_iter().chain(&shift).collect();
        tape.apply(self.operation, &inputs)
    }
}

impl Module for RowNorm {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let tape = Tape::candle();
        Ok(self.forward_on(&tape, &tape.constant(xs))?.tensor().clone())
    }
}
