use faer::{Accum, Mat, MatMut, MatRef};

use crate::linalg::{LinalgError, Team, multiply, require_finite};

/// Numbers that are summed at a time, so that rounding grows with the root of the number of sums.
const BLOCK: usize = 256;

/// A dense tensor, its last axis fastest in memory.
///
/// A mode is an axis of it, counted from 0.
///
/// # Examples
/// ```
/// use faer::mat;
/// use fnl::decompose::tensor::DenseTensor;
/// let t = DenseTensor::new(vec![2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
/// // columns 1 and 2 are added up
/// let sums = t.mode_product(1, mat![[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]].as_ref());
/// assert_eq!(sums, DenseTensor::new(vec![2, 2], vec![1.0, 5.0, 4.0, 11.0]));
/// assert_eq!(t.unfold(1)[(2, 1)], 6.0); // (n_1, n_0)
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct DenseTensor {
    /// The size of each axis.
    pub shape: Vec<usize>,
    /// The elements, in row-major order.
    pub data: Vec<f64>,
}

/// The order that undoes one: where each axis has gone.
#[must_use]
pub(crate) fn inverse(order: &[usize]) -> Vec<usize> {
    let mut back = vec![0; order.len()];
    order.iter().enumerate().for_each(|(place, &axis)| back[axis] = place);
    back
}

impl DenseTensor {
    /// A tensor of these elements.
    ///
    /// # Panics
    /// If the shape has another number of elements.
    #[must_use]
    pub fn new(shape: Vec<usize>, data: Vec<f64>) -> Self {
        assert_eq!(shape.iter().product::<usize>(), data.len(), "a shape counts its elements");
        Self { shape, data }
    }

    /// The sum of the squares of the elements.
    #[must_use]
    pub fn norm_squared(&self) -> f64 {
        self.data.chunks(BLOCK).map(|block| block.iter().map(|x| x * x).sum::<f64>()).sum()
    }

    /// `|T - S|^2`, the sum of the squares of the differences.
    ///
    /// # Panics
    /// If the shapes differ.
    #[must_use]
    pub fn distance_squared(&self, other: &Self) -> f64 {
        assert_eq!(self.shape, other.shape, "tensors that are compared have one shape");
        let blocks = self.data.chunks(BLOCK).zip(other.data.chunks(BLOCK));
        blocks.map(|(x, y)| x.iter().zip(y).map(|(x, y)| (x - y) * (x - y)).sum::<f64>()).sum()
    }

    /// The matrix of shape `(n_mode, rest)` whose columns run through the other modes in row-major order.
    ///
    /// # Panics
    /// If there is no such mode.
    #[must_use]
    pub fn unfold(&self, mode: usize) -> Mat<f64> {
        let (_, n, after) = self.around(mode);
        let rest = self.data.len() / n.max(1);
        let mut matrix = Mat::zeros(n, rest);
        for (b, slab) in self.data.chunks_exact((n * after).max(1)).enumerate() {
            for (i, row) in slab.chunks_exact(after).enumerate() {
                for (a, &x) in row.iter().enumerate() {
                    matrix[(i, b * after + a)] = x;
                }
            }
        }
        matrix
    }

    /// The tensor of this shape whose unfolding along a mode is this matrix: the way back from [`DenseTensor::unfold`].
    ///
    /// # Panics
    /// If the matrix has another number of elements than the shape, or of rows than the mode.
    #[must_use]
    pub fn fold(mode: usize, matrix: MatRef<'_, f64>, shape: &[usize]) -> Self {
        let count = shape.iter().product();
        assert_eq!((matrix.nrows(), matrix.nrows() * matrix.ncols()), (shape[mode], count), "one shape");
        let mut tensor = Self::new(shape.to_vec(), vec![0.0; count]);
        let (_, n, after) = tensor.around(mode);
        for (b, slab) in tensor.data.chunks_exact_mut((n * after).max(1)).enumerate() {
            for (i, row) in slab.chunks_exact_mut(after).enumerate() {
                for (a, x) in row.iter_mut().enumerate() {
                    *x = matrix[(i, b * after + a)];
                }
            }
        }
        tensor
    }

    /// The tensor with a mode multiplied by a matrix: `S_(..j..) = sum_i m_ji T_(..i..)`, where the mode's size becomes
    /// the number of the matrix's rows.
    ///
    /// # Shapes
    /// `matrix` is `(m, n_mode)`.
    ///
    /// # Panics
    /// If the matrix has not as many columns as the mode is long.
    #[must_use]
    pub fn mode_product(&self, mode: usize, matrix: MatRef<'_, f64>) -> Self {
        self.mode_product_by(&Team::new(1), mode, matrix)
    }

