use super::axis::Axis;
use crate::layers::Geometry;

/// Planes of a sample with zeros around them, so that no tap of a convolution lies outside.
///
/// Columns that are a stride apart lie side by side: the outputs of a row find each tap in consecutive elements.
#[derive(Clone, Debug)]
pub(super) struct Padded {
    /// Height and width of a plane before padding.
    pub plane: [usize; 2],
    /// Rows above and columns left of it.
    pub lead: [usize; 2],
    /// Rows in all.
    pub rows: usize,
    /// Columns that lie side by side.
    pub width: usize,
    /// The columns' stride.
    pub stride: usize,
    /// Which remainders by the stride occur, and the place of each in a row.
    pub phases: Vec<Option<usize>>,
    /// Which remainders of rows by their stride occur.
    pub met: Vec<bool>,
}

impl Padded {
    /// The layout in which these columns of padded planes, and as many steps of `stride` after each as it says, can be read.
    pub(super) fn new(
        plane: [usize; 2],
        lead: [usize; 2],
        rows: usize,
        stride: usize,
        columns: impl Iterator<Item = (usize, usize)>,
    ) -> Self {
        let (mut phases, mut used, mut width) = (vec![None; stride], 0, 1);
        for (column, count) in columns {
            if phases[column % stride].is_none() {
                phases[column % stride] = Some(used);
                used += 1;
            }
            width = width.max(column / stride + count);
        }
        Self { plane, lead, rows, width, stride, phases, met: vec![true] }
    }

    /// The same, without the rows that these taps never meet.
    pub(super) fn meeting(mut self, rows: &Axis) -> Self {
        self.met = vec![false; rows.stride];
        for &(_, position) in &rows.taps {
            self.met[position % rows.stride] = true;
        }
        self
    }

    /// Elements from one row to the next.
    pub(super) fn row(&self) -> usize {
        self.width * self.phases.iter().flatten().count().max(1)
    }

    /// Elements from one plane to the next.
    pub(super) fn size(&self) -> usize {
        self.rows * self.row()
    }

    /// Where a tap lies from the first output of a plane's first row.
    pub(super) fn offset(&self, plane: usize, row: usize, column: usize) -> usize {
        let phase = self.phases[column % self.stride].unwrap_or(0);
        plane * self.size() + row * self.row() + phase * self.width + column / self.stride
    }

    /// Copies a plane, its rows from `first` on counted with the zeros above; those that no tap meets stay zero.
    pub(super) fn fill(&self, plane: &[f32], first: usize, to: &mut [f32]) {
        let [h, w] = self.plane;
        if self.stride == 1 && self.met == [true] && w <= self.width - self.lead[1].min(self.width) {
            let (above, begin) = (self.lead[0].saturating_sub(first), first.saturating_sub(self.lead[0]));
            let from = plane.get(begin * w..).unwrap_or_default();
            // Only what is not copied over is cleared.
            let (top, to) = to.split_at_mut((above * self.width).min(to.len()));
            let copied = (from.len() / w.max(1)).min(to.len() / self.width);
            let (to, bottom) = to.split_at_mut(copied * self.width);
            top.fill(0.0);
            bottom.fill(0.0);
            return match w {
                8 => copy_rows::<8>(from, to, self.width, self.lead[1]),
                16 => copy_rows::<16>(from, to, self.width, self.lead[1]),
                32 => copy_rows::<32>(from, to, self.width, self.lead[1]),
                _ => {
                    let rows = to.chunks_exact_mut(self.width).zip(from.chunks_exact(w.max(1)));
                    rows.for_each(|(to, from)| {
                        to[..self.lead[1]].fill(0.0);
                        copy(from, &mut to[self.lead[1]..][..w]);
                        to[self.lead[1] + w..].fill(0.0);
                    });
                }
            };
        }
        to.fill(0.0);
        // column `remainder + j stride` of the padded row is column `that - lead` of the plane
        let phases = self.phases.iter().enumerate().filter_map(|(remainder, &phase)| {
            let start = self.lead[1].saturating_sub(remainder).div_ceil(self.stride);
            let begin = remainder + start * self.stride - self.lead[1];
            let count = self.width.saturating_sub(start).min(w.saturating_sub(begin).div_ceil(self.stride));
            (count > 0).then_some((phase? * self.width + start, begin, count))
        });
        let phases: Vec<(usize, usize, usize)> = phases.collect();
        let mut remainder = 0;
        for (r, row) in to.chunks_exact_mut(self.row()).enumerate() {
            let y = (first + r).wrapping_sub(self.lead[0]);
            if y < h && self.met[remainder] {
                let from = &plane[y * w..][..w];
                for &(start, begin, count) in &phases {
                    copy_steps(&from[begin..], self.stride, &mut row[start..][..count]);
                }
            }
            remainder = if remainder + 1 == self.met.len() { 0 } else { remainder + 1 };
        }
    }
}

/// Copies rows of `W` elements to rows of `width`, behind `lead` zeros and before others.
fn copy_rows<const W: usize>(from: &[f32], to: &mut [f32], width: usize, lead: usize) {
    for (to, from) in to.chunks_exact_mut(width).zip(from.as_chunks::<W>().0) {
        let (left, to) = to.split_at_mut(lead);
        if let Some((to, right)) = to.split_first_chunk_mut::<W>() {
            left.fill(0.0);
            *to = *from;
            right.fill(0.0);
        }
    }
}

/// Copies every `step`th element from the first on.
fn copy_steps(from: &[f32], step: usize, to: &mut [f32]) {
    match step {
        1 => copy(&from[..to.len()], to),
        2 => {
            let pairs = from.as_chunks::<2>().0;
            for (to, pair) in to.iter_mut().zip(pairs) {
                *to = pair[0];
            }
            // the last may stand alone
            if let (Some(to), Some(from)) = (to.get_mut(pairs.len()), from.get(2 * pairs.len())) {
                *to = *from;
            }
        }
        _ => {
            for (to, from) in to.iter_mut().zip(from.iter().step_by(step)) {
                *to = *from;
            }
        }
    }
}

/// Copies a slice; short ones in two overlapping blocks instead of a call.
fn copy(from: &[f32], to: &mut [f32]) {
    fn ends<const N: usize>(from: &[f32], to: &mut [f32]) {
        if let (Some(&first), Some(&last)) = (from.first_chunk::<N>(), from.last_chunk::<N>()) {
            if let Some(to) = to.first_chunk_mut::<N>() {
                *to = first;
            }
            if let Some(to) = to.last_chunk_mut::<N>() {
                *to = last;
            }
        }
    }
    match from.len() {
        4..8 => ends::<4>(from, to),
        8..16 => ends::<8>(from, to),
        16..=32 => ends::<16>(from, to),
        _ => to.copy_from_slice(from),
    }
}

/// The same convolution over planes of a single row, where rows can be laid end to end: a kernel of one column without
/// stride finds each of its taps a number of whole rows away.
pub(super) fn unrolled(g: &Geometry) -> Option<Geometry> {
    let fits = g.kernel[1] == 1 && g.padding[1] == 0 && g.stride == [1, 1];
    fits.then(|| {
        let mut flat = *g;
        let w = g.input[1];
        flat.input = [1, g.input[0] * w];
        flat.output = [1, g.output[0] * w];
        flat.kernel = [1, g.kernel[0]];
        flat.padding = [0, g.padding[0] * w];
        flat.dilation = [1, (g.dilation[0] * w).max(1)];
        flat
    })
}
