use super::super::machine::Machine;
use super::multiply::{Matrix, MatrixMut};
use super::vector::Eight;

/// Writes rows of `width` elements as columns, each element times `scale`.
pub(in super::super) fn turn(
    machine: Machine,
    [rows, width]: [usize; 2],
    from: Matrix<'_>,
    scale: f32,
    to: &mut MatrixMut<'_>,
) {
    if rows == 0 || width == 0 {
        return;
    }
    assert!(from.column == 1 && from.values.len() >= (rows - 1) * from.row + width);
    assert!(to.row >= rows && to.values.len() >= (width - 1) * to.row + rows);
    // SAFETY: the rows and columns were just found to be there.
    unsafe {
        match machine {
            #[cfg(target_arch = "x86_64")]
            Machine::Avx512 | Machine::Avx2 => turn_avx2([rows, width], from, scale, to),
            Machine::Portable => turn_all::<[f32; 8]>([rows, width], from, scale, to),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn turn_avx2(sizes: [usize; 2], from: Matrix<'_>, scale: f32, to: &mut MatrixMut<'_>) {
    // SAFETY: the caller's.
    unsafe { turn_all::<std::arch::x86_64::__m256>(sizes, from, scale, to) }
}

/// # Safety
/// As [`turn`] checks; inlined into a function with the instructions of `V`.
#[inline(always)]
unsafe fn turn_all<V: Eight>(
    [rows, width]: [usize; 2],
    from: Matrix<'_>,
    scale: f32,
    to: &mut MatrixMut<'_>,
) {
    let whole = [rows / 8 * 8, width / 8 * 8];
    for row in (0..whole[0]).step_by(8) {
        for column in (0..whole[1]).step_by(8) {
            // SAFETY: eight rows from `row` on and eight columns from `column` on are there.
            unsafe {
                let mut block = [V::splat(0.0); 8];
                for i in 0..8 {
                    let values = V::load(from.values.as_ptr().add((row + i) * from.row + column));
                    block[i] = values.multiply_add(V::splat(scale), V::splat(0.0));
                }
                for (i, values) in V::transpose(block).into_iter().enumerate() {
                    values.store(to.values.as_mut_ptr().add((column + i) * to.row + row));
                }
            }
        }
    }
    for row in 0..rows {
        let first = if row < whole[0] { whole[1] } else { 0 };
        for column in first..width {
            to.values[column * to.row + row] = scale * from.values[row * from.row + column];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_columns_on_every_machine() {
        for machine in Machine::available() {
            for (rows, width) in [(1, 1), (8, 8), (7, 16), (19, 9), (16, 24)] {
                let (apart, across) = (width + 3, rows + 5);
                let from: Vec<f32> = (0..rows * apart).map(|i| i as f32).collect();
                let mut to = vec![-1.0; width * across];
                let mut columns = MatrixMut { values: &mut to, row: across };
                turn(machine, [rows, width], Matrix::rows(&from, apart), 0.5, &mut columns);
                for (place, &found) in to.iter().enumerate() {
                    let (column, row) = (place / across, place % across);
                    let expected = if row < rows { 0.5 * from[row * apart + column] } else { -1.0 };
                    assert_eq!(found, expected, "{machine:?}, {rows} x {width} at {place}");
                }
            }
        }
    }
}
