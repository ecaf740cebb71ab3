use super::chain::Chain;
use super::recorded::recorded;
use crate::checkpoint::dtype_from_name;
use crate::checkpoint::numeric::{self, NumericError};
use crate::checkpoint::{
    Checkpoint, CheckpointError, Dtype, ModuleRecord, OutputError, OutputOptions, OutputTensor, Record,
    Staging, dtype_bits, natural_order,
};
use candle_core::{DType, Device, Tensor, Var};
use indexmap::IndexMap;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// One tensor of a checkpoint in memory.
#[derive(Clone, Debug)]
pub enum Stored {
    /// A parameter or a statistic: computed with in f32, stored in `dtype`.
    Floating {
        /// The elements, f32 on the CPU.
        tensor: Tensor,
        /// The element type on disk.
        dtype: Dtype,
    },
    /// Anything else: kept as it is.
    Other {
        /// The element type.
        dtype: Dtype,
        /// The shape.
        shape: Vec<usize>,
        /// The bytes.
        bytes: Vec<u8>,
    },
}

impl Stored {
    /// A parameter of f32 that is stored as it is.
    #[must_use]
    pub fn new(tensor: Tensor) -> Self {
        Self::Floating { tensor, dtype: Dtype::F32 }
    }

    /// The shape.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::Floating { tensor, .. } => tensor.dims(),
            Self::Other { shape, .. } => shape,
        }
    }

    /// The element type on disk.
    #[must_use]
    pub fn dtype(&self) -> Dtype {
        match self {
            Self::Floating { dtype, .. } | Self::Other { dtype, .. } => *dtype,
        }
    }

    /// The elements, for what is computed with.
    #[must_use]
    pub fn tensor(&self) -> Option<&Tensor> {
        match self {
            Self::Floating { tensor, .. } => Some(tensor),
            Self::Other { .. } => None,
        }
    }
}

/// A checkpoint in memory: its tensors in order, and what its record says of each factored module.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// The tensors by name.
    pub tensors: IndexMap<String, Stored>,
    /// The factored modules.
    pub modules: BTreeMap<String, ModuleRecord>,
}

/// Why a checkpoint's tensors cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The checkpoint cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The result cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// Factored modules that nobody could read again, or a record of modules that are not there.
    #[error(
        "{factored} modules are factored, and the record has {recorded}: `Checkpoint::record` has that of a checkpoint"
    )]
    Record {
        /// Modules of the state.
        factored: usize,
        /// Modules of the record.
        recorded: usize,
    },
    /// Elements that do not fit the type that they are converted to.
    #[error("`{tensor}` can't be converted")]
    Numeric {
        /// The tensor.
        tensor: String,
        /// Why.
        #[source]
        source: NumericError,
    },
    /// A device that fails.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl StateError {
    /// Whether it is no failure but the end of an interrupted run.
    #[must_use]
    pub fn is_interrupt(&self) -> bool {
        matches!(self, Self::Output(OutputError::Abandoned))
    }

    /// What to do about it, where that can be said.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Checkpoint(error) => error.hint(),
            Self::Output(error) => error.hint(),
            _ => None,
        }
    }
}

impl State {
    /// The same, with `prefix.` before each name.
    #[must_use]
    pub fn prefixed(self, prefix: &str) -> Self {
        let named = |name: String| format!("{prefix}.{name}");
        Self {
            tensors: self.tensors.into_iter().map(|(name, stored)| (named(name), stored)).collect(),
            modules: self
                .modules
                .into_iter()
                .map(|(name, module)| (named(name), module.prefixed(prefix)))
                .collect(),
        }
    }

    /// Reads every tensor of a checkpoint.
    ///
    /// # Errors
    ///
    /// - files that cannot be read
    pub fn read(checkpoint: &Checkpoint) -> Result<Self, StateError> {
        let mut tensors = IndexMap::new();
        for entry in checkpoint.tensors() {
            let bytes = checkpoint.bytes(entry)?;
            let floating = matches!(entry.dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16);
            let stored = if floating {
                let numeric = |source| StateError::Numeric { tensor: entry.name.clone(), source };
                let elements = numeric::widen_f32(&bytes, entry.dtype).map_err(numeric)?;
                let tensor = Tensor::from_vec(elements, entry.shape.as_slice(), &Device::Cpu)?;
                Stored::Floating { tensor, dtype: entry.dtype }
            } else {
                Stored::Other { dtype: entry.dtype, shape: entry.shape.clone(), bytes: bytes.to_vec() }
            };
            tensors.insert(entry.name.clone(), stored);
        }
        let modules = checkpoint.record().map(|record| record.modules.clone()).unwrap_or_default();
        Ok(Self { tensors, modules })
    }

    /// Parameters and statistics, and whatever else there is, in elements of floating types.
    #[must_use]
    pub fn parameters(&self) -> usize {
        self.tensors.values().filter_map(Stored::tensor).map(Tensor::elem_count).sum()
    }

    /// Replaces the elements of the tensors that a snapshot names.
    pub fn update(&mut self, snapshot: &IndexMap<String, Tensor>) {
        for (name, new) in snapshot {
            if let Some(Stored::Floating { tensor, .. }) = self.tensors.get_mut(name) {
                *tensor = new.clone();
            }
        }
    }

