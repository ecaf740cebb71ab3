//! Matrix products whose bits don't depend on the number of threads.
//!
//! A product is cut into panels by its shape alone, each panel is computed by one thread, and sums over panels are
//! taken in a fixed order. Decompositions are in the files beside this one.

use faer::linalg::matmul::matmul as gemm;
use faer::{Accum, Mat, MatMut, MatRef, Par};

use super::Scalar;
use super::kernels::squares;

/// Multiply-adds below which a product is not worth cutting in two.
const SMALLEST_CUT: usize = 1 << 22;
/// Pieces a product is cut into at most: a power of two, for recursive halving.
const MOST_PIECES: usize = 4;
/// Side of a triangle that is computed as a square.
const TRIANGLE: usize = 128;
/// Columns that one thread converts.
const CONVERTED: usize = 64;
/// Rows or columns that go into `f64` at a time.
pub(crate) const PANEL: usize = 512;

/// The threads of one decomposition. Dropping it ends them.
pub(crate) struct Team {
    pool: Option<rayon::ThreadPool>,
}

impl Team {
    /// A team of `threads`; of one, the caller's, where the system refuses more.
    pub(crate) fn new(threads: usize) -> Self {
        let pool = (threads > 1).then(|| rayon::ThreadPoolBuilder::new().num_threads(threads).build().ok());
        Self { pool: pool.flatten() }
    }

    /// Runs the work where [`Team::join`] uses this team's threads.
    pub(crate) fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match &self.pool {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }

    /// Runs both, side by side if there are threads for it.
    pub(crate) fn join(&self, a: impl FnOnce() + Send, b: impl FnOnce() + Send) {
        if self.pool.is_some() {
            rayon::join(a, b);
        } else {
            a();
            b();
        }
    }

    /// Maps `0..count` and returns the results in order.
    pub(crate) fn map<R: Send>(&self, count: usize, work: impl Fn(usize) -> R + Send + Sync) -> Vec<R> {
        use rayon::prelude::*;
        match &self.pool {
            Some(pool) => pool.install(|| (0..count).into_par_iter().with_max_len(1).map(work).collect()),
            None => (0..count).map(work).collect(),
        }
    }
}

/// `dst = alpha lhs rhs`, added to what `dst` holds for `Accum::Add`.
pub(crate) fn multiply<T: Scalar>(
    team: &Team,
    dst: MatMut<'_, T>,
    accum: Accum,
    lhs: MatRef<'_, T>,
    rhs: MatRef<'_, T>,
    alpha: T,
) {
    let work = dst.nrows() * dst.ncols() * lhs.ncols();
    let pieces = (work / SMALLEST_CUT + 1).next_power_of_two().min(MOST_PIECES);
    team.run(|| halve(team, dst, accum, lhs, rhs, alpha, pieces));
}

/// Cuts the longer side of `dst` in halves until `pieces` are left.
fn halve<T: Scalar>(
    team: &Team,
    dst: MatMut<'_, T>,
    accum: Accum,
    lhs: MatRef<'_, T>,
    rhs: MatRef<'_, T>,
    alpha: T,
    pieces: usize,
) {
    let (rows, cols) = (dst.nrows(), dst.ncols());
    if pieces <= 1 || rows.max(cols) < 64 {
        gemm(dst, accum, lhs, rhs, alpha, Par::Seq);
    } else if rows >= cols {
        // panels start on whole cache lines
        let cut = (rows / 2).next_multiple_of(32);
        let (top, bottom) = dst.split_at_row_mut(cut);
        let (lhs_top, lhs_bottom) = lhs.split_at_row(cut);
        team.join(
            || halve(team, top, accum, lhs_top, rhs, alpha, pieces / 2),
            || halve(team, bottom, accum, lhs_bottom, rhs, alpha, pieces / 2),
        );
    } else {
        let cut = (cols / 2).next_multiple_of(32);
        let (left, right) = dst.split_at_col_mut(cut);
        let (rhs_left, rhs_right) = rhs.split_at_col(cut);
        team.join(
            || halve(team, left, accum, lhs, rhs_left, alpha, pieces / 2),
            || halve(team, right, accum, lhs, rhs_right, alpha, pieces / 2),
        );
    }
}

/// `lhs rhs` as a new matrix.
pub(crate) fn product<T: Scalar>(team: &Team, lhs: MatRef<'_, T>, rhs: MatRef<'_, T>) -> Mat<T> {
    let mut dst = Mat::zeros(lhs.nrows(), rhs.ncols());
    multiply(team, dst.as_mut(), Accum::Replace, lhs, rhs, T::from_f64(1.0));
    dst
}

