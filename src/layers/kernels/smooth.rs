//! Activations that are smooth, and the exponential that they are made of.

#![expect(
    clippy::inline_always,
    reason = "a loop gets its instructions from the function it is inlined into"
)]

use super::stream::CHUNK;
use super::tile::{Fresh, build_fresh};
use pulp::{Arch, Simd, WithSimd};
use std::f32::consts::{FRAC_1_SQRT_2, LOG2_E, PI};

/// `a b + c`, in one instruction where vectors have it.
#[inline(always)]
fn fused<S: Simd>(a: f32, b: f32, c: f32) -> f32 {
    // Without the instruction it would be a call.
    if S::IS_SCALAR { a * b + c } else { a.mul_add(b, c) }
}

/// The polynomial with these coefficients, the highest first.
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    let mut p = coefficients[0];
    for &coefficient in &coefficients[1..] {
        p = fused::<S>(p, x, coefficient);
    }
    p
}

/// `exp(x)` to two units in the last place: `2^n` times a polynomial on half a step around zero.
#[inline(always)]
pub(super) fn exp<S: Simd>(x: f32) -> f32 {
    // Adding it rounds to a whole number, which then stands in the lowest bits.
    const ROUNDING: f32 = 12_582_912.0;
    // ln 2 in two parts, the first of so few bits that its products with n are exact
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let x = if x < -87.3 { -87.3 } else { x };
    let x = if x > 88.3 { 88.3 } else { x };
    let shifted = fused::<S>(x, LOG2_E, ROUNDING);
    let n = shifted - ROUNDING;
    let r = fused::<S>(-n, LN_2_LOW, fused::<S>(-n, LN_2_HIGH, x));
    let p = polynomial::<S, 7>(r, [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0]);
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
fn tanh<S: Simd>(x: f32) -> f32 {
    const ABOVE: [f32; 7] = [
        -2.760_768_5e-16,
        2.000_188e-13,
        -8.604_672e-11,
        5.122_297e-8,
        1.485_722_4e-5,
        6.372_619_3e-4,
        4.893_524_6e-3,
    ];
    const BELOW: [f32; 4] = [1.198_258_4e-6, 1.185_347_1e-4, 2.268_434_6e-3, 4.893_525e-3];
    // Where the quotient is one, which depends on how it is rounded.
    let bound = if S::IS_SCALAR { 7.905_311 } else { 7.998_811_7 };
    let x = if x < -bound { -bound } else { x };
    let x = if x > bound { bound } else { x };
    let square = x * x;
    x * polynomial::<S, 7>(square, ABOVE) / polynomial::<S, 4>(square, BELOW)
}

/// `erf x` to 3.5e-7, a quotient of polynomials within the bounds where it is not yet one in f32.
///
/// The coefficients are those of the library Eigen, `generic_fast_erf_float`.
#[inline(always)]
fn erf<S: Simd>(x: f32) -> f32 {
    const ABOVE: [f32; 7] = [
        -2.726_142_3e-10,
        2.770_681_4e-8,
        -2.101_024e-6,
        -5.692_506_4e-5,
        -7.349_906_3e-4,
        -2.954_6e-3,
        -1.609_603_3e-2,
    ];
    const BELOW: [f32; 5] =
        [-1.456_607_15e-5, -2.133_740_5e-4, -1.682_827e-3, -7.373_329_2e-3, -1.426_473_9e-2];
    let x = if x < -4.0 { -4.0 } else { x };
    let x = if x > 4.0 { 4.0 } else { x };
    let square = x * x;
    x * polynomial::<S, 7>(square, ABOVE) / polynomial::<S, 5>(square, BELOW)
}

#[inline(always)]
fn sigmoid<S: Simd>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<S>(-x))
}

/// `P(X <= x)` for a standard normal `X`, to 1.5e-7, and its density at `x`.
///
/// Abramowitz, Stegun, "Handbook of Mathematical Functions", 7.1.26.
#[inline(always)]
fn normal<S: Simd>(x: f32) -> (f32, f32) {
    const TAIL: [f32; 5] = [1.061_405_4, -1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6];
    let u = x.abs() * FRAC_1_SQRT_2;
    let t = 1.0 / fused::<S>(0.327_591_1, u, 1.0);
    let bell = exp::<S>(-u * u);
    let tail = 0.5 * polynomial::<S, 5>(t, TAIL) * t * bell;
    (if x < 0.0 { tail } else { 1.0 - tail }, bell * (FRAC_1_SQRT_2 / PI.sqrt()))
}

