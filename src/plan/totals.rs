use super::catalog::Catalog;
use super::kind::Kind;
use super::layer::LayerPlan;
use super::recipe::{Recipe, Save};
use super::tensor::TensorPlan;
use serde::Serialize;

/// Sums over a checkpoint, before and after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Totals {
    /// Parameters of the input: all elements that are not buffers.
    pub parameters_before: u64,
    /// Parameters of the output.
    pub parameters_after: u64,
    /// Parameters of the factored layers' weights in the input.
    pub layer_parameters_before: u64,
    /// Parameters of the factored layers' weights in the output.
    pub layer_parameters_after: u64,
    /// Bytes of all tensors of the input.
    pub bytes_before: u64,
    /// Bytes of all tensors of the output.
    pub bytes_after: u64,
    /// Multiply-adds of the input's weights for one token, or one output position of each convolution.
    pub multiply_adds_before: u64,
    /// The same of the output's weights.
    pub multiply_adds_after: u64,
    /// Number of layers that are factored.
    pub layers_factored: usize,
    /// Number of weights that stay dense.
    pub layers_dense: usize,
}

impl Totals {
    pub(super) fn new(
        catalog: &Catalog,
        layers: &[LayerPlan],
        tensors: &[TensorPlan],
        recipe: &Recipe,
    ) -> Self {
        let mut totals = Self {
            parameters_before: catalog.parameters(),
            layers_dense: tensors.iter().filter(|tensor| tensor.reason.is_some()).count(),
            ..Self::default()
        };
        for (entry, tensor) in catalog.entries().zip(tensors) {
            totals.bytes_before += entry.size_bytes;
            for output in &tensor.outputs {
                let elements: u64 = output.shape.iter().map(|&axis| axis as u64).product();
                let bits = crate::checkpoint::dtype_bits(output.dtype) as u64;
                totals.bytes_after += (elements * bits).div_ceil(8);
                if entry.kind.is_parameter() {
                    totals.parameters_after += elements;
                }
            }
            let runs = entry.is_candidate() && entry.kind != Kind::Embedding;
            if runs
                && (entry.kind.forms_chain()
                    || entry.kind == Kind::Recurrent
                    || entry.kind == Kind::PackedProjection)
            {
                totals.multiply_adds_before += entry.elements();
                totals.multiply_adds_after += entry.elements();
            }
        }
        for layer in layers {
            for format in std::iter::once(&layer.format).chain(layer.tied.iter().map(|(_, _, format)| format))
            {
                totals.layers_factored += 1;
                totals.layer_parameters_before += format.parameters() as u64;
                if recipe.save == Save::Collapsed {
                    totals.layer_parameters_after += format.parameters() as u64;
                    continue;
                }
                totals.layer_parameters_after += format.factored_parameters(&layer.ranks) as u64;
                totals.multiply_adds_after -= format.multiply_adds() as u64;
                totals.multiply_adds_after += layer.multiply_adds_after(format);
            }
        }
        totals
    }

    /// Parameters after / before, of the whole checkpoint.
    #[must_use]
    pub fn keep(&self) -> f64 {
        part(self.parameters_after, self.parameters_before)
    }

    /// Parameters after / before, of the factored layers.
    #[must_use]
    pub fn layer_keep(&self) -> f64 {
        part(self.layer_parameters_after, self.layer_parameters_before)
    }
}

fn part(after: u64, before: u64) -> f64 {
    if before == 0 { 1.0 } else { after as f64 / before as f64 }
}
