//! Plain layers, seeded numbers, and matrices whose singular values are known because they are built from them.

use fnl::decompose::Factor;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub(crate) fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// Numbers between -1 and 1.
pub(crate) fn numbers(rng: &mut ChaCha8Rng, count: usize) -> Vec<f64> {
    (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()
}

pub(crate) fn norm(xs: &[f64]) -> f64 {
    xs.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// The norm of a difference.
pub(crate) fn distance(xs: &[f64], ys: &[f64]) -> f64 {
    assert_eq!(xs.len(), ys.len());
    xs.iter().zip(ys).map(|(x, y)| (x - y) * (x - y)).sum::<f64>().sqrt()
}

/// Row-major `(m, k) (k, n)`.
pub(crate) fn product(a: &[f64], b: &[f64], k: usize) -> Vec<f64> {
    let (m, n) = (a.len() / k, b.len() / k);
    let mut c = vec![0.0; m * n];
    for i in 0..m {
        for l in 0..k {
            for j in 0..n {
                c[i * n + j] += a[i * k + l] * b[l * n + j];
            }
        }
    }
    c
}

pub(crate) fn transposed(a: &[f64], cols: usize) -> Vec<f64> {
    let rows = a.len() / cols;
    (0..cols * rows).map(|at| a[(at % rows) * cols + at / rows]).collect()
}

/// `count` orthonormal vectors of length `length`, one after the other.
fn orthonormal(rng: &mut ChaCha8Rng, length: usize, count: usize) -> Vec<Vec<f64>> {
    let mut vectors: Vec<Vec<f64>> = Vec::new();
    while vectors.len() < count {
        let mut x = numbers(rng, length);
        // Twice is enough: the second pass removes what rounding left of the first.
        for _ in 0..2 {
            for q in &vectors {
                let along: f64 = x.iter().zip(q).map(|(x, q)| x * q).sum();
                x.iter_mut().zip(q).for_each(|(x, q)| *x -= along * q);
            }
            let length = norm(&x);
            x.iter_mut().for_each(|x| *x /= length);
        }
        vectors.push(x);
    }
    vectors
}

/// A matrix by its singular values, and the vectors that it is made of.
pub(crate) struct Known {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) s: Vec<f64>,
    u: Vec<Vec<f64>>,
    v: Vec<Vec<f64>>,
}

impl Known {
    pub(crate) fn new(rng: &mut ChaCha8Rng, rows: usize, cols: usize, s: Vec<f64>) -> Self {
        let (u, v) = (orthonormal(rng, rows, s.len()), orthonormal(rng, cols, s.len()));
        Self { rows, cols, s, u, v }
    }

    /// The best approximation of rank r, by Eckart and Young: the sum of the first r triples. Row-major.
    pub(crate) fn best(&self, rank: usize) -> Vec<f64> {
        let mut w = vec![0.0; self.rows * self.cols];
        for ((s, u), v) in self.s.iter().zip(&self.u).zip(&self.v).take(rank) {
            for i in 0..self.rows {
                for j in 0..self.cols {
                    w[i * self.cols + j] += s * u[i] * v[j];
                }
            }
        }
        w
    }

    pub(crate) fn matrix(&self) -> Vec<f64> {
        self.best(self.s.len())
    }

    /// The norm of what rank r misses.
    pub(crate) fn tail(&self, rank: usize) -> f64 {
        norm(&self.s[rank.min(self.s.len())..])
    }
}

/// `1, 1/2, 1/4, ...` would leave nothing for large ranks; these fall more slowly and stay apart.
pub(crate) fn falling(count: usize) -> Vec<f64> {
    (0..count).map(|i| 3.0 / (1.0 + i as f64)).collect()
}

/// Channels of rows of columns.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) channels: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) data: Vec<f64>,
}

impl Image {
    pub(crate) fn new(rng: &mut ChaCha8Rng, channels: usize, height: usize, width: usize) -> Self {
        Self { channels, height, width, data: numbers(rng, channels * height * width) }
    }
}

/// A convolution's geometry, rows then columns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Geometry {
    pub(crate) stride: [usize; 2],
    pub(crate) padding: [usize; 2],
    pub(crate) dilation: [usize; 2],
    pub(crate) groups: usize,
}

/// The convolution of deep learning, term by term: zero padding, no flip, `kernel` of shape `(o, i / groups, kh, kw)`.
pub(crate) fn conv2d(xs: &Image, kernel: &Factor<f64>, bias: Option<&[f64]>, geometry: Geometry) -> Image {
    let &[out, inner, kh, kw] = kernel.shape.as_slice() else { panic!("not a kernel: {:?}", kernel.shape) };
    let Geometry { stride, padding, dilation, groups } = geometry;
    assert_eq!(inner * groups, xs.channels, "{:?} on {} channels", kernel.shape, xs.channels);
    assert_eq!(out % groups, 0);
    let extent = |size: usize, axis: usize, k: usize| {
        (size + 2 * padding[axis] - dilation[axis] * (k - 1) - 1) / stride[axis] + 1
    };
    let (height, width) = (extent(xs.height, 0, kh), extent(xs.width, 1, kw));
    let mut data = Vec::with_capacity(out * height * width);
    for o in 0..out {
        let first_channel = o / (out / groups) * inner;
        for row in 0..height {
            for col in 0..width {
                let mut sum = bias.map_or(0.0, |bias| bias[o]);
                for i in 0..inner {
                    for y in 0..kh {
                        for x in 0..kw {
                            let at = |place: usize, axis: usize, k: usize| {
                                (place * stride[axis] + k * dilation[axis]).checked_sub(padding[axis])
                            };
                            let (Some(from_row), Some(from_col)) = (at(row, 0, y), at(col, 1, x)) else {
                                continue;
                            };
                            if from_row < xs.height && from_col < xs.width {
                                let pixel =
                                    ((first_channel + i) * xs.height + from_row) * xs.width + from_col;
                                sum += kernel.data[((o * inner + i) * kh + y) * kw + x] * xs.data[pixel];
                            }
                        }
                    }
                }
                data.push(sum);
            }
        }
    }
    Image { channels: out, height, width, data }
}
