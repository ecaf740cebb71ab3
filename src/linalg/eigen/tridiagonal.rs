//! Reduction of a symmetric matrix to tridiagonal form, `A = Q T Qt`.
//!
//! Blocked as LAPACK's `sytrd`: half of the work is a product of the trailing matrix with one vector at a time, bound by memory,
//! so only the lower triangle is read, four columns at a time, and the other half is products of matrices.
//!
//! Reference: J. Dongarra, S. Hammarling, D. Sorensen, "Block reduction of matrices to condensed forms", 1989.

use faer::{Accum, Mat, MatMut, MatRef};

use crate::linalg::Scalar;
use crate::linalg::kernels::{add_scaled, dot, symmetric_product};
use crate::linalg::product::{Team, multiply, product, update_triangle};

/// Columns that are reduced before the trailing matrix is updated: more make better products, and more work on them before.
const PANEL: usize = 32;
/// The same for small matrices, which stay in the cache anyway.
const SMALL_PANEL: usize = 16;
/// Sides up to this are small.
const SMALL: usize = 512;
/// Reflectors that are applied together.
const BLOCK: usize = 64;
/// Bytes of a triangle from which reading it is shared among threads.
const SHARED_BYTES: usize = 1 << 20;
/// Parts a shared triangle is cut into, whatever the number of threads.
const PARTS: usize = 4;

/// A symmetric matrix as `Q T Qt`, with Q as a sequence of Householder reflections.
pub(super) struct Tridiagonal<T> {
    /// The diagonal of T.
    pub(super) diagonal: Vec<f64>,
    /// The subdiagonal of T, one shorter.
    pub(super) subdiagonal: Vec<f64>,
    // column j holds the vector of reflection j, from row j + 1
    reflectors: Mat<T>,
    scales: Vec<T>,
}

/// Reduces the symmetric matrix in the lower triangle of `a`.
pub(super) fn tridiagonalize<T: Scalar>(team: &Team, a: Mat<T>) -> Tridiagonal<T> {
    team.run(move || reduce(team, a))
}

fn reduce<T: Scalar>(team: &Team, mut a: Mat<T>) -> Tridiagonal<T> {
    let n = a.nrows();
    let zero = T::from_f64(0.0);
    let (mut diagonal, mut subdiagonal) = (vec![0.0; n], vec![0.0; n.saturating_sub(1)]);
    let mut scales = vec![zero; n.saturating_sub(2)];
    let mut sums = vec![zero; PARTS * n];
    let panel = if n <= SMALL { SMALL_PANEL } else { PANEL };
    let mut first = 0;
    while first + 2 < n {
        let count = panel.min(n - 2 - first);
        // [V, W]: the panel's reflection vectors and what they do to the trailing matrix, A - V Wt - W Vt
        let mut vw = Mat::<T>::zeros(n, 2 * count);
        for p in 0..count {
            let j = first + p;
            for c in 0..p {
                let (v, w) = (vw[(j, c)], vw[(j, count + c)]);
                let column = &mut slice_mut(a.as_mut(), j)[j..];
                add_scaled(column, -w, &slice(vw.as_ref(), c)[j..]);
                add_scaled(column, -v, &slice(vw.as_ref(), count + c)[j..]);
            }
            let column = &mut slice_mut(a.as_mut(), j)[j..];
            diagonal[j] = column[0].to_f64();
            let (corner, scale) = reflect(&mut column[1..]);
            subdiagonal[j] = corner;
            scales[j] = scale;
            let from = j + 1;
            slice_mut(vw.as_mut(), p)[from..].copy_from_slice(&slice(a.as_ref(), j)[from..]);
            let mut w = vec![zero; n - from];
            trailing_product(team, a.as_ref(), from, &slice(vw.as_ref(), p)[from..], &mut sums, &mut w);
            for c in 0..p {
                let v = &slice(vw.as_ref(), p)[from..];
                let (vc, wc) = (&slice(vw.as_ref(), c)[from..], &slice(vw.as_ref(), count + c)[from..]);
                let (along_v, along_w) = (dot(vc, v), dot(wc, v));
                add_scaled(&mut w, -along_w, vc);
                add_scaled(&mut w, -along_v, wc);
            }
            let v = &slice(vw.as_ref(), p)[from..];
            for x in &mut w {
                *x *= scale;
            }
            let half = T::from_f64(-0.5) * scale * dot(&w, v);
            add_scaled(&mut w, half, v);
            slice_mut(vw.as_mut(), count + p)[from..].copy_from_slice(&w);
        }
        first += count;
        let wv = Mat::from_fn(n - first, 2 * count, |i, c| vw[(first + i, (c + count) % (2 * count))]);
        let trailing = a.as_mut().submatrix_mut(first, first, n - first, n - first);
        let minus = T::from_f64(-1.0);
        update_triangle(team, trailing, vw.as_ref().subrows(first, n - first), wv.transpose(), minus);
    }
    for j in first..n {
        diagonal[j] = a[(j, j)].to_f64();
        if j + 1 < n {
            subdiagonal[j] = a[(j + 1, j)].to_f64();
        }
    }
    Tridiagonal { diagonal, subdiagonal, reflectors: a, scales }
}

