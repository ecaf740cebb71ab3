//! Between a weight and its factors, in any format.

use super::tensorized::{factor_tensor, multiplied_out, stored_of, tensor_of, widened};
use super::weight::{error_of, ratio};
use super::{DecomposeError, Factor, Factored, Format, Layout, Metric, Ranks, factor_in, overcomplete};
use crate::linalg::{Scalar, SvdOptions};

/// How factors are found.
#[derive(Clone, Copy, Debug, Default)]
pub struct FormatOptions {
    /// Decompositions of matrices.
    pub svd: SvdOptions,
    /// What random numbers come from: further starts of `cp`, rows of wide factors.
    pub seed: u64,
}

impl Format {
    /// Finds factors of these ranks that are near the weight, in a metric if there is one (of matrices only).
    ///
    /// Ranks of matrices may be beyond the largest: what they then are is [`overcomplete`]'s.
    ///
    /// # Errors
    ///
    /// - as [`factor`](super::factor) and [`factor_in`];
    /// - [`DecomposeError::RankCount`] for ranks of another format
    pub fn factor<T: Scalar>(
        &self,
        data: &[T],
        ranks: &Ranks,
        metric: Option<&Metric>,
        options: &FormatOptions,
    ) -> Result<Factored<T>, DecomposeError> {
        match (self, metric) {
            (Self::Matrix(unfolding), Some(metric)) => {
                factor_in(metric, data, unfolding, ranks.largest(), &options.svd)
            }
            (Self::Matrix(unfolding), None) => {
                overcomplete(data, unfolding, ranks.largest(), &options.svd, options.seed)
            }
            (Self::Tensor(tensor), _) => {
                let ranks = self.ranks(ranks)?;
                factor_tensor(tensor, data, &ranks, options)
            }
        }
    }

    /// Multiplies factors out to the dense weight, in its stored order.
    ///
    /// # Errors
    ///
    /// - [`DecomposeError::FactorShape`], [`DecomposeError::Length`]: factors that are not this weight's
    pub fn collapse<T: Scalar>(
        &self,
        factors: &[Factor<T>],
        threads: usize,
    ) -> Result<Vec<T>, DecomposeError> {
        match self {
            Self::Matrix(unfolding) => unfolding.collapse(factors, threads),
            Self::Tensor(tensor) => {
                self.check(factors)?;
                let wide: Vec<Factor<f64>> = factors.iter().map(widened).collect();
                let dense = multiplied_out(tensor, &wide, threads);
                Ok(stored_of(tensor, &dense))
            }
        }
    }

    /// `|W - W'| / |W|` of given factors; 0 for a zero weight that they match.
    ///
    /// # Errors
    ///
    /// - as [`Format::collapse`];
    /// - [`DecomposeError::Length`] when the data is not the weight's
    pub fn error_of<T: Scalar>(
        &self,
        data: &[T],
        factors: &[Factor<T>],
        threads: usize,
    ) -> Result<f64, DecomposeError> {
        let tensor = match self {
            Self::Matrix(unfolding) => return error_of(data, unfolding, factors, threads),
            Self::Tensor(tensor) => tensor,
        };
        self.check(factors)?;
        let weight = tensor_of(tensor, data)?;
        let wide: Vec<Factor<f64>> = factors.iter().map(widened).collect();
        let dense = multiplied_out(tensor, &wide, threads);
        let residual = weight.data.iter().zip(&dense.data).map(|(w, d)| (w - d) * (w - d)).sum();
        Ok(ratio(residual, weight.norm_squared()))
    }

    /// Whether the factors of one weight in this format can be had from those in another layout.
    #[must_use]
    pub(crate) fn has_factors_of(&self, other: &Self) -> bool {
        self.scheme() == other.scheme() && !self.is_transposed_tensor_of(other)
    }

    /// Whether outputs and inputs change places, which a tensor's modes do not follow.
    fn is_transposed_tensor_of(&self, other: &Self) -> bool {
        let is_transposed = |format: &Self| format.layout() == Layout::TransposedLinear;
        self.scheme().is_tensor() && is_transposed(self) != is_transposed(other)
    }

    /// The factors of the same weight in this layout, from those in another: a tied weight's.
    ///
    /// # Errors
    ///
    /// - [`DecomposeError::FactorShape`]: factors that are not the other's;
    /// - [`DecomposeError::TransposedTensor`]: tensors of layouts that are each other's transposes
    pub fn convert<T: Scalar>(
        &self,
        other: &Self,
        factors: &[Factor<T>],
    ) -> Result<Vec<Factor<T>>, DecomposeError> {
        if let (Self::Matrix(own), Self::Matrix(other)) = (self, other) {
            return own.convert_chain(other, factors);
        }
        if self.is_transposed_tensor_of(other) {
            let (layout, other) = (self.layout().name(), other.layout().name());
            return Err(DecomposeError::TransposedTensor { layout, other });
        }
        self.check(factors).map(|()| factors.to_vec())
    }

    fn check<T>(&self, factors: &[Factor<T>]) -> Result<(), DecomposeError> {
        let found: Vec<Vec<usize>> = factors.iter().map(|factor| factor.shape.clone()).collect();
        let ranks = self.ranks_of(&found).unwrap_or_else(|| self.max_ranks());
        let expected = self.factor_shapes(&ranks);
        for index in 0..expected.len().max(found.len()) {
            let at = |shapes: &[Vec<usize>]| shapes.get(index).cloned().unwrap_or_default();
            let (expected, found) = (at(&expected), at(&found));
            if expected != found {
                return Err(DecomposeError::FactorShape { index, expected, found });
            }
        }
        for factor in factors {
            let (expected, found) = (factor.shape.iter().product(), factor.data.len());
            if expected != found {
                return Err(DecomposeError::Length { shape: factor.shape.clone(), expected, found });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decompose::{Pairs, Scheme};

    #[test]
    fn factors_go_from_layout_to_layout_where_modes_stay() {
        let of = |layout, scheme, shape: &[usize]| {
            Format::new(layout, scheme, shape, 1, &Pairs::default()).unwrap()
        };
        let tucker = of(Layout::Linear, Scheme::Tucker, &[12, 18]);
        let factors: Vec<Factor<f64>> = tucker
            .factor_shapes(&tucker.max_ranks())
            .into_iter()
            .map(|shape| Factor { data: vec![0.5; shape.iter().product()], shape })
            .collect();
        assert_eq!(
            of(Layout::Embedding, Scheme::Tucker, &[12, 18]).convert(&tucker, &factors).unwrap(),
            factors
        );
        let turned = of(Layout::TransposedLinear, Scheme::Tucker, &[18, 12]);
        assert!(!turned.has_factors_of(&tucker));
        let error = turned.convert(&tucker, &factors).unwrap_err();
        assert!(matches!(error, DecomposeError::TransposedTensor { .. }), "{error}");
        // Another scheme's factors have other shapes, and nothing changes places.
        let error =
            of(Layout::Linear, Scheme::TensorTrain, &[12, 18]).convert(&tucker, &factors).unwrap_err();
        assert!(matches!(error, DecomposeError::FactorShape { .. }), "{error}");
    }
}
