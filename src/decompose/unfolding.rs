use super::{DecomposeError, Layout, Scheme};
use crate::linalg::Scalar;
use faer::{Mat, MatRef};

/// A weight seen as one matrix per group, and the chain of layers that its factors form.
///
/// The matrix of a convolution kernel `K` of shape `(o, i, kh, kw)` with `g` groups, per group:
///
/// | scheme | matrix | first layer | second layer |
/// | --- | --- | --- | --- |
/// | `spatial` | `K.permute(0,2,1,3).reshape(o/g * kh, i * kw)` | `(g r, i, 1, kw)` | `(o, r, kh, 1)` |
/// | `channel` | `K.reshape(o/g, i * kh * kw)` | `(g r, i, kh, kw)` | `(o, r, 1, 1)` |
///
/// `i` counts the input channels of one group, as the stored kernel does.
///
/// `deep` puts a square layer between the two, of shape `(r, r)` or `(g r, r, 1, 1)`; its matrix is `spatial`'s for
/// two-dimensional kernels.
///
/// # Reference
///
/// Khodak, Tenenholtz, Mackey, Fusi, "Initialization and Regularization of Factorized Neural Layers",
/// ICLR 2021, section 2 (`spatial`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfolding {
    pub(super) layout: Layout,
    /// Whose matrix it is: never `deep`.
    pub(super) scheme: Scheme,
    pub(super) deep: bool,
    pub(super) shape: Vec<usize>,
    pub(super) groups: usize,
    /// `(out, in, kh, kw)` of one group; a matrix has `kh = kw = 1`.
    pub(super) kernel: [usize; 4],
}

/// The weight of one layer of a chain: its shape and its elements in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct Factor<T> {
    /// The stored shape.
    pub shape: Vec<usize>,
    /// The elements, last axis fastest.
    pub data: Vec<T>,
}

/// A group's matrix: a view where the stored order allows one, a copy where it doesn't.
pub(crate) enum GroupMatrix<'a, T> {
    View(MatRef<'a, T>),
    Copy(Mat<T>),
}

impl<T> GroupMatrix<'_, T> {
    pub(crate) fn as_ref(&self) -> MatRef<'_, T> {
        match self {
            Self::View(view) => *view,
            Self::Copy(matrix) => matrix.as_ref(),
        }
    }
}

impl Unfolding {
    /// Describes how a weight of this layout and shape is factored.
    ///
    /// A one-dimensional kernel, and a `1 x 1` one, has the same matrix under both convolution schemes.
    ///
    /// # Errors
    ///
    /// - [`DecomposeError::Scheme`] when the scheme does not apply or the shape is not the layout's;
    /// - [`DecomposeError::Groups`] when the groups do not divide the output channels.
    pub fn new(
        layout: Layout,
        scheme: Scheme,
        shape: &[usize],
        groups: usize,
    ) -> Result<Self, DecomposeError> {
        let asked = scheme;
        let mismatch =
            || DecomposeError::Scheme { scheme: asked.name(), layout: layout.name(), shape: shape.to_vec() };
        let (deep, scheme) = match (scheme, layout) {
            (Scheme::Deep, Layout::Conv2d) => (true, Scheme::Spatial),
            (Scheme::Deep, Layout::Conv1d) => (true, Scheme::Channel),
            (Scheme::Deep, _) => (true, Scheme::Matrix),
            (scheme, _) => (false, scheme),
        };
        let kernel = match (layout, scheme, shape) {
            (Layout::Linear | Layout::Embedding, Scheme::Matrix, &[rows, cols]) => [rows, cols, 1, 1],
            (Layout::TransposedLinear, Scheme::Matrix, &[rows, cols]) => [cols, rows, 1, 1],
            (Layout::Conv1d, Scheme::Spatial | Scheme::Channel, &[o, i, k]) => [o, i, 1, k],
            (Layout::Conv2d, Scheme::Spatial | Scheme::Channel, &[o, i, kh, kw]) => [o, i, kh, kw],
            _ => return Err(mismatch()),
        };
        if kernel.contains(&0) {
            return Err(mismatch());
        }
        if groups == 0 || !kernel[0].is_multiple_of(groups) || (groups > 1 && !layout.is_convolution()) {
            return Err(DecomposeError::Groups { groups, out_channels: kernel[0] });
        }
        let kernel = [kernel[0] / groups, kernel[1], kernel[2], kernel[3]];
        // With one row of kernel elements the two schemes coincide; the simpler one names it.
        let scheme = if layout == Layout::Conv1d { Scheme::Channel } else { scheme };
        Ok(Self { layout, scheme, deep, shape: shape.to_vec(), groups, kernel })
    }

