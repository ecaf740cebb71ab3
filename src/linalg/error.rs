//! What can be wrong with a matrix or a request.

/// Why a decomposition could not be computed.
///
/// # Examples
/// ```
/// use faer::Mat;
/// use fnl::linalg::{SvdOptions, truncated_svd};
/// let w = Mat::<f32>::from_fn(3, 2, |i, j| (i + j) as f32);
/// let error = truncated_svd(w.as_ref(), 3, &SvdOptions::default()).unwrap_err();
/// assert_eq!(error.to_string(), "rank 3 is not between 1 and 2, the largest rank of a (3, 2) matrix");
/// ```
#[derive(thiserror::Error, Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum LinalgError {
    /// An element is infinite or not a number. The first one in row order is reported.
    #[error("element ({row}, {col}) is {value}, expected a finite number")]
    NotFinite {
        /// Row of the element.
        row: usize,
        /// Column of the element.
        col: usize,
        /// The element.
        value: f64,
    },
    /// The rank is zero or exceeds the smaller side.
    #[error("rank {rank} is not between 1 and {}, the largest rank of a ({rows}, {cols}) matrix", rows.min(cols))]
    RankOutOfRange {
        /// The rank that was asked for.
        rank: usize,
        /// Rows of the matrix.
        rows: usize,
        /// Columns of the matrix.
        cols: usize,
    },
    /// The matrix has no elements.
    #[error("the matrix is empty, shape ({rows}, {cols})")]
    Empty {
        /// Rows of the matrix.
        rows: usize,
        /// Columns of the matrix.
        cols: usize,
    },
    /// An iteration did not converge. No finite matrix is known that causes it.
    #[error("the decomposition of a ({rows}, {cols}) matrix did not converge")]
    NoConvergence {
        /// Rows of the matrix.
        rows: usize,
        /// Columns of the matrix.
        cols: usize,
    },
}
