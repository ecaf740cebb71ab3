//! Weights on their way between files and matrices, in the type in which they are computed with.

use super::CommandError;
use crate::checkpoint::numeric::{self, NumericError};
use crate::checkpoint::{Checkpoint, Dtype, ModuleRecord, TensorEntry};
use crate::decompose::{DecomposeError, Factor, Format, Ranks};
use crate::layers::recorded;
use crate::linalg::Scalar;

/// The element type of computation: f64 for F64, f32 for the narrower types, whose elements it holds exactly.
pub(super) trait Element: Scalar {
    fn widen(bytes: &[u8], dtype: Dtype) -> Result<Vec<Self>, NumericError>;
    fn narrow(elements: &[Self], dtype: Dtype) -> Result<Vec<u8>, NumericError>;
}

impl Element for f32 {
    fn widen(bytes: &[u8], dtype: Dtype) -> Result<Vec<Self>, NumericError> {
        numeric::widen_f32(bytes, dtype)
    }

    fn narrow(elements: &[Self], dtype: Dtype) -> Result<Vec<u8>, NumericError> {
        numeric::narrow_f32(elements, dtype)
    }
}

impl Element for f64 {
    fn widen(bytes: &[u8], dtype: Dtype) -> Result<Vec<Self>, NumericError> {
        numeric::widen_f64(bytes, dtype)
    }

    fn narrow(elements: &[Self], dtype: Dtype) -> Result<Vec<u8>, NumericError> {
        numeric::narrow_f64(elements, dtype)
    }
}

/// A weight's elements, widened.
pub(super) fn read<T: Element>(
    checkpoint: &Checkpoint,
    tensor: &TensorEntry,
) -> Result<Vec<T>, CommandError> {
    let bytes = checkpoint.bytes(tensor)?;
    T::widen(&bytes, tensor.dtype).map_err(numeric_error(&tensor.name))
}

/// The tensor of that name, or what the record expects and does not find.
pub(super) fn expect<'a>(
    checkpoint: &'a Checkpoint,
    module: &str,
    name: &str,
) -> Result<&'a TensorEntry, CommandError> {
    checkpoint.get(name).ok_or_else(|| CommandError::RecordMismatch {
        module: module.to_owned(),
        problem: format!("expected the tensor `{name}`, which is missing"),
    })
}

/// A factor rounded to the element type that is written: its bytes, and what they hold.
pub(super) fn rounded<T: Element>(
    factor: &Factor<T>,
    dtype: Dtype,
    tensor: &str,
) -> Result<(Vec<u8>, Factor<T>), CommandError> {
    let bytes = T::narrow(&factor.data, dtype).map_err(numeric_error(tensor))?;
    let data = T::widen(&bytes, dtype).map_err(numeric_error(tensor))?;
    Ok((bytes, Factor { shape: factor.shape.clone(), data }))
}

pub(super) fn numeric_error(tensor: &str) -> impl FnOnce(NumericError) -> CommandError + '_ {
    move |source| CommandError::Numeric { tensor: tensor.to_owned(), source }
}

pub(super) fn decompose_error(tensor: &str) -> impl FnOnce(DecomposeError) -> CommandError + '_ {
    move |source| CommandError::Decompose { tensor: tensor.to_owned(), source }
}

/// `|W - W'| / |W|`, differences squared and summed in f64; 0 where both are zero.
pub(super) fn relative_difference<T: Scalar>(weight: &[T], other: &[T]) -> f64 {
    let (mut difference, mut norm) = (0.0f64, 0.0f64);
    for (&w, &o) in weight.iter().zip(other) {
        let (w, o) = (w.to_f64(), o.to_f64());
        difference += (w - o) * (w - o);
        norm += w * w;
    }
    if difference == 0.0 { 0.0 } else { (difference / norm).sqrt() }
}

/// A module's factors, as its record says them.
pub(super) struct Recorded<'a> {
    pub(super) name: &'a str,
    pub(super) module: &'a ModuleRecord,
    pub(super) format: Format,
    pub(super) ranks: Ranks,
}

impl<'a> Recorded<'a> {
    pub(super) fn new(name: &'a str, module: &'a ModuleRecord) -> Result<Self, CommandError> {
        let (format, ranks) = recorded(module)
            .map_err(|problem| CommandError::RecordMismatch { module: name.to_owned(), problem })?;
        Ok(Self { name, module, format, ranks })
    }

    /// The factors, of the ranks that the record says.
    pub(super) fn read<T: Element>(&self, checkpoint: &Checkpoint) -> Result<Vec<Factor<T>>, CommandError> {
        let (names, shapes) = (self.format.factor_names(self.name), self.format.factor_shapes(&self.ranks));
        let factor = |(name, expected): (&String, &Vec<usize>)| {
            let tensor = expect(checkpoint, self.name, name)?;
            if tensor.shape != *expected {
                let problem =
                    format!("`{}` has shape {:?}, expected {expected:?}", tensor.name, tensor.shape);
                return Err(CommandError::RecordMismatch { module: self.name.to_owned(), problem });
            }
            Ok(Factor { shape: tensor.shape.clone(), data: read(checkpoint, tensor)? })
        };
        names.iter().zip(&shapes).map(factor).collect()
    }

    /// What multiplying the factors out takes, in no unit.
    pub(super) fn work(&self) -> u64 {
        self.format.reconstruction_multiply_adds(&self.ranks)
    }

    /// Bytes held while the factors are multiplied out and compared with a dense weight.
    pub(super) fn memory_bytes(&self) -> u64 {
        // Tensors are multiplied out in f64.
        let is_wide = self.module.dtype == "F64" || self.format.unfolding().is_none();
        let item = if is_wide { 8 } else { 4 };
        let factors = self.format.factored_parameters(&self.ranks);
        (item * (4 * self.format.parameters() + 2 * factors)) as u64
    }
}

/// Whether a module is computed with in f64.
pub(super) fn is_wide(record: &ModuleRecord) -> bool {
    record.dtype == "F64"
}
