//! Loops over whole slices, compiled for wide vectors.

#![expect(
    clippy::inline_always,
    reason = "a loop gets its instructions from the function it is inlined into"
)]

use super::tile::{Fresh, build};
use pulp::{Arch, Simd, WithSimd};

/// Elements that a task writes together: a few pages, which stay in the first-level cache.
pub(super) const CHUNK: usize = 1 << 12;

/// What is written for each element.
#[derive(Clone, Copy, Debug)]
pub(super) enum Map<'a> {
    /// `a + b`.
    Sum(&'a [f32], &'a [f32]),
    /// `max(x, 0)`; a NaN stays.
    Relu(&'a [f32]),
    /// `dy` where `y` is positive, of `y` and `dy`.
    Passed(&'a [f32], &'a [f32]),
    /// `(x - center) * scale + shift`.
    Affine(&'a [f32], [f32; 3]),
    /// `max(that, 0)`.
    AffineRelu(&'a [f32], [f32; 3]),
    /// `(x - center) * scale + shift + residual`, of `x` and the residual.
    AffineSum(&'a [f32], &'a [f32], [f32; 3]),
    /// `max(that, 0)`.
    AffineSumRelu(&'a [f32], &'a [f32], [f32; 3]),
    /// `(x - center) * scale + shift + factor * dy`, of `x` and `dy`.
    Slope(&'a [f32], &'a [f32], [f32; 4]),
    /// The same where `y` is positive, of `x`, `y` and `dy`; zero for `dy` elsewhere.
    PassedSlope(&'a [f32], &'a [f32], &'a [f32], [f32; 4]),
}

impl Map<'_> {
    /// Writes chunks of `size` elements, as `chunk(index)` says.
    ///
    /// # Panics
    ///
    /// Panics when the chunks are fewer elements than there is room for.
    pub(super) fn write(to: &mut Fresh<'_>, size: usize, first: usize, chunk: impl Fn(usize) -> Self) {
        Arch::new().dispatch(Written { to: &mut *to, size, first, chunk });
        assert!(to.is_full(), "chunks are fewer elements than there is room for");
    }
}

struct Written<'a, 'b, F> {
    to: &'a mut Fresh<'b>,
    size: usize,
    first: usize,
    chunk: F,
}

#[inline(always)]
fn clip(value: f32) -> f32 {
    if value < 0.0 { 0.0 } else { value }
}

#[inline(always)]
fn passed(y: f32, dy: f32) -> f32 {
    if y <= 0.0 { 0.0 } else { dy }
}

impl<'c, F: Fn(usize) -> Map<'c>> WithSimd for Written<'_, '_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { to, size, first, chunk } = self;
        for index in first..first + to.len().div_ceil(size.max(1)) {
            match chunk(index) {
                Map::Sum(a, b) => to.extend(a.iter().zip(b).map(|(a, b)| a + b)),
                Map::Relu(x) => to.extend(x.iter().map(|&x| clip(x))),
                Map::Passed(y, dy) => to.extend(y.iter().zip(dy).map(|(&y, &dy)| passed(y, dy))),
                Map::Affine(x, [center, scale, shift]) => {
                    to.extend(x.iter().map(|x| (x - center) * scale + shift));
                }
                Map::AffineRelu(x, [center, scale, shift]) => {
                    to.extend(x.iter().map(|x| clip((x - center) * scale + shift)));
                }
                Map::AffineSum(x, residual, [center, scale, shift]) => {
                    to.extend(
                        x.iter().zip(residual).map(|(x, residual)| (x - center) * scale + shift + residual),
                    );
                }
                Map::AffineSumRelu(x, residual, [center, scale, shift]) => to.extend(
                    x.iter().zip(residual).map(|(x, residual)| clip((x - center) * scale + shift + residual)),
                ),
                Map::Slope(x, dy, [center, scale, shift, factor]) => {
                    to.extend(x.iter().zip(dy).map(|(x, dy)| (x - center) * scale + shift + factor * dy));
                }
                Map::PassedSlope(x, y, dy, [center, scale, shift, factor]) => {
                    let passed = y.iter().zip(dy).map(|(&y, &dy)| passed(y, dy));
                    to.extend(x.iter().zip(passed).map(|(x, dy)| (x - center) * scale + shift + factor * dy));
                }
            }
        }
    }
}

/// Sums over the elements of slices of one length.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sums<'a> {
    /// `x - near`, and its square.
    Moments(&'a [f32], f32),
    /// `dy`, and `dy (x - mean)`: of `x`, `dy` and `mean`.
    Slopes(&'a [f32], &'a [f32], f32),
    /// The same where `y` is positive: of `x`, `y`, `dy` and `mean`.
    PassedSlopes(&'a [f32], &'a [f32], &'a [f32], f32),
}

impl Sums<'_> {
    /// The sums over each plane of `size` elements, of so many.
    pub(super) fn of_planes(
        count: usize,
        size: usize,
        plane: impl Fn(usize) -> Self + Sync,
    ) -> Vec<[f32; 2]> {
        let together = CHUNK.div_ceil(size.max(1));
        build(count, together, |index, sums| {
            Arch::new().dispatch(Planes { first: index * together, sums, plane: &plane });
        })
    }
}

