//! Normalization of rows, each by its own statistics, and its gradient.

#![expect(
    clippy::inline_always,
    reason = "a loop gets its instructions from the function it is inlined into"
)]

use super::smooth::folded;
use super::stream::CHUNK;
use super::tile::{Fresh, build, build_fresh};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// How rows are normalized: `y = (x - mean) / sqrt(mean square distance + epsilon)`, the mean zero where rows are not centered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RowNorm {
    /// Whether the mean is taken off.
    pub centered: bool,
    /// What is added to the mean square.
    pub epsilon: f32,
}

/// Rows whose sums over columns are one term of the gradient of scale and shift.
const TOGETHER: usize = 64;

impl RowNorm {
    /// A row's mean and the reciprocal of its deviation.
    #[inline(always)]
    fn statistics(self, x: &[f32]) -> (f32, f32) {
        let count = x.len().max(1) as f32;
        let mean = if self.centered { folded(x, 0.0, |x| x, |sum, x| sum + x) / count } else { 0.0 };
        let square = folded(x, 0.0, |x| (x - mean) * (x - mean), |sum, x| sum + x) / count;
        (mean, 1.0 / (square + self.epsilon).sqrt())
    }

    /// `y = norm(x) * scale + shift` of rows as long as the scale; no shift where it is empty.
    pub(crate) fn apply(self, x: &[f32], scale: &[f32], shift: &[f32]) -> Vec<f32> {
        let width = scale.len().max(1);
        let together = CHUNK.div_ceil(width) * width;
        build_fresh(x.len(), together, |index, to| {
            let x = &x[index * together..][..to.len()];
            Arch::new().dispatch(Forward { norm: self, x, scale, shift, to });
        })
    }

    /// The gradients of input, scale and shift.
    pub(crate) fn backward(self, x: &[f32], scale: &[f32], dy: &[f32]) -> [Vec<f32>; 3] {
        let width = scale.len().max(1);
        let together = TOGETHER * width;
        let dx = build(x.len(), together, |index, to| {
            let (x, dy) = (&x[index * together..][..to.len()], &dy[index * together..][..to.len()]);
            Arch::new().dispatch(Backward { norm: self, x, scale, dy, to });
        });
        let sums = |(x, dy): (&[f32], &[f32])| {
            let mut sums = vec![0.0; 2 * width];
            let (dscale, dshift) = sums.split_at_mut(width);
            Arch::new().dispatch(Columns { norm: self, x, dy, dscale, dshift });
            sums
        };
        let parts: Vec<Vec<f32>> = x.par_chunks(together).zip(dy.par_chunks(together)).map(sums).collect();
        let mut total = vec![0.0f64; 2 * width];
        for part in parts {
            total.iter_mut().zip(part).for_each(|(total, part)| *total += f64::from(part));
        }
        let mut dscale: Vec<f32> = total.into_iter().map(|sum| sum as f32).collect();
        let dshift = dscale.split_off(width);
        [dx, dscale, dshift]
    }
}

struct Forward<'a, 'b> {
    norm: RowNorm,
    x: &'a [f32],
    scale: &'a [f32],
    shift: &'a [f32],
    to: &'a mut Fresh<'b>,
}

impl WithSimd for Forward<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let width = self.scale.len().max(1);
        for x in self.x.chunks_exact(width) {
            let (mean, factor) = self.norm.statistics(x);
            let scaled = x.iter().zip(self.scale).map(|(x, scale)| (x - mean) * factor * scale);
            if self.shift.is_empty() {
                self.to.extend(scaled);
            } else {
                self.to.extend(scaled.zip(self.shift).map(|(scaled, shift)| scaled + shift));
            }
        }
    }
}

struct Backward<'a> {
    norm: RowNorm,
    x: &'a [f32],
    scale: &'a [f32],
    dy: &'a [f32],
    to: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let width = self.scale.len().max(1);
        let rows = self.x.chunks_exact(width).zip(self.dy.chunks_exact(width));
        for ((x, dy), to) in rows.zip(self.to.chunks_exact_mut(width)) {
            let (mean, factor) = self.norm.statistics(x);
            for ((to, &dy), &scale) in to.iter_mut().zip(dy).zip(self.scale) {
                *to = dy * scale;
            }
            // With x' = (x - mean) factor and g = dy scale: dx = factor (g - mean(g) - x' mean(x' g)).
            let (mut sums, mut slopes) = ([0.0f32; 16], [0.0f32; 16]);
            let ((x16, x1), (g16, g1)) = (x.as_chunks::<16>(), to.as_chunks::<16>());
            for (x, g) in x16.iter().zip(g16) {
                for l in 0..16 {
                    sums[l] += g[l];
                    slopes[l] += (x[l] - mean) * g[l];
                }
            }
            for (l, (x, g)) in x1.iter().zip(g1).enumerate() {
                sums[l] += g;
                slopes[l] += (x - mean) * g;
            }
            let count = width as f32;
            let sum = if self.norm.centered { sums.iter().sum::<f32>() / count } else { 0.0 };
            let slope = slopes.iter().sum::<f32>() * factor * factor / count;
            for (to, &x) in to.iter_mut().zip(x) {
                *to = factor * ((*to - sum) - (x - mean) * slope);
            }
        }
    }
}

struct Columns<'a> {
    norm: RowNorm,
    x: &'a [f32],
    dy: &'a [f32],
    dscale: &'a mut [f32],
    dshift: &'a mut [f32],
}

impl WithSimd for Columns<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let width = self.dscale.len().max(1);
        for (x, dy) in self.x.chunks_exact(width).zip(self.dy.chunks_exact(width)) {
            let (mean, factor) = self.norm.statistics(x);
            let to = self.dscale.iter_mut().zip(self.dshift.iter_mut());
            for (((dscale, dshift), &x), &dy) in to.zip(x).zip(dy) {
                *dscale += (x - mean) * factor * dy;
                *dshift += dy;
            }
        }
    }
}