/// `C = A B`, computed in `T`: what turns two factors back into one weight.
///
/// # Shapes
/// | argument | shape |
/// | --- | --- |
/// | `a` | `(m, r)` |
/// | `b` | `(r, n)` |
/// | result | `(m, n)` |
///
/// # Determinism
/// Equal bits for every number of threads.
///
/// # Panics
/// If `a` has not as many columns as `b` has rows.
///
/// # Examples
/// ```
/// use faer::Mat;
/// use fnl::linalg::matmul;
/// let a = Mat::from_fn(2, 1, |i, _| (i + 1) as f32);
/// let b = Mat::from_fn(1, 2, |_, j| (j + 3) as f32);
/// let c = matmul(a.as_ref(), b.as_ref(), 1);
/// assert_eq!(c[(1, 1)], 8.0);
/// ```
#[must_use]
pub fn matmul<T: Scalar>(a: MatRef<'_, T>, b: MatRef<'_, T>, threads: usize) -> Mat<T> {
    assert_eq!(a.ncols(), b.nrows(), "the inner sides of a product agree");
    product(&Team::new(threads), a, b)
}

/// `|W - A B|^2`, the squared Frobenius error of two factors, measured.
///
/// Blocks of `A B` are computed in `T` and dropped after use, so memory stays bounded; differences are squared and
/// summed in `f64`. This costs `2 m n r` operations and proves an error without trusting how the factors came about.
///
/// # Shapes
/// | argument | shape |
/// | --- | --- |
/// | `w` | `(m, n)` |
/// | `a` | `(m, r)` |
/// | `b` | `(r, n)` |
///
/// # Determinism
/// Equal bits for every number of threads.
///
/// # Panics
/// If the three shapes don't belong together.
///
/// # Examples
/// ```
/// use faer::Mat;
/// use fnl::linalg::residual_norm_squared;
/// let w = Mat::from_fn(2, 2, |i, j| if i == j { 2.0f32 } else { 0.0 });
/// let a = Mat::from_fn(2, 1, |i, _| if i == 0 { 2.0f32 } else { 0.0 });
/// let b = Mat::from_fn(1, 2, |_, j| if j == 0 { 1.0f32 } else { 0.0 });
/// assert_eq!(residual_norm_squared(w.as_ref(), a.as_ref(), b.as_ref(), 1), 4.0);
/// ```
#[must_use]
pub fn residual_norm_squared<T: Scalar>(
    w: MatRef<'_, T>,
    a: MatRef<'_, T>,
    b: MatRef<'_, T>,
    threads: usize,
) -> f64 {
    residual(&Team::new(threads), w, a, b)
}

pub(crate) fn residual<T: Scalar>(team: &Team, w: MatRef<'_, T>, a: MatRef<'_, T>, b: MatRef<'_, T>) -> f64 {
    assert_eq!(a.ncols(), b.nrows(), "the inner sides of a product agree");
    assert_eq!((w.nrows(), w.ncols()), (a.nrows(), b.ncols()), "the product has the shape of the weight");
    // blocks follow the memory of w: columns of a row-major matrix are read as rows of its transpose
    if w.row_stride().unsigned_abs() > w.col_stride().unsigned_abs() {
        return residual(team, w.transpose(), b.transpose(), a.transpose());
    }
    let (m, n) = (w.nrows(), w.ncols());
    let (down, across) = (m.div_ceil(PANEL), n.div_ceil(PANEL));
    let parts = team.map(down * across, |index| {
        let (i, j) = (index % down * PANEL, index / down * PANEL);
        let (rows, cols) = (PANEL.min(m - i), PANEL.min(n - j));
        let mut block = Mat::<T>::zeros(rows, cols);
        gemm(
            block.as_mut(),
            Accum::Replace,
            a.subrows(i, rows),
            b.subcols(j, cols),
            T::from_f64(1.0),
            Par::Seq,
        );
        let mut sum = 0.0;
        for (j_in, column) in block.col_iter().enumerate() {
            for (i_in, &approximation) in column.iter().enumerate() {
                let difference = w[(i + i_in, j + j_in)].to_f64() - approximation.to_f64();
                sum += difference * difference;
            }
        }
        sum
    });
    parts.iter().sum()
}

