use crate::layers::Geometry;
use crate::linalg::Team;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;

/// Positions of one picture that are looked at, at most: neighbours say nearly the same, and more pictures say more.
const MOST_POSITIONS: usize = 64;

/// Positions of each picture of a batch, in order, and how many each of them stands for.
pub(super) struct Positions {
    of_pictures: Vec<Vec<usize>>,
    pub(super) stands_for: f64,
}

impl Positions {
    /// All of `positions`, or some of them, drawn for each of a batch's pictures.
    pub(super) fn draw(pictures: usize, positions: usize, random: &mut ChaCha8Rng) -> Self {
        let taken = positions.min(MOST_POSITIONS);
        let of_one = |_| {
            if taken == positions {
                return (0..positions).collect();
            }
            let mut drawn = index::sample(random, positions, taken).into_vec();
            drawn.sort_unstable();
            drawn
        };
        let of_pictures = (0..pictures).map(of_one).collect();
        Self { of_pictures, stands_for: positions as f64 / taken.max(1) as f64 }
    }

    /// The patches of a convolution without groups that lie there, `(rows, c kh kw)`, zeros where they reach over the edge.
    ///
    /// `xs` is `(b, c, h, w)`; a position is `p w' + q` of the output.
    pub(super) fn patches(&self, team: &Team, xs: &[f32], geometry: &Geometry) -> Vec<f32> {
        let &Geometry { in_channels, input: [height, width], kernel: [kh, kw], .. } = geometry;
        let (plane, across) = (height * width, geometry.output[1].max(1));
        let row = in_channels * kh * kw;
        let of_picture = |picture: usize| {
            let xs = &xs[picture * in_channels * plane..][..in_channels * plane];
            let mut patches = vec![0.0f32; self.of_pictures[picture].len() * row];
            for (&position, patch) in self.of_pictures[picture].iter().zip(patches.chunks_exact_mut(row)) {
                let (p, q) = (position / across, position % across);
                let taps = patch.chunks_exact_mut(kh * kw);
                for (plane, taps) in xs.chunks_exact(plane).zip(taps) {
                    for (u, taps) in taps.chunks_exact_mut(kw).enumerate() {
                        let Some(y) = place(geometry, 0, p, u) else { continue };
                        let line = &plane[y * width..][..width];
                        for (v, tap) in taps.iter_mut().enumerate() {
                            if let Some(x) = place(geometry, 1, q, v) {
                                *tap = line[x];
                            }
                        }
                    }
                }
            }
            patches
        };
        team.map(self.of_pictures.len(), of_picture).concat()
    }

    /// The channels of a tensor `(b, channels, positions)` there: `(rows, channels)`.
    pub(super) fn channels(&self, xs: &[f32], channels: usize, positions: usize) -> Vec<f32> {
        let mut rows = Vec::new();
        for (xs, drawn) in xs.chunks_exact((channels * positions).max(1)).zip(&self.of_pictures) {
            for &position in drawn {
                rows.extend((0..channels).map(|channel| xs[channel * positions + position]));
            }
        }
        rows
    }
}

/// Where a tap of an output lies on an axis of the input; none where that is padding.
fn place(geometry: &Geometry, axis: usize, output: usize, tap: usize) -> Option<usize> {
    let padded = output * geometry.stride[axis] + tap * geometry.dilation[axis];
    padded.checked_sub(geometry.padding[axis]).filter(|&at| at < geometry.input[axis])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::{Convolution, Tape};
    use rand::SeedableRng as _;

    fn pictures(geometry: &Geometry) -> Vec<f32> {
        let count = geometry.input_shape().iter().product::<usize>();
        (0..count).map(|at| 1.0 + (at * 37 % 101) as f32).collect()
    }

    #[test]
    fn patches_are_what_a_kernel_is_multiplied_by() {
        let geometry = Geometry::new(&[2, 3, 7, 6], &[4, 3, 3, 2], [2, 1], [1, 2], [1, 3], 1).unwrap();
        let xs = pictures(&geometry);
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let [h, w] = geometry.output;
        let positions = Positions::draw(2, h * w, &mut random);
        assert!((positions.stands_for - 1.0).abs() < f64::EPSILON);
        let rows = positions.patches(&Team::new(2), &xs, &geometry);
        let width = 3 * 3 * 2;
        assert_eq!(rows.len(), 2 * h * w * width);
        // Each kernel with a single tap gives that tap's input, as the convolution itself has it.
        for tap in 0..width {
            let mut kernel = vec![0.0f32; 4 * width];
            kernel[tap] = 1.0;
            let tensor = |values: Vec<f32>, shape: [usize; 4]| {
                candle_core::Tensor::from_vec(values, &shape[..], &candle_core::Device::Cpu).unwrap()
            };
            let tape = Tape::inference();
            let xs = tape.constant(&tensor(xs.clone(), geometry.input_shape()));
            let kernel = tape.constant(&tensor(kernel, geometry.kernel_shape()));
            let mut convolution = Convolution::new([2, 1], [1, 2]);
            convolution.dilation = [1, 3];
            let ys = tape.apply(convolution, &[&xs, &kernel]).unwrap();
            let ys = ys.tensor().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            for (picture, rows) in rows.chunks_exact(h * w * width).enumerate() {
                for (position, row) in rows.chunks_exact(width).enumerate() {
                    assert_eq!(row[tap], ys[picture * 4 * h * w + position], "{tap} {picture} {position}");
                }
            }
        }
    }

    #[test]
    fn drawn_positions_are_of_their_picture_and_stand_for_all() {
        let geometry = Geometry::new(&[3, 2, 20, 20], &[4, 2, 1, 1], [1; 2], [0; 2], [1; 2], 1).unwrap();
        let xs = pictures(&geometry);
        let draw = |seed| Positions::draw(3, 400, &mut ChaCha8Rng::seed_from_u64(seed));
        let positions = draw(1);
        assert!((positions.stands_for - 400.0 / MOST_POSITIONS as f64).abs() < 1e-12);
        let rows = positions.patches(&Team::new(1), &xs, &geometry);
        assert_eq!(rows, positions.channels(&xs, 2, 400));
        assert_eq!(rows, draw(1).patches(&Team::new(3), &xs, &geometry));
        assert_ne!(rows, draw(2).patches(&Team::new(1), &xs, &geometry));
        for drawn in &positions.of_pictures {
            assert!(drawn.len() == MOST_POSITIONS && drawn.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }
}
