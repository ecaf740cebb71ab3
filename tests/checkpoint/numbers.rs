//! Widening is exact; narrowing rounds once, to the nearest, ties to even.

use std::cmp::Ordering;

use fnl::checkpoint::{Dtype, numeric};
use half::{bf16, f16};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Rounds by looking at both neighbours: the definition, slowly.
fn nearest(value: f64, dtype: Dtype) -> u16 {
    let wide = |bits: u16| {
        if dtype == Dtype::F16 { f16::from_bits(bits).to_f64() } else { bf16::from_bits(bits).to_f64() }
    };
    let infinity: u16 = if dtype == Dtype::F16 { 0x7c00 } else { 0x7f80 };
    let magnitude = value.abs();
    // The largest number of the type that isn't above the magnitude.
    let (mut low, mut high) = (0u16, infinity);
    while high - low > 1 {
        let middle = u16::midpoint(low, high);
        if wide(middle) <= magnitude { low = middle } else { high = middle }
    }
    let (below, above) = (magnitude - wide(low), wide(high) - magnitude);
    let up = match above.total_cmp(&below) {
        Ordering::Less => true,
        Ordering::Equal => low & 1 == 1,
        Ordering::Greater => false,
    };
    let bits = if up { high } else { low };
    if value.is_sign_negative() { bits | 0x8000 } else { bits }
}

fn narrowed(value: f64, dtype: Dtype) -> u16 {
    let bytes = numeric::narrow_f64(&[value], dtype).unwrap();
    u16::from_le_bytes([bytes[0], bytes[1]])
}

#[test]
fn every_half_widens_exactly_and_comes_back() {
    for dtype in [Dtype::F16, Dtype::BF16] {
        let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        // An odd address: alignment is not asked for.
        let mut shifted = vec![0u8];
        shifted.extend_from_slice(&bytes);
        let single = numeric::widen_f32(&shifted[1..], dtype).unwrap();
        let double = numeric::widen_f64(&bytes, dtype).unwrap();
        for bits in 0..=u16::MAX {
            let expected = if dtype == Dtype::F16 {
                f16::from_bits(bits).to_f32()
            } else {
                bf16::from_bits(bits).to_f32()
            };
            let (single, double) = (single[bits as usize], double[bits as usize]);
            if expected.is_nan() {
                assert!(single.is_nan() && double.is_nan());
                continue;
            }
            assert_eq!(single.to_bits(), expected.to_bits());
            assert_eq!(double.to_bits(), f64::from(expected).to_bits());
            assert_eq!(numeric::narrow_f32(&[single], dtype).unwrap(), bits.to_le_bytes());
            assert_eq!(numeric::narrow_f64(&[double], dtype).unwrap(), bits.to_le_bytes());
        }
    }
}

#[test]
fn halves_are_the_nearest_also_at_ties_and_just_beside_them() {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    for dtype in [Dtype::F16, Dtype::BF16] {
        let wide = |bits: u16| {
            if dtype == Dtype::F16 { f16::from_bits(bits).to_f64() } else { bf16::from_bits(bits).to_f64() }
        };
        let last = if dtype == Dtype::F16 { 0x7bfe } else { 0x7f7e };
        for bits in (0..last).step_by(7) {
            let (low, high) = (wide(bits), wide(bits + 1));
            let tie = f64::midpoint(low, high);
            // What f32 can't tell from the tie, f64 can: rounding twice would fall on the wrong side.
            for value in [tie, tie.next_up(), tie.next_down(), low + (high - low) * random.random::<f64>()] {
                for value in [value, -value] {
                    assert_eq!(narrowed(value, dtype), nearest(value, dtype), "{value:e} as {dtype}");
                }
            }
        }
    }
}

#[test]
fn overflow_is_an_error_with_its_place() {
    let error = numeric::narrow_f32(&[1.0, -65504.0, 65519.9, 65520.0], Dtype::F16).unwrap_err();
    assert_eq!(error.to_string(), "element 3 is 6.552e4, too large for F16, which ends at 6.5504e4");
    assert!(error.hint().unwrap().contains("BF16"));
    assert!(numeric::narrow_f64(&[3.4e38], Dtype::BF16).is_err());
    assert!(numeric::narrow_f64(&[1e39], Dtype::F32).is_err());
    assert_eq!(numeric::narrow_f64(&[1e39], Dtype::F64).unwrap(), 1e39f64.to_le_bytes());
    // What is infinite already stays so, and NaN stays NaN.
    let kept = numeric::narrow_f32(&[f32::INFINITY, f32::NEG_INFINITY, f32::NAN], Dtype::F16).unwrap();
    let kept = numeric::widen_f32(&kept, Dtype::F16).unwrap();
    assert_eq!(kept[..2], [f32::INFINITY, f32::NEG_INFINITY]);
    assert!(kept[2].is_nan());
}

#[test]
fn singles_and_doubles() {
    let numbers = [0.0f32, -0.0, 1.5, f32::MIN_POSITIVE, 1e-45, f32::MAX];
    for dtype in [Dtype::F32, Dtype::F64] {
        let bytes = numeric::narrow_f32(&numbers, dtype).unwrap();
        let back = numeric::widen_f64(&bytes, dtype).unwrap();
        for (number, back) in numbers.iter().zip(back) {
            assert_eq!(f64::from(*number).to_bits(), back.to_bits());
        }
    }
    let bytes = numeric::narrow_f32(&numbers, Dtype::F32).unwrap();
    assert_eq!(numeric::widen_f32(&bytes, Dtype::F32).unwrap(), numbers);
    assert_eq!(numeric::first_non_finite_f32(&[1.0, f32::NAN]), Some(1));
    assert_eq!(numeric::first_non_finite_f64(&[1.0, 2.0]), None);
}

#[test]
fn other_types_and_odd_lengths_are_refused() {
    let said = |error: numeric::NumericError| error.to_string();
    assert_eq!(
        said(numeric::widen_f32(&[0; 8], Dtype::F64).unwrap_err()),
        "elements of type F64 can't be converted, expected F32, F16 or BF16"
    );
    assert_eq!(
        said(numeric::widen_f64(&[0; 8], Dtype::I64).unwrap_err()),
        "elements of type I64 can't be converted, expected F64, F32, F16 or BF16"
    );
    assert!(numeric::narrow_f32(&[1.0], Dtype::F8_E4M3).is_err());
    assert_eq!(
        said(numeric::widen_f32(&[0; 7], Dtype::BF16).unwrap_err()),
        "7 bytes are not a whole number of BF16 elements"
    );
}
