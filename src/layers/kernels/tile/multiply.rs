use super::super::machine::{Machine, blocks};
use super::vector::Vector;

/// Rows and columns in a slice.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Matrix<'a> {
    /// The elements.
    pub values: &'a [f32],
    /// Elements from one row to the next.
    pub row: usize,
    /// Elements from one column to the next.
    pub column: usize,
}

impl<'a> Matrix<'a> {
    /// Rows so many elements apart, their columns side by side.
    pub(in super::super) fn rows(values: &'a [f32], row: usize) -> Self {
        Self { values, row, column: 1 }
    }
}

/// Rows in a slice that is written, so many elements apart.
#[derive(Debug)]
pub(in super::super) struct MatrixMut<'a> {
    /// The elements.
    pub values: &'a mut [f32],
    /// Elements from one row to the next.
    pub row: usize,
}

/// Adds to `c`, shape `(m, n)`, the product of `a`, shape `(m, k)`, and `b`, shape `(k, n)` with columns side by side; `n` is a multiple of 8.
///
/// Without `sum` `c` is overwritten instead.
pub(in super::super) fn multiply(
    machine: Machine,
    [m, n, k]: [usize; 3],
    a: Matrix<'_>,
    b: Matrix<'_>,
    c: MatrixMut<'_>,
    sum: bool,
) {
    assert!(n.is_multiple_of(8), "{n} columns");
    if m == 0 || n == 0 {
        return;
    }
    assert!(c.row >= n && c.values.len() >= (m - 1) * c.row + n);
    if k == 0 {
        if !sum {
            c.values.chunks_mut(c.row).take(m).for_each(|row| row[..n].fill(0.0));
        }
        return;
    }
    assert!(b.column == 1 && b.values.len() >= (k - 1) * b.row + n);
    assert!(a.values.len() > (m - 1) * a.row + (k - 1) * a.column);
    let lanes = machine.lanes(n);
    let work = Work { sizes: [m, n, k], a, b, sum };
    // SAFETY: what the loops read and write was checked above; the machine runs what `available` found.
    unsafe {
        match (machine, lanes) {
            #[cfg(target_arch = "x86_64")]
            (Machine::Avx512, 16) if n.is_multiple_of(16) => multiply_avx512(&work, c),
            #[cfg(target_arch = "x86_64")]
            (Machine::Avx512 | Machine::Avx2, _) => multiply_avx2(&work, c),
            _ => multiply_all::<[f32; 8]>(&work, c),
        }
    }
}

