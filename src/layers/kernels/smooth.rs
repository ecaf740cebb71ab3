//! Activations that are smooth, and the exponential that they are made of.

#![expect(
    clippy::inline_always,
    reason = "a loop gets its instructions from the function it is inlined into"
)]

use super::stream::CHUNK;
use super::tile::build;
use pulp::{Arch, Simd, WithSimd};
use std::f32::consts::{FRAC_1_SQRT_2, LOG2_E, PI};

/// `exp(x)` to two units in the last place: `2^n` times a polynomial on half a step around zero.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // Adding it rounds to a whole number, which then stands in the lowest bits.
    const ROUNDING: f32 = 12_582_912.0;
    // ln 2 in two parts, the first of so few bits that its products with n are exact
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let x = if x < -87.3 { -87.3 } else { x };
    let x = if x > 88.3 { 88.3 } else { x };
    let shifted = x * LOG2_E + ROUNDING;
    let n = shifted - ROUNDING;
    let r = (x - n * LN_2_HIGH) - n * LN_2_LOW;
    let p = 1.0 / 720.0;
    let p = p * r + 1.0 / 120.0;
    let p = p * r + 1.0 / 24.0;
    let p = p * r + 1.0 / 6.0;
    let p = p * r + 0.5;
    let p = p * r + 1.0;
    let p = p * r + 1.0;
    let exponent = shifted.to_bits().wrapping_sub(ROUNDING.to_bits()).wrapping_add(127);
    p * f32::from_bits(exponent << 23)
}

/// A smooth activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Smooth {
    /// `x P(X <= x)` for a standard normal `X`.
    Gelu,
    /// The same with a hyperbolic tangent in the distribution's place.
    GeluTanh,
    /// `x / (1 + exp(-x))`.
    Silu,
    /// The hyperbolic tangent.
    Tanh,
}

/// `tanh x`, a quotient of polynomials within the bounds where it is not yet one in f32.
///
/// The coefficients are those of the library Eigen, `generic_fast_tanh_float`.
#[inline(always)]
fn tanh(x: f32) -> f32 {
    const BOUND: f32 = 7.905_311;
    let x = if x < -BOUND { -BOUND } else { x };
    let x = if x > BOUND { BOUND } else { x };
    let square = x * x;
    let p = -2.760_768_5e-16;
    let p = p * square + 2.000_188e-13;
    let p = p * square - 8.604_672e-11;
    let p = p * square + 5.122_297e-8;
    let p = p * square + 1.485_722_4e-5;
    let p = p * square + 6.372_619_3e-4;
    let p = p * square + 4.893_524_6e-3;
    let q = 1.198_258_4e-6;
    let q = q * square + 1.185_347_1e-4;
    let q = q * square + 2.268_434_6e-3;
    let q = q * square + 4.893_525e-3;
    x * p / q
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `P(X <= x)` for a standard normal `X`, to 1.5e-7, and its density at `x`.
///
/// Abramowitz, Stegun, "Handbook of Mathematical Functions", 7.1.26.
#[inline(always)]
fn normal(x: f32) -> (f32, f32) {
    let u = x.abs() * FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * u);
    let p = 1.061_405_4 * t - 1.453_152;
    let p = p * t + 1.421_413_7;
    let p = p * t - 0.284_496_74;
    let p = p * t + 0.254_829_6;
    let bell = exp(-u * u);
    let tail = 0.5 * p * t * bell;
    (if x < 0.0 { tail } else { 1.0 - tail }, bell * (FRAC_1_SQRT_2 / PI.sqrt()))
}

/// The argument of [`Smooth::GeluTanh`]'s tangent, and its derivative.
#[inline(always)]
fn gelu_argument(x: f32) -> (f32, f32) {
    const SQRT_2_OVER_PI: f32 = 0.797_884_6;
    const CUBIC: f32 = 0.044_715;
    (SQRT_2_OVER_PI * x * (1.0 + CUBIC * x * x), SQRT_2_OVER_PI * (1.0 + 3.0 * CUBIC * x * x))
}

impl Smooth {
    /// The activation of each element.
    pub(crate) fn apply(self, x: &[f32]) -> Vec<f32> {
        build(x.len(), CHUNK, |index, to| {
            let x = &x[index * CHUNK..][..to.len()];
            Arch::new().dispatch(Values { kind: self, x, to });
        })
    }

