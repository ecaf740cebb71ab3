use super::gradients::Gradients;
use super::kernels;
use super::observer::Observer;
use super::operation::{Operation, View};
use candle_core::{CpuStorage, DType, Layout, Result, Storage, Tensor, TensorId, bail};
use std::collections::HashMap;
use std::sync::Arc;

/// The steps of a computation, to be run backwards.
#[derive(Debug, Default)]
pub(super) struct Recording {
    pub(super) steps: Vec<Step>,
    /// Places in which gradients are collected.
    pub(super) slots: usize,
    pub(super) parameters: HashMap<TensorId, usize>,
    /// Whether gradients are those of results alone, not of parameters.
    pub(super) frozen: bool,
}

/// One operation on what.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) operation: Arc<dyn Operation>,
    pub(super) inputs: Vec<Input>,
    pub(super) output: Option<Tensor>,
    pub(super) slot: usize,
    /// Whether it ran through its loops, not as a composition.
    pub(super) looped: bool,
    /// The weight of the layer whose result this is, where it is observed.
    pub(super) watched: Option<TensorId>,
}

/// What an operation was applied to.
#[derive(Debug)]
pub(super) struct Input {
    /// As it was applied to, where it is needed backwards.
    pub(super) tensor: Option<Tensor>,
    pub(super) shape: Vec<usize>,
    /// The element type that its gradient gets, which is not that of `tensor` where that was cast.
    pub(super) dtype: DType,
    /// Where its gradient is collected; none for what needs no gradient.
    pub(super) slot: Option<usize>,
}

impl Recording {
    /// The gradients of parameters, from that of the result in this slot; tensors are freed when they were read last.
    pub(super) fn backward(
        self,
        start: Option<usize>,
        gradient: &Tensor,
        observer: Option<&dyn Observer>,
    ) -> Result<Gradients> {
        let Some(start) = start else {
            bail!("the result depends on no parameter: it was computed past the tape, or of constants");
        };
        let mut gradients: Vec<Option<Tensor>> = vec![None; self.slots];
        gradients[start] = Some(gradient.clone());
        for step in self.steps.into_iter().rev() {
            let Some(gradient) = gradients[step.slot].take() else { continue };
            if let (Some(weight), Some(observer)) = (step.watched, observer) {
                observer.gradient(weight, &gradient)?;
            }
            let wanted: Vec<bool> = step.inputs.iter().map(|input| input.slot.is_some()).collect();
            if wanted.iter().all(|wanted| !wanted) {
                continue;
            }
            let found = if step.looped {
                step.backward(gradient, &wanted)?
            } else {
                step.compose_backward(&gradient, &wanted)?
            };
            for (input, gradient) in step.inputs.iter().zip(found) {
                let (Some(slot), Some(gradient)) = (input.slot, gradient) else { continue };
                let entry = &mut gradients[slot];
                *entry = Some(match entry.take() {
                    None => gradient,
                    Some(sum) if step.looped => add(&sum, &gradient)?,
                    Some(sum) => (sum + gradient)?,
                });
            }
        }
        let of = |(id, slot): (TensorId, usize)| Some((id, gradients[slot].take()?));
        Ok(Gradients::own(self.parameters.into_iter().filter_map(of).collect()))
    }
}

impl Step {
    /// Through its loops.
    fn backward(&self, gradient: Tensor, wanted: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let found = self.looped_backward(&gradient, wanted)?;
        let device = gradient.device().clone();
        // freed before the gradients of the inputs become tensors
        drop(gradient);
        let tensor = |(data, input): (Option<Vec<f32>>, &Input)| {
            data.map(|data| Tensor::from_vec(data, input.shape.as_slice(), &device)).transpose()
        };
        found.into_iter().zip(&self.inputs).map(tensor).collect()
    }

    /// Out of candle's operations.
    fn compose_backward(&self, gradient: &Tensor, wanted: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let kept: Option<Vec<Tensor>> = self.inputs.iter().map(|input| input.tensor.clone()).collect();
        let (Some(inputs), Some(output)) = (kept, &self.output) else {
            bail!("{} was composed, and not kept", self.operation.name());
        };
        let gradient = gradient.to_dtype(output.dtype())?;
        let found = self.operation.compose_backward(&inputs, output, &gradient, wanted)?;
        let own = |(gradient, input): (Option<Tensor>, &Input)| {
            gradient.map(|gradient| gradient.to_dtype(input.dtype)).transpose()
        };
        found.into_iter().zip(&self.inputs).map(own).collect()
    }

    fn looped_backward(&self, gradient: &Tensor, wanted: &[bool]) -> Result<Vec<Option<Vec<f32>>>> {
        let mut tensors: Vec<Tensor> = self.inputs.iter().filter_map(|input| input.tensor.clone()).collect();
        let inputs = tensors.len();
        tensors.push(gradient.contiguous()?);
        tensors.extend(self.output.clone());
        with_views(&tensors, |views| {
            // What is not needed still says its shape.
            let inputs: Vec<View<'_>> = if inputs == self.inputs.len() {
                views[..inputs].to_vec()
            } else {
                self.inputs.iter().map(|input| View { data: &[], shape: &input.shape }).collect()
            };
            let gradient = views[tensors.len() - 1 - usize::from(self.output.is_some())];
            let output = match self.output {
                Some(_) => views[tensors.len() - 1],
                None => View { data: &[], shape: gradient.shape },
            };
            self.operation.backward(&inputs, output, gradient, wanted)
        })
    }
}

/// The sum of two gradients of one shape.
fn add(one: &Tensor, other: &Tensor) -> Result<Tensor> {
    let tensors = [one.contiguous()?, other.contiguous()?];
    let sum = with_views(&tensors, |views| Ok(kernels::add(views[0].data, views[1].data)))?;
    Tensor::from_vec(sum, one.shape(), one.device())
}

/// Lends the elements of contiguous f32 tensors on the CPU.
pub(super) fn with_views<T>(tensors: &[Tensor], act: impl FnOnce(&[View<'_>]) -> Result<T>) -> Result<T> {
    let held: Vec<_> = tensors.iter().map(Tensor::storage_and_layout).collect();
    let views: Vec<View<'_>> = held
        .iter()
        .map(|(storage, layout)| match &**storage {
            Storage::Cpu(storage) => view(storage, layout),
            _ => bail!("expected a tensor on the CPU"),
        })
        .collect::<Result<_>>()?;
    act(&views)
}

pub(super) fn view<'a>(storage: &'a CpuStorage, layout: &'a Layout) -> Result<View<'a>> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("expected a contiguous tensor");
    };
    Ok(View { data: &storage.as_slice::<f32>()?[start..end], shape: layout.dims() })
}
