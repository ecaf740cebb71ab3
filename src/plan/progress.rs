use crate::decompose::{Ranks, Scheme};

/// What long work is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// Running the model over calibration data.
    Calibrating,
    /// Singular values of the selected layers, for a rank rule or a report.
    Spectra,
    /// Formats that may lose least, tried.
    Comparing,
    /// Truncated SVDs and writing.
    Factoring,
    /// Multiplying factors out.
    Collapsing,
    /// Recomputing errors.
    Verifying,
}

/// One layer's part of a stage, done.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct LayerEvent<'a> {
    /// The layer.
    pub layer: &'a str,
    /// Its scheme, where several are compared.
    pub scheme: Option<Scheme>,
    /// Its rank, where the stage gives it one.
    pub ranks: Option<Ranks>,
    /// Its relative error, where the stage measures one.
    pub relative_error: Option<f64>,
    /// How long it took.
    pub elapsed_secs: f64,
}

impl<'a> LayerEvent<'a> {
    /// An event without scheme, rank or error.
    #[must_use]
    pub fn new(layer: &'a str, elapsed_secs: f64) -> Self {
        Self { layer, scheme: None, ranks: None, relative_error: None, elapsed_secs }
    }
}

/// Hears of work as it goes on, from several threads at once.
pub trait Progress: Sync {
    /// A stage begins, with this many layers and this much work in all.
    fn begin(&self, _stage: Stage, _layers: usize, _work: u64) {}
    /// Work on a layer begins.
    fn started(&self, _layer: &str) {}
    /// A layer is done; `work` is its part of the stage's.
    fn finished(&self, _event: &LayerEvent<'_>, _work: u64) {}
    /// So much of a stage's work is done that goes through all layers at once.
    fn advanced(&self, _event: &LayerEvent<'_>, _work: u64) {}
    /// The stage is over.
    fn end(&self) {}
    /// Something the user should know, that is no error.
    fn warn(&self, _message: &str) {}
}

/// Hears nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProgress;

impl Progress for NoProgress {}