impl<T: Scalar> Tridiagonal<T> {
    /// `Q x`, for eigenvectors x of T.
    pub(super) fn back_transform(&self, team: &Team, mut x: Mat<T>) -> Mat<T> {
        let n = self.diagonal.len();
        let count = self.scales.len();
        let one = T::from_f64(1.0);
        for first in (0..count).step_by(BLOCK).rev() {
            let width = BLOCK.min(count - first);
            let from = first + 1;
            let v = Mat::from_fn(n - from, width, |i, j| {
                if i < j { T::from_f64(0.0) } else { self.reflectors[(from + i, first + j)] }
            });
            let factor = self.block_factor(team, v.as_ref(), first);
            let rows = x.as_mut().subrows_mut(from, n - from);
            let along = product(team, v.transpose(), rows.as_ref());
            let along = product(team, factor.transpose(), along.as_ref());
            multiply(team, rows, Accum::Add, v.as_ref(), along.as_ref(), -one);
        }
        x
    }

    /// The upper triangular F with `H_1 ... H_k = I - V F Vt`, transposed, so that a row of F is contiguous.
    fn block_factor(&self, team: &Team, v: MatRef<'_, T>, first: usize) -> Mat<T> {
        let width = v.ncols();
        let overlaps = product(team, v.transpose(), v);
        let mut factor = Mat::<T>::zeros(width, width);
        for j in 0..width {
            let scale = self.scales[first + j];
            for i in 0..j {
                let sum = dot(&slice(factor.as_ref(), i)[i..j], &slice(overlaps.as_ref(), j)[i..j]);
                factor[(j, i)] = -scale * sum;
            }
            factor[(j, j)] = scale;
        }
        factor
    }
}

/// Replaces x by the vector v, `v_0 = 1`, of the reflection `I - scale v vt` that maps x on its first axis. Returns what is
/// left there, and the scale.
fn reflect<T: Scalar>(x: &mut [T]) -> (f64, T) {
    let (one, zero) = (T::from_f64(1.0), T::from_f64(0.0));
    let Some((head, rest)) = x.split_first_mut() else {
        return (0.0, zero);
    };
    let alpha = head.to_f64();
    let rest_squared: f64 = dot(rest, rest).to_f64();
    *head = one;
    if rest_squared == 0.0 {
        rest.fill(zero);
        return (alpha, zero);
    }
    let beta = -alpha.hypot(rest_squared.sqrt()).copysign(alpha);
    let inverse = T::from_f64((alpha - beta).recip());
    for value in rest {
        *value *= inverse;
    }
    (beta, T::from_f64((beta - alpha) / beta))
}

/// `y = A[from.., from..] x` from the lower triangle of A.
fn trailing_product<T: Scalar>(
    team: &Team,
    a: MatRef<'_, T>,
    from: usize,
    x: &[T],
    sums: &mut [T],
    y: &mut [T],
) {
    let size = x.len();
    let a = a.submatrix(from, from, size, size);
    if size * size / 2 * size_of::<T>() < SHARED_BYTES {
        symmetric_product(a, 0, size, x, y);
        return;
    }
    // columns are cut into parts of equal area, each with its own sums
    let starts: Vec<usize> = (0..=PARTS)
        .map(|part| {
            let left = 1.0 - part as f64 / PARTS as f64;
            let start = (size as f64 * (1.0 - left.sqrt())) as usize;
            if part == PARTS { size } else { start / 8 * 8 }
        })
        .collect();
    let sums = &mut sums[..PARTS * size];
    sums.fill(T::from_f64(0.0));
    let parts: Vec<(usize, &mut [T])> = sums.chunks_mut(size).enumerate().collect();
    spread(team, parts, &|(part, sum)| {
        symmetric_product(a, starts[part], starts[part + 1], x, sum);
    });
    for sum in sums.chunks(size) {
        add_scaled(y, T::from_f64(1.0), sum);
    }
}

/// Does the work for each part, halves side by side.
fn spread<P: Send>(team: &Team, mut parts: Vec<P>, work: &(impl Fn(P) + Sync)) {
    if parts.len() <= 1 {
        parts.into_iter().for_each(work);
        return;
    }
    let upper = parts.split_off(parts.len() / 2);
    team.join(|| spread(team, parts, work), || spread(team, upper, work));
}

fn slice<T: Scalar>(a: MatRef<'_, T>, column: usize) -> &[T] {
    a.col(column).try_as_col_major().map_or(&[], faer::col::ColRef::as_slice)
}

fn slice_mut<T: Scalar>(a: MatMut<'_, T>, column: usize) -> &mut [T] {
    a.col_mut(column).try_as_col_major_mut().map_or(&mut [], faer::col::ColMut::as_slice_mut)
}
