//! Training: steps, schedules, losses, decay, and the loop that keeps its records and can be continued.
//!
//! | file | what |
//! | --- | --- |
//! | `gradients`, `clip` | gradients by name, summed over micro-batches; their norm and its limit |
//! | `optimizer` | SGD, AdamW and LAMB, with weight decay or the gradient of a product's norm |
//! | `schedule` | the learning rate as a function of the step |
//! | `average` | the exponential moving average of the weights |
//! | `loss`, `distillation`, `accuracy` | what is minimized, and what is counted |
//! | `pruning` | weights left out by magnitude, the baseline without factors |
//! | `options`, `policy` | everything that changes the result; which parameter is decayed how |
//! | `learner`, `classifier` | what is trained, on what: a network and its loss, batches and test data |
//! | `trainer` | a step: the learner, its optimizer, its averages and masks |
//! | `session`, `folder` | a run, epoch by epoch, and the folder that it is kept in and continued from |
//! | `evaluation` | loss and accuracy; the statistics of batch normalization without training |
//! | `text`, `similarity` | networks for text: what they learn from, their losses, correlation and perplexity |
//! | `translation` | networks that translate: what they learn from, and how well translations agree with references |
//! | `metrics`, `tensorboard` | records of a run, as JSON lines and as event files |
//!
//! Layers and their gradients are in [`crate::layers`].

mod accuracy;
mod average;
mod classifier;
mod clip;
mod distillation;
mod error;
mod evaluation;
mod failure;
mod folder;
mod gradients;
mod learner;
mod loss;
mod metrics;
mod optimizer;
mod options;
mod policy;
mod progress;
mod pruning;
mod schedule;
mod session;
mod similarity;
mod slices;
mod tensorboard;
mod text;
mod trainer;
mod translation;

pub use accuracy::{Correct, correct};
pub use average::Average;
pub use classifier::{Classifier, Pictures};
pub use clip::{clip_gradients, gradient_norm};
pub use distillation::Distillation;
pub use error::OptionError;
pub use evaluation::{Evaluation, evaluate, recalibrate};
pub use failure::TrainError;
pub use folder::{MODEL_FILES, Position, RunFolder, Running};
pub use gradients::GradientSum;
pub use learner::{BatchLoss, Learner, Lessons, Measured};
pub use loss::CrossEntropy;
pub use metrics::{
    EpochMetrics, LayerDiagnostics, MetricsError, MetricsRecord, MetricsWriter, StepMetrics, read_metrics,
};
pub use optimizer::{
    AdamW, AdamWOptions, Decay, DecayTable, Lamb, LambOptions, Optimizer, OptimizerOptions, Sgd, SgdOptions,
    Update,
};
pub use options::{DistillationOptions, FactorDecay, TrainingOptions};
pub use policy::decay_table;
pub use progress::{TrainingProgress, Unheard};
pub use pruning::{Masks, Pruning, PruningSchedule};
pub use schedule::{LearningRate, Schedule};
pub use session::{Session, SessionParts};
pub use similarity::{pearson, spearman};
pub use tensorboard::EventWriter;
pub use text::{
    ClassEvaluation, Masking, PairCosines, PerplexityEvaluation, SimilarityEvaluation, SquaredDistance,
    TextAim, TextBatch, TextLearner, TextLessons, TextSample, TextTargets, embed, evaluate_classes,
    evaluate_masked, evaluate_perplexity, evaluate_similarity,
};
pub use trainer::{StepOutcome, Trainer};
pub use translation::{
    Bleu, ReferenceLoss, TranslationBatch, TranslationEvaluation, TranslationLearner, TranslationLessons,
    TranslationPairs, bleu, reference_loss, translate,
};