/// What [`multiply`] was asked for.
struct Work<'a> {
    sizes: [usize; 3],
    a: Matrix<'a>,
    b: Matrix<'a>,
    sum: bool,
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx2,fma")]
unsafe fn multiply_avx512(work: &Work<'_>, c: MatrixMut<'_>) {
    // SAFETY: the caller's.
    unsafe { multiply_all::<std::arch::x86_64::__m512>(work, c) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn multiply_avx2(work: &Work<'_>, c: MatrixMut<'_>) {
    // SAFETY: the caller's.
    unsafe { multiply_all::<std::arch::x86_64::__m256>(work, c) }
}

/// # Safety
/// As [`multiply`] checks; inlined into a function with the instructions of `V`.
#[inline(always)]
unsafe fn multiply_all<V: Vector>(work: &Work<'_>, mut c: MatrixMut<'_>) {
    let [m, n, _] = work.sizes;
    let mut column = 0;
    while column < n {
        let vectors = match (n - column) / V::LANES {
            left @ (1 | 3) => left,
            _ => 2,
        };
        // SAFETY: the caller's; the columns end inside `n`.
        unsafe {
            match vectors {
                1 => multiply_columns::<V, 1>(work, m, column, &mut c),
                2 => multiply_columns::<V, 2>(work, m, column, &mut c),
                _ => multiply_columns::<V, 3>(work, m, column, &mut c),
            }
        }
        column += vectors * V::LANES;
    }
}

/// # Safety
/// As [`multiply`] checks, `N` vectors of columns from `column` on; inlined into a function with the instructions of `V`.
#[inline(always)]
unsafe fn multiply_columns<V: Vector, const N: usize>(
    work: &Work<'_>,
    m: usize,
    column: usize,
    c: &mut MatrixMut<'_>,
) {
    // sums that fill 12 of 16 registers, or 24 of 32
    let rows = if V::LANES == 16 { 24 / N } else { 12 / N }.min(8);
    for (first, size) in blocks(m, rows) {
        // SAFETY: the caller's; the rows end inside `m`.
        unsafe {
            match size {
                1 => multiply_block::<V, 1, N>(work, first, column, c),
                2 => multiply_block::<V, 2, N>(work, first, column, c),
                3 => multiply_block::<V, 3, N>(work, first, column, c),
                4 => multiply_block::<V, 4, N>(work, first, column, c),
                5 => multiply_block::<V, 5, N>(work, first, column, c),
                6 => multiply_block::<V, 6, N>(work, first, column, c),
                7 => multiply_block::<V, 7, N>(work, first, column, c),
                _ => multiply_block::<V, 8, N>(work, first, column, c),
            }
        }
    }
}

/// # Safety
/// As [`multiply`] checks, `M` rows and `N` vectors of columns; inlined into a function with the instructions of `V`.
#[inline(always)]
unsafe fn multiply_block<V: Vector, const M: usize, const N: usize>(
    work: &Work<'_>,
    first: usize,
    column: usize,
    c: &mut MatrixMut<'_>,
) {
    let [_, _, k] = work.sizes;
    let mut sums = [[V::splat(0.0); N]; M];
    // SAFETY: the matrices hold rows and columns of these sizes.
    unsafe {
        let mut a = work.a.values.as_ptr().add(first * work.a.row);
        let mut b = work.b.values.as_ptr().add(column);
        let to = c.values.as_mut_ptr().add(first * c.row + column);
        if work.sum {
            for i in 0..M {
                for j in 0..N {
                    sums[i][j] = V::load(to.add(i * c.row + j * V::LANES));
                }
            }
        }
        for _ in 0..k {
            let mut values = [V::splat(0.0); N];
            for j in 0..N {
                values[j] = V::load(b.add(j * V::LANES));
            }
            for i in 0..M {
                let factor = V::splat(*a.add(i * work.a.row));
                for j in 0..N {
                    sums[i][j] = values[j].multiply_add(factor, sums[i][j]);
                }
            }
            a = a.wrapping_add(work.a.column);
            b = b.wrapping_add(work.b.row);
        }
        for i in 0..M {
            for j in 0..N {
                sums[i][j].store(to.add(i * c.row + j * V::LANES));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows at any distance, on every machine; what lies between rows of the result stays.
    #[test]
    fn products_of_rows_at_any_distance() {
        for machine in Machine::available() {
            for [m, n, k] in [[1, 8, 1], [5, 16, 3], [13, 24, 7], [9, 40, 2], [3, 8, 0]] {
                let [a_row, b_row, c_row] = [k + 2, n + 1, n + 4];
                let a: Vec<f32> = (0..m * a_row).map(|i| (i % 7) as f32 - 3.0).collect();
                let b: Vec<f32> = (0..k * b_row).map(|i| (i % 5) as f32 - 2.0).collect();
                for sum in [false, true] {
                    let mut c = vec![10.0; m * c_row];
                    let to = MatrixMut { values: &mut c, row: c_row };
                    multiply(machine, [m, n, k], Matrix::rows(&a, a_row), Matrix::rows(&b, b_row), to, sum);
                    for (place, &found) in c.iter().enumerate() {
                        let (row, column) = (place / c_row, place % c_row);
                        let product =
                            || (0..k).map(|i| a[row * a_row + i] * b[i * b_row + column]).sum::<f32>();
                        let start = if sum || column >= n { 10.0 } else { 0.0 };
                        let expected = if column < n { start + product() } else { start };
                        assert_eq!(found, expected, "{machine:?} {m} x {n} x {k}, {sum}, at {place}");
                    }
                }
            }
        }
    }
}
