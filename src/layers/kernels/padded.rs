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
        Self { plane, lead, rows, width, stride, phases }
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

    /// Copies a plane, its rows from `first` on counted with the zeros above.
    pub(super) fn fill(&self, plane: &[f32], first: usize, to: &mut [f32]) {
        let [h, w] = self.plane;
        for (r, row) in to.chunks_exact_mut(self.row()).enumerate() {
            let Some(y) = (first + r).checked_sub(self.lead[0]).filter(|&y| y < h) else {
                row.fill(0.0);
                continue;
            };
            let from = &plane[y * w..][..w];
            for (remainder, phase) in self.phases.iter().enumerate() {
                let Some(phase) = phase else { continue };
                let to = &mut row[phase * self.width..][..self.width];
                // column `remainder + j stride` of the padded row is column `that - lead` of the plane
                let start = self.lead[1].saturating_sub(remainder).div_ceil(self.stride).min(self.width);
                let (left, rest) = to.split_at_mut(start);
                left.fill(0.0);
                let begin = (remainder + start * self.stride).saturating_sub(self.lead[1]).min(w);
                let count = if self.stride == 1 {
                    let count = (w - begin).min(rest.len());
                    rest[..count].copy_from_slice(&from[begin..][..count]);
                    count
                } else if self.stride == 2 {
                    let pairs = from[begin..].chunks(2);
                    let count = pairs.len().min(rest.len());
                    for (to, pair) in rest.iter_mut().zip(pairs) {
                        *to = pair[0];
                    }
                    count
                } else {
                    let values = from[begin..].iter().step_by(self.stride);
                    let count = values.len().min(rest.len());
                    for (to, &value) in rest.iter_mut().zip(values) {
                        *to = value;
                    }
                    count
                };
                rest[count..].fill(0.0);
            }
        }
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
