//! Convolutions with kernels of 3 x 3 by Winograd's algorithm: 36 products for 16 outputs, where their sums have 144.
//!
//! With patches `d` of 6 x 6 inputs and `y` of 4 x 4 outputs, `y = A' ((G w G') (B' d B)) A`, products by element and summed over
//! channels: 36 products of matrices, of patches by channels. The gradients are the same sums read backwards:
//! `dw = G' ((A dy A') (B' d B)) G`. After Lavin and Gray, Fast Algorithms for Convolutional Neural Networks (2015).

use super::convolution::with_buffer;
use super::machine::Machine;
use super::tile::{self, FAR, Grid, Matrix, MatrixMut, NEAR};
use crate::layers::Geometry;
use rayon::prelude::*;
use std::ops::Range;

/// Places of a transformed patch.
const PLACES: usize = 36;
/// Floats of transformed patches that are worked on together, about what a second-level cache holds.
const SCRATCH: usize = 5 << 14;
/// Floats between the matrices of two places: without them the 36 elements of a patch would lie a power of two apart, where a cache
/// has room for few.
const GAP: usize = 16;
/// Parts of a batch, as many as keep all threads busy. Their number depends on shapes alone.
const PARTS: usize = 8;

/// From a kernel's three taps in a line to the six places of a patch.
const G: [[f32; 3]; 6] = [
    [1.0 / (NEAR * NEAR * FAR * FAR), 0.0, 0.0],
    at(NEAR, FAR),
    at(-NEAR, FAR),
    at(FAR, NEAR),
    at(-FAR, NEAR),
    [0.0, 0.0, 1.0],
];

/// The taps' polynomial at a point, over the product of its distances from the points 0, `-point`, `other` and `-other`.
const fn at(point: f32, other: f32) -> [f32; 3] {
    let distances = 2.0 * point * point * (point * point - other * other);
    [1.0 / distances, point / distances, point * point / distances]
}

/// Whether this convolution gains by it.
pub(super) fn suits(g: &Geometry) -> bool {
    let plain = g.kernel == [3, 3] && g.stride == [1, 1] && g.dilation == [1, 1] && g.groups == 1;
    let channels = [g.in_channels, g.out_channels].iter().all(|&count| count > 0 && count.is_multiple_of(8));
    let [h, w] = g.output;
    // what patches have beyond the plane's edges is computed for nothing
    let filled = h * w > 0 && h.next_multiple_of(4) * w.next_multiple_of(4) * 5 <= h * w * 9;
    let fits = plain && filled && g.padding.iter().all(|&padding| padding <= 2);
    // the transformed kernel goes through the cache once for these patches
    fits && channels && g.batch >= PARTS / 2 && Cut::new(g).most() * 4 >= reuse(g)
}

/// Patches for which the kernel takes about as much from memory as they do.
fn reuse(g: &Geometry) -> usize {
    g.in_channels * g.out_channels / (g.in_channels + g.out_channels)
}

/// What it takes, in multiply-adds: products, and some dozen operations for each pixel on the way there and back.
pub(super) fn effort(g: &Geometry) -> u64 {
    let patches = (g.batch * g.output[0].div_ceil(4) * g.output[1].div_ceil(4)) as u64;
    let (sources, targets) = (g.in_channels as u64, g.out_channels as u64);
    patches * (PLACES as u64 * sources * targets + 16 * 12 * (sources + targets))
}

/// The same convolution, from its output's gradient to its input's.
pub(super) fn backward(g: &Geometry) -> Geometry {
    let mut back = *g;
    (back.in_channels, back.out_channels) = (g.out_channels, g.in_channels);
    (back.input, back.output) = (g.output, g.input);
    back.padding = g.padding.map(|padding| 2usize.saturating_sub(padding));
    back
}

/// How a batch is cut.
#[derive(Clone, Copy, Debug)]
struct Cut {
    /// Patches down and across a plane.
    patches: [usize; 2],
    /// Rows of patches that are worked on together.
    band: usize,
    /// Samples of a task.
    together: usize,
}

impl Cut {
    fn new(g: &Geometry) -> Self {
        let patches = g.output.map(|size| size.div_ceil(4));
        let [down, across] = patches;
        let rows = (SCRATCH / (PLACES * (g.in_channels + g.out_channels))).max(reuse(g));
        let band = (rows / across).clamp(1, down);
        let together = (rows / (down * across)).clamp(1, g.batch.div_ceil(PARTS));
        Self { patches, band, together }
    }

    /// Bands of rows of patches.
    fn bands(self) -> impl Iterator<Item = Range<usize>> {
        let down = self.patches[0];
        (0..down).step_by(self.band).map(move |first| first..(first + self.band).min(down))
    }

