use super::catalog::CatalogEntry;
use super::floating_dtype;
use super::kind::Kind;
use super::recipe::Recipe;
use super::select::ConvolutionFacts;
use super::spectra::computed_bytes;
use super::tensor::written_dtype;
use crate::checkpoint::Dtype;
use crate::decompose::{Certainty, Foreseen, Format, Metric, Ranks, Scheme};
use crate::linalg::{Spectrum, SvdOptions};
use serde::Serialize;

/// One layer that is factored.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LayerPlan {
    /// The tensor that is read.
    pub tensor: String,
    /// Its layer's name.
    pub layer: String,
    /// What it is.
    pub kind: Kind,
    /// Its element type, and the one that its factors get.
    pub dtypes: (Dtype, Dtype),
    /// How it is factored.
    pub format: Format,
    /// The ranks of its factors.
    pub ranks: Ranks,
    /// Other tensors that hold the same weight, each with its layer and its own layout.
    pub tied: Vec<(String, String, Format)>,
    /// Stride, padding and dilation, where the recipe says them.
    pub(crate) facts: ConvolutionFacts,
    /// Its singular values as a matrix, where something asked for them.
    pub spectrum: Option<Spectrum>,
    /// The error to expect of these ranks, where something asked for it.
    pub foreseen: Option<Foreseen>,
    /// What other formats would be, the best first, where formats were compared.
    pub alternatives: Vec<Alternative>,
    /// What its factors are made to be near in; the weight itself if none.
    pub metric: Option<Metric>,
    /// Bytes held while it is factored.
    pub memory_bytes: u64,
    /// Its part of the whole work.
    pub(crate) work: u64,
}

/// A format that a layer could have had: its best ranks at no more parameters, or multiply-adds,
/// than the layer was given.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Alternative {
    /// The scheme.
    pub scheme: Scheme,
    /// The ranks.
    pub ranks: Ranks,
    /// Parameters of the factors.
    pub parameters: u64,
    /// Multiply-adds of the factors, for each token or output position.
    pub multiply_adds: u64,
    /// The relative error to expect.
    pub relative_error: f64,
    /// How that relates to the factors' own.
    pub certainty: Certainty,
}

impl LayerPlan {
    /// The plan of a layer whose rank is known, with what factoring it takes.
    pub(super) fn new(
        entry: CatalogEntry,
        format: Format,
        ranks: Ranks,
        tied: Vec<(String, String, Format)>,
        recipe: &Recipe,
    ) -> Self {
        let item = computed_bytes(entry.dtype);
        let (elements, factors) = (format.parameters(), format.factored_parameters(&ranks));
        let working = format.working_bytes(&ranks, item, &SvdOptions { method: recipe.svd, threads: 1 });
        // The file's bytes, the elements, the decomposition, the factors as matrices and as bytes.
        let memory_bytes =
            entry.size_bytes + (elements * item) as u64 + working + (3 * factors * item) as u64;
        let work = format.work();
        let own = floating_dtype(entry.dtype).unwrap_or(Dtype::F32);
        Self {
            dtypes: (own, written_dtype(own, recipe.dtype)),
            tensor: entry.name,
            layer: entry.layer,
            kind: entry.kind,
            format,
            ranks,
            tied,
            facts: ConvolutionFacts::default(),
            spectrum: None,
            foreseen: None,
            alternatives: Vec::new(),
            metric: None,
            memory_bytes,
            work,
        }
    }

    /// The same, near in a metric: in f64, with the weight in it and its factors beside. A kernel whose factors are refitted
    /// in turns takes its patches' moments in another order too, and what its first layer makes of them.
    pub(super) fn with_metric(mut self, metric: Option<Metric>) -> Self {
        if let (Some(_), Some(unfolding)) = (&metric, self.format.unfolding()) {
            let (elements, rank) = (unfolding.parameters(), self.ranks.largest());
            let factors = unfolding.factored_parameters(rank);
            self.memory_bytes += 8 * (2 * elements + 3 * factors) as u64;
            let [out, channels, down, across] = unfolding.kernel();
            if unfolding.scheme() == Scheme::Spatial && down > 1 {
                let (patch, rows) = (channels * down * across, out * down);
                let refitted = 2 * patch * patch + 3 * rows * rows + 2 * down * rank * patch + 4 * elements;
                self.memory_bytes += 8 * refitted as u64;
            }
        }
        self.metric = metric;
        self
    }

    /// Whether its format is the best of several.
    pub(crate) fn is_compared(&self) -> bool {
        !self.alternatives.is_empty()
    }

    /// Multiply-adds of the factored layer for one token or output position, in one of its uses.
    pub(crate) fn multiply_adds_after(&self, format: &Format) -> u64 {
        format.factored_multiply_adds(&self.ranks, self.facts.stride.unwrap_or([1, 1])) as u64
    }
}
