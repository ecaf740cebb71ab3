//! Matrices to measure on, the same for the benchmark and for other programs.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par};

/// A Gaussian matrix, the hardest spectrum there is for a truncated SVD: no decay, no gap.
pub(crate) fn gauss(rows: usize, cols: usize) -> Mat<f32> {
    let mut normal = Normal(0x0123_4567_89ab_cdef);
    Mat::from_fn(rows, cols, |_, _| normal.next() as f32)
}

/// A matrix with a spectrum as trained weights have it: `s_i = (1 + i / (n/20))^-0.6`, a few large values, then a slow power
/// decay, then a nearly flat bulk. (Encoder weights of all-MiniLM-L6-v2 keep 50 to 60 % of their energy in the first sixth of their ranks;
/// so does this.) Singular vectors are those of Gaussian matrices.
pub(crate) fn trained(rows: usize, cols: usize) -> Mat<f32> {
    let n = rows.min(cols);
    let mut normal = Normal(0xfeed_beef_1234_5678);
    let mut basis = |side: usize| {
        let mut q = Mat::<f64>::from_fn(side, n, |_, _| normal.next());
        orthonormalize(&mut q);
        q
    };
    let (u, v) = (basis(rows), basis(cols));
    let scaled = Mat::from_fn(rows, n, |i, j| u[(i, j)] * (1.0 + j as f64 / (n as f64 / 20.0)).powf(-0.6));
    let mut w = Mat::<f64>::zeros(rows, cols);
    matmul(w.as_mut(), Accum::Replace, scaled.as_ref(), v.transpose(), 1.0, Par::Seq);
    Mat::from_fn(rows, cols, |i, j| w[(i, j)] as f32)
}

/// `"gauss"` or `"trained"`, with a shape like `"2048x1024"`.
pub(crate) fn named(kind: &str, shape: &str) -> Option<Mat<f32>> {
    let (rows, cols) = shape.split_once('x')?;
    let (rows, cols) = (rows.parse().ok()?, cols.parse().ok()?);
    match kind {
        "gauss" => Some(gauss(rows, cols)),
        "trained" => Some(trained(rows, cols)),
        _ => None,
    }
}

fn orthonormalize(q: &mut Mat<f64>) {
    let qr = q.as_ref().qr();
    *q = qr.compute_thin_Q();
}

/// Normal numbers by Box and Muller's method from splitmix64.
struct Normal(u64);

impl Normal {
    fn next(&mut self) -> f64 {
        let (a, b) = (self.uniform(), self.uniform());
        (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
    }

    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64 + 1.0 / (1u64 << 54) as f64
    }
}
