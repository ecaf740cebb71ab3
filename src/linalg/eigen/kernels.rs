//! Loops over vectors, compiled for the widest instructions that the machine has.

#![expect(
    clippy::inline_always,
    reason = "a loop gets its instructions from the function it is inlined into"
)]

use faer::MatRef;
use pulp::{Arch, Simd, WithSimd};

use crate::linalg::Scalar;

/// Runs a loop with the widest instructions there are: the compiler uses them in what is inlined into `with_simd`.
struct Vectorized<F>(F);

/// A loop that can be inlined into a function with other instructions than the caller's.
trait Loop {
    type Output;
    fn run(self) -> Self::Output;
}

impl<F: Loop> WithSimd for Vectorized<F> {
    type Output = F::Output;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> F::Output {
        self.0.run()
    }
}

struct AddScaled<'a, T>(&'a mut [T], T, &'a [T]);

impl<T: Scalar> Loop for AddScaled<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self(y, scale, x) = self;
        for (y, &x) in y.iter_mut().zip(x) {
            *y = x.fused(scale, *y);
        }
    }
}

/// `y += scale x`.
pub(super) fn add_scaled<T: Scalar>(y: &mut [T], scale: T, x: &[T]) {
    Arch::new().dispatch(Vectorized(AddScaled(y, scale, x)));
}

struct Dot<'a, T>(&'a [T], &'a [T]);

impl<T: Scalar> Loop for Dot<'_, T> {
    type Output = T;

    #[inline(always)]
    fn run(self) -> T {
        const LANES: usize = 32;
        let Self(x, y) = self;
        let mut sums = [T::from_f64(0.0); LANES];
        let (x_chunks, x_rest) = x.as_chunks::<LANES>();
        let (y_chunks, y_rest) = y.as_chunks::<LANES>();
        for (x, y) in x_chunks.iter().zip(y_chunks) {
            for l in 0..LANES {
                sums[l] = x[l].fused(y[l], sums[l]);
            }
        }
        for (l, (&x, &y)) in x_rest.iter().zip(y_rest).enumerate() {
            sums[l] = x.fused(y, sums[l]);
        }
        total(sums)
    }
}

/// `xt y`, in partial sums.
pub(super) fn dot<T: Scalar>(x: &[T], y: &[T]) -> T {
    Arch::new().dispatch(Vectorized(Dot(x, y)))
}

#[inline(always)]
fn total<T: Scalar, const L: usize>(mut sums: [T; L]) -> T {
    let mut width = L / 2;
    while width > 0 {
        for l in 0..width {
            sums[l] = sums[l] + sums[l + width];
        }
        width /= 2;
    }
    sums[0]
}

struct Columns<'a, T, const L: usize> {
    a: MatRef<'a, T>,
    first: usize,
    last: usize,
    x: &'a [T],
    y: &'a mut [T],
}

impl<T: Scalar, const L: usize> Loop for Columns<'_, T, L> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        columns::<T, L>(self.a, self.first, self.last, self.x, self.y);
    }
}

/// Adds to y what the columns `first..last` of the lower triangle of A, and their mirror images, contribute to `A x`.
pub(super) fn symmetric_product<T: Scalar>(
    a: MatRef<'_, T>,
    first: usize,
    last: usize,
    x: &[T],
    y: &mut [T],
) {
    // partial sums of four columns fill half of the vector registers
    if size_of::<T>() == 4 {
        Arch::new().dispatch(Vectorized(Columns::<T, 16> { a, first, last, x, y }));
    } else {
        Arch::new().dispatch(Vectorized(Columns::<T, 8> { a, first, last, x, y }));
    }
}

