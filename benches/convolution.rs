//! Convolutions and normalization of the shapes that residual networks of 32x32 pictures have, 128 at a time.
//!
//!     cargo bench --bench convolution
//!
//! Factored layers are pairs of 1x3 and 3x1 kernels.

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use layers::{Geometry, kernels};

#[path = "../src/layers"]
mod layers {
    pub(crate) use fnl::layers::Geometry;

    // The loops have no public name: they are reached through layers, which would be measured with them.
    #[path = "kernels/mod.rs"]
    #[expect(dead_code, unused_imports, unreachable_pub, reason = "what is not measured here")]
    pub(crate) mod kernels;
}

const BATCH: usize = 128;

/// Channels in and out, kernel, stride, height and width.
const SHAPES: [(usize, usize, [usize; 2], [usize; 2], [usize; 2]); 13] = [
    (3, 16, [3, 3], [1, 1], [32, 32]),
    (16, 16, [3, 3], [1, 1], [32, 32]),
    (16, 32, [3, 3], [2, 2], [32, 32]),
    (32, 32, [3, 3], [1, 1], [16, 16]),
    (32, 64, [3, 3], [2, 2], [16, 16]),
    (64, 64, [3, 3], [1, 1], [8, 8]),
    (16, 32, [1, 1], [2, 2], [32, 32]),
    (16, 12, [1, 3], [1, 1], [32, 32]),
    (12, 16, [3, 1], [1, 1], [32, 32]),
    (32, 24, [1, 3], [1, 1], [16, 16]),
    (24, 32, [3, 1], [1, 1], [16, 16]),
    (64, 48, [1, 3], [1, 1], [8, 8]),
    (48, 64, [3, 1], [1, 1], [8, 8]),
];
/// Channels and side of planes.
const PLANES: [(usize, usize); 3] = [(16, 32), (32, 16), (64, 8)];

fn main() {
    kernels::keep_freed_memory();
    divan::main();
}

fn numbers(size: usize) -> Vec<f32> {
    (0..size).map(|i| (i * 7919 % 1009) as f32 / 1009.0 - 0.5).collect()
}

struct Problem {
    g: Geometry,
    x: Vec<f32>,
    w: Vec<f32>,
    dy: Vec<f32>,
}

fn problem(
    (i, o, kernel, stride, [h, w]): (usize, usize, [usize; 2], [usize; 2], [usize; 2]),
) -> Option<Problem> {
    let padding = kernel.map(|size| size / 2);
    let shape = [o, i, kernel[0], kernel[1]];
    let g = Geometry::new(&[BATCH, i, h, w], &shape, stride, padding, [1, 1], 1).ok()?;
    let of = |shape: [usize; 4]| numbers(shape.iter().product());
    Some(Problem { g, x: of(g.input_shape()), w: of(g.kernel_shape()), dy: of(g.output_shape()) })
}

#[divan::bench(args = SHAPES)]
fn forward(bencher: Bencher, shape: (usize, usize, [usize; 2], [usize; 2], [usize; 2])) {
    let Some(Problem { g, x, w, .. }) = problem(shape) else { return };
    bencher
        .counter(ItemsCount::new(g.multiply_adds()))
        .bench_local(|| kernels::convolve(&g, black_box(&x), &w, None));
}

#[divan::bench(args = SHAPES)]
fn backward_input(bencher: Bencher, shape: (usize, usize, [usize; 2], [usize; 2], [usize; 2])) {
    let Some(Problem { g, w, dy, .. }) = problem(shape) else { return };
    bencher
        .counter(ItemsCount::new(g.multiply_adds()))
        .bench_local(|| kernels::convolve_backward_input(&g, black_box(&dy), &w));
}

#[divan::bench(args = SHAPES)]
fn backward_kernel(bencher: Bencher, shape: (usize, usize, [usize; 2], [usize; 2], [usize; 2])) {
    let Some(Problem { g, x, dy, .. }) = problem(shape) else { return };
    bencher
        .counter(ItemsCount::new(g.multiply_adds()))
        .bench_local(|| kernels::convolve_backward_kernel(&g, black_box(&x), &dy));
}

#[divan::bench(args = PLANES)]
fn normalize(bencher: Bencher, (channels, side): (usize, usize)) {
    let shape = [BATCH, channels, side * side];
    let (x, scale) = (numbers(shape.iter().product()), numbers(channels));
    bencher.bench_local(|| kernels::normalize(shape, black_box(&x), &scale, &scale, 1e-5, Some(&x), true));
}

#[divan::bench(args = PLANES)]
fn normalize_backward(bencher: Bencher, (channels, side): (usize, usize)) {
    let shape = [BATCH, channels, side * side];
    let (x, scale) = (numbers(shape.iter().product()), numbers(channels));
    let kernels::Normalized { y, mean, variance } =
        kernels::normalize(shape, &x, &scale, &scale, 1e-5, Some(&x), true);
    bencher.bench_local(|| {
        kernels::normalize_backward(shape, black_box(&x), &y, &scale, &mean, &variance, 1e-5, &x, true, true)
    });
}
