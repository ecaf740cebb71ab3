use super::{DecayTable, EpochMetrics, StepOutcome};
use crate::layers::Parameters;

/// Hears of training as it goes on.
pub trait TrainingProgress {
    /// Training begins or continues: what samples are, epochs in all, steps in each, and steps that were taken already.
    fn begin(&self, _unit: &'static str, _epochs: usize, _steps_per_epoch: u64, _done: u64) {}
    /// How each trained parameter is decayed.
    fn policy(&self, _parameters: &Parameters, _decay: &DecayTable) {}
    /// A step was taken, in this epoch, counted from 1.
    fn step(&self, _epoch: usize, _outcome: &StepOutcome) {}
    /// A pass over data without training begins: what it is for, and its samples.
    fn pass(&self, _what: &'static str, _samples: usize) {}
    /// So many samples more of the pass are done.
    fn seen(&self, _samples: usize) {}
    /// The pass is over.
    fn passed(&self) {}
    /// An epoch is over, with what was measured.
    fn epoch(&self, _metrics: &EpochMetrics) {}
    /// All is over.
    fn end(&self) {}
    /// Something the user should know, that is no error.
    fn warn(&self, _message: &str) {}
}

/// Hears nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unheard;

impl TrainingProgress for Unheard {}
