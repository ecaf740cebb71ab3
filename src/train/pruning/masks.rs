use crate::layers::Parameters;
use crate::train::slices::{Slices, is_looped, lend};
use crate::train::{GradientSum, Optimizer};
use candle_core::{DType, Device, Result, Tensor, bail};
use indexmap::IndexMap;

/// Which elements of some weights are left, over a network whose tensors stay dense.
///
/// # Examples
///
/// ```
/// use candle_core::{Device, Tensor};
/// use fnl::layers::{Parameters, Role};
/// use fnl::train::Masks;
///
/// let mut parameters = Parameters::new();
/// let w = parameters.insert("w", &Tensor::new(&[3f32, -1.0, 2.0, 1.0], &Device::Cpu)?, Role::Weight)?;
/// let mut masks = Masks::new(&parameters, &["w"])?;
/// assert_eq!(masks.prune(&parameters, 0.75)?, 3);
/// masks.apply(&parameters)?;
/// assert_eq!(w.to_vec1::<f32>()?, [3.0, -1.0, 2.0, 0.0]); // of equals the first is kept
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Masks {
    /// Ones and zeros, in the type and on the device of their parameter.
    tensors: IndexMap<String, Tensor>,
    count: usize,
    kept: usize,
}

impl Masks {
    /// Masks that leave all of these weights.
    ///
    /// # Errors
    ///
    /// - a name that no trained parameter has
    pub fn new(parameters: &Parameters, names: &[&str]) -> Result<Self> {
        let mut tensors = IndexMap::with_capacity(names.len());
        for &name in names {
            match parameters.get(name) {
                Some(parameter) if parameter.is_trained() => {
                    tensors.insert(name.to_owned(), parameter.var().as_tensor().ones_like()?.detach());
                }
                _ => bail!("no trained parameter is named `{name}`"),
            }
        }
        let count = tensors.values().map(Tensor::elem_count).sum();
        Ok(Self { tensors, count, kept: count })
    }

