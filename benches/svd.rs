//! Truncated SVDs of the shapes that layers have, on two threads.
//!
//!     cargo bench --bench svd
//!
//! `examples/svd_matrix.rs` writes the same matrices for `torch`, and says how far each result is from the least possible error.

use divan::{Bencher, black_box};
use fnl::linalg::{SvdMethod, SvdOptions, truncated_svd};

mod matrices;

const SHAPES: [(&str, usize); 6] = [
    ("768x768", 96),
    ("3072x768", 96),
    ("1536x384", 48),
    ("2048x2048", 256),
    ("4096x4096", 512),
    ("8192x1024", 128),
];
/// A checkpoint's many small layers, on one thread each.
const SMALL: [(&str, usize); 3] = [("384x384", 64), ("1536x384", 64), ("384x1536", 64)];

fn main() {
    divan::main();
}

fn run(bencher: Bencher<'_, '_>, kind: &str, shape: &str, rank: usize, method: SvdMethod, threads: usize) {
    let Some(w) = matrices::named(kind, shape) else { return };
    // row-major, as a checkpoint stores it
    let rows = w.transpose().to_owned();
    let options = SvdOptions { method, threads };
    bencher.bench_local(|| truncated_svd(black_box(rows.transpose()), rank, &options));
}

#[divan::bench(args = SHAPES, sample_count = 5, sample_size = 1)]
fn exact_trained(bencher: Bencher, (shape, rank): (&str, usize)) {
    run(bencher, "trained", shape, rank, SvdMethod::Exact, 2);
}

#[divan::bench(args = SHAPES, sample_count = 5, sample_size = 1)]
fn exact_gauss(bencher: Bencher, (shape, rank): (&str, usize)) {
    run(bencher, "gauss", shape, rank, SvdMethod::Exact, 2);
}

#[divan::bench(args = SHAPES, sample_count = 5, sample_size = 1)]
fn iterative_trained(bencher: Bencher, (shape, rank): (&str, usize)) {
    run(bencher, "trained", shape, rank, SvdMethod::Iterative, 2);
}

#[divan::bench(args = SHAPES, sample_count = 5, sample_size = 1)]
fn iterative_gauss(bencher: Bencher, (shape, rank): (&str, usize)) {
    run(bencher, "gauss", shape, rank, SvdMethod::Iterative, 2);
}

#[divan::bench(args = SMALL, sample_count = 20, sample_size = 1)]
fn small_auto(bencher: Bencher, (shape, rank): (&str, usize)) {
    run(bencher, "trained", shape, rank, SvdMethod::Auto, 1);
}
