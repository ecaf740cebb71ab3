//! Numbers from bytes and back: widening is exact, narrowing rounds once, to the nearest, ties to even.
//!
//! ```
//! use fnl::checkpoint::{Dtype, numeric};
//! let bytes = numeric::narrow_f32(&[1.0, -2.5], Dtype::BF16)?;
//! assert_eq!(bytes, [0x80, 0x3f, 0x20, 0xc0]);
//! assert_eq!(numeric::widen_f32(&bytes, Dtype::BF16)?, [1.0, -2.5]);
//! # Ok::<(), fnl::checkpoint::numeric::NumericError>(())
//! ```

use half::{bf16, f16, slice::HalfFloatSliceExt};
use safetensors::Dtype;
use thiserror::Error;

use super::dtype::dtype_name;

/// Elements converted at a time: the buffer of a half-precision conversion stays in the first cache.
const CHUNK: usize = 1024;

/// Why numbers can't be converted.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum NumericError {
    /// The type isn't one of those that are computed with.
    #[error("elements of type {found} can't be converted, expected {expected}")]
    Dtype {
        /// The type found.
        found: &'static str,
        /// The types accepted.
        expected: &'static str,
    },
    /// The bytes don't hold a whole number of elements.
    #[error("{length} bytes are not a whole number of {dtype} elements")]
    Length {
        /// The number of bytes.
        length: usize,
        /// The type of the elements.
        dtype: &'static str,
    },
    /// A finite number is too large for the narrow type.
    #[error("element {index} is {value:e}, too large for {dtype}, which ends at {largest:e}")]
    Overflow {
        /// The flat index of the first such number.
        index: usize,
        /// The number.
        value: f64,
        /// The type that it was to become.
        dtype: &'static str,
        /// The largest finite number of that type.
        largest: f64,
    },
}

impl NumericError {
    /// Says what to do about it, where that can be told.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Overflow { dtype: "F16", .. } => {
                Some("BF16 takes half the space of F32 as well, and reaches as far".to_owned())
            }
            _ => None,
        }
    }
}

/// Widens little-endian elements to `f32`.
///
/// # Dtypes
/// F32, F16 and BF16, all exactly.
pub fn widen_f32(bytes: &[u8], dtype: Dtype) -> Result<Vec<f32>, NumericError> {
    let count = count(bytes, dtype)?;
    let mut numbers = vec![0f32; count];
    match dtype {
        Dtype::F32 => {
            for (number, bytes) in numbers.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *number = f32::from_le_bytes(*bytes);
            }
        }
        Dtype::F16 => widen_halves(bytes, &mut numbers, f16::from_bits, |from, to| {
            from.convert_to_f32_slice(to);
        }),
        Dtype::BF16 => {
            for (number, bytes) in numbers.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *number = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
            }
        }
        _ => return Err(NumericError::Dtype { found: dtype_name(dtype), expected: "F32, F16 or BF16" }),
    }
    Ok(numbers)
}

