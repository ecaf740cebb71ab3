use super::gradients::Gradients;
use super::kernels;
use super::observer::Observer;
use super::operation::{Operation, View};
use candle_core::{CpuStorage, Layout, Result, Storage, Tensor, TensorId, bail};
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

/// One operation on what: each input with its shape and slot, and its data where they are needed backwards.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) operation: Arc<dyn Operation>,
    pub(super) inputs: Vec<(Option<Tensor>, Vec<usize>, Option<usize>)>,
    pub(super) output: Option<Tensor>,
    pub(super) slot: usize,
    /// The weight of the layer whose result this is, where it is observed.
    pub(super) watched: Option<TensorId>,
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
            return Ok(Gradients::own(HashMap::new()));
        };
        let mut gradients: Vec<Option<Tensor>> = vec![None; self.slots];
        gradients[start] = Some(gradient.clone());
        for step in self.steps.into_iter().rev() {
            let Some(gradient) = gradients[step.slot].take() else { continue };
            if let (Some(weight), Some(observer)) = (step.watched, observer) {
                observer.gradient(weight, &gradient)?;
            }
            let wanted: Vec<bool> = step.inputs.iter().map(|(_, _, slot)| slot.is_some()).collect();
            if wanted.iter().all(|wanted| !wanted) {
                continue;
            }
            let found = step.backward(&gradient, &wanted)?;
            let device = gradient.device().clone();
            drop(gradient);
            for ((_, shape, slot), gradient) in step.inputs.iter().zip(found) {
                let (Some(slot), Some(gradient)) = (slot, gradient) else { continue };
                let gradient = Tensor::from_vec(gradient, shape.as_slice(), &device)?;
                let entry = &mut gradients[*slot];
                *entry = Some(match entry.take() {
                    None => gradient,
                    Some(sum) => add(&sum, &gradient)?,
                });
            }
        }
        let of = |(id, slot): (TensorId, usize)| Some((id, gradients[slot].take()?));
        Ok(Gradients::own(self.parameters.into_iter().filter_map(of).collect()))
    }
}

impl Step {
    fn backward(&self, gradient: &Tensor, wanted: &[bool]) -> Result<Vec<Option<Vec<f32>>>> {
        let mut tensors: Vec<Tensor> = self.inputs.iter().filter_map(|(tensor, ..)| tensor.clone()).collect();
        let inputs = tensors.len();
        tensors.push(gradient.contiguous()?);
        tensors.extend(self.output.clone());
        with_views(&tensors, |views| {
            // What is not needed still says its shape.
            let inputs: Vec<View<'_>> = if inputs == self.inputs.len() {
                views[..inputs].to_vec()
            } else {
                self.inputs.iter().map(|(_, shape, _)| View { data: &[], shape }).collect()
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
