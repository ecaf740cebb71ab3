use super::axis::Axis;
use super::interleaved::{interleave, interleaved, separate};
use super::machine::{Machine, blocks};
use super::padded::{Padded, unrolled};
use super::tile::{self, Block, Spot, Taps};
use super::winograd;
use crate::layers::Geometry;
use rayon::prelude::*;
use std::cell::Cell;
use std::ops::Range;

/// Padded planes of one task, in floats: half of a usual second-level cache.
const SCRATCH: usize = 1 << 16;
/// Tasks that keep all threads busy to the end.
const TASKS: usize = 8;

thread_local! {
    static BUFFER: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// Lends a buffer of this size; what it holds is anything.
pub(super) fn with_buffer<T>(size: usize, act: impl FnOnce(&mut [f32]) -> T) -> T {
    let mut buffer = BUFFER.take();
    if buffer.len() < size {
        buffer.resize(size, 0.0);
    }
    let result = act(&mut buffer[..size]);
    BUFFER.set(buffer);
    result
}

/// The convolution of `x` with the kernel `w`.
pub(crate) fn convolve(g: &Geometry, x: &[f32], w: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    convolve_on(Machine::best(), g, x, w, bias)
}

pub(super) fn convolve_on(
    machine: Machine,
    g: &Geometry,
    x: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
) -> Vec<f32> {
    if winograd::suits(g) {
        let weight = |source: usize, target: usize| *kernel_of(w, target * g.in_channels + source);
        return winograd::convolve(machine, g, x, weight, bias.unwrap_or(&[]));
    }
    let flat = unrolled(g).filter(|_| !g.output[1].is_multiple_of(16));
    let g = flat.as_ref().unwrap_or(g);
    if let Some(wide) = interleaved(g, g.output[1]) {
        let x = interleave(x, g.in_channels * g.input[0] * g.input[1]);
        return separate(&convolve_on(machine, &wide, &x, w, bias), g.batch);
    }
    let [oh, ow] = g.output;
    let axis = |a: usize| Axis::forward(g.output[a], g.kernel[a], g.stride[a], g.dilation[a]);
    let (rows, columns) = (axis(0), axis(1));
    let lanes = machine.lanes(ow);
    let (ig, og) = (g.in_channels / g.groups, g.out_channels / g.groups);
    let weight = |group: usize, to: usize, from: usize, tap: usize| {
        w[((group * og + to) * ig + from) * g.kernel[0] * g.kernel[1] + tap]
    };
    // bands of rows whose padded source fits the buffer
    let row = (columns.span(ow.next_multiple_of(lanes))) * ig;
    let fitting = (SCRATCH / row.max(1)).saturating_sub(rows.span(1)) / g.stride[0] + 1;
    let wanted = oh.div_ceil((TASKS / 2).div_ceil(g.batch.max(1)));
    let band =
        if rows.span(oh) * row <= 2 * SCRATCH { wanted } else { fitting.min(wanted) }.clamp(1, oh.max(1));
    let band = oh.div_ceil(oh.div_ceil(band).max(1)).max(1);
    let reach = columns.taps.iter().map(|&(_, position)| (position, ow.next_multiple_of(lanes)));
    let padded = Padded::new(g.input, g.padding, rows.span(band), g.stride[1], reach).meeting(&rows);
    let block = machine.block(band * ow.div_ceil(lanes) * together(&padded, ig, g.batch));
    let passes = [Pass::new(block, g, &padded, rows, columns, [ig, og], weight)];
    let work = Work {
        machine,
        lanes,
        padded,
        passes: &passes,
        band,
        samples: g.batch,
        groups: g.groups,
        sources: ig,
        targets: og,
        output: g.output,
        start: bias.unwrap_or(&[]),
    };
    work.run(x)
}

/// What [`convolve`] takes, in multiply-adds.
pub(crate) fn effort(g: &Geometry) -> u64 {
    if winograd::suits(g) { winograd::effort(g) } else { g.multiply_adds() }
}

/// The gradient of [`convolve`]'s input.
pub(crate) fn convolve_backward_input(g: &Geometry, dy: &[f32], w: &[f32]) -> Vec<f32> {
    convolve_backward_input_on(Machine::best(), g, dy, w)
}

pub(super) fn convolve_backward_input_on(machine: Machine, g: &Geometry, dy: &[f32], w: &[f32]) -> Vec<f32> {
    let back = winograd::backward(g);
    if winograd::suits(g) && winograd::suits(&back) {
        let weight = |source: usize, target: usize| {
            let mut taps = *kernel_of(w, source * g.in_channels + target);
            taps.reverse();
            taps
        };
        return winograd::convolve(machine, &back, dy, weight, &[]);
    }
    let flat = unrolled(g).filter(|_| !g.input[1].is_multiple_of(16));
    let g = flat.as_ref().unwrap_or(g);
    if let Some(wide) = interleaved(g, g.input[1]) {
        let dy = interleave(dy, g.out_channels * g.output[0] * g.output[1]);
        return separate(&convolve_backward_input_on(machine, &wide, &dy, w), g.batch);
    }
    let axis = |a: usize| Axis::backward(g.input[a], g.kernel[a], g.stride[a], g.padding[a], g.dilation[a]);
    let ((rows, above), (columns, left)) = (axis(0), axis(1));
    let widest = columns.iter().map(|axis| axis.count).max().unwrap_or(0);
    let lanes = machine.lanes(widest);
    let (ig, og) = (g.in_channels / g.groups, g.out_channels / g.groups);
    let weight = |group: usize, to: usize, from: usize, tap: usize| {
        w[((group * og + from) * ig + to) * g.kernel[0] * g.kernel[1] + tap]
    };
    let height = rows.iter().map(|axis| axis.span(axis.count)).max().unwrap_or(0);
    let reach = columns.iter().flat_map(|axis| {
        axis.taps.iter().map(move |&(_, position)| (position, axis.count.next_multiple_of(lanes)))
    });
    let padded = Padded::new(g.output, [above, left], height.max(1), 1, reach);
    let tallest = rows.iter().map(|axis| axis.count).max().unwrap_or(0);
    let block = machine.block(tallest * widest.div_ceil(lanes) * together(&padded, og, g.batch));
    let passes: Vec<Pass> = rows
        .iter()
        .flat_map(|rows| columns.iter().map(move |columns| (rows.clone(), columns.clone())))
        .map(|(rows, columns)| Pass::new(block, g, &padded, rows, columns, [og, ig], weight))
        .collect();
    let work = Work {
        machine,
        lanes,
        padded,
        passes: &passes,
        band: g.input[0],
        samples: g.batch,
        groups: g.groups,
        sources: og,
        targets: ig,
        output: g.input,
        start: &[],
    };
    work.run(dy)
}

/// The taps of the 3 x 3 kernel of this index.
fn kernel_of(w: &[f32], index: usize) -> &[f32; 9] {
    &w.as_chunks::<9>().0[index]
}

/// Samples of a task.
fn together(padded: &Padded, sources: usize, samples: usize) -> usize {
    (SCRATCH / (padded.size() * sources).max(1)).clamp(1, samples.div_ceil(TASKS).max(1))
}

/// Outputs that are sums over the same taps.
#[derive(Debug)]
struct Pass {
    rows: Axis,
    columns: Axis,
    /// Where each tap of each source channel lies from an output's place.
    offsets: Vec<u32>,
    /// For each group its channels and their weights.
    groups: Vec<Vec<Block>>,
}

impl Pass {
    /// `weight(group, target channel, source channel, tap of the kernel)` says the weights.
    fn new(
        block: usize,
        g: &Geometry,
        padded: &Padded,
        rows: Axis,
        columns: Axis,
        [sources, targets]: [usize; 2],
        weight: impl Fn(usize, usize, usize, usize) -> f32 + Sync,
    ) -> Self {
        let taps: Vec<(usize, usize, usize, usize)> = (0..sources)
            .flat_map(|source| rows.taps.iter().map(move |&tap| (source, tap)))
            .flat_map(|(source, (ky, row))| {
                columns.taps.iter().map(move |&(kx, column)| (source, ky * g.kernel[1] + kx, row, column))
            })
            .collect();
        let offsets =
            taps.iter().map(|&(source, _, row, column)| padded.offset(source, row, column) as u32).collect();
        let group = |group: usize| {
            blocks(targets, block)
                .collect::<Vec<_>>()
                .into_par_iter()
                .with_min_len((1 << 12) / (taps.len() * block).max(1) + 1)
                .map(|(first, size)| {
                    let mut weights = Vec::with_capacity(size * taps.len());
                    for &(source, tap, ..) in &taps {
                        weights
                            .extend((first..first + size).map(|target| weight(group, target, source, tap)));
                    }
                    Block { first, size, weights }
                })
                .collect()
        };
        Self { groups: (0..g.groups).map(group).collect(), rows, columns, offsets }
    }
}

/// A convolution cut into tasks.
struct Work<'a> {
    machine: Machine,
    lanes: usize,
    padded: Padded,
    passes: &'a [Pass],
    /// Output rows of a task.
    band: usize,
    samples: usize,
    groups: usize,
    /// Channels of a group, before and after.
    sources: usize,
    targets: usize,
    /// Height and width of the result.
    output: [usize; 2],
    start: &'a [f32],
}