    /// Elements of all these weights.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// How many of them are left.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.kept
    }

    /// The mask of a weight, ones and zeros.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// Leaves the `round(keep count)` elements of largest magnitude among all weights together, and returns how many are left.
    ///
    /// What was left out before stays out. Of equal magnitudes the first is kept, in the order of names and of elements.
    ///
    /// # Errors
    ///
    /// - a part outside [0, 1], or a weight that is gone or has another shape
    pub fn prune(&mut self, parameters: &Parameters, keep: f64) -> Result<usize> {
        if !(0.0..=1.0).contains(&keep) {
            bail!("keep {keep} is not between 0 and 1");
        }
        let target = (keep * self.count as f64).round() as usize;
        if target >= self.kept {
            return Ok(self.kept);
        }
        let mut masks = Vec::with_capacity(self.tensors.len());
        let mut left: Vec<(f64, usize, usize)> = Vec::with_capacity(self.kept);
        for (tensor, (name, mask)) in self.tensors.iter().enumerate() {
            let weight = self.weight(parameters, name)?;
            let mask = host(mask)?;
            let weight = host(&weight)?;
            let kept = weight.iter().zip(&mask).enumerate().filter(|(_, (_, mask))| **mask != 0.0);
            left.extend(kept.map(|(index, (weight, _))| (weight.abs(), tensor, index)));
            masks.push(mask);
        }
        let order = |a: &(f64, usize, usize), b: &(f64, usize, usize)| {
            b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2))
        };
        left.select_nth_unstable_by(target, order);
        for &(_, tensor, index) in &left[target..] {
            masks[tensor][index] = 0.0;
        }
        for (own, mask) in self.tensors.values_mut().zip(masks) {
            *own = device(&mask, own)?;
        }
        self.kept = target;
        Ok(target)
    }

    fn weight(&self, parameters: &Parameters, name: &str) -> Result<Tensor> {
        let Some(parameter) = parameters.get(name) else { bail!("`{name}` has a mask, but is gone") };
        let weight = parameter.var().as_detached_tensor();
        if self.tensors.get(name).is_some_and(|mask| mask.dims() != weight.dims()) {
            bail!("`{name}` has shape {:?}, but its mask has not", weight.dims());
        }
        Ok(weight)
    }

    /// Sets to zero what is left out.
    ///
    /// # Errors
    ///
    /// - a weight that is gone or has another shape
    pub fn apply(&self, parameters: &Parameters) -> Result<()> {
        for (name, mask) in &self.tensors {
            let weight = self.weight(parameters, name)?;
            if is_looped(&weight) {
                lend(&weight, [None, None], [Some(mask), None], |slices| {
                    slices.pieces(&|slices: Slices<'_>| {
                        for (w, &mask) in slices.p.iter_mut().zip(slices.g) {
                            *w = if mask == 0.0 { 0.0 } else { *w };
                        }
                        0.0
                    });
                    Ok(())
                })?;
            } else if let Some(parameter) = parameters.get(name) {
                parameter.var().set(&mask.ne(0.0)?.where_cond(&weight, &weight.zeros_like()?)?)?;
            }
        }
        Ok(())
    }

    /// Sets the gradients of what is left out to zero.
    ///
    /// # Errors
    ///
    /// - a gradient of another shape
    pub fn apply_to_gradients(&self, gradients: &mut GradientSum) -> Result<()> {
        self.tensors.iter().try_for_each(|(name, mask)| gradients.multiply(name, mask))
    }

    /// Sets an optimizer's buffers for what is left out to zero.
    ///
    /// # Errors
    ///
    /// - a buffer of another shape
    pub fn apply_to_optimizer(&self, optimizer: &mut dyn Optimizer) -> Result<()> {
        self.tensors.iter().try_for_each(|(name, mask)| optimizer.mask(name, mask))
    }

    /// Copies the masks, on the CPU, as bytes of 0 and 1: `mask.fc.weight`.
    ///
    /// # Errors
    ///
    /// - a device that fails
    pub fn state(&self) -> Result<IndexMap<String, Tensor>> {
        let bytes = |(name, mask): (&String, &Tensor)| {
            let bytes = mask.to_device(&Device::Cpu)?.to_dtype(DType::U8)?;
            Ok((format!("mask.{name}"), bytes))
        };
        self.tensors.iter().map(bytes).collect()
    }

    /// Continues from a state.
    ///
    /// # Errors
    ///
    /// - a state that lacks a mask, or has one of another shape or of other numbers than 0 and 1
    pub fn load(&mut self, state: &IndexMap<String, Tensor>) -> Result<()> {
        let mut loaded = IndexMap::with_capacity(self.tensors.len());
        let mut kept = 0;
        for (name, own) in &self.tensors {
            let Some(mask) = state.get(&format!("mask.{name}")) else {
                bail!("the saved state lacks `mask.{name}`");
            };
            if mask.dims() != own.dims() {
                bail!("`mask.{name}` has shape {:?}, expected {:?}", mask.dims(), own.dims());
            }
            let mask = host(mask)?;
            if let Some(other) = mask.iter().find(|&&mask| mask != 0.0 && mask != 1.0) {
                bail!("`mask.{name}` has an element {other}, expected 0 or 1");
            }
            kept += mask.iter().filter(|&&mask| mask != 0.0).count();
            loaded.insert(name.clone(), device(&mask, own)?);
        }
        (self.tensors, self.kept) = (loaded, kept);
        Ok(())
    }
}

fn host(tensor: &Tensor) -> Result<Vec<f64>> {
    tensor.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

fn device(mask: &[f64], like: &Tensor) -> Result<Tensor> {
    Tensor::from_slice(mask, like.shape(), &Device::Cpu)?.to_dtype(like.dtype())?.to_device(like.device())
}
