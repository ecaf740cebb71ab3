//! Loops over vectors, compiled for the widest instructions that the machine has.

#![expect(
    clippy::inline_always,
    reason = "a loop gets its instructions from the function it is inlined into"
)]

use faer::MatRef;
use pulp::{Arch, Simd, WithSimd};

use super::Scalar;

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
pub(crate) fn add_scaled<T: Scalar>(y: &mut [T], scale: T, x: &[T]) {
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
pub(crate) fn dot<T: Scalar>(x: &[T], y: &[T]) -> T {
    Arch::new().dispatch(Vectorized(Dot(x, y)))
}

#[inline(always)]
fn total<T: Scalar, const L: usize>(mut sums: [T; L]) -> T {
    let mut width = L / 2;
    while width > 0 {
        for l in 0..width {
            sums[l] += sums[l + width];
        }
        width /= 2;
    }
    sums[0]
}

/// Adds to y what the columns `first..last` of the lower triangle of A, and their mirror images, contribute to `A x`.
pub(crate) fn symmetric_product<T: Scalar>(
    a: MatRef<'_, T>,
    first: usize,
    last: usize,
    x: &[T],
    y: &mut [T],
) {
    let column = |j: usize| a.col(j).try_as_col_major().map_or(&[][..], faer::col::ColRef::as_slice);
    let mut j = first;
    while j + 4 <= last {
        // the triangle on the diagonal
        for c in 0..4 {
            let values = column(j + c);
            y[j + c] += values[j + c] * x[j + c];
            for i in c + 1..4 {
                y[j + i] += values[j + i] * x[j + c];
                y[j + c] += values[j + i] * x[j + i];
            }
        }
        let below = j + 4;
        let dots = T::four_columns(
            [&column(j)[below..], &column(j + 1)[below..], &column(j + 2)[below..], &column(j + 3)[below..]],
            &x[below..],
            [x[j], x[j + 1], x[j + 2], x[j + 3]],
            &mut y[below..],
        );
        for c in 0..4 {
            y[j + c] += dots[c];
        }
        j = below;
    }
    while j < last {
        let values = column(j);
        y[j] += values[j] * x[j];
        for i in j + 1..x.len() {
            y[i] += values[i] * x[j];
            y[j] += values[i] * x[i];
        }
        j += 1;
    }
}

/// The loop that the reduction to tridiagonal form spends its time in.
pub trait FourColumns: Sized {
    /// `y += A scales` for four columns, and returns `At x`: both from one reading of A.
    fn four_columns(a: [&[Self]; 4], x: &[Self], scales: [Self; 4], y: &mut [Self]) -> [Self; 4];
}

macro_rules! four_columns {
    ($type:ty, $as_simd:ident, $as_mut_simd:ident, $splat:ident, $mul_add:ident, $reduce_sum:ident) => {
        impl FourColumns for $type {
            fn four_columns(a: [&[Self]; 4], x: &[Self], scales: [Self; 4], y: &mut [Self]) -> [Self; 4] {
                struct Fused<'a>([&'a [$type]; 4], &'a [$type], [$type; 4], &'a mut [$type]);

                impl WithSimd for Fused<'_> {
                    type Output = [$type; 4];

                    #[inline(always)]
                    fn with_simd<S: Simd>(self, simd: S) -> [$type; 4] {
                        let Self(a, x, scales, y) = self;
                        let (a0, r0) = S::$as_simd(a[0]);
                        let (a1, r1) = S::$as_simd(a[1]);
                        let (a2, r2) = S::$as_simd(a[2]);
                        let (a3, r3) = S::$as_simd(a[3]);
                        let (xs, x_rest) = S::$as_simd(x);
                        let (ys, y_rest) = S::$as_mut_simd(y);
                        let [c0, c1, c2, c3] = scales.map(|scale| simd.$splat(scale));
                        let zero = simd.$splat(0.0);
                        let (mut s0, mut s1, mut s2, mut s3) = (zero, zero, zero, zero);
                        for (((((y, &x), &a0), &a1), &a2), &a3) in
                            ys.iter_mut().zip(xs).zip(a0).zip(a1).zip(a2).zip(a3)
                        {
                            s0 = simd.$mul_add(a0, x, s0);
                            s1 = simd.$mul_add(a1, x, s1);
                            s2 = simd.$mul_add(a2, x, s2);
                            s3 = simd.$mul_add(a3, x, s3);
                            let sum = simd.$mul_add(a1, c1, simd.$mul_add(a0, c0, *y));
                            *y = simd.$mul_add(a3, c3, simd.$mul_add(a2, c2, sum));
                        }
                        let mut dots = [s0, s1, s2, s3].map(|s| simd.$reduce_sum(s));
                        for (c, (rest, scale)) in [r0, r1, r2, r3].into_iter().zip(scales).enumerate() {
                            for ((&a, &x), y) in rest.iter().zip(x_rest).zip(y_rest.iter_mut()) {
                                dots[c] += a * x;
                                *y += a * scale;
                            }
                        }
                        dots
                    }
                }
                Arch::new().dispatch(Fused(a, x, scales, y))
            }
        }
    };
}
four_columns!(f32, as_simd_f32s, as_mut_simd_f32s, splat_f32s, mul_add_f32s, reduce_sum_f32s);
four_columns!(f64, as_simd_f64s, as_mut_simd_f64s, splat_f64s, mul_add_f64s, reduce_sum_f64s);

/// Shifts whose pivots are counted together.
pub(crate) const SHIFTS: usize = 32;

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
pub(crate) fn negative_pivots(
    diagonal: &[f64],
    squares: &[f64],
    shifts: &[f64; SHIFTS],
    smallest: f64,
) -> [f64; SHIFTS] {
    Arch::new().dispatch(Vectorized(Inertia { diagonal, squares, shifts, smallest }))
}

struct Squares<'a, T>(&'a [T]);

impl<T: Scalar> Loop for Squares<'_, T> {
    type Output = (f64, f64);

    #[inline(always)]
    fn run(self) -> (f64, f64) {
        const LANES: usize = 16;
        let (mut largest, mut sums) = ([0.0f64; LANES], [0.0f64; LANES]);
        let (chunks, rest) = self.0.as_chunks::<LANES>();
        for chunk in chunks {
            for l in 0..LANES {
                let x = chunk[l].to_f64();
                largest[l] = if x.abs() > largest[l] { x.abs() } else { largest[l] };
                sums[l] += x * x;
            }
        }
        for (l, x) in rest.iter().enumerate() {
            largest[l] = largest[l].max(x.to_f64().abs());
            sums[l] += x.to_f64() * x.to_f64();
        }
        (largest.into_iter().fold(0.0, f64::max), total(sums))
    }
}

/// The largest magnitude and the sum of squares. The sum is not finite if an element is not.
pub(crate) fn squares<T: Scalar>(x: &[T]) -> (f64, f64) {
    Arch::new().dispatch(Vectorized(Squares(x)))
}