    /// The same, by a team. Fastest where little stands before the mode.
    pub(super) fn mode_product_by(&self, team: &Team, mode: usize, matrix: MatRef<'_, f64>) -> Self {
        let (before, n, after) = self.around(mode);
        assert_eq!(matrix.ncols(), n, "a matrix has a column for each place of the mode");
        let m = matrix.nrows();
        let mut data = vec![0.0; before * m * after];
        if after == 1 {
            let from = MatRef::from_row_major_slice(&self.data, before, n);
            let to = MatMut::from_row_major_slice_mut(&mut data, before, m);
            multiply(team, to, Accum::Replace, from, matrix.transpose(), 1.0);
        } else {
            let slabs = self.data.chunks_exact((n * after).max(1));
            for (from, to) in slabs.zip(data.chunks_exact_mut((m * after).max(1))) {
                let from = MatRef::from_row_major_slice(from, n, after);
                let to = MatMut::from_row_major_slice_mut(to, m, after);
                multiply(team, to, Accum::Replace, matrix, from, 1.0);
            }
        }
        let mut shape = self.shape.clone();
        shape[mode] = m;
        Self { shape, data }
    }

    /// The tensor whose axis k is this one's axis `order[k]`.
    ///
    /// # Panics
    /// If `order` is no permutation of the axes.
    #[must_use]
    pub fn permuted(&self, order: &[usize]) -> Self {
        let mut sorted = order.to_vec();
        sorted.sort_unstable();
        assert!(sorted.iter().copied().eq(0..self.shape.len()), "an order names every axis once");
        let strides = self.strides();
        let axes: Vec<(usize, usize)> = order.iter().map(|&k| (self.shape[k], strides[k])).collect();
        let mut data = Vec::with_capacity(self.data.len());
        copy_strided(&self.data, 0, &axes, &mut data);
        Self { shape: axes.iter().map(|axis| axis.0).collect(), data }
    }

    /// The first `modes` axes as rows and the others as columns, without a copy.
    pub(super) fn split(&self, modes: usize) -> MatRef<'_, f64> {
        let rows = self.shape[..modes].iter().product();
        let cols = self.shape[modes..].iter().product();
        MatRef::from_row_major_slice(&self.data, rows, cols)
    }

    /// Refuses a tensor that is empty or not finite. The position reported is that in the unfolding of mode 0.
    pub(super) fn require_usable(&self) -> Result<(), LinalgError> {
        let matrix = self.split(1);
        if self.data.is_empty() {
            return Err(LinalgError::Empty { rows: matrix.nrows(), cols: matrix.ncols() });
        }
        require_finite(matrix)
    }

    /// What stands before a mode, its size, and what stands after it.
    fn around(&self, mode: usize) -> (usize, usize, usize) {
        let before = self.shape[..mode].iter().product();
        (before, self.shape[mode], self.shape[mode + 1..].iter().product())
    }

    fn strides(&self) -> Vec<usize> {
        let after = |axis: usize| self.shape[axis + 1..].iter().product();
        (0..self.shape.len()).map(after).collect()
    }
}

/// Appends the elements of the axes, given as sizes and strides, outermost first.
fn copy_strided(from: &[f64], start: usize, axes: &[(usize, usize)], to: &mut Vec<f64>) {
    match *axes {
        [] => to.push(from[start]),
        [(n, 1)] => to.extend_from_slice(&from[start..start + n]),
        [(n, stride)] => to.extend((0..n).map(|i| from[start + i * stride])),
        [(n, stride), ref rest @ ..] => {
            (0..n).for_each(|i| copy_strided(from, start + i * stride, rest, to));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::random;
    use super::*;

    #[test]
    fn unfolding_and_permuting_agree_with_the_index_formula_and_go_back() {
        let t = random(1, &[2, 3, 4, 5]);
        let at = |i: [usize; 4]| t.data[((i[0] * 3 + i[1]) * 4 + i[2]) * 5 + i[3]];
        let unfolded = t.unfold(1);
        assert_eq!((unfolded.nrows(), unfolded.ncols()), (3, 40));
        assert_eq!(unfolded[(2, (4 + 3) * 5 + 4)], at([1, 2, 3, 4]));
        let moved = t.permuted(&[3, 1, 0, 2]);
        assert_eq!(moved.shape, [5, 3, 2, 4]);
        assert_eq!(moved.data[((4 * 3 + 2) * 2 + 1) * 4 + 3], at([1, 2, 3, 4]));
        assert_eq!(moved.permuted(&[2, 1, 3, 0]), t);
        for mode in 0..4 {
            assert_eq!(DenseTensor::fold(mode, t.unfold(mode).as_ref(), &t.shape), t);
        }
    }

    #[test]
    fn a_mode_product_is_a_product_with_the_unfolding() {
        let t = random(2, &[4, 3, 6]);
        for mode in 0..3 {
            let n = t.shape[mode];
            let matrix = random(3, &[5, n]).unfold(0);
            let product = t.mode_product(mode, matrix.as_ref());
            let expected = &matrix * t.unfold(mode);
            assert!((product.unfold(mode) - expected).norm_max() < 1e-13);
        }
    }
}