/// The argument of [`Smooth::GeluTanh`]'s tangent, and its derivative.
#[inline(always)]
fn gelu_argument(x: f32) -> (f32, f32) {
    const SQRT_2_OVER_PI: f32 = 0.797_884_6;
    const CUBIC: f32 = 0.044_715;
    (SQRT_2_OVER_PI * x * (1.0 + CUBIC * x * x), SQRT_2_OVER_PI * (1.0 + 3.0 * CUBIC * x * x))
}

#[inline(always)]
fn gelu<S: Simd>(x: f32) -> f32 {
    let half = 0.5 * x;
    fused::<S>(half, erf::<S>(x * FRAC_1_SQRT_2), half)
}

#[inline(always)]
fn gelu_tanh<S: Simd>(x: f32) -> f32 {
    0.5 * x * (1.0 + tanh::<S>(gelu_argument(x).0))
}

#[inline(always)]
fn silu<S: Simd>(x: f32) -> f32 {
    x * sigmoid::<S>(x)
}

impl Smooth {
    /// The activation of each element.
    pub(crate) fn apply(self, x: &[f32]) -> Vec<f32> {
        build_fresh(x.len(), CHUNK, |index, to| {
            let x = &x[index * CHUNK..][..to.len()];
            Arch::new().dispatch(Values { kind: self, x, to });
        })
    }

    /// The activation of each element, in place.
    #[inline(always)]
    pub(super) fn over<S: Simd>(self, x: &mut [f32]) {
        #[inline(always)]
        fn fill(x: &mut [f32], of: impl Fn(f32) -> f32) {
            for x in x {
                *x = of(*x);
            }
        }
        match self {
            Self::Gelu => fill(x, gelu::<S>),
            Self::GeluTanh => fill(x, gelu_tanh::<S>),
            Self::Silu => fill(x, silu::<S>),
            Self::Tanh => fill(x, tanh::<S>),
        }
    }

    /// `dy` times the derivative at each element.
    pub(crate) fn backward(self, x: &[f32], dy: &[f32]) -> Vec<f32> {
        assert_eq!(x.len(), dy.len());
        build_fresh(x.len(), CHUNK, |index, to| {
            let (x, dy) = (&x[index * CHUNK..][..to.len()], &dy[index * CHUNK..][..to.len()]);
            Arch::new().dispatch(Slopes { kind: self, x, dy, to });
        })
    }
}

struct Values<'a, 'b> {
    kind: Smooth,
    x: &'a [f32],
    to: &'a mut Fresh<'b>,
}

impl WithSimd for Values<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        #[inline(always)]
        fn fill(x: &[f32], to: &mut Fresh<'_>, of: impl Fn(f32) -> f32) {
            to.extend(x.iter().map(|&x| of(x)));
        }
        let Self { kind, x, to } = self;
        match kind {
            Smooth::Gelu => fill(x, to, gelu::<S>),
            Smooth::GeluTanh => fill(x, to, gelu_tanh::<S>),
            Smooth::Silu => fill(x, to, silu::<S>),
            Smooth::Tanh => fill(x, to, tanh::<S>),
        }
    }
}

struct Slopes<'a, 'b> {
    kind: Smooth,
    x: &'a [f32],
    dy: &'a [f32],
    to: &'a mut Fresh<'b>,
}

