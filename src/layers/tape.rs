use super::bridge::Bridge;
use super::geometry::Geometry;
use super::gradients::Gradients;
use super::observer::Observer;
use super::operation::{Needs, Operation};
use super::recording::{Input, Recording, Step, with_views};
use candle_core::{DType, Result, Tensor, Var, bail};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A tensor in a computation.
#[derive(Clone, Debug)]
pub struct Node {
    tensor: Tensor,
    /// Where its gradient is collected; none for what needs no gradient.
    slot: Option<usize>,
    /// Whose slots those are.
    tape: u64,
}

impl Node {
    /// The tensor.
    #[must_use]
    pub fn tensor(&self) -> &Tensor {
        &self.tensor
    }

    /// The shape.
    #[must_use]
    pub fn dims(&self) -> &[usize] {
        self.tensor.dims()
    }
}

/// What is done with each step of a computation.
#[derive(Debug)]
enum Mode {
    /// Nothing: only results are wanted.
    Infer,
    /// It is kept, to be run backwards.
    Record(RefCell<Recording>),
    /// Candle keeps it.
    Candle,
}

/// A computation: runs operations on tensors, and runs them backwards where gradients are wanted.
///
/// Candle records what happens to a variable too, and [`Tape::candle`] leaves it to that, so that layers fit into any
/// candle model. But candle adds every gradient to a tensor of zeros, which costs more than many an operation;
/// [`Tape::training`] keeps its own record and costs nothing beside; through loops it frees each tensor when it was read last,
/// what is composed keeps inputs and outputs until it was run backwards.
///
/// # Determinism
///
/// Gradients do not depend on the number of threads.
pub struct Tape {
    /// What tells it from others.
    id: u64,
    mode: Mode,
    autocast: Option<DType>,
    multiply_adds: Cell<u64>,
    /// Whether it is run for its multiply-adds alone.
    counting: bool,
    observer: Option<Rc<dyn Observer>>,
    /// What each layer of a network left, where it is kept.
    states: RefCell<Option<Vec<Node>>>,
}

impl fmt::Debug for Tape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tape").field("mode", &self.mode).finish_non_exhaustive()
    }
}

impl Tape {
    fn new(mode: Mode) -> Self {
        static TAPES: AtomicU64 = AtomicU64::new(0);
        Self {
            id: TAPES.fetch_add(1, Ordering::Relaxed),
            mode,
            autocast: None,
            multiply_adds: Cell::new(0),
            counting: false,
            observer: None,
            states: RefCell::default(),
        }
    }

    /// A computation without gradients.
    #[must_use]
    pub fn inference() -> Self {
        Self::new(Mode::Infer)
    }

    /// A computation that is run for its multiply-adds: factors are run in the way that has fewer of them, not in the faster one.
    #[must_use]
    pub fn counting() -> Self {
        Self { counting: true, ..Self::inference() }
    }

    /// A computation whose gradients candle finds, through [`Tensor::backward`].
    #[must_use]
    pub fn candle() -> Self {
        Self::new(Mode::Candle)
    }

    /// A computation to be run backwards once.
    #[must_use]
    pub fn training() -> Self {
        Self::new(Mode::Record(RefCell::default()))
    }

    /// A computation on the CPU whose dense layers are observed: their inputs as it runs, and the gradients of their results
    /// when it is run backwards. Parameters get no gradient.
    #[must_use]
    pub fn observed(observer: Rc<dyn Observer>) -> Self {
        let record = Recording { frozen: true, ..Recording::default() };
        Self { observer: Some(observer), ..Self::new(Mode::Record(RefCell::new(record))) }
    }

    /// A computation without gradients whose dense layers' inputs are observed.
    #[must_use]
    pub fn observed_inference(observer: Rc<dyn Observer>) -> Self {
        Self { observer: Some(observer), ..Self::inference() }
    }

    /// Runs a dense layer under the eyes of the observer, where there is one.
    pub(super) fn watched(
        &self,
        weight: &Var,
        input: &Node,
        geometry: Option<&Geometry>,
        run: impl FnOnce() -> Result<Node>,
    ) -> Result<Node> {
        let Some(observer) = &self.observer else { return run() };
        observer.input(weight.id(), &input.tensor, geometry)?;
        let output = run()?;
        if let Mode::Record(record) = &self.mode
            && let Some(step) = record.borrow_mut().steps.last_mut()
            && Some(step.slot) == output.slot
        {
            step.watched = Some(weight.id());
        }
        Ok(output)
    }

