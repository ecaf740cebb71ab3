//! Training of networks for text: what they learn from, losses of their own, and what is measured of them.

mod batches;
mod evaluation;
mod learner;
mod lessons;
mod losses;
mod masking;

pub use evaluation::{
    ClassEvaluation, PerplexityEvaluation, SimilarityEvaluation, embed, evaluate_classes, evaluate_masked,
    evaluate_perplexity, evaluate_similarity,
};
pub use learner::TextLearner;
pub use lessons::{TextAim, TextBatch, TextLessons, TextSample, TextTargets};
pub use losses::{PairCosines, SquaredDistance};
pub use masking::Masking;