/// Widens little-endian elements to `f64`.
///
/// # Dtypes
/// F64, F32, F16 and BF16, all exactly.
pub fn widen_f64(bytes: &[u8], dtype: Dtype) -> Result<Vec<f64>, NumericError> {
    match dtype {
        Dtype::F64 => {
            count(bytes, dtype)?;
            Ok(bytes.as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect())
        }
        Dtype::F32 => {
            count(bytes, dtype)?;
            Ok(bytes.as_chunks::<4>().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect())
        }
        Dtype::F16 => {
            let mut numbers = vec![0f64; count(bytes, dtype)?];
            widen_halves(bytes, &mut numbers, f16::from_bits, |from, to| {
                from.convert_to_f64_slice(to);
            });
            Ok(numbers)
        }
        Dtype::BF16 => {
            count(bytes, dtype)?;
            let wide = |bytes: &[u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
            Ok(bytes.as_chunks::<2>().0.iter().map(|bytes| f64::from(wide(bytes))).collect())
        }
        _ => Err(NumericError::Dtype { found: dtype_name(dtype), expected: "F64, F32, F16 or BF16" }),
    }
}

/// Narrows to little-endian elements, rounding once to the nearest, ties to even.
///
/// Infinities and NaN stay what they are.
///
/// # Errors
/// - a type other than F64, F32, F16 and BF16
/// - a finite number that would become infinite, with its flat index
pub fn narrow_f32(numbers: &[f32], dtype: Dtype) -> Result<Vec<u8>, NumericError> {
    match dtype {
        Dtype::F64 => Ok(numbers.iter().flat_map(|&number| f64::from(number).to_le_bytes()).collect()),
        Dtype::F32 => Ok(numbers.iter().flat_map(|number| number.to_le_bytes()).collect()),
        Dtype::F16 | Dtype::BF16 => {
            narrow_halves(numbers.iter().map(|&number| (number, f64::from(number))), dtype)
        }
        _ => Err(NumericError::Dtype { found: dtype_name(dtype), expected: "F64, F32, F16 or BF16" }),
    }
}

/// Narrows to little-endian elements as [`narrow_f32`] does, from `f64`.
pub fn narrow_f64(numbers: &[f64], dtype: Dtype) -> Result<Vec<u8>, NumericError> {
    match dtype {
        Dtype::F64 => Ok(numbers.iter().flat_map(|number| number.to_le_bytes()).collect()),
        Dtype::F32 => {
            let mut bytes = Vec::with_capacity(numbers.len() * 4);
            for (index, &value) in numbers.iter().enumerate() {
                let narrow = value as f32;
                if narrow.is_infinite() && value.is_finite() {
                    return Err(overflow(index, value, dtype, f64::from(f32::MAX)));
                }
                bytes.extend_from_slice(&narrow.to_le_bytes());
            }
            Ok(bytes)
        }
        Dtype::F16 | Dtype::BF16 => {
            narrow_halves(numbers.iter().map(|&number| (round_to_odd(number), number)), dtype)
        }
        _ => Err(NumericError::Dtype { found: dtype_name(dtype), expected: "F64, F32, F16 or BF16" }),
    }
}

/// Finds the first number that is infinite or NaN.
#[must_use]
pub fn first_non_finite_f32(numbers: &[f32]) -> Option<usize> {
    numbers.iter().position(|number| !number.is_finite())
}

/// Finds the first number that is infinite or NaN.
#[must_use]
pub fn first_non_finite_f64(numbers: &[f64]) -> Option<usize> {
    numbers.iter().position(|number| !number.is_finite())
}

/// Counts the elements in a slice of bytes.
fn count(bytes: &[u8], dtype: Dtype) -> Result<usize, NumericError> {
    let width = dtype.bitsize().div_ceil(8);
    if bytes.len().is_multiple_of(width) {
        Ok(bytes.len() / width)
    } else {
        Err(NumericError::Length { length: bytes.len(), dtype: dtype_name(dtype) })
    }
}

/// Widens halves through an aligned buffer, so that the slice conversion of the processor applies.
fn widen_halves<H: Copy + Default, N>(
    bytes: &[u8],
    numbers: &mut [N],
    from_bits: impl Fn(u16) -> H,
    convert: impl Fn(&[H], &mut [N]),
) {
    let mut buffer = [H::default(); CHUNK];
    for (bytes, numbers) in bytes.chunks(2 * CHUNK).zip(numbers.chunks_mut(CHUNK)) {
        for (half, bytes) in buffer.iter_mut().zip(bytes.as_chunks::<2>().0) {
            *half = from_bits(u16::from_le_bytes(*bytes));
        }
        if let Some(filled) = buffer.get(..numbers.len()) {
            convert(filled, numbers);
        }
    }
}

/// Rounds pairs of (what to round, what it was) to a half-precision type.
fn narrow_halves(
    numbers: impl ExactSizeIterator<Item = (f32, f64)>,
    dtype: Dtype,
) -> Result<Vec<u8>, NumericError> {
    let mut bytes = Vec::with_capacity(numbers.len() * 2);
    for (index, (number, value)) in numbers.enumerate() {
        let (bits, infinite, largest) = if dtype == Dtype::F16 {
            let narrow = f16::from_f32(number);
            (narrow.to_bits(), narrow.is_infinite(), f16::MAX.to_f64())
        } else {
            let narrow = bf16::from_f32(number);
            (narrow.to_bits(), narrow.is_infinite(), bf16::MAX.to_f64())
        };
        if infinite && value.is_finite() {
            return Err(overflow(index, value, dtype, largest));
        }
        bytes.extend_from_slice(&bits.to_le_bytes());
    }
    Ok(bytes)
}

fn overflow(index: usize, value: f64, dtype: Dtype, largest: f64) -> NumericError {
    NumericError::Overflow { index, value, dtype: dtype_name(dtype), largest }
}

/// Rounds to the neighbour whose last bit is 1 unless the number is exact.
///
/// Rounding the result once more, to a type at least two bits narrower, gives what rounding the original
/// directly would: the odd bit remembers that something was cut off.
fn round_to_odd(value: f64) -> f32 {
    let nearest = value as f32;
    let back = f64::from(nearest);
    if !nearest.is_finite() || back.to_bits() == value.to_bits() || nearest.to_bits() & 1 == 1 {
        return nearest;
    }
    // The magnitude grows with the bits, on both sides of zero.
    let bits = if back.abs() > value.abs() { nearest.to_bits() - 1 } else { nearest.to_bits() + 1 };
    f32::from_bits(bits)
}
