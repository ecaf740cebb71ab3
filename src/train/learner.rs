use super::{TrainError, TrainingOptions};
use crate::layers::{HeadProduct, LayerEntry, Node, Parameters, Tape};
use candle_core::{Device, Result};
use indexmap::IndexMap;
use std::fmt;

/// A network in training, and what it is to learn from a batch.
pub trait Learner: fmt::Debug {
    /// What it learns from at once.
    type Batch;

    /// All tensors.
    fn parameters(&self) -> &Parameters;

    /// The layers with a weight, in the order in which they were made.
    fn layers(&self) -> &[LayerEntry];

    /// The products of dense weights that heads of attention compute with.
    fn products(&self) -> &[HeadProduct] {
        &[]
    }

    /// What the loss of a batch is the mean over.
    fn samples(&self, batch: &Self::Batch) -> usize;

    /// The loss of a batch, on a tape that is run backwards.
    ///
    /// # Errors
    ///
    /// - a batch that the network cannot take; a device that fails
    fn loss(&self, tape: &Tape, batch: &Self::Batch, options: &TrainingOptions) -> Result<BatchLoss>;
}

/// What [`Learner::loss`] found.
#[derive(Clone, Debug)]
pub struct BatchLoss {
    /// The mean over the batch's samples, a number.
    pub loss: Node,
    /// Samples that were right, where one can be.
    pub correct: Option<usize>,
}

/// The data of a run: batches to learn from, and what was learned held against other data.
pub trait Lessons<L: Learner>: fmt::Debug {
    /// What samples are, in the plural.
    fn unit(&self) -> &'static str;

    /// Samples of an epoch.
    fn samples_per_epoch(&self) -> usize;

    /// Batches of an epoch.
    fn batches_per_epoch(&self) -> usize;

    /// The batches of an epoch from one of them on; they depend on nothing else but the options.
    fn epoch<'a>(
        &'a self,
        epoch: usize,
        first_batch: usize,
    ) -> Box<dyn Iterator<Item = std::result::Result<L::Batch, TrainError>> + 'a>;

    /// Samples that [`Lessons::measure`] takes.
    fn test_samples(&self) -> usize;

    /// Holds a learner against the test data; `seen` hears how many samples each batch had.
    ///
    /// # Errors
    ///
    /// - data that cannot be read, or that the network cannot take
    fn measure(
        &self,
        learner: &L,
        device: &Device,
        seen: &mut dyn FnMut(usize),
    ) -> std::result::Result<Measured, TrainError>;
}

/// How good a learner is on test data.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// The mean loss.
    pub loss: f64,
    /// The part of samples that are right, where one can be.
    pub accuracy: Option<f64>,
    /// What else is asked of such data, by name; the first is what the best of several is chosen by.
    pub scores: IndexMap<String, f64>,
}
