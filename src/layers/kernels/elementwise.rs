use super::stream::{CHUNK, Map, Sums};
use super::tile::build_fresh;
use rayon::prelude::*;
use std::ops::Range;

/// Planes that a task takes at least.
pub(super) fn planes_together(size: usize) -> usize {
    CHUNK.div_ceil(size.max(1))
}

/// The sum over samples and positions for each channel of `dy`, shape `(n, c, hw)`: the gradient of a bias.
pub(crate) fn sum_per_channel([n, c, hw]: [usize; 3], dy: &[f32]) -> Vec<f32> {
    let sums = Sums::of_planes(n * c, hw, |p| Sums::Moments(&dy[p * hw..][..hw], 0.0));
    let of =
        |channel: usize| sums.iter().skip(channel).step_by(c).map(|&[sum, _]| f64::from(sum)).sum::<f64>();
    (0..c).map(|channel| of(channel) as f32).collect()
}

/// The sum of rows of so many elements: the gradient of a bias.
pub(crate) fn sum_rows(width: usize, dy: &[f32]) -> Vec<f32> {
    let together = planes_together(width).max(64) * width.max(1);
    let parts: Vec<Vec<f32>> = dy
        .par_chunks(together)
        .map(|rows| {
            let mut sums = vec![0.0; width];
            for row in rows.chunks_exact(width.max(1)) {
                for (sum, g) in sums.iter_mut().zip(row) {
                    *sum += g;
                }
            }
            sums
        })
        .collect();
    let of = |column: usize| parts.iter().map(|part| f64::from(part[column])).sum::<f64>() as f32;
    (0..width).map(of).collect()
}

/// `a + b`.
pub(crate) fn add(a: &[f32], b: &[f32]) -> Vec<f32> {
    assert_eq!(a.len(), b.len());
    map(a.len(), |range| Map::Sum(&a[range.clone()], &b[range]))
}

/// `max(x, 0)`.
pub(crate) fn relu(x: &[f32]) -> Vec<f32> {
    map(x.len(), |range| Map::Relu(&x[range]))
}

/// `dy` where [`relu`]'s result `y` is positive, zero elsewhere.
pub(crate) fn relu_backward(y: &[f32], dy: &[f32]) -> Vec<f32> {
    assert_eq!(y.len(), dy.len());
    map(y.len(), |range| Map::Passed(&y[range.clone()], &dy[range]))
}

fn map<'a>(size: usize, chunk: impl Fn(Range<usize>) -> Map<'a> + Sync) -> Vec<f32> {
    build_fresh(size, CHUNK, |index, to| {
        let count = to.len();
        Map::write(to, CHUNK, index, |index| chunk(index * CHUNK..index * CHUNK + count));
    })
}