    /// Patches that are worked on together, at most.
    fn most(self) -> usize {
        self.together * self.band * self.patches[1]
    }

    /// Floats of as many transformed patches of so many channels.
    fn room(self, channels: usize) -> usize {
        PLACES * (self.most() * channels + GAP)
    }

    /// Floats of a band of eight channels with the padding around it.
    fn plane(self) -> usize {
        8 * (4 * self.band + 2) * (4 * self.patches[1] + 2)
    }
}

/// Transformed patches of all channels: for each place a matrix of patches by channels.
struct Patches<'a> {
    machine: Machine,
    across: usize,
    /// Rows of patches.
    band: Range<usize>,
    /// All patches, of all samples.
    count: usize,
    channels: usize,
    values: &'a mut [f32],
    /// Room for eight channels' planes.
    plane: &'a mut [f32],
}

impl Patches<'_> {
    fn grid(&self, width: usize) -> Grid {
        let patches = [self.band.len(), self.across];
        Grid { patches, width, patch: self.channels, place: self.count * self.channels + GAP }
    }

    /// Transforms the planes of all channels, for so many samples: those with taps around them, or those of gradients.
    fn fill(&mut self, x: &[f32], samples: usize, size: [usize; 2], padding: Option<[usize; 2]>) {
        let beyond = if padding.is_some() { 2 } else { 0 };
        let width = 4 * self.across + beyond;
        let grid = self.grid(width);
        let plane = &mut self.plane[..8 * (4 * self.band.len() + beyond) * width];
        let (area, per_sample) = (size[0] * size[1], self.count / samples * self.channels);
        for sample in 0..samples {
            for eight in 0..self.channels / 8 {
                let planes = &x[(sample * self.channels + 8 * eight) * area..][..8 * area];
                let lead = padding.unwrap_or([0, 0]);
                tile::spread(self.machine, planes, size, lead, 4 * self.band.start, width, plane);
                let to = &mut self.values[sample * per_sample + 8 * eight..];
                if padding.is_some() {
                    tile::inputs(self.machine, &grid, plane, to);
                } else {
                    tile::slopes(self.machine, &grid, plane, to);
                }
            }
        }
    }

    /// Transforms products back into planes of all channels.
    fn empty(&mut self, y: &mut [f32], samples: usize, [h, w]: [usize; 2], bias: &[f32]) {
        let width = 4 * self.across;
        let grid = self.grid(width);
        let (top, per_sample) = (4 * self.band.start, self.count / samples * self.channels);
        let rows = (4 * self.band.len()).min(h - top);
        for sample in 0..samples {
            for eight in 0..self.channels / 8 {
                let values = &self.values[sample * per_sample + 8 * eight..];
                tile::outputs(self.machine, &grid, values, self.plane);
                let shift = bias.get(8 * eight..).and_then(|bias| bias.first_chunk()).copied();
                let to = &mut y[(sample * self.channels + 8 * eight) * h * w + top * w..];
                let shift = shift.unwrap_or([0.0; 8]);
                tile::gather(self.machine, self.plane, width, [rows, w], shift, h * w, to);
            }
        }
    }
}

/// The convolution of `x` with the kernel that `weight(source channel, target channel)` says.
pub(super) fn convolve(
    machine: Machine,
    g: &Geometry,
    x: &[f32],
    weight: impl Fn(usize, usize) -> [f32; 9] + Sync,
    bias: &[f32],
) -> Vec<f32> {
    let (sources, targets) = (g.in_channels, g.out_channels);
    let [height, width] = g.output;
    let kernel = transformed(sources, targets, weight);
    let cut = Cut::new(g);
    let across = cut.patches[1];
    let (before, after) = (sources * g.input[0] * g.input[1], targets * height * width);
    tile::build(g.batch * after, cut.together * after, |task, target| {
        let samples = target.len() / after;
        let x = &x[task * cut.together * before..][..samples * before];
        with_buffer(cut.room(sources) + cut.room(targets) + cut.plane(), |buffer| {
            let (patches, buffer) = buffer.split_at_mut(cut.room(sources));
            let (products, plane) = buffer.split_at_mut(cut.room(targets));
            for band in cut.bands() {
                let count = samples * band.len() * across;
                let mut input = Patches {
                    machine,
                    across,
                    band: band.clone(),
                    count,
                    channels: sources,
                    values: &mut *patches,
                    plane: &mut *plane,
                };
                input.fill(x, samples, g.input, Some(g.padding));
                for place in 0..PLACES {
                    let values = &patches[place * (count * sources + GAP)..];
                    let (w, y) = (
                        &kernel[place * sources * targets..],
                        &mut products[place * (count * targets + GAP)..],
                    );
                    let a = Matrix { values, row: sources, column: 1 };
                    let (w, y) = (Matrix::rows(w, targets), MatrixMut { values: y, row: targets });
                    tile::multiply(machine, [count, targets, sources], a, w, y, false);
                }
                let mut output = Patches {
                    machine,
                    across,
                    band,
                    count,
                    channels: targets,
                    values: &mut *products,
                    plane: &mut *plane,
                };
                output.empty(target, samples, g.output, bias);
            }
        });
    })
}

