use std::ops::Range;

use super::picture::Frame;

/// Bits after the point of a weight: an 8-bit value times weights that sum to one stays within 31 bits.
const FRACTION_BITS: u32 = 22;
const HALF: i32 = 1 << (FRACTION_BITS - 1);

/// Resizes the part of one channel that is in a frame by a triangle filter as wide as the scale, so that
/// shrinking averages all pixels, and returns the part of the result that is in another frame. Nothing else
/// is computed, and nothing outside the first frame is looked at.
///
/// Rows first, then columns, both in fixed-point numbers and rounded to 8 bits: bit for bit Pillow's
/// `BILINEAR` before its version 13, which takes columns first where these shrink more.
pub(super) fn resample(
    plane: &[u8],
    stride: usize,
    from: Frame,
    (height, width): (usize, usize),
    cut: Frame,
) -> Vec<u8> {
    let vertical = Weights::new(from.height, height, cut.top..cut.top + cut.height);
    let (start, end) = (vertical.start(), vertical.end());
    let rows = plane.chunks_exact(stride).skip(from.top + start).take(end - start);
    let rows = rows.map(|row| &row[from.left..][..from.width]);
    // (h, w) -> (h, width of the cut)
    let narrowed: Vec<u8> = if from.width == width {
        rows.flat_map(|row| &row[cut.left..][..cut.width]).copied().collect()
    } else {
        let horizontal = Weights::new(from.width, width, cut.left..cut.left + cut.width);
        rows.flat_map(|row| horizontal.spans.iter().map(|span| horizontal.sum(span, row))).collect()
    };
    if from.height == height {
        return narrowed[(cut.top - start) * cut.width..][..cut.height * cut.width].to_vec();
    }
    // (h, width of the cut) -> (height of the cut, width of the cut)
    let mut out = Vec::with_capacity(cut.height * cut.width);
    let mut sums = vec![0; cut.width];
    for span in &vertical.spans {
        sums.fill(HALF);
        let rows = narrowed[(span.first - start) * cut.width..].chunks_exact(cut.width);
        for (&weight, row) in vertical.of(span).iter().zip(rows) {
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum += weight * i32::from(value);
            }
        }
        out.extend(sums.iter().map(|&sum| to_byte(sum)));
    }
    out
}

/// Which pixels make one new pixel.
struct Span {
    first: usize,
    /// Where its weights start, and how many there are.
    start: usize,
    len: usize,
}

/// The filter at some of the new pixels of an axis.
struct Weights {
    spans: Vec<Span>,
    values: Vec<i32>,
}

impl Weights {
    /// w(x) = max(0, 1 - |x - center| / reach), normalized; reach is the scale, at least one pixel.
    fn new(from: usize, to: usize, targets: Range<usize>) -> Self {
        let scale = from as f64 / to as f64;
        let reach = scale.max(1.0);
        let (mut spans, mut values) = (Vec::with_capacity(targets.len()), Vec::new());
        for target in targets {
            let center = (target as f64 + 0.5) * scale;
            let first = (center - reach + 0.5).max(0.0) as usize;
            let end = ((center + reach + 0.5) as usize).min(from);
            let weight = |x: usize| (1.0 - ((x as f64 - center + 0.5) / reach).abs()).max(0.0);
            let total: f64 = (first..end).map(weight).sum();
            let start = values.len();
            let fixed = |x| (0.5 + weight(x) / total * f64::from(1u32 << FRACTION_BITS)) as i32;
            values.extend((first..end).map(fixed));
            spans.push(Span { first, start, len: end - first });
        }
        Self { spans, values }
    }

    /// The first pixel that any of them looks at.
    fn start(&self) -> usize {
        self.spans.first().map_or(0, |span| span.first)
    }

    /// The pixel after the last one that any of them looks at.
    fn end(&self) -> usize {
        self.spans.last().map_or(0, |span| span.first + span.len)
    }

    fn of(&self, span: &Span) -> &[i32] {
        &self.values[span.start..][..span.len]
    }

    fn sum(&self, span: &Span, row: &[u8]) -> u8 {
        let products =
            self.of(span).iter().zip(&row[span.first..]).map(|(weight, &value)| weight * i32::from(value));
        to_byte(HALF + products.sum::<i32>())
    }
}

fn to_byte(sum: i32) -> u8 {
    (sum >> FRACTION_BITS).clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use super::{Frame, resample};

    /// A part of an image resizes as if it were the whole, and a part of the result is what the whole result
    /// has there.
    #[test]
    fn frames_are_parts() {
        let (rows, columns) = (23, 31);
        let plane: Vec<u8> = (0..rows * columns).map(|index| (index * index % 251) as u8).collect();
        let from = Frame { top: 3, left: 7, height: 17, width: 19 };
        let part: Vec<u8> =
            (0..17).flat_map(|y| plane[(y + 3) * columns + 7..][..19].iter().copied()).collect();
        for size in [(17, 19), (5, 6), (40, 33), (17, 8), (9, 19)] {
            let (height, width) = size;
            let all = Frame { top: 0, left: 0, height, width };
            let resized = resample(&plane, columns, from, size, all);
            assert_eq!(
                resized,
                resample(&part, 19, Frame { top: 0, left: 0, ..from }, size, all),
                "{size:?}"
            );
            let cut = Frame { top: 1, left: 2, height: height - 3, width: width - 4 };
            let expected: Vec<u8> =
                (1..height - 2).flat_map(|y| resized[y * width + 2..][..width - 4].iter().copied()).collect();
            assert_eq!(resample(&plane, columns, from, size, cut), expected, "{size:?}");
        }
    }
}
