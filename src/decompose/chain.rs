use super::{DecomposeError, Factor, Layout, Scheme, Unfolding};
use crate::linalg::{self, Scalar};
use faer::{Mat, MatRef};

/// A group's factors `A` (rows, r) and `B` (r, cols).
pub(crate) type Pair<T> = (Mat<T>, Mat<T>);

impl Unfolding {
    /// Lays the groups' factors `A` (rows, r) and `B` (r, cols) out as the weights of the chain.
    pub(crate) fn chain<T: Scalar>(&self, pairs: &[Pair<T>]) -> Vec<Factor<T>> {
        let rank = pairs.first().map_or(0, |(a, _)| a.ncols());
        let [_, _, kh, _] = self.kernel;
        let mut data = [Vec::new(), Vec::new()];
        for (a, b) in pairs {
            match (self.layout, self.scheme) {
                (Layout::TransposedLinear, _) => {
                    push_rows(&mut data[0], b.as_ref().transpose());
                    push_rows(&mut data[1], a.as_ref().transpose());
                }
                (Layout::Embedding, _) => {
                    push_rows(&mut data[0], a.as_ref());
                    push_rows(&mut data[1], b.as_ref().transpose());
                }
                (_, Scheme::Spatial) => {
                    push_rows(&mut data[0], b.as_ref());
                    // (o kh, r) -> (o, r, kh)
                    data[1].extend(
                        (0..self.kernel[0]).flat_map(|o| {
                            (0..rank).flat_map(move |k| (0..kh).map(move |y| a[(o * kh + y, k)]))
                        }),
                    );
                }
                _ => {
                    push_rows(&mut data[0], b.as_ref());
                    push_rows(&mut data[1], a.as_ref());
                }
            }
        }
        let mut data = Vec::from(data);
        if self.deep {
            let identity =
                (0..rank * rank).map(|at| T::from_f64(f64::from(u8::from(at / rank == at % rank))));
            data.insert(1, identity.clone().cycle().take(self.groups * rank * rank).collect());
        }
        self.factor_shapes(rank).into_iter().zip(data).map(|(shape, data)| Factor { shape, data }).collect()
    }

    /// The groups' factors `(A, B)` of a chain.
    pub(crate) fn pairs<T: Scalar>(&self, factors: &[Factor<T>]) -> Result<Vec<Pair<T>>, DecomposeError> {
        let rank = factors.first().and_then(|factor| self.rank_of(&factor.shape)).filter(|&rank| rank > 0);
        let expected = self.factor_shapes(rank.unwrap_or(1));
        for index in 0..expected.len().max(factors.len()) {
            let expected = expected.get(index).cloned().unwrap_or_default();
            let found = factors.get(index).map(|factor| factor.shape.clone()).unwrap_or_default();
            if found != expected || rank.is_none() {
                return Err(DecomposeError::FactorShape { index, expected, found });
            }
        }
        for factor in factors {
            let expected = factor.shape.iter().product();
            if factor.data.len() != expected {
                let (shape, found) = (factor.shape.clone(), factor.data.len());
                return Err(DecomposeError::Length { shape, expected, found });
            }
        }
        let (rank, rows, cols, kh) = (rank.unwrap_or(0), self.rows(), self.cols(), self.kernel[2]);
        let (first, last) = (&factors[0].data, &factors[factors.len() - 1].data);
        let pair = |group: usize| match (self.layout, self.scheme) {
            (Layout::TransposedLinear, _) => (
                Mat::from_fn(rows, rank, |row, k| last[k * rows + row]),
                Mat::from_fn(rank, cols, |k, col| first[col * rank + k]),
            ),
            (Layout::Embedding, _) => (
                Mat::from_fn(rows, rank, |row, k| first[row * rank + k]),
                Mat::from_fn(rank, cols, |k, col| last[col * rank + k]),
            ),
            (_, Scheme::Spatial) => {
                let (last, first) = (&last[group * rows * rank..], &first[group * rank * cols..]);
                (
                    Mat::from_fn(rows, rank, |row, k| last[((row / kh) * rank + k) * kh + row % kh]),
                    Mat::from_fn(rank, cols, |k, col| first[k * cols + col]),
                )
            }
            _ => {
                let (last, first) = (&last[group * rows * rank..], &first[group * rank * cols..]);
                (
                    Mat::from_fn(rows, rank, |row, k| last[row * rank + k]),
                    Mat::from_fn(rank, cols, |k, col| first[k * cols + col]),
                )
            }
        };
        let pairs = (0..self.groups).map(pair);
        if !self.deep {
            return Ok(pairs.collect());
        }
        // A M B = (A M) B
        let middle = |(group, (a, b)): (usize, Pair<T>)| {
            let stored = &factors[1].data[group * rank * rank..(group + 1) * rank * rank];
            let transposed = matches!(self.layout, Layout::TransposedLinear | Layout::Embedding);
            let m = Mat::from_fn(rank, rank, |i, j| {
                if transposed { stored[j * rank + i] } else { stored[i * rank + j] }
            });
            (linalg::matmul(a.as_ref(), m.as_ref(), 1), b)
        };
        Ok(pairs.enumerate().map(middle).collect())
    }

    /// The factors of the same matrix in this layout, from a chain in another: a tied weight's.
    pub(crate) fn convert_chain<T: Scalar>(
        &self,
        other: &Self,
        factors: &[Factor<T>],
    ) -> Result<Vec<Factor<T>>, DecomposeError> {
        let mut pairs = other.pairs(factors)?;
        let is_transposed = |unfolding: &Self| unfolding.layout == Layout::TransposedLinear;
        if is_transposed(self) != is_transposed(other) {
            // The same elements stand for the transposed matrix: (A B)t = Bt At
            let swapped = |(a, b): Pair<T>| (b.transpose().to_owned(), a.transpose().to_owned());
            pairs = pairs.into_iter().map(swapped).collect();
        }
        Ok(self.chain(&pairs))
    }

    /// Multiplies a chain out to the dense weight, in its stored order.
    ///
    /// # Errors
    ///
    /// - [`DecomposeError::FactorShape`] when the factors do not form this weight's chain;
    /// - [`DecomposeError::Length`] when a factor's elements are not its shape's.
    pub fn collapse<T: Scalar>(
        &self,
        factors: &[Factor<T>],
        threads: usize,
    ) -> Result<Vec<T>, DecomposeError> {
        let pairs = self.pairs(factors)?;
        let mut weight = vec![T::from_f64(0.0); self.parameters()];
        for (group, (a, b)) in pairs.iter().enumerate() {
            let product = linalg::matmul(a.as_ref(), b.as_ref(), threads);
            for col in 0..product.ncols() {
                for row in 0..product.nrows() {
                    weight[self.position(group, row, col)] = product[(row, col)];
                }
            }
        }
        Ok(weight)
    }
}

fn push_rows<T: Scalar>(data: &mut Vec<T>, matrix: MatRef<'_, T>) {
    data.reserve(matrix.nrows() * matrix.ncols());
    for row in 0..matrix.nrows() {
        data.extend((0..matrix.ncols()).map(|col| matrix[(row, col)]));
    }
}
