//! Samples side by side: rows that are too short for a vector become sixteen times as long.

use super::tile::build;
use crate::layers::Geometry;

/// Samples that lie side by side: the lanes of the longest vectors.
const SAMPLES: usize = 16;

/// The same convolution with each column repeated for sixteen samples, if rows of this width waste vectors and there is
/// enough to compute to make up for moving everything.
pub(super) fn interleaved(g: &Geometry, width: usize) -> Option<Geometry> {
    let wasted = width.next_multiple_of(8) * 3 >= width * 4;
    let [_, inner, kh, kw] = g.kernel_shape();
    let worth = inner * kh * kw >= 48 && g.out_channels / g.groups * kh * kw >= 48;
    (wasted && worth && g.stride[1] == 1 && g.batch >= SAMPLES / 2).then(|| {
        let mut wide = *g;
        wide.batch = g.batch.div_ceil(SAMPLES);
        wide.input[1] *= SAMPLES;
        wide.output[1] *= SAMPLES;
        wide.padding[1] *= SAMPLES;
        wide.dilation[1] *= SAMPLES;
        wide
    })
}

/// Elements of sixteen samples side by side, for samples of `size` elements; zeros where there are no more samples.
pub(super) fn interleave(x: &[f32], size: usize) -> Vec<f32> {
    let samples = x.len() / size.max(1);
    build(samples.next_multiple_of(SAMPLES) * size, SAMPLES * size, |index, to: &mut [f32]| {
        let x = &x[index * SAMPLES * size..][..(samples - index * SAMPLES).min(SAMPLES) * size];
        for (block, to) in to.chunks_mut(SAMPLES * SAMPLES).enumerate() {
            for (l, x) in x.chunks_exact(size).enumerate() {
                for (to, &x) in to.chunks_exact_mut(SAMPLES).zip(&x[block * SAMPLES..]) {
                    to[l] = x;
                }
            }
        }
    })
}

/// Undoes [`interleave`], for so many samples.
pub(super) fn separate(y: &[f32], samples: usize) -> Vec<f32> {
    let size = y.len() / samples.next_multiple_of(SAMPLES).max(1);
    build(samples * size, SAMPLES * size, |index, to: &mut [f32]| {
        let y = &y[index * SAMPLES * size..][..SAMPLES * size];
        for (block, y) in y.chunks(SAMPLES * SAMPLES).enumerate() {
            for (l, to) in to.chunks_exact_mut(size).enumerate() {
                for (to, y) in to[block * SAMPLES..].iter_mut().zip(y.chunks_exact(SAMPLES)) {
                    *to = y[l];
                }
            }
        }
    })
}