/// What one thread computes without asking.
struct Task<'a> {
    samples: Range<usize>,
    /// The first row.
    row: usize,
    groups: Range<usize>,
    /// Blocks of channels in these groups.
    blocks: Range<usize>,
    /// Where results go: for each sample, for each channel its rows.
    planes: Vec<&'a mut [f32]>,
}

impl Work<'_> {
    /// Computes the result.
    fn run(&self, source: &[f32]) -> Vec<f32> {
        let channels = self.groups * self.targets;
        let [height, width] = self.output;
        let size = self.samples * channels * height * width;
        if size == 0 {
            return Vec::new();
        }
        let padded = self.padded.size() * self.sources;
        let together = together(&self.padded, self.sources, self.samples);
        let bands = self.output[0].div_ceil(self.band);
        let panels = self.samples.div_ceil(together);
        let blocks = self.passes[0].groups[0].len();
        let parts = TASKS.div_ceil(2).div_ceil(panels * bands).min(self.groups.max(blocks));
        if bands * parts == 1 {
            let sample = channels * height * width;
            return tile::build(size, together * sample, |panel, target| {
                let first = panel * together;
                let task = Task {
                    samples: first..first + target.len() / sample,
                    row: 0,
                    groups: 0..self.groups,
                    blocks: 0..blocks,
                    planes: target.chunks_mut(height * width).collect(),
                };
                with_buffer(padded * together, |buffer| self.perform(task, source, buffer));
            });
        }
        let mut target = vec![0.0; size];
        let (by_groups, by_blocks) =
            if self.groups > 1 { (parts.min(self.groups), 1) } else { (1, parts.min(blocks)) };
        let cut = |count: usize, parts: usize, part: usize| count * part / parts..count * (part + 1) / parts;
        let mut tasks = Vec::with_capacity(panels * bands * parts);
        for panel in 0..panels {
            for band in 0..bands {
                for part in 0..parts.min(by_groups * by_blocks) {
                    let samples = panel * together..((panel + 1) * together).min(self.samples);
                    let (groups, blocks) = if self.groups > 1 {
                        (cut(self.groups, by_groups, part), 0..blocks)
                    } else {
                        (0..1, cut(blocks, by_blocks, part))
                    };
                    tasks.push(Task { samples, row: band * self.band, groups, blocks, planes: Vec::new() });
                }
            }
        }
        let parts = by_groups * by_blocks;
        // the part that each channel belongs to
        let owner: Vec<usize> = (0..self.groups * self.targets)
            .map(|channel| {
                tasks[..parts]
                    .iter()
                    .position(|task| {
                        let list = &self.passes[0].groups[0][task.blocks.clone()];
                        let ends = list.first().zip(list.last());
                        task.groups.contains(&(channel / self.targets))
                            && ends.is_some_and(|(first, last)| {
                                (first.first..last.first + last.size).contains(&(channel % self.targets))
                            })
                    })
                    .unwrap_or(0)
            })
            .collect();
        for (p, plane) in target.chunks_mut(height * width).enumerate() {
            for (band, rows) in plane.chunks_mut(self.band * width).enumerate() {
                let panel = p / channels / together;
                tasks[(panel * bands + band) * parts + owner[p % channels]].planes.push(rows);
            }
        }
        tasks.into_par_iter().for_each(|task| {
            let size = padded * task.samples.len();
            with_buffer(size, |buffer| self.perform(task, source, buffer));
        });
        target
    }

    fn perform(&self, mut task: Task<'_>, source: &[f32], buffer: &mut [f32]) {
        let plane = self.padded.plane[0] * self.padded.plane[1];
        let per_sample = task.planes.len() / task.samples.len();
        for (group, planes_before) in task.groups.clone().zip((0..).step_by(self.targets)) {
            let channels = self.groups * self.sources;
            let size = self.padded.size();
            for (s, sample) in task.samples.clone().enumerate() {
                for c in 0..self.sources {
                    let from = &source[(sample * channels + group * self.sources + c) * plane..][..plane];
                    let to = &mut buffer[(s * self.sources + c) * size..][..size];
                    self.padded.fill(from, task.row * self.passes[0].rows.stride, to);
                }
            }
            for pass in self.passes {
                let spots = self.spots(pass, &task, per_sample, planes_before);
                let start = self.start.get(group * self.targets..(group + 1) * self.targets).unwrap_or(&[]);
                let taps = Taps {
                    source: buffer,
                    offsets: &pass.offsets,
                    spots: &spots,
                    step: pass.columns.step,
                    blocks: &pass.groups[group][task.blocks.clone()],
                    start,
                };
                tile::convolve(self.machine, self.lanes, &taps, &mut task.planes);
            }
        }
    }

    /// The vectors of a task's outputs.
    fn spots(&self, pass: &Pass, task: &Task<'_>, per_sample: usize, planes_before: usize) -> Vec<Spot> {
        let (rows, columns) = (&pass.rows, &pass.columns);
        let count = rows.count.saturating_sub(task.row).min(self.band);
        let mut spots = Vec::with_capacity(task.samples.len() * count * columns.count.div_ceil(self.lanes));
        for sample in 0..task.samples.len() {
            for row in 0..count {
                let from = sample * self.sources * self.padded.size() + row * rows.stride * self.padded.row();
                let to = (rows.start + row * rows.step) * self.output[1] + columns.start;
                for column in (0..columns.count).step_by(self.lanes) {
                    spots.push(Spot {
                        source: (from + column) as u32,
                        plane: (sample * per_sample + planes_before) as u32,
                        target: (to + column * columns.step) as u32,
                        count: (columns.count - column).min(self.lanes) as u32,
                    });
                }
            }
        }
        spots
    }
}
