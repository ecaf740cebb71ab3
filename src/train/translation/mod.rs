//! Training of networks that translate: what they learn from, and how well their translations agree with references.

mod bleu;
mod evaluation;
mod learner;
mod lessons;

pub use bleu::{Bleu, bleu};
pub use evaluation::{ReferenceLoss, TranslationEvaluation, reference_loss, translate};
pub use learner::TranslationLearner;
pub use lessons::{TranslationBatch, TranslationLessons, TranslationPairs};