    /// The weight's layout.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The scheme: for one-dimensional kernels of two factors always `channel`.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        if self.deep { Scheme::Deep } else { self.scheme }
    }

    /// The scheme whose matrix this is: never `deep`.
    #[must_use]
    pub fn base_scheme(&self) -> Scheme {
        self.scheme
    }

    /// `(out, in, kh, kw)` of one group; a matrix has `kh = kw = 1`.
    #[must_use]
    pub(crate) fn kernel(&self) -> [usize; 4] {
        self.kernel
    }

    /// The dense weight's stored shape.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number of groups, 1 except for grouped convolutions.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// Rows of one group's matrix.
    #[must_use]
    pub fn rows(&self) -> usize {
        match self.scheme {
            Scheme::Spatial => self.kernel[0] * self.kernel[2],
            _ => self.kernel[0],
        }
    }

    /// Columns of one group's matrix.
    #[must_use]
    pub fn cols(&self) -> usize {
        match self.scheme {
            Scheme::Spatial => self.kernel[1] * self.kernel[3],
            _ => self.kernel[1] * self.kernel[2] * self.kernel[3],
        }
    }

    /// The largest possible rank, of one group's matrix.
    #[must_use]
    pub fn max_rank(&self) -> usize {
        self.rows().min(self.cols())
    }

    /// Parameters of the dense weight.
    #[must_use]
    pub fn parameters(&self) -> usize {
        self.shape.iter().product()
    }

    /// Parameters that each unit of rank costs in the first and the last layer, over all groups.
    #[must_use]
    pub fn parameters_per_rank(&self) -> usize {
        self.groups * (self.rows() + self.cols())
    }

    /// Parameters of all factors at a rank.
    #[must_use]
    pub fn factored_parameters(&self, rank: usize) -> usize {
        let middle = if self.deep { self.groups * rank * rank } else { 0 };
        rank * self.parameters_per_rank() + middle
    }

    /// The largest rank at which the factored weight is smaller than the dense one, 0 if there is none.
    #[must_use]
    pub fn break_even_rank(&self) -> usize {
        (self.parameters() - 1) / self.parameters_per_rank()
    }

    /// Multiply-adds of the dense layer, for each token or output position.
    #[must_use]
    pub fn multiply_adds(&self) -> usize {
        match self.layout {
            Layout::Embedding => 0,
            _ => self.parameters(),
        }
    }

    /// Multiply-adds that each unit of rank costs, for each token or output position.
    ///
    /// The first layer of a `spatial` pair runs before the rows are strided, at `stride_rows` times as many
    /// positions as the output has.
    #[must_use]
    pub fn multiply_adds_per_rank(&self, stride_rows: usize) -> usize {
        match (self.layout, self.scheme) {
            (Layout::Embedding, _) => self.cols(),
            (_, Scheme::Spatial) => self.groups * (self.rows() + stride_rows.max(1) * self.cols()),
            _ => self.groups * (self.rows() + self.cols()),
        }
    }

    /// The stored shapes of the factors, in the order of the chain.
    #[must_use]
    pub fn factor_shapes(&self, rank: usize) -> Vec<Vec<usize>> {
        let [_, inner, kh, kw] = self.kernel;
        let out = self.kernel[0] * self.groups;
        let mut shapes = match (self.layout, self.scheme) {
            (Layout::Linear, _) => vec![vec![rank, inner], vec![out, rank]],
            (Layout::TransposedLinear, _) => vec![vec![inner, rank], vec![rank, out]],
            (Layout::Embedding, _) => vec![vec![out, rank], vec![inner, rank]],
            (Layout::Conv1d, _) => vec![vec![self.groups * rank, inner, kw], vec![out, rank, 1]],
            (Layout::Conv2d, Scheme::Spatial) => {
                vec![vec![self.groups * rank, inner, 1, kw], vec![out, rank, kh, 1]]
            }
            (Layout::Conv2d, _) => vec![vec![self.groups * rank, inner, kh, kw], vec![out, rank, 1, 1]],
        };
        if self.deep {
            let mut middle = vec![1; shapes[0].len()];
            (middle[0], middle[1]) =
                if self.layout.is_convolution() { (self.groups * rank, rank) } else { (rank, rank) };
            shapes.insert(1, middle);
        }
        shapes
    }

    /// The rank that a chain with these first factor's shape has, if the shape is one of the chain's.
    #[must_use]
    pub fn rank_of(&self, first: &[usize]) -> Option<usize> {
        let rank = match self.layout {
            Layout::Linear => *first.first()?,
            Layout::TransposedLinear | Layout::Embedding => *first.get(1)?,
            Layout::Conv1d | Layout::Conv2d => first.first()? / self.groups,
        };
        (self.factor_shapes(rank).first().map(Vec::as_slice) == Some(first)).then_some(rank)
    }

    /// Where element `(row, col)` of a group's matrix is stored.
    pub(super) fn position(&self, group: usize, row: usize, col: usize) -> usize {
        let [out, inner, kh, kw] = self.kernel;
        match (self.layout, self.scheme) {
            (Layout::TransposedLinear, _) => col * out + row,
            (_, Scheme::Spatial) => {
                let (o, y) = (row / kh, row % kh);
                let (i, x) = (col / kw, col % kw);
                (((group * out + o) * inner + i) * kh + y) * kw + x
            }
            _ => (group * out + row) * self.cols() + col,
        }
    }

    /// The index, axis by axis, of an element of a group's matrix in the stored tensor.
    pub(crate) fn index_of(&self, group: usize, row: usize, col: usize) -> Vec<usize> {
        let mut rest = self.position(group, row, col);
        let mut index: Vec<usize> = self
            .shape
            .iter()
            .rev()
            .map(|&axis| {
                let at = rest % axis;
                rest /= axis;
                at
            })
            .collect();
        index.reverse();
        index
    }

    /// One matrix per group.
    pub(crate) fn matrices<'a, T: Scalar>(
        &self,
        data: &'a [T],
    ) -> Result<Vec<GroupMatrix<'a, T>>, DecomposeError> {
        self.check_length(data)?;
        let (rows, cols) = (self.rows(), self.cols());
        let matrix = |group: usize| match (self.layout, self.scheme) {
            (Layout::TransposedLinear, _) => {
                GroupMatrix::View(MatRef::from_column_major_slice(data, rows, cols))
            }
            (_, Scheme::Spatial) => {
                GroupMatrix::Copy(Mat::from_fn(rows, cols, |row, col| data[self.position(group, row, col)]))
            }
            _ => {
                let part = &data[group * rows * cols..(group + 1) * rows * cols];
                GroupMatrix::View(MatRef::from_row_major_slice(part, rows, cols))
            }
        };
        Ok((0..self.groups).map(matrix).collect())
    }

    pub(crate) fn check_length<T>(&self, data: &[T]) -> Result<(), DecomposeError> {
        let (expected, found) = (self.parameters(), data.len());
        if found == expected {
            Ok(())
        } else {
            Err(DecomposeError::Length { shape: self.shape.clone(), expected, found })
        }
    }
}
