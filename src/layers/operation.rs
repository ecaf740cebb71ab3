use candle_core::{Result, Tensor};
use std::fmt::Debug;

/// A contiguous tensor of f32 on the CPU: its elements, last axis fastest, and its shape.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The elements.
    pub data: &'a [f32],
    /// The shape.
    pub shape: &'a [usize],
}

/// One step of a computation that knows its own gradient.
///
/// There are two ways through it. Tensors of f32 on the CPU go through [`Operation::forward`] and
/// [`Operation::backward`], loops over slices. Everything else, other element types and GPUs, goes through
/// [`Operation::compose`], a composition of candle's operations with candle's gradients; which is also what the
/// loops are tested against.
///
/// A value is made for each application: what `backward` wants to find again beyond inputs and output, `forward`
/// may keep inside.
pub trait Operation: Debug + Send + Sync + 'static {
    /// The name, for messages and profiles.
    fn name(&self) -> &'static str;

    /// The result out of candle's operations, differentiable by candle.
    fn compose(&self, inputs: &[Tensor]) -> Result<Tensor>;

    /// The elements and shape of the result.
    fn forward(&self, inputs: &[View<'_>]) -> Result<(Vec<f32>, Vec<usize>)>;

    /// The gradient of each input that is wanted, from the gradient of the output.
    ///
    /// Views of what [`Operation::needs`] says is not needed are empty.
    fn backward(
        &self,
        inputs: &[View<'_>],
        output: View<'_>,
        gradient: View<'_>,
        wanted: &[bool],
    ) -> Result<Vec<Option<Vec<f32>>>>;

    /// Which of inputs and output `backward` reads; the others are freed early.
    fn needs(&self) -> Needs {
        Needs { inputs: true, output: false }
    }

    /// Whether it needs f32 where others are content with fewer bits.
    fn is_precise(&self) -> bool {
        false
    }

    /// Multiply-adds of one application.
    fn multiply_adds(&self, _inputs: &[&[usize]]) -> u64 {
        0
    }
}

/// What a gradient is computed from, beside the gradient of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// The elements of the inputs.
    pub inputs: bool,
    /// The elements of the output.
    pub output: bool,
}
