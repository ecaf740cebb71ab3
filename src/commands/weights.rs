//! Weights on their way between files and matrices, in the type in which they are computed with.

use super::CommandError;
use crate::checkpoint::numeric::{self, NumericError};
use crate::checkpoint::{Checkpoint, Dtype, ModuleRecord, TensorEntry};
use crate::decompose::{DecomposeError, Factor, Layout, Scheme, Unfolding};
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

/// The layout, scheme, shape and groups of a module, as its record says them.
pub(super) fn unfolding(module: &str, record: &ModuleRecord) -> Result<Unfolding, CommandError> {
    let mismatch = |problem: String| CommandError::RecordMismatch { module: module.to_owned(), problem };
    let layout = Layout::from_name(&record.kind)
        .ok_or_else(|| mismatch(format!("kind `{}` is not known to this version", record.kind)))?;
    let scheme = Scheme::from_name(&record.scheme)
        .ok_or_else(|| mismatch(format!("scheme `{}` is not known to this version", record.scheme)))?;
    Unfolding::new(layout, scheme, &record.shape, record.groups.unwrap_or(1)).map_err(decompose_error(module))
}

/// The factors of a module, of the rank that its record says.
pub(super) fn read_chain<T: Element>(
    checkpoint: &Checkpoint,
    module: &str,
    record: &ModuleRecord,
    unfolding: &Unfolding,
) -> Result<Vec<Factor<T>>, CommandError> {
    let shapes = unfolding.factor_shapes(record.rank);
    let link = |(index, expected): (usize, &Vec<usize>)| {
        let tensor = expect(checkpoint, module, &format!("{module}.{index}.weight"))?;
        if tensor.shape != *expected {
            let problem = format!("`{}` has shape {:?}, expected {expected:?}", tensor.name, tensor.shape);
            return Err(CommandError::RecordMismatch { module: module.to_owned(), problem });
        }
        Ok(Factor { shape: tensor.shape.clone(), data: read(checkpoint, tensor)? })
    };
    shapes.iter().enumerate().map(link).collect()
}

/// Bytes held while a module's factors are multiplied out and compared with a dense weight.
pub(super) fn memory_of(record: &ModuleRecord, unfolding: &Unfolding) -> u64 {
    let item = if record.dtype == "F64" { 8 } else { 4 };
    (item * (4 * unfolding.parameters() + 2 * unfolding.factored_parameters(record.rank))) as u64
}

/// Whether a module is computed with in f64.
pub(super) fn is_wide(record: &ModuleRecord) -> bool {
    record.dtype == "F64"
}
