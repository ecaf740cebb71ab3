//! What training is made of, apart from the loop: steps, schedules, losses, averages, masks and records.
//!
//! | file | what |
//! | --- | --- |
//! | `gradients`, `clip` | gradients by name, summed over micro-batches; their norm and its limit |
//! | `optimizer` | SGD, AdamW and LAMB, with weight decay or the gradient of a product's norm |
//! | `schedule` | the learning rate as a function of the step |
//! | `average` | the exponential moving average of the weights |
//! | `loss`, `distillation`, `accuracy` | what is minimized, and what is counted |
//! | `pruning` | weights left out by magnitude, the baseline without factors |
//! | `metrics`, `tensorboard` | records of a run, as JSON lines and as event files |
//!
//! Layers and their gradients are in [`crate::layers`].

mod accuracy;
mod average;
mod clip;
mod distillation;
mod error;
mod gradients;
mod loss;
mod metrics;
mod optimizer;
mod pruning;
mod schedule;
mod slices;
mod tensorboard;

pub use accuracy::{Correct, correct};
pub use average::Average;
pub use clip::{clip_gradients, gradient_norm};
pub use distillation::Distillation;
pub use error::OptionError;
pub use gradients::GradientSum;
pub use loss::CrossEntropy;
pub use metrics::{
    EpochMetrics, LayerDiagnostics, MetricsError, MetricsRecord, MetricsWriter, StepMetrics, read_metrics,
};
pub use optimizer::{
    AdamW, AdamWOptions, Decay, DecayTable, Lamb, LambOptions, Optimizer, OptimizerOptions, Sgd, SgdOptions,
    Update,
};
pub use pruning::{Masks, Pruning, PruningSchedule};
pub use schedule::{LearningRate, Schedule};
pub use tensorboard::EventWriter;