impl WithSimd for Slopes<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        #[inline(always)]
        fn fill(x: &[f32], dy: &[f32], to: &mut Fresh<'_>, of: impl Fn(f32) -> f32) {
            to.extend(x.iter().zip(dy).map(|(&x, &dy)| dy * of(x)));
        }
        let Self { kind, x, dy, to } = self;
        match kind {
            Smooth::Gelu => fill(x, dy, to, |x| {
                let (below, density) = normal::<S>(x);
                below + x * density
            }),
            Smooth::GeluTanh => fill(x, dy, to, |x| {
                let (argument, slope) = gelu_argument(x);
                let t = tanh::<S>(argument);
                0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * slope
            }),
            Smooth::Silu => fill(x, dy, to, |x| {
                let s = sigmoid::<S>(x);
                s * (1.0 + x * (1.0 - s))
            }),
            Smooth::Tanh => fill(x, dy, to, |x| {
                let t = tanh::<S>(x);
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
                    *x = exp::<S>(*x - most);
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

/// The gradient of scores from that of their [`softmax`], in place: rows `dp` become `scale p (dp - sum p dp)`.
pub(super) fn softmax_backward(slopes: &mut [f32], probabilities: &[f32], width: usize, scale: f32) {
    struct Rows<'a> {
        slopes: &'a mut [f32],
        probabilities: &'a [f32],
        width: usize,
        scale: f32,
    }
    impl WithSimd for Rows<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) {
            let width = self.width.max(1);
            let rows = self.slopes.chunks_exact_mut(width).zip(self.probabilities.chunks_exact(width));
            for (slopes, probabilities) in rows {
                for (slope, p) in slopes.iter_mut().zip(probabilities) {
                    *slope *= p;
                }
                let sum = folded(slopes, 0.0, |x| x, |sum, x| sum + x);
                for (slope, p) in slopes.iter_mut().zip(probabilities) {
                    *slope = self.scale * (*slope - p * sum);
                }
            }
        }
    }
    Arch::new().dispatch(Rows { slopes, probabilities, width, scale });
}

/// What each element becomes, combined in sixteen lanes, and the lanes by halves.
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
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            lanes[lane] = combine(lanes[lane], lanes[lane + half]);
        }
    }
    rest.iter().fold(lanes[0], |sum, &x| combine(sum, of(x)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares with f64, on the instructions that it is handed.
    struct Comparison;

    impl WithSimd for Comparison {
        type Output = ();

        fn with_simd<S: Simd>(self, _: S) {
            for step in -8700..8800 {
                let x = step as f32 / 100.0;
                let exact = f64::from(x).exp();
                assert!((f64::from(exp::<S>(x)) - exact).abs() <= 2.5e-7 * exact, "exp({x})");
                let exact = f64::from(x).tanh();
                assert!((f64::from(tanh::<S>(x)) - exact).abs() <= 4e-7 * exact.abs(), "tanh({x})");
                // A normal distribution is computed in another way where its density is needed too.
                let other = x * normal::<S>(x).0;
                assert!((gelu::<S>(x) - other).abs() <= 4e-7 * x.abs(), "gelu({x})");
            }
            assert_eq!((tanh::<S>(30.0), tanh::<S>(-30.0)), (1.0, -1.0));
            assert!([exp::<S>, tanh::<S>, gelu::<S>].into_iter().all(|of| of(f32::NAN).is_nan()));
            assert_eq!((exp::<S>(f32::NEG_INFINITY) * 1e30).max(1e-7), 1e-7);
        }
    }

    #[test]
    fn exponentials_and_tangents_are_near_those_of_f64() {
        Comparison.with_simd(pulp::Scalar::new());
        Arch::new().dispatch(Comparison);
    }

    #[test]
    fn rows_of_any_width_become_probabilities() {
        for width in [1, 2, 15, 16, 17, 40] {
            let scores: Vec<f32> = (0..3 * width).map(|i| ((i * 7) % 11) as f32 / 3.0 - 1.5).collect();
            let mut found = scores.clone();
            softmax(&mut found, width, |row| width - row.min(width - 1));
            for (row, (scores, found)) in scores.chunks(width).zip(found.chunks(width)).enumerate() {
                let seen = width - row.min(width - 1);
                let whole: f64 = scores[..seen].iter().map(|&x| f64::from(x).exp()).sum();
                for (place, (&x, &p)) in scores.iter().zip(found).enumerate() {
                    let expected = if place < seen { f64::from(x).exp() / whole } else { 0.0 };
                    assert!((f64::from(p) - expected).abs() < 1e-6, "{p} for {expected}, {place} of {width}");
                }
            }
        }
    }
}