struct Planes<'a, F> {
    first: usize,
    sums: &'a mut [[f32; 2]],
    plane: &'a F,
}

impl<'a, F: Fn(usize) -> Sums<'a>> WithSimd for Planes<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for (p, sums) in (self.first..).zip(self.sums) {
            *sums = (self.plane)(p).with_simd(simd);
        }
    }
}

impl WithSimd for Sums<'_> {
    type Output = [f32; 2];

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> [f32; 2] {
        let zero = simd.splat_f32s(0.0);
        let (mut first, mut second) = ([zero; 4], [zero; 4]);
        let mut rest = (0.0, 0.0);
        match self {
            Self::Moments(x, near) => {
                let ((xs, x_rest), center) = (S::as_simd_f32s(x), simd.splat_f32s(near));
                let (fours, singles) = xs.as_chunks::<4>();
                for x in fours {
                    for l in 0..4 {
                        let distance = simd.sub_f32s(x[l], center);
                        first[l] = simd.add_f32s(first[l], distance);
                        second[l] = simd.mul_add_f32s(distance, distance, second[l]);
                    }
                }
                for &x in singles {
                    let distance = simd.sub_f32s(x, center);
                    first[0] = simd.add_f32s(first[0], distance);
                    second[0] = simd.mul_add_f32s(distance, distance, second[0]);
                }
                for &x in x_rest {
                    rest = (rest.0 + (x - near), rest.1 + (x - near) * (x - near));
                }
            }
            Self::Slopes(x, dy, mean) => {
                let ((xs, x_rest), (dys, dy_rest)) = (S::as_simd_f32s(x), S::as_simd_f32s(dy));
                let center = simd.splat_f32s(mean);
                let ((x4, x1), (dy4, dy1)) = (xs.as_chunks::<4>(), dys.as_chunks::<4>());
                for (x, dy) in x4.iter().zip(dy4) {
                    for l in 0..4 {
                        first[l] = simd.add_f32s(first[l], dy[l]);
                        second[l] = simd.mul_add_f32s(simd.sub_f32s(x[l], center), dy[l], second[l]);
                    }
                }
                for (&x, &dy) in x1.iter().zip(dy1) {
                    first[0] = simd.add_f32s(first[0], dy);
                    second[0] = simd.mul_add_f32s(simd.sub_f32s(x, center), dy, second[0]);
                }
                for (&x, &dy) in x_rest.iter().zip(dy_rest) {
                    rest = (rest.0 + dy, rest.1 + dy * (x - mean));
                }
            }
            Self::PassedSlopes(x, y, dy, mean) => {
                let ((xs, x_rest), (ys, y_rest)) = (S::as_simd_f32s(x), S::as_simd_f32s(y));
                let ((dys, dy_rest), center) = (S::as_simd_f32s(dy), simd.splat_f32s(mean));
                let ((x4, x1), (y4, y1)) = (xs.as_chunks::<4>(), ys.as_chunks::<4>());
                let (dy4, dy1) = dys.as_chunks::<4>();
                for ((x, y), dy) in x4.iter().zip(y4).zip(dy4) {
                    for l in 0..4 {
                        let dy = simd.select_f32s(simd.less_than_or_equal_f32s(y[l], zero), zero, dy[l]);
                        first[l] = simd.add_f32s(first[l], dy);
                        second[l] = simd.mul_add_f32s(simd.sub_f32s(x[l], center), dy, second[l]);
                    }
                }
                for ((&x, &y), &dy) in x1.iter().zip(y1).zip(dy1) {
                    let dy = simd.select_f32s(simd.less_than_or_equal_f32s(y, zero), zero, dy);
                    first[0] = simd.add_f32s(first[0], dy);
                    second[0] = simd.mul_add_f32s(simd.sub_f32s(x, center), dy, second[0]);
                }
                for ((&x, &y), &dy) in x_rest.iter().zip(y_rest).zip(dy_rest) {
                    let dy = if y <= 0.0 { 0.0 } else { dy };
                    rest = (rest.0 + dy, rest.1 + dy * (x - mean));
                }
            }
        }
        for l in 1..4 {
            first[0] = simd.add_f32s(first[0], first[l]);
            second[0] = simd.add_f32s(second[0], second[l]);
        }
        [simd.reduce_sum_f32s(first[0]) + rest.0, simd.reduce_sum_f32s(second[0]) + rest.1]
    }
}
