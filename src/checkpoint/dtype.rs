//! Element types: their names, their widths, and which of them are factored.

pub use safetensors::Dtype;

/// Every element type that the format knows, widest first.
const ALL: [Dtype; 22] = [
    Dtype::U64,
    Dtype::I64,
    Dtype::F64,
    Dtype::C64,
    Dtype::F32,
    Dtype::U32,
    Dtype::I32,
    Dtype::BF16,
    Dtype::F16,
    Dtype::U16,
    Dtype::I16,
    Dtype::F8_E5M2FNUZ,
    Dtype::F8_E4M3FNUZ,
    Dtype::F8_E8M0,
    Dtype::F8_E4M3,
    Dtype::F8_E5M2,
    Dtype::I8,
    Dtype::U8,
    Dtype::BOOL,
    Dtype::F6_E3M2,
    Dtype::F6_E2M3,
    Dtype::F4,
];

/// Names an element type as safetensors headers do.
///
/// ```
/// use fnl::checkpoint::{Dtype, dtype_name};
/// assert_eq!(dtype_name(Dtype::BF16), "BF16");
/// ```
#[must_use]
pub fn dtype_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::BOOL => "BOOL",
        Dtype::F4 => "F4",
        Dtype::F6_E2M3 => "F6_E2M3",
        Dtype::F6_E3M2 => "F6_E3M2",
        Dtype::U8 => "U8",
        Dtype::I8 => "I8",
        Dtype::F8_E5M2 => "F8_E5M2",
        Dtype::F8_E4M3 => "F8_E4M3",
        Dtype::F8_E8M0 => "F8_E8M0",
        Dtype::F8_E4M3FNUZ => "F8_E4M3FNUZ",
        Dtype::F8_E5M2FNUZ => "F8_E5M2FNUZ",
        Dtype::I16 => "I16",
        Dtype::U16 => "U16",
        Dtype::F16 => "F16",
        Dtype::BF16 => "BF16",
        Dtype::I32 => "I32",
        Dtype::U32 => "U32",
        Dtype::F32 => "F32",
        Dtype::C64 => "C64",
        Dtype::F64 => "F64",
        Dtype::I64 => "I64",
        Dtype::U64 => "U64",
        // `Dtype` is non-exhaustive; names outside `ALL` are refused when a header is read.
        _ => "unknown",
    }
}

/// Finds the element type of a name, `None` for a name that this version doesn't know.
///
/// ```
/// use fnl::checkpoint::{Dtype, dtype_from_name};
/// assert_eq!(dtype_from_name("F16"), Some(Dtype::F16));
/// assert_eq!(dtype_from_name("f16"), None);
/// ```
#[must_use]
pub fn dtype_from_name(name: &str) -> Option<Dtype> {
    ALL.into_iter().find(|dtype| dtype_name(*dtype) == name)
}

/// Returns the width of one element in bits; the narrow float types have fewer than eight.
#[must_use]
pub fn dtype_bits(dtype: Dtype) -> usize {
    dtype.bitsize()
}

/// Returns the width of one element in bytes, `None` where it isn't a whole number of them.
#[must_use]
pub fn dtype_bytes(dtype: Dtype) -> Option<usize> {
    let bits = dtype.bitsize();
    bits.is_multiple_of(8).then_some(bits / 8)
}

/// Says whether weights of this type are factored: the four floating-point types with a sign, an exponent
/// and enough mantissa to hold a factor. All others pass through byte for byte.
#[must_use]
pub fn is_factorable(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16)
}

/// Why a shape and a type have no size in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SizeProblem {
    /// The product doesn't fit in 64 bits.
    Overflow,
    /// Elements narrower than a byte end inside one.
    PartialByte,
}

/// Multiplies a shape out, in bytes.
pub(crate) fn size_bytes(dtype: Dtype, shape: &[usize]) -> Result<u64, SizeProblem> {
    let elements = shape
        .iter()
        .try_fold(1u64, |product, &dim| product.checked_mul(u64::try_from(dim).ok()?))
        .ok_or(SizeProblem::Overflow)?;
    let bits = elements.checked_mul(dtype.bitsize() as u64).ok_or(SizeProblem::Overflow)?;
    if bits.is_multiple_of(8) { Ok(bits / 8) } else { Err(SizeProblem::PartialByte) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_format_and_lead_back() {
        for dtype in ALL {
            assert_eq!(dtype_name(dtype), dtype.to_string());
            assert_eq!(dtype_from_name(dtype_name(dtype)), Some(dtype));
        }
    }

    #[test]
    fn sizes_are_exact_or_refused() {
        assert_eq!(size_bytes(Dtype::BF16, &[3, 5]), Ok(30));
        assert_eq!(size_bytes(Dtype::F4, &[2, 3]), Ok(3));
        assert_eq!(size_bytes(Dtype::F4, &[3]), Err(SizeProblem::PartialByte));
        assert_eq!(size_bytes(Dtype::F32, &[]), Ok(4));
        assert_eq!(size_bytes(Dtype::F32, &[usize::MAX, 2]), Err(SizeProblem::Overflow));
        assert_eq!(size_bytes(Dtype::F64, &[usize::MAX / 2]), Err(SizeProblem::Overflow));
    }
}
