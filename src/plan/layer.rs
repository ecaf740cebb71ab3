use super::catalog::CatalogEntry;
use super::floating_dtype;
use super::kind::Kind;
use super::recipe::Recipe;
use super::select::ConvolutionFacts;
use super::spectra::computed_bytes;
use super::tensor::written_dtype;
use crate::checkpoint::Dtype;
use crate::decompose::{Metric, Scheme, Unfolding};
use crate::linalg::{self, Spectrum};

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
    /// How it is seen as a matrix.
    pub unfolding: Unfolding,
    /// The rank of its factors.
    pub rank: usize,
    /// Other tensors that hold the same weight, each with its layer and its own layout.
    pub tied: Vec<(String, String, Unfolding)>,
    /// Stride, padding and dilation, where the recipe says them.
    pub(crate) facts: ConvolutionFacts,
    /// Its singular values, where something asked for them.
    pub spectrum: Option<Spectrum>,
    /// What its factors are made to be near in; the weight itself if none.
    pub metric: Option<Metric>,
    /// Bytes held while it is factored.
    pub memory_bytes: u64,
    /// Its part of the whole work.
    pub(crate) work: u64,
}

impl LayerPlan {
    /// The plan of a layer whose rank is known, with what factoring it takes.
    pub(super) fn new(
        entry: CatalogEntry,
        unfolding: Unfolding,
        rank: usize,
        tied: Vec<(String, String, Unfolding)>,
        recipe: &Recipe,
    ) -> Self {
        let item = computed_bytes(entry.dtype);
        let (rows, cols) = (unfolding.rows(), unfolding.cols());
        let (elements, factors) = (unfolding.parameters(), unfolding.factored_parameters(rank));
        let working = linalg::working_bytes(rows, cols, rank, item, recipe.svd);
        // The file's bytes, the elements, the decomposition, the factors as matrices and as bytes.
        let memory_bytes =
            entry.size_bytes + (elements * item) as u64 + working + (3 * factors * item) as u64;
        let small = rows.min(cols) as u64;
        let work = unfolding.groups() as u64 * small * small * rows.max(cols) as u64;
        let own = floating_dtype(entry.dtype).unwrap_or(Dtype::F32);
        Self {
            dtypes: (own, written_dtype(own, recipe.dtype)),
            tensor: entry.name,
            layer: entry.layer,
            kind: entry.kind,
            unfolding,
            rank,
            tied,
            facts: ConvolutionFacts::default(),
            spectrum: None,
            metric: None,
            memory_bytes,
            work,
        }
    }

    /// The same, near in a metric: in f64, with the weight in it and its factors beside. A kernel whose factors are refitted
    /// in turns takes its patches' moments in another order too, and what its first layer makes of them.
    pub(super) fn with_metric(mut self, metric: Option<Metric>) -> Self {
        if metric.is_some() {
            let (elements, rank) = (self.unfolding.parameters(), self.rank);
            let factors = self.unfolding.factored_parameters(rank);
            self.memory_bytes += 8 * (2 * elements + 3 * factors) as u64;
            let [out, channels, down, across] = self.unfolding.kernel();
            if self.unfolding.scheme() == Scheme::Spatial && down > 1 {
                let (patch, rows) = (channels * down * across, out * down);
                let refitted = 2 * patch * patch + 3 * rows * rows + 2 * down * rank * patch + 4 * elements;
                self.memory_bytes += 8 * refitted as u64;
            }
        }
        self.metric = metric;
        self
    }

    /// Multiply-adds of the factored layer for one token or output position, in one of its uses.
    pub(crate) fn multiply_adds_after(&self, unfolding: &Unfolding) -> u64 {
        let stride_rows = self.facts.stride.map_or(1, |stride| stride[0]);
        (self.rank * unfolding.multiply_adds_per_rank(stride_rows)) as u64
    }
}