    /// The same computation with the inputs of each operation in this element type, except of those that need f32.
    ///
    /// Parameters and their gradients stay what they are. On the CPU the loops are of f32 and candle has no products of bf16: this is for GPUs.
    #[must_use]
    pub fn with_autocast(self, dtype: Option<DType>) -> Self {
        Self { autocast: dtype, ..self }
    }

    /// The same, and what each layer of a network leaves is kept.
    #[must_use]
    pub fn keeping_states(self) -> Self {
        self.keep_states(true);
        self
    }

    /// Keeps what each layer of a network leaves from now on, or no longer; forgets what was kept.
    pub fn keep_states(&self, keep: bool) {
        *self.states.borrow_mut() = keep.then(Vec::new);
    }

    /// What each layer of a network left, in the order in which they ran, since this was asked to be kept.
    #[must_use]
    pub fn states(&self) -> Vec<Node> {
        self.states.borrow().clone().unwrap_or_default()
    }

    /// What a layer of a network leaves for the next.
    pub(crate) fn leave_state(&self, state: &Node) {
        if let Some(states) = &mut *self.states.borrow_mut() {
            states.push(state.clone());
        }
    }

    /// The element type of matrix products and convolutions, where it is not that of their inputs.
    #[must_use]
    pub fn autocast(&self) -> Option<DType> {
        self.autocast
    }

    /// Whether gradients are wanted.
    #[must_use]
    pub fn is_training(&self) -> bool {
        !matches!(self.mode, Mode::Infer)
    }

    /// Multiply-adds of all operations so far.
    #[must_use]
    pub fn multiply_adds(&self) -> u64 {
        self.multiply_adds.get()
    }

    /// Whether convolutions of this input run through the loops, and what those take decides how factors are run.
    pub(super) fn prefers_loops(&self, xs: &Node) -> bool {
        !self.counting && self.is_looped(&[xs])
    }

    /// Whether an operation on these inputs runs through its loops.
    fn is_looped(&self, inputs: &[&Node]) -> bool {
        let fits = |node: &&Node| node.tensor.device().is_cpu() && node.tensor.dtype() == DType::F32;
        self.autocast.is_none() && inputs.iter().all(fits)
    }

    /// A tensor that needs no gradient; with [`Tape::candle`] its own history stays.
    #[must_use]
    pub fn constant(&self, tensor: &Tensor) -> Node {
        let tensor = if matches!(self.mode, Mode::Candle) { tensor.clone() } else { tensor.detach() };
        Node { tensor, slot: None, tape: self.id }
    }

    /// A variable whose gradient is wanted.
    #[must_use]
    pub fn parameter(&self, var: &Var) -> Node {
        match &self.mode {
            Mode::Infer => Node { tensor: var.as_detached_tensor(), slot: None, tape: self.id },
            Mode::Candle => Node { tensor: var.as_tensor().clone(), slot: None, tape: self.id },
            Mode::Record(record) => {
                let mut record = record.borrow_mut();
                if record.frozen {
                    return Node { tensor: var.as_detached_tensor(), slot: None, tape: self.id };
                }
                let fresh = record.slots;
                let slot = *record.parameters.entry(var.id()).or_insert(fresh);
                record.slots = record.slots.max(slot + 1);
                Node { tensor: var.as_detached_tensor(), slot: Some(slot), tape: self.id }
            }
        }
    }

    /// Runs an operation.
    ///
    /// # Errors
    ///
    /// - what the operation refuses
    pub fn apply(&self, operation: impl Operation, inputs: &[&Node]) -> Result<Node> {
        self.apply_shared(Arc::new(operation), inputs)
    }

