//! What becomes of a product's rows while they are in the cache.

#![expect(
    clippy::inline_always,
    reason = "a loop gets its instructions from the function it is inlined into"
)]

use super::smooth::Smooth;
use pulp::{Arch, Simd, WithSimd};

/// What rows `y` become: `activation(y + bias) + residual`, of which each part may be missing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Finish<'a> {
    /// One row, added to each.
    pub bias: Option<&'a [f32]>,
    /// What each element then becomes.
    pub activation: Option<Smooth>,
    /// As many rows, added at last.
    pub residual: Option<&'a [f32]>,
}

impl<'a> Finish<'a> {
    /// A row that is added to each.
    pub(crate) fn bias(bias: Option<&'a [f32]>) -> Self {
        Self { bias, ..Self::default() }
    }

    /// # Panics
    ///
    /// Panics when it is not for `m` rows of `n` elements.
    pub(super) fn check(self, m: usize, n: usize) {
        assert!(self.bias.is_none_or(|bias| bias.len() == n), "a bias for {n} columns");
        assert!(
            self.residual.is_none_or(|residual| residual.len() == m * n),
            "a residual of {m} rows of {n}"
        );
    }

    /// Finishes rows of `n` elements, of which the first is the whole's row `first`.
    pub(super) fn rows(self, first: usize, n: usize, to: &mut [f32]) {
        if self.bias.is_some() || self.activation.is_some() || self.residual.is_some() {
            let residual = self.residual.map(|residual| &residual[first * n..][..to.len()]);
            Arch::new().dispatch(Rows { finish: Self { residual, ..self }, n, to });
        }
    }
}

struct Rows<'a, 'b> {
    finish: Finish<'a>,
    n: usize,
    to: &'b mut [f32],
}

impl WithSimd for Rows<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { finish: Finish { bias, activation, residual }, n, to } = self;
        for (index, row) in to.chunks_exact_mut(n.max(1)).enumerate() {
            if let Some(bias) = bias {
                row.iter_mut().zip(bias).for_each(|(y, bias)| *y += bias);
            }
            if let Some(activation) = activation {
                activation.over::<S>(row);
            }
            if let Some(residual) = residual {
                row.iter_mut().zip(&residual[index * n..]).for_each(|(y, x)| *y += x);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_get_their_bias_then_the_activation_then_the_residual() {
        let (bias, residual) = ([1.0, -1.0, 0.5], [10.0, 20.0, 30.0, 40.0, 50.0, 60.0]);
        let finish = Finish { bias: Some(&bias), activation: Some(Smooth::Tanh), residual: Some(&residual) };
        finish.check(2, 3);
        let mut rows = [0.5, 1.0, -0.5];
        finish.rows(1, 3, &mut rows);
        for (found, expected) in rows.iter().zip([40.0 + 1.5f32.tanh(), 50.0, 60.0]) {
            assert!((found - expected).abs() < 1e-5, "{found} for {expected}");
        }
        Finish::default().rows(0, 3, &mut rows);
        assert_eq!(rows[1], 50.0);
    }
}
