use super::operations::{Normalization, Reshape, ScaleShift};
use super::tape::{Node, Tape};
use candle_core::{Result, Tensor, Var};
use std::sync::Arc;

/// Batch normalization with running statistics, as PyTorch keeps them.
///
/// In training a batch is normalized by its own statistics, and the running ones move towards them by `momentum`
/// (the running variance towards the unbiased one); in evaluation the running ones are used.
///
/// # Shapes
///
/// Input and output `(b, c, ...)`.
#[derive(Clone, Debug)]
pub struct BatchNorm {
    scale: Var,
    shift: Var,
    running_mean: Var,
    running_var: Var,
    epsilon: f64,
}

/// What a normalization does with the running statistics.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Statistics {
    /// Uses them.
    Running,
    /// Uses the batch's, and moves the running ones by this part towards them.
    Batch {
        /// `running = (1 - momentum) running + momentum batch`.
        momentum: f64,
    },
}

impl BatchNorm {
    /// The layer of these tensors, shape `(c)` each.
    #[must_use]
    pub fn new(scale: Var, shift: Var, running_mean: Var, running_var: Var, epsilon: f64) -> Self {
        Self { scale, shift, running_mean, running_var, epsilon }
    }

    /// Runs the layer, what is added to its result, and a rectifier after it, in one step.
    ///
    /// # Errors
    ///
    /// - an input with other channels, or a residual of another shape than the input
    pub fn forward_on(
        &self,
        tape: &Tape,
        xs: &Node,
        residual: Option<&Node>,
        relu: bool,
        statistics: Statistics,
    ) -> Result<Node> {
        let Statistics::Batch { momentum } = statistics else {
            // x scale / sqrt(var + eps) + (shift - mean scale / sqrt(var + eps)), the new scale and shift (1, c) each
            let (mean, var) = (self.running_mean.as_detached_tensor(), self.running_var.as_detached_tensor());
            let rstd = (var + self.epsilon)?.sqrt()?.recip()?;
            let moved = (mean * &rstd)?.neg()?;
            let none = tape.constant(&rstd.zeros_like()?);
            let row = Reshape::new(&[1, self.scale.elem_count()]);
            let row = tape.apply(row, &[&tape.parameter(&self.scale)])?;
            let scale = tape.apply(ScaleShift::new(false), &[&row, &tape.constant(&rstd), &none])?;
            let shift = tape.parameter(&self.shift);
            let shift = tape.apply(ScaleShift::new(false), &[&row, &tape.constant(&moved), &shift])?;
            let inputs: Vec<&Node> = [xs, &scale, &shift].into_iter().chain(residual).collect();
            return tape.apply(ScaleShift::new(relu), &inputs);
        };
        let operation = Arc::new(Normalization::new(self.epsilon, relu));
        let (scale, shift) = (tape.parameter(&self.scale), tape.parameter(&self.shift));
        let inputs: Vec<&Node> = [xs, &scale, &shift].into_iter().chain(residual).collect();
        let ys = tape.apply_shared(operation.clone(), &inputs)?;
        if let Some([mean, variance]) = operation.statistics() {
            let count = xs.tensor().elem_count() as f64 / self.scale.elem_count() as f64;
            let unbiased = if count > 1.0 { count / (count - 1.0) } else { 1.0 };
            follow(&self.running_mean, mean, momentum, 1.0)?;
            follow(&self.running_var, variance, momentum, unbiased)?;
        }
        Ok(ys)
    }
}

/// `running = (1 - momentum) running + momentum factor batch`.
fn follow(running: &Var, batch: &Tensor, momentum: f64, factor: f64) -> Result<()> {
    let kept = running.as_detached_tensor().affine(1.0 - momentum, 0.0)?;
    running.set(&(kept + batch.to_dtype(running.dtype())?.affine(momentum * factor, 0.0)?)?)
}