/// The largest magnitude and the squared norm of the elements; `None` if one of them is not finite.
pub(crate) fn magnitude<T: Scalar>(team: &Team, w: MatRef<'_, T>) -> Option<(f64, f64)> {
    if w.row_stride().unsigned_abs() > w.col_stride().unsigned_abs() {
        return magnitude(team, w.transpose());
    }
    let parts = team.map(w.ncols().div_ceil(PANEL), |panel| {
        let first = panel * PANEL;
        let columns = w.subcols(first, PANEL.min(w.ncols() - first));
        let (mut largest, mut sum) = (0.0f64, 0.0);
        for column in columns.col_iter() {
            let part = match column.try_as_col_major() {
                Some(column) => squares(column.as_slice()),
                None => squares(&column.iter().copied().collect::<Vec<_>>()),
            };
            largest = largest.max(part.0);
            sum += part.1;
        }
        (largest, sum)
    });
    let (largest, sum) = parts.iter().fold((0.0f64, 0.0), |all, part| (all.0.max(part.0), all.1 + part.1));
    // squares of large f64 values overflow although the values are finite
    let finite = sum.is_finite() || (0..w.ncols()).all(|j| w.col(j).iter().all(|x| x.to_f64().is_finite()));
    finite.then_some((largest, sum))
}

/// The lower triangle of `A^T A`. Above its diagonal anything may stand.
pub(crate) fn gram<T: Scalar>(team: &Team, a: MatRef<'_, T>) -> Mat<T> {
    let mut sum = Mat::<T>::zeros(a.ncols(), a.ncols());
    update_triangle(team, sum.as_mut(), a.transpose(), a, T::from_f64(1.0));
    sum
}

/// The lower triangle of `A^T A`, in `f64`. Panels of rows are widened one after the other.
pub(crate) fn wide_gram<T: Scalar>(team: &Team, a: MatRef<'_, T>) -> Mat<f64> {
    let n = a.ncols();
    let mut sum = Mat::<f64>::zeros(n, n);
    let rows_at_once = (4 * n).clamp(PANEL, 8 * PANEL);
    let mut first = 0;
    while first < a.nrows() {
        let rows = rows_at_once.min(a.nrows() - first);
        let panel = a.subrows(first, rows);
        // widened in the order of its memory
        if panel.row_stride().unsigned_abs() > panel.col_stride().unsigned_abs() {
            let panel: Mat<f64> = convert(team, panel.transpose());
            update_triangle(team, sum.as_mut(), panel.as_ref(), panel.transpose(), 1.0);
        } else {
            let panel: Mat<f64> = convert(team, panel);
            update_triangle(team, sum.as_mut(), panel.transpose(), panel.as_ref(), 1.0);
        }
        first += rows;
    }
    sum
}

/// `A += alpha L R` in the lower triangle of A; what stands above it is left undefined.
pub(crate) fn update_triangle<T: Scalar>(
    team: &Team,
    a: MatMut<'_, T>,
    left: MatRef<'_, T>,
    right: MatRef<'_, T>,
    alpha: T,
) {
    team.run(|| halve_triangle(team, a, left, right, alpha));
}

fn halve_triangle<T: Scalar>(
    team: &Team,
    a: MatMut<'_, T>,
    left: MatRef<'_, T>,
    right: MatRef<'_, T>,
    alpha: T,
) {
    let n = a.nrows();
    if n <= TRIANGLE {
        gemm(a, Accum::Add, left, right, alpha, Par::Seq);
        return;
    }
    let cut = (n / 2).next_multiple_of(16);
    let (corner, _, below, rest) = a.split_at_mut(cut, cut);
    let (left_top, left_bottom) = left.split_at_row(cut);
    let (right_left, right_right) = right.split_at_col(cut);
    team.join(
        || multiply(team, below, Accum::Add, left_bottom, right_left, alpha),
        || {
            team.join(
                || halve_triangle(team, corner, left_top, right_left, alpha),
                || halve_triangle(team, rest, left_bottom, right_right, alpha),
            );
        },
    );
}

/// A copy in another type.
pub(crate) fn convert<T: Scalar, G: Scalar>(team: &Team, a: MatRef<'_, T>) -> Mat<G> {
    let mut copy = Mat::<G>::zeros(a.nrows(), a.ncols());
    team.run(|| convert_into(team, a, copy.as_mut()));
    copy
}

fn convert_into<T: Scalar, G: Scalar>(team: &Team, a: MatRef<'_, T>, copy: MatMut<'_, G>) {
    if a.ncols() > CONVERTED {
        let cut = a.ncols() / 2;
        let (left, right) = copy.split_at_col_mut(cut);
        let (from_left, from_right) = a.split_at_col(cut);
        team.join(|| convert_into(team, from_left, left), || convert_into(team, from_right, right));
        return;
    }
    for (to, from) in copy.col_iter_mut().zip(a.col_iter()) {
        for (to, from) in to.iter_mut().zip(from.iter()) {
            *to = G::from_f64(from.to_f64());
        }
    }
}