    /// Runs an operation that the caller keeps a hold of.
    ///
    /// # Errors
    ///
    /// - what the operation refuses
    pub fn apply_shared(&self, operation: Arc<dyn Operation>, inputs: &[&Node]) -> Result<Node> {
        for node in inputs {
            self.owns(node)?;
        }
        let shapes: Vec<&[usize]> = inputs.iter().map(|node| node.dims()).collect();
        self.multiply_adds.set(self.multiply_adds.get() + operation.multiply_adds(&shapes));
        let looped = self.is_looped(inputs);
        match &self.mode {
            Mode::Candle if looped && inputs.len() <= 3 => {
                let tensors: Vec<Tensor> =
                    inputs.iter().map(|node| node.tensor.contiguous()).collect::<Result<_>>()?;
                let bridge = Bridge(operation);
                let tensor = match tensors.as_slice() {
                    [x] => x.apply_op1(bridge)?,
                    [x, y] => x.apply_op2(y, bridge)?,
                    [x, y, z] => x.apply_op3(y, z, bridge)?,
                    _ => bail!("{} has no inputs", bridge.0.name()),
                };
                Ok(Node { tensor, slot: None, tape: self.id })
            }
            Mode::Infer | Mode::Record(_) if looped => self.run(operation, inputs),
            _ => {
                let dtype =
                    self.autocast.map(|dtype| if operation.is_precise() { DType::F32 } else { dtype });
                let cast = |node: &&Node| match dtype {
                    Some(dtype) => node.tensor.to_dtype(dtype),
                    None => Ok(node.tensor.clone()),
                };
                let tensors: Vec<Tensor> = inputs.iter().map(cast).collect::<Result<_>>()?;
                let tensor = operation.compose(&tensors)?;
                Ok(self.record(operation, inputs, tensors, tensor, false))
            }
        }
    }

    /// Refuses what another tape's gradients would go through.
    fn owns(&self, node: &Node) -> Result<()> {
        if node.slot.is_some() && node.tape != self.id {
            bail!("this was computed on another tape: its gradients are not found on this one");
        }
        Ok(())
    }

    /// Runs an operation through its loops, and keeps what its gradient needs.
    fn run(&self, operation: Arc<dyn Operation>, inputs: &[&Node]) -> Result<Node> {
        let tensors: Vec<Tensor> =
            inputs.iter().map(|node| node.tensor.contiguous()).collect::<Result<_>>()?;
        let (data, shape) = with_views(&tensors, |views| operation.forward(views))?;
        let tensor = Tensor::from_vec(data, shape, tensors[0].device())?;
        Ok(self.record(operation, inputs, tensors, tensor, true))
    }

    /// Keeps what the gradient of an operation needs, where it is recorded: the inputs as it was applied to, and the output.
    fn record(
        &self,
        operation: Arc<dyn Operation>,
        inputs: &[&Node],
        tensors: Vec<Tensor>,
        tensor: Tensor,
        looped: bool,
    ) -> Node {
        let Mode::Record(record) = &self.mode else { return Node { tensor, slot: None, tape: self.id } };
        let mut record = record.borrow_mut();
        if !record.frozen && inputs.iter().all(|node| node.slot.is_none()) {
            return Node { tensor, slot: None, tape: self.id };
        }
        let slot = record.slots;
        record.slots += 1;
        let needs = if looped { operation.needs() } else { Needs { inputs: true, output: true } };
        let kept = |(node, tensor): (&&Node, Tensor)| Input {
            shape: tensor.dims().to_vec(),
            dtype: node.tensor.dtype(),
            slot: node.slot,
            tensor: needs.inputs.then_some(tensor),
        };
        let inputs = inputs.iter().zip(tensors).map(kept).collect();
        let output = needs.output.then(|| tensor.clone());
        record.steps.push(Step { operation, inputs, output, slot, looped, watched: None });
        Node { tensor, slot: Some(slot), tape: self.id }
    }

    /// Runs the computation backwards from a scalar.
    ///
    /// # Errors
    ///
    /// - a result that depends on no parameter: nothing of it was recorded, or it was computed from tensors, past the tape;
    /// - a result of another tape
    pub fn backward(self, loss: &Node) -> Result<Gradients> {
        let gradient = loss.tensor.ones_like()?;
        self.backward_from(loss, &gradient)
    }

    /// Runs the computation backwards from a result, given the gradient of it.
    ///
    /// # Errors
    ///
    /// - as [`Tape::backward`]; a gradient of another shape
    pub fn backward_from(self, result: &Node, gradient: &Tensor) -> Result<Gradients> {
        if gradient.dims() != result.dims() {
            bail!("a gradient of {:?} for a result of {:?}", gradient.dims(), result.dims());
        }
        self.owns(result)?;
        let Mode::Record(record) = self.mode else {
            let inner = (&result.tensor * gradient)?.sum_all()?;
            return Ok(Gradients::candle(inner.backward()?));
        };
        record.into_inner().backward(result.slot, gradient, self.observer.as_deref())
    }
}
