//! How much memory a decomposition takes, known before it starts.

use super::SvdMethod;
use super::krylov::largest_space;

/// An upper estimate of the bytes that [`truncated_svd`](super::truncated_svd) allocates beyond the weight itself.
///
/// A scheduler that factors several weights side by side keeps the sum of these under its limit.
///
/// # Examples
/// ```
/// use fnl::linalg::{SvdMethod, working_bytes};
/// // the Gram matrix of the smaller side and its eigenvectors dominate
/// assert!(working_bytes(4096, 1024, 128, 4, SvdMethod::Exact) < 128 << 20);
/// ```
#[must_use]
pub fn working_bytes(rows: usize, cols: usize, rank: usize, item_bytes: usize, method: SvdMethod) -> u64 {
    let (m, n, r, item) = (rows.max(cols) as u64, rows.min(cols) as u64, rank as u64, item_bytes as u64);
    // a copy, should the magnitude need scaling or the strides be irregular
    let copy = m * n * item;
    let factors = 6 * (m + n) * r * item;
    // bidiagonalization of an f64 matrix keeps it, its reduced form and all left vectors
    let bidiagonal = if item >= 8 { 3 * m * n * item } else { 0 };
    // the Gram matrix in f32, then in f64, its eigenvectors, and what divide and conquer needs
    let direct = 6 * n * n * 8 + panel(m, n) + bidiagonal;
    let space = largest_space(cols.min(rows), rank) as u64 + 128;
    // a basis, its projection with copy and eigenvectors, and the Gram matrix of a tall matrix
    let iterative = (n * space + 5 * space * space + n * n) * item;
    // a space that does not converge is dropped before the direct method begins
    let method = if method == SvdMethod::Exact { direct } else { direct.max(iterative) };
    copy + factors + method
}

/// An upper estimate of the bytes that [`spectrum`](super::spectrum) allocates beyond the weight itself.
#[must_use]
pub fn spectrum_bytes(rows: usize, cols: usize, item_bytes: usize) -> u64 {
    let (m, n, item) = (rows.max(cols) as u64, rows.min(cols) as u64, item_bytes as u64);
    let widened = if item == 8 { 3 * m * n * 8 } else { m * n * item };
    widened + 3 * n * n * 8 + panel(m, n)
}

/// A panel of the weight, widened to `f64`.
fn panel(m: u64, n: u64) -> u64 {
    m.min(4096) * n * 8
}