    /// `dy` times the derivative at each element.
    pub(crate) fn backward(self, x: &[f32], dy: &[f32]) -> Vec<f32> {
        assert_eq!(x.len(), dy.len());
        build(x.len(), CHUNK, |index, to| {
            let (x, dy) = (&x[index * CHUNK..][..to.len()], &dy[index * CHUNK..][..to.len()]);
            Arch::new().dispatch(Slopes { kind: self, x, dy, to });
        })
    }
}

struct Values<'a> {
    kind: Smooth,
    x: &'a [f32],
    to: &'a mut [f32],
}

impl WithSimd for Values<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        #[inline(always)]
        fn fill(x: &[f32], to: &mut [f32], of: impl Fn(f32) -> f32) {
            for (to, &x) in to.iter_mut().zip(x) {
                *to = of(x);
            }
        }
        let Self { kind, x, to } = self;
        match kind {
            Smooth::Gelu => fill(x, to, |x| x * normal(x).0),
            Smooth::GeluTanh => fill(x, to, |x| 0.5 * x * (1.0 + tanh(gelu_argument(x).0))),
            Smooth::Silu => fill(x, to, |x| x * sigmoid(x)),
            Smooth::Tanh => fill(x, to, tanh),
        }
    }
}

struct Slopes<'a> {
    kind: Smooth,
    x: &'a [f32],
    dy: &'a [f32],
    to: &'a mut [f32],
}

impl WithSimd for Slopes<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        #[inline(always)]
        fn fill(x: &[f32], dy: &[f32], to: &mut [f32], of: impl Fn(f32) -> f32) {
            for ((to, &x), &dy) in to.iter_mut().zip(x).zip(dy) {
                *to = dy * of(x);
            }
        }
        let Self { kind, x, dy, to } = self;
        match kind {
            Smooth::Gelu => fill(x, dy, to, |x| {
                let (below, density) = normal(x);
                below + x * density
            }),
            Smooth::GeluTanh => fill(x, dy, to, |x| {
                let (argument, slope) = gelu_argument(x);
                let t = tanh(argument);
                0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * slope
            }),
            Smooth::Silu => fill(x, dy, to, |x| {
                let s = sigmoid(x);
                s * (1.0 + x * (1.0 - s))
            }),
            Smooth::Tanh => fill(x, dy, to, |x| {
                let t = tanh(x);
                1.0 - t * t
            }),
        }
    }
}

/// Rows of scores to rows of probabilities, in place: row `i` counts its first `seen(i)` scores, and the others become zero.
pub(super) fn softmax(scores: &mut [f32], width: usize, seen: impl Fn(usize) -> usize) {
    struct Rows<'a, F> {
        scores: &'a mut [f32],
        width: usize,
        seen: F,
    }
    impl<F: Fn(usize) -> usize> WithSimd for Rows<'_, F> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) {
            for (index, row) in self.scores.chunks_exact_mut(self.width.max(1)).enumerate() {
                let (row, unseen) = row.split_at_mut((self.seen)(index));
                unseen.fill(0.0);
                let most = folded(row, f32::NEG_INFINITY, |x| x, |most, x| if x > most { x } else { most });
                for x in row.iter_mut() {
                    *x = exp(*x - most);
                }
                let scale = 1.0 / folded(row, 0.0, |x| x, |sum, x| sum + x);
                for x in row.iter_mut() {
                    *x *= scale;
                }
            }
        }
    }
    Arch::new().dispatch(Rows { scores, width, seen });
}

/// What each element becomes, combined in sixteen lanes, and the lanes in order.
#[inline(always)]
pub(super) fn folded(
    row: &[f32],
    start: f32,
    of: impl Fn(f32) -> f32,
    combine: impl Fn(f32, f32) -> f32,
) -> f32 {
    let mut lanes = [start; 16];
    let (chunks, rest) = row.as_chunks::<16>();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = combine(*lane, of(x));
        }
    }
    let rest = rest.iter().fold(start, |sum, &x| combine(sum, of(x)));
    lanes.into_iter().fold(rest, combine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_and_tangents_are_near_those_of_f64() {
        for step in -8700..8800 {
            let x = step as f32 / 100.0;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) - exact).abs() <= 2.5e-7 * exact, "exp({x})");
            let exact = f64::from(x).tanh();
            assert!((f64::from(tanh(x)) - exact).abs() <= 4e-7 * exact.abs(), "tanh({x})");
        }
        assert!(exp(f32::NAN).is_nan() && tanh(f32::NAN).is_nan());
        assert_eq!((exp(f32::NEG_INFINITY) * 1e30).max(1e-7), 1e-7);
    }
}
