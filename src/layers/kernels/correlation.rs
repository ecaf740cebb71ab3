use super::axis::Axis;
use super::convolution::with_buffer;
use super::interleaved::{interleave, interleaved};
use super::machine::Machine;
use super::padded::{Padded, unrolled};
use super::tile::{self, Correlation};
use super::winograd;
use crate::layers::Geometry;
use rayon::prelude::*;
use std::ops::Range;

/// Floats of padded planes that are worked on together, about what a second-level cache holds.
const SCRATCH: usize = 5 << 15;
/// Parts of the batch whose sums are added in order. Their number depends on shapes alone.
const CHUNKS: usize = 8;
/// Floats of all parts' sums.
const SUMS: usize = 1 << 24;

/// The gradient of [`convolve`](super::convolve)'s kernel.
pub(crate) fn convolve_backward_kernel(g: &Geometry, x: &[f32], dy: &[f32]) -> Vec<f32> {
    convolve_backward_kernel_on(Machine::best(), g, x, dy)
}

pub(super) fn convolve_backward_kernel_on(machine: Machine, g: &Geometry, x: &[f32], dy: &[f32]) -> Vec<f32> {
    let size: usize = g.kernel_shape().iter().product();
    if x.is_empty() || dy.is_empty() || size == 0 {
        return vec![0.0; size];
    }
    if winograd::suits(g) {
        return winograd::convolve_backward_kernel(machine, g, x, dy);
    }
    let flat = unrolled(g).filter(|_| !g.output[1].is_multiple_of(16));
    let g = flat.as_ref().unwrap_or(g);
    if let Some(wide) = interleaved(g, g.output[1]) {
        let x = interleave(x, g.in_channels * g.input[0] * g.input[1]);
        let dy = interleave(dy, g.out_channels * g.output[0] * g.output[1]);
        return convolve_backward_kernel_on(machine, &wide, &x, &dy);
    }
    let work = Work::new(machine, g);
    let chunks = CHUNKS.min(SUMS / size + 1).min(g.batch);
    let og = g.out_channels / g.groups;
    let parts = (CHUNKS / 2).div_ceil(chunks).min(if g.groups > 1 { g.groups } else { og.div_ceil(4) });
    let cut = |count: usize, parts: usize, part: usize| count * part / parts..count * (part + 1) / parts;
    let tasks: Vec<(usize, usize)> =
        (0..chunks).flat_map(|chunk| (0..parts).map(move |part| (chunk, part))).collect();
    let sums: Vec<Vec<f32>> = tasks
        .into_par_iter()
        .map(|(chunk, part)| {
            let samples = cut(g.batch, chunks, chunk);
            if g.groups > 1 {
                work.sums(samples, cut(g.groups, parts, part), 0..og, x, dy)
            } else {
                work.sums(samples, 0..1, cut(og, parts, part), x, dy)
            }
        })
        .collect();
    let mut total = sums[..parts].concat();
    for sums in sums[parts..].chunks(parts) {
        for (total, sum) in total.iter_mut().zip(sums.iter().flatten()) {
            *total += sum;
        }
    }
    total
}

struct Work {
    machine: Machine,
    g: Geometry,
    lanes: usize,
    rows: Axis,
    padded: Padded,
    /// The layout of the gradient, where its rows do not end with a vector.
    slopes: Option<Padded>,
    offsets: Vec<u32>,
}

impl Work {
    fn new(machine: Machine, g: &Geometry) -> Self {
        let axis = |a: usize| Axis::forward(g.output[a], g.kernel[a], g.stride[a], g.dilation[a]);
        let (rows, columns) = (axis(0), axis(1));
        let [oh, ow] = g.output;
        let lanes = machine.lanes(ow);
        let width = ow.next_multiple_of(lanes);
        let reach = columns.taps.iter().map(|&(_, position)| (position, width));
        let padded = Padded::new(g.input, g.padding, rows.span(oh), g.stride[1], reach).meeting(&rows);
        let slopes = (width != ow).then(|| Padded::new(g.output, [0, 0], oh, 1, std::iter::once((0, width))));
        let offsets = (0..g.in_channels / g.groups)
            .flat_map(|c| rows.taps.iter().map(move |&(_, row)| (c, row)))
            .flat_map(|(c, row)| columns.taps.iter().map(move |&(_, column)| (c, row, column)))
            .map(|(c, row, column)| padded.offset(c, row, column) as u32)
            .collect();
        Self { machine, g: *g, lanes, rows, padded, slopes, offsets }
    }

    /// The kernel's gradient from these samples, for these groups and these channels of each.
    fn sums(
        &self,
        samples: Range<usize>,
        groups: Range<usize>,
        channels: Range<usize>,
        x: &[f32],
        dy: &[f32],
    ) -> Vec<f32> {
        let g = &self.g;
        let (ig, og) = (g.in_channels / g.groups, g.out_channels / g.groups);
        let ([ih, iw], [oh, ow]) = (g.input, g.output);
        let before = ig * self.padded.size();
        let slope = self.slopes.as_ref().map_or(oh * ow, Padded::size);
        let after = self.slopes.as_ref().map_or(0, |slopes| channels.len() * slopes.size());
        let together = (SCRATCH / (before + channels.len() * slope)).clamp(1, samples.len());
        let mut sums = vec![0.0; groups.len() * channels.len() * self.offsets.len()];
        let per_group = channels.len() * self.offsets.len();
        for (group, sums) in groups.zip(sums.chunks_mut(per_group.max(1))) {
            for first in samples.clone().step_by(together) {
                let count = together.min(samples.end - first);
                with_buffer(count * (before + after), |buffer| {
                    let (source, slopes) = buffer.split_at_mut(count * before);
                    for (p, to) in source.chunks_exact_mut(self.padded.size()).enumerate() {
                        let plane = (first + p / ig) * g.in_channels + group * ig + p % ig;
                        self.padded.fill(&x[plane * ih * iw..][..ih * iw], 0, to);
                    }
                    let plane_of =
                        |sample: usize| (first + sample) * g.out_channels + group * og + channels.start;
                    let (gradient, step) = if let Some(layout) = &self.slopes {
                        for (p, to) in slopes.chunks_exact_mut(slope).enumerate() {
                            let plane = plane_of(p / channels.len()) + p % channels.len();
                            layout.fill(&dy[plane * oh * ow..][..oh * ow], 0, to);
                        }
                        (&*slopes, channels.len() * slope)
                    } else {
                        (&dy[plane_of(0) * oh * ow..], g.out_channels * slope)
                    };
                    let spots = self.spots(count, step);
                    let work = Correlation {
                        source,
                        offsets: &self.offsets,
                        gradient,
                        plane: slope,
                        spots: &spots,
                        channels: channels.len(),
                    };
                    tile::correlate(self.machine, self.lanes, &work, sums);
                });
            }
        }
        sums
    }

    /// Where the vectors of so many samples start, with `step` elements from one sample's gradient to the next.
    fn spots(&self, samples: usize, step: usize) -> Vec<(u32, u32)> {
        let [oh, ow] = self.g.output;
        let width = ow.next_multiple_of(self.lanes);
        let sample = self.g.in_channels / self.g.groups * self.padded.size();
        let mut spots = Vec::with_capacity(samples * oh * width / self.lanes);
        for s in 0..samples {
            for row in 0..oh {
                let from = s * sample + row * self.rows.stride * self.padded.row();
                let to = s * step + row * width;
                spots.extend((0..width).step_by(self.lanes).map(|c| ((from + c) as u32, (to + c) as u32)));
            }
        }
        spots
    }
}
