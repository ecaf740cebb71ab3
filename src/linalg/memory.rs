//! How much memory a decomposition takes, known before it starts.

use super::SvdMethod;

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
    // Iterative and Auto may fall back to Exact, so theirs is the larger of the two
    let _ = method;
    let (m, n, r, item) = (rows.max(cols) as u64, rows.min(cols) as u64, rank as u64, item_bytes as u64);
    let copy = m * n * item;
    let factors = 3 * (m + n) * r * item;
    // Gram matrix, its tridiagonal form, eigenvectors twice
    let eigen = 6 * n * n * 8;
    copy + factors + eigen + spectrum_panel(m, n)
}

/// An upper estimate of the bytes that [`spectrum`](super::spectrum) allocates beyond the weight itself.
#[must_use]
pub fn spectrum_bytes(rows: usize, cols: usize, item_bytes: usize) -> u64 {
    let (m, n, item) = (rows.max(cols) as u64, rows.min(cols) as u64, item_bytes as u64);
    let widened = if item == 8 { 3 * m * n * 8 } else { m * n * item };
    widened + 3 * n * n * 8 + spectrum_panel(m, n)
}

/// A panel of the weight, widened to `f64`.
fn spectrum_panel(m: u64, n: u64) -> u64 {
    m.min(4096) * n * 8
}
