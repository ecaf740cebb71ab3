use candle_core::{Result, Tensor, Var};
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
/// [`Operation::compose`] and [`Operation::compose_backward`], compositions of candle's operations. Candle's own gradients
/// of the composition are what all others are tested against.
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

    /// The gradient of each input that is wanted, out of candle's operations.
    ///
    /// Where an operation does not say more, candle finds them from a second [`Operation::compose`].
    fn compose_backward(
        &self,
        inputs: &[Tensor],
        _output: &Tensor,
        gradient: &Tensor,
        wanted: &[bool],
    ) -> Result<Vec<Option<Tensor>>> {
        gradients_by_candle(|inputs| self.compose(inputs), inputs, gradient, wanted)
    }

    /// Which of inputs and output `backward` reads; the others are freed early. What is composed keeps all.
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

/// The gradients of a composition's inputs, as candle finds them.
pub(super) fn gradients_by_candle(
    compose: impl FnOnce(&[Tensor]) -> Result<Tensor>,
    inputs: &[Tensor],
    gradient: &Tensor,
    wanted: &[bool],
) -> Result<Vec<Option<Tensor>>> {
    let root = |(input, &wanted): (&Tensor, &bool)| {
        if wanted { Ok(Var::from_tensor(input)?.into_inner()) } else { Ok(input.detach()) }
    };
    let roots: Vec<Tensor> = inputs.iter().zip(wanted).map(root).collect::<Result<_>>()?;
    let mut store = (compose(&roots)? * gradient)?.sum_all()?.backward()?;
    Ok(roots.iter().zip(wanted).map(|(root, &wanted)| store.remove(root).filter(|_| wanted)).collect())
}