/// The gradient of the kernel, shape `(out, in, 3, 3)`.
pub(super) fn convolve_backward_kernel(machine: Machine, g: &Geometry, x: &[f32], dy: &[f32]) -> Vec<f32> {
    let (sources, targets) = (g.in_channels, g.out_channels);
    let cut = Cut::new(g);
    let across = cut.patches[1];
    let (before, after) = (sources * g.input[0] * g.input[1], targets * g.output[0] * g.output[1]);
    let parts = PARTS.min(g.batch);
    let mut sums: Vec<Vec<f32>> = (0..parts)
        .into_par_iter()
        .map(|part| {
            let mut sums = vec![0.0; PLACES * sources * targets];
            let samples = g.batch * part / parts..g.batch * (part + 1) / parts;
            with_buffer(cut.room(sources) + cut.room(targets) + cut.plane(), |buffer| {
                let (inputs, buffer) = buffer.split_at_mut(cut.room(sources));
                let (slopes, plane) = buffer.split_at_mut(cut.room(targets));
                for first in samples.clone().step_by(cut.together) {
                    let samples = cut.together.min(samples.end - first);
                    for band in cut.bands() {
                        let count = samples * band.len() * across;
                        let mut patches = |channels: usize, values: &mut [f32], of: &[f32], size, padding| {
                            let (band, plane) = (band.clone(), &mut *plane);
                            let mut patches =
                                Patches { machine, across, band, count, channels, values, plane };
                            patches.fill(of, samples, size, padding);
                        };
                        patches(sources, inputs, &x[first * before..], g.input, Some(g.padding));
                        patches(targets, slopes, &dy[first * after..], g.output, None);
                        for place in 0..PLACES {
                            let a = Matrix {
                                values: &inputs[place * (count * sources + GAP)..],
                                row: 1,
                                column: sources,
                            };
                            let (y, w) = (
                                &slopes[place * (count * targets + GAP)..],
                                &mut sums[place * sources * targets..],
                            );
                            let (y, w) = (Matrix::rows(y, targets), MatrixMut { values: w, row: targets });
                            tile::multiply(machine, [sources, targets, count], a, y, w, true);
                        }
                    }
                }
            });
            sums
        })
        .collect();
    let (first, others) = sums.split_first_mut().expect("a batch has parts");
    for sums in others {
        add_times(1.0, sums, first);
    }
    restored(sources, targets, first)
}

/// `G w G'` of every kernel: for each place a matrix of source by target channels.
fn transformed(sources: usize, targets: usize, weight: impl Fn(usize, usize) -> [f32; 9] + Sync) -> Vec<f32> {
    let size = sources * targets;
    let taps: Vec<Vec<f32>> = (0..9)
        .into_par_iter()
        .map(|tap| (0..size).map(|at| weight(at / targets, at % targets)[tap]).collect())
        .collect();
    let mut kernel = vec![0.0; PLACES * size];
    kernel.par_chunks_mut(size).enumerate().for_each(|(place, to)| {
        for (tap, from) in taps.iter().enumerate() {
            add_times(G[place / 6][tap / 3] * G[place % 6][tap % 3], from, to);
        }
    });
    kernel
}

/// `G' u G` of every kernel, shape `(out, in, 3, 3)`.
fn restored(sources: usize, targets: usize, kernel: &[f32]) -> Vec<f32> {
    let size = sources * targets;
    let taps: Vec<Vec<f32>> = (0..9)
        .into_par_iter()
        .map(|tap| {
            let mut to = vec![0.0; size];
            for (place, from) in kernel.chunks_exact(size).enumerate() {
                add_times(G[place / 6][tap / 3] * G[place % 6][tap % 3], from, &mut to);
            }
            to
        })
        .collect();
    let mut restored = vec![0.0; 9 * size];
    restored.par_chunks_mut(9 * sources).enumerate().for_each(|(target, to)| {
        for (source, to) in to.as_chunks_mut::<9>().0.iter_mut().enumerate() {
            *to = std::array::from_fn(|tap| taps[tap][source * targets + target]);
        }
    });
    restored
}

/// Adds `factor * from` to `to`.
fn add_times(factor: f32, from: &[f32], to: &mut [f32]) {
    if factor != 0.0 {
        for (to, &from) in to.iter_mut().zip(from) {
            *to += factor * from;
        }
    }
}