    /// The dense checkpoint that computes the same: every factored module multiplied out, under the original names.
    ///
    /// # Errors
    ///
    /// - modules whose tensors are not what the record says
    pub fn collapsed(&self) -> Result<Self, StateError> {
        let mut state = Self { tensors: self.tensors.clone(), ..Self::default() };
        for (name, module) in &self.modules {
            let (format, _) = recorded(module).map_err(candle_core::Error::Msg)?;
            let mut factors = Vec::new();
            for factor in format.factor_names(name) {
                let Some(Stored::Floating { tensor, .. }) = state.tensors.swap_remove(&factor) else {
                    let missing = format!("the record of `{name}` expects `{factor}`, which is missing");
                    return Err(candle_core::Error::Msg(missing).into());
                };
                factors.push(Var::from_tensor(&tensor)?);
            }
            let bias_name = format.bias_name(name);
            let dtype = dtype_from_name(&module.dtype).unwrap_or(Dtype::F32);
            let tensor = Chain::new(format, factors)?.collapse()?;
            state.tensors.insert(format!("{name}.weight"), Stored::Floating { tensor, dtype });
            if let Some(bias) = state.tensors.swap_remove(&bias_name) {
                state.tensors.insert(format!("{name}.bias"), bias);
            }
        }
        Ok(state)
    }

    /// Whether an element type on disk is narrower than what is computed with.
    pub(crate) fn rounds(&self) -> bool {
        self.tensors.values().any(|stored| narrower(stored).is_some())
    }

    /// These tensors as they come back from where this state's tensors of their names are stored.
    ///
    /// # Errors
    ///
    /// - a device that fails
    pub(crate) fn rounded(
        &self,
        tensors: &IndexMap<String, Tensor>,
    ) -> Result<IndexMap<String, Tensor>, candle_core::Error> {
        let round = |(name, tensor): (&String, &Tensor)| {
            let rounded = match self.tensors.get(name).and_then(narrower) {
                Some(dtype) => tensor.to_dtype(dtype)?.to_dtype(tensor.dtype())?,
                None => tensor.clone(),
            };
            Ok((name.clone(), rounded))
        };
        tensors.iter().map(round).collect()
    }

    /// A number for these names, shapes and elements, in hexadecimal: FNV-1a.
    ///
    /// # Errors
    ///
    /// - a device that fails
    pub fn fingerprint(&self) -> Result<String, StateError> {
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        let mut add = |bytes: &[u8]| {
            for byte in bytes {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
        };
        for (name, stored) in &self.tensors {
            add(name.as_bytes());
            stored.shape().iter().for_each(|&axis| add(&(axis as u64).to_le_bytes()));
            match stored {
                Stored::Other { bytes, .. } => add(bytes),
                Stored::Floating { tensor, .. } => {
                    for element in tensor.flatten_all()?.to_vec1::<f32>()? {
                        add(&element.to_le_bytes());
                    }
                }
            }
        }
        Ok(format!("{hash:016x}"))
    }

    /// The tensors as they are written, in natural order.
    #[must_use]
    pub fn outputs(&self) -> Vec<OutputTensor> {
        let output = |(name, stored): (&String, &Stored)| OutputTensor {
            name: name.clone(),
            dtype: stored.dtype(),
            shape: stored.shape().to_vec(),
        };
        let mut outputs: Vec<OutputTensor> = self.tensors.iter().map(output).collect();
        outputs.sort_by(|a, b| natural_order(&a.name, &b.name));
        outputs
    }

    /// Bytes of all tensors on disk.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        let bits = |stored: &Stored| stored.shape().iter().product::<usize>() * dtype_bits(stored.dtype());
        self.tensors.values().map(|stored| bits(stored).div_ceil(8) as u64).sum()
    }

    /// Begins a checkpoint with these tensors, all of them written, not yet published: other files can be added.
    ///
    /// # Errors
    ///
    /// - [`StateError::Record`]: no record of what is factored here, or a record where nothing is
    /// - a target that exists, cannot be written, or does not hold it
    /// - elements that the type on disk cannot hold
    pub fn stage(&self, options: &OutputOptions, record: Option<&Record>) -> Result<Staging, StateError> {
        let (factored, recorded) = (self.modules.len(), record.map_or(0, |record| record.modules.len()));
        if (factored == 0) != (recorded == 0) {
            return Err(StateError::Record { factored, recorded });
        }
        let mut options = options.clone();
        options.reserve = record.map_or(0, Record::reserve);
        let staging = Staging::create(&options, &self.outputs())?;
        for (name, stored) in &self.tensors {
            match stored {
                Stored::Other { bytes, .. } => staging.write(name, bytes)?,
                Stored::Floating { tensor, dtype } => {
                    let elements = tensor.flatten_all()?.to_vec1::<f32>()?;
                    let bytes = numeric::narrow_f32(&elements, *dtype)
                        .map_err(|source| StateError::Numeric { tensor: name.clone(), source })?;
                    staging.write(name, &bytes)?;
                }
            }
        }
        Ok(staging)
    }

    /// Writes a checkpoint with these tensors.
    ///
    /// # Errors
    ///
    /// - as [`State::stage`]
    pub fn write(
        &self,
        options: &OutputOptions,
        record: Option<&Record>,
    ) -> Result<Vec<PathBuf>, StateError> {
        Ok(self.stage(options, record)?.publish(record.map(Record::to_json).as_deref())?)
    }
}

/// The type that a tensor is rounded to when it is stored.
fn narrower(stored: &Stored) -> Option<DType> {
    match stored.dtype() {
        Dtype::F16 => Some(DType::F16),
        Dtype::BF16 => Some(DType::BF16),
        _ => None,
    }
}
