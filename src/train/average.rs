use super::slices::{Slices, is_looped, lend};
use crate::layers::{Parameters, Role};
use candle_core::{DType, Device, Result, Tensor, bail};
use indexmap::IndexMap;

/// The count of updates in a saved state.
const UPDATES: &str = "updates";

/// An exponential moving average of a network's weights, often better on the test set than the weights themselves.
///
/// After update `t`, counted from 1, `a <- a + (1 - d) (w - a)` with `d = min(decay, (1 + t) / (10 + t))`, so that a short run
/// is not averaged with its start. Running statistics are copied: they are averages over batches already, and of
/// the activations that the latest weights made; an average of averages would lag behind twice.
///
/// # Examples
///
/// ```
/// use candle_core::{Device, Tensor};
/// use fnl::layers::{Parameters, Role};
/// use fnl::train::Average;
///
/// let mut parameters = Parameters::new();
/// let w = parameters.insert("w", &Tensor::new(&[0f64], &Device::Cpu)?, Role::Weight)?;
/// let mut average = Average::new(0.5, &parameters)?;
/// w.set(&Tensor::new(&[11f64], &Device::Cpu)?)?;
/// average.update(&parameters)?;
/// assert_eq!(average.snapshot()?["w"].to_vec1::<f64>()?, [9.0]); // 2/11 of 0 and 9/11 of 11
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Average {
    decay: f64,
    updates: u64,
    /// On the CPU changed in place.
    tensors: IndexMap<String, Tensor>,
}

impl Average {
    /// The average that starts as these parameters are.
    ///
    /// # Errors
    ///
    /// - a decay that is not in [0, 1)
    pub fn new(decay: f64, parameters: &Parameters) -> Result<Self> {
        if !(0.0..1.0).contains(&decay) {
            bail!("the average's decay {decay} is not from 0 to below 1");
        }
        let own = |(name, parameter): (&str, &crate::layers::Parameter)| {
            let tensor = parameter.var().as_detached_tensor();
            Ok((name.to_owned(), tensor.to_dtype(wide(tensor.dtype()))?.copy()?))
        };
        Ok(Self { decay, updates: 0, tensors: parameters.iter().map(own).collect::<Result<_>>()? })
    }

    /// Moves the average towards the parameters.
    ///
    /// # Errors
    ///
    /// - a parameter that was not there when the average began, or has another shape now
    pub fn update(&mut self, parameters: &Parameters) -> Result<()> {
        let t = (self.updates + 1) as f64;
        let rest = 1.0 - self.decay.min((1.0 + t) / (10.0 + t));
        for (name, parameter) in parameters.iter() {
            let Some(average) = self.tensors.get_mut(name) else { bail!("`{name}` is not averaged") };
            let current = parameter.var().as_detached_tensor();
            if average.dims() != current.dims() {
                bail!("`{name}` has shape {:?}, its average {:?}", current.dims(), average.dims());
            }
            if parameter.role() == Role::Statistic {
                *average = current.to_dtype(average.dtype())?.copy()?;
            } else if is_looped(average) {
                let rest = rest as f32;
                lend(average, [None, None], [Some(&current), None], |slices| {
                    slices.pieces(&|slices: Slices<'_>| {
                        for (a, &w) in slices.p.iter_mut().zip(slices.g) {
                            *a += rest * (w - *a);
                        }
                        0.0
                    });
                    Ok(())
                })?;
            } else {
                let towards = ((current.to_dtype(average.dtype())? - &*average)? * rest)?;
                *average = (&*average + towards)?;
            }
        }
        self.updates += 1;
        Ok(())
    }

    /// Copies the average, on the CPU, as [`Parameters::restore`] takes it.
    ///
    /// # Errors
    ///
    /// - a device that fails
    pub fn snapshot(&self) -> Result<IndexMap<String, Tensor>> {
        let copy = |(name, tensor): (&String, &Tensor)| {
            let copy =
                if tensor.device().is_cpu() { tensor.copy()? } else { tensor.to_device(&Device::Cpu)? };
            Ok((name.clone(), copy))
        };
        self.tensors.iter().map(copy).collect()
    }

    /// Copies all that later updates depend on: `updates`, their count, and `average.fc.weight` for each parameter.
    ///
    /// # Errors
    ///
    /// - a device that fails
    pub fn state(&self) -> Result<IndexMap<String, Tensor>> {
        let updates = i64::try_from(self.updates).unwrap_or(i64::MAX);
        let mut state = IndexMap::from([(UPDATES.to_owned(), Tensor::new(updates, &Device::Cpu)?)]);
        state.extend(self.snapshot()?.into_iter().map(|(name, tensor)| (format!("average.{name}"), tensor)));
        Ok(state)
    }

    /// Continues from a state.
    ///
    /// # Errors
    ///
    /// - a state without the count or an average, or with one of another shape
    pub fn load(&mut self, state: &IndexMap<String, Tensor>) -> Result<()> {
        let Some(updates) = state.get(UPDATES) else { bail!("the average's state lacks `{UPDATES}`") };
        let updates: i64 = updates.to_dtype(DType::I64)?.to_scalar()?;
        let Ok(updates) = u64::try_from(updates) else { bail!("the average's `{UPDATES}` is {updates}") };
        let mut loaded = IndexMap::with_capacity(self.tensors.len());
        for (name, own) in &self.tensors {
            match state.get(&format!("average.{name}")) {
                None => bail!("the average's state lacks `average.{name}`"),
                Some(tensor) if tensor.dims() != own.dims() => {
                    bail!("`average.{name}` has shape {:?}, expected {:?}", tensor.dims(), own.dims())
                }
                Some(tensor) => {
                    let tensor = tensor.to_device(own.device())?.to_dtype(own.dtype())?.copy()?;
                    loaded.insert(name.clone(), tensor);
                }
            }
        }
        (self.updates, self.tensors) = (updates, loaded);
        Ok(())
    }
}

/// The element type in which small changes add up.
fn wide(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F64 } else { DType::F32 }
}