#[inline(always)]
fn columns<T: Scalar, const L: usize>(a: MatRef<'_, T>, first: usize, last: usize, x: &[T], y: &mut [T]) {
    let column = |j: usize| a.col(j).try_as_col_major().map_or(&[][..], faer::col::ColRef::as_slice);
    let mut j = first;
    while j + 4 <= last {
        // the triangle on the diagonal
        for c in 0..4 {
            let values = column(j + c);
            y[j + c] = values[j + c].fused(x[j + c], y[j + c]);
            for i in c + 1..4 {
                y[j + i] = values[j + i].fused(x[j + c], y[j + i]);
                y[j + c] = values[j + i].fused(x[j + i], y[j + c]);
            }
        }
        let below = j + 4;
        let dots = four::<T, L>(
            [&column(j)[below..], &column(j + 1)[below..], &column(j + 2)[below..], &column(j + 3)[below..]],
            &x[below..],
            [x[j], x[j + 1], x[j + 2], x[j + 3]],
            &mut y[below..],
        );
        for c in 0..4 {
            y[j + c] = y[j + c] + dots[c];
        }
        j = below;
    }
    while j < last {
        let values = column(j);
        let mut sum = values[j] * x[j];
        for i in j + 1..x.len() {
            y[i] = values[i].fused(x[j], y[i]);
            sum = values[i].fused(x[i], sum);
        }
        y[j] = y[j] + sum;
        j += 1;
    }
}

/// `y += A scales` for four columns, and returns `At x`: both from one reading of A.
#[inline(always)]
fn four<T: Scalar, const L: usize>(a: [&[T]; 4], x: &[T], scales: [T; 4], y: &mut [T]) -> [T; 4] {
    let zero = T::from_f64(0.0);
    let (mut s0, mut s1, mut s2, mut s3) = ([zero; L], [zero; L], [zero; L], [zero; L]);
    let (a0, r0) = a[0].as_chunks::<L>();
    let (a1, r1) = a[1].as_chunks::<L>();
    let (a2, r2) = a[2].as_chunks::<L>();
    let (a3, r3) = a[3].as_chunks::<L>();
    let (xs, x_rest) = x.as_chunks::<L>();
    let (ys, y_rest) = y.as_chunks_mut::<L>();
    for (((((y, x), a0), a1), a2), a3) in ys.iter_mut().zip(xs).zip(a0).zip(a1).zip(a2).zip(a3) {
        for l in 0..L {
            s0[l] = a0[l].fused(x[l], s0[l]);
            s1[l] = a1[l].fused(x[l], s1[l]);
            s2[l] = a2[l].fused(x[l], s2[l]);
            s3[l] = a3[l].fused(x[l], s3[l]);
            let sum = a1[l].fused(scales[1], a0[l].fused(scales[0], y[l]));
            y[l] = a3[l].fused(scales[3], a2[l].fused(scales[2], sum));
        }
    }
    for (l, y) in y_rest.iter_mut().enumerate() {
        s0[l] = r0[l].fused(x_rest[l], s0[l]);
        s1[l] = r1[l].fused(x_rest[l], s1[l]);
        s2[l] = r2[l].fused(x_rest[l], s2[l]);
        s3[l] = r3[l].fused(x_rest[l], s3[l]);
        let sum = r1[l].fused(scales[1], r0[l].fused(scales[0], *y));
        *y = r3[l].fused(scales[3], r2[l].fused(scales[2], sum));
    }
    [total(s0), total(s1), total(s2), total(s3)]
}

/// Shifts whose pivots are counted together.
pub(super) const SHIFTS: usize = 32;

struct Inertia<'a> {
    diagonal: &'a [f64],
    squares: &'a [f64],
    shifts: &'a [f64; SHIFTS],
    smallest: f64,
}

impl Loop for Inertia<'_> {
    type Output = [f64; SHIFTS];

    #[inline(always)]
    fn run(self) -> [f64; SHIFTS] {
        let (shifts, smallest) = (*self.shifts, self.smallest);
        let mut pivots = [1.0f64; SHIFTS];
        let mut negative = [0.0f64; SHIFTS];
        for (&d, &square) in self.diagonal.iter().zip(self.squares) {
            for l in 0..SHIFTS {
                let pivot = (d - shifts[l]) - square / pivots[l];
                let pivot = if pivot.abs() < smallest { -smallest } else { pivot };
                pivots[l] = pivot;
                negative[l] += if pivot < 0.0 { 1.0 } else { 0.0 };
            }
        }
        negative
    }
}

/// For each shift x the number of negative pivots of `T - x`, T given by its diagonal and the squares left of it. A pivot smaller than
/// `smallest` is taken as that, negative.
pub(super) fn negative_pivots(
    diagonal: &[f64],
    squares: &[f64],
    shifts: &[f64; SHIFTS],
    smallest: f64,
) -> [f64; SHIFTS] {
    Arch::new().dispatch(Vectorized(Inertia { diagonal, squares, shifts, smallest }))
}
