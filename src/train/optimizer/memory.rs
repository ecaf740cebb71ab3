//! What an optimizer remembers: how many steps it took, and buffers of each parameter's shape.

use crate::layers::{Parameter, Parameters};
use candle_core::{DType, Device, Result, Tensor, Var, bail};
use indexmap::IndexMap;

/// The count of steps in a saved state.
const STEP: &str = "step";

/// The element type of a parameter's buffers.
pub(super) fn dtype(var: &Var) -> DType {
    if var.dtype() == DType::F64 { DType::F64 } else { DType::F32 }
}

#[derive(Debug)]
pub(super) struct Memory {
    kinds: &'static [&'static str],
    steps: u64,
    /// For each parameter as many buffers as there are kinds; on the CPU loops change them in place.
    buffers: IndexMap<String, Vec<Tensor>>,
}

impl Memory {
    pub(super) fn new(kinds: &'static [&'static str]) -> Self {
        Self { kinds, steps: 0, buffers: IndexMap::new() }
    }

    /// Counts a step, and gives each new parameter buffers of zeros.
    pub(super) fn begin(&mut self, parameters: &Parameters) -> Result<u64> {
        for (name, parameter) in parameters.trained() {
            let var = parameter.var();
            if let Some(buffers) = self.buffers.get(name) {
                if let Some(buffer) = buffers.iter().find(|buffer| buffer.dims() != var.dims()) {
                    let (known, found) = (buffer.dims(), var.dims());
                    bail!("the optimizer knows `{name}` with shape {known:?}, found {found:?}");
                }
            } else {
                let zeros = || Tensor::zeros(var.shape(), dtype(var), var.device());
                let buffers = self.kinds.iter().map(|_| zeros()).collect::<Result<_>>()?;
                self.buffers.insert(name.to_owned(), buffers);
            }
        }
        self.steps += 1;
        Ok(self.steps)
    }

    /// The buffers of a parameter that [`Memory::begin`] has seen.
    pub(super) fn get<const N: usize>(&self, name: &str) -> Result<[Tensor; N]> {
        match self.buffers.get(name).map(|buffers| buffers.clone().try_into()) {
            Some(Ok(buffers)) => Ok(buffers),
            _ => bail!("the optimizer does not know `{name}`"),
        }
    }

    /// Replaces them.
    pub(super) fn set<const N: usize>(&mut self, name: &str, buffers: [Tensor; N]) {
        self.buffers.insert(name.to_owned(), buffers.into());
    }

    pub(super) fn state(&self) -> Result<IndexMap<String, Tensor>> {
        let steps = i64::try_from(self.steps).unwrap_or(i64::MAX);
        let mut state = IndexMap::from([(STEP.to_owned(), Tensor::new(steps, &Device::Cpu)?)]);
        for (index, kind) in self.kinds.iter().enumerate() {
            for (name, buffers) in &self.buffers {
                let buffer = &buffers[index];
                let copy =
                    if buffer.device().is_cpu() { buffer.copy()? } else { buffer.to_device(&Device::Cpu)? };
                state.insert(format!("{kind}.{name}"), copy);
            }
        }
        Ok(state)
    }

    pub(super) fn load(&mut self, parameters: &Parameters, state: &IndexMap<String, Tensor>) -> Result<()> {
        let Some(step) = state.get(STEP) else { bail!("the optimizer's state lacks `{STEP}`") };
        let steps: i64 = step.to_dtype(DType::I64)?.to_scalar()?;
        let Ok(steps) = u64::try_from(steps) else { bail!("the optimizer's `{STEP}` is {steps}") };
        let mut problems = Vec::new();
        let mut buffers = IndexMap::new();
        let mut known = 1;
        for (name, parameter) in parameters.trained() {
            let var = parameter.var();
            let mut own = Vec::with_capacity(self.kinds.len());
            for kind in self.kinds {
                match state.get(&format!("{kind}.{name}")) {
                    Some(buffer) if buffer.dims() == var.dims() => {
                        known += 1;
                        // A copy, since loops change it in place.
                        own.push(buffer.to_device(var.device())?.to_dtype(dtype(var))?.copy()?);
                    }
                    Some(buffer) => {
                        known += 1;
                        let (found, expected) = (buffer.dims(), var.dims());
                        problems.push(format!("`{kind}.{name}` has shape {found:?}, expected {expected:?}"));
                    }
                    None if steps == 0 => {}
                    None => problems.push(format!("`{kind}.{name}` is missing")),
                }
            }
            if own.len() == self.kinds.len() {
                buffers.insert(name.to_owned(), own);
            }
        }
        if known < state.len() {
            let expected = |entry: &str| {
                entry == STEP
                    || self.kinds.iter().any(|kind| {
                        let name = entry.strip_prefix(kind).and_then(|rest| rest.strip_prefix('.'));
                        name.and_then(|name| parameters.get(name)).is_some_and(Parameter::is_trained)
                    })
            };
            let strange = state.keys().filter(|entry| !expected(entry));
            problems.extend(strange.map(|entry| format!("`{entry}` belongs to no trained parameter")));
        }
        if !problems.is_empty() {
            bail!("the optimizer's state does not fit: {}", problems.join("; "));
        }
        (self.steps, self.buffers) = (steps, buffers);
        Ok(())
    }

    pub(super) fn mask(&mut self, name: &str, mask: &Tensor) -> Result<()> {
        let Some(buffers) = self.buffers.get_mut(name) else { return Ok(()) };
        for buffer in buffers {
            if buffer.dims() != mask.dims() {
                bail!("a mask of shape {:?} for `{name}`, shape {:?}", mask.dims(), buffer.dims());
            }
            *buffer = buffer.mul(&mask.to_dtype(buffer.dtype())?)?;
        }
        Ok(())
    }
}
