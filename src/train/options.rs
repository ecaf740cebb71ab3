use super::{AdamWOptions, LearningRate, OptimizerOptions, Pruning, Schedule, SgdOptions};
use crate::data::{Augmentation, Normalization};
use crate::layers::Execution;
use serde::{Deserialize, Serialize};

/// What is punished in factored layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum FactorDecay {
    /// The norm of the product: Frobenius decay.
    #[default]
    Frobenius,
    /// The norms of the factors: weight decay.
    Weight,
    /// Nothing.
    None,
}

/// What a dense teacher's logits are to the loss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DistillationOptions {
    /// What both logits are divided by.
    pub temperature: f64,
    /// The part of the loss that is the teacher's, from 0 to 1.
    pub weight: f64,
    /// What hidden states are to the loss, of networks for text: the squared distance from the teacher's over their squared
    /// norm, averaged over layers, times this.
    pub hidden: f64,
}

impl Default for DistillationOptions {
    fn default() -> Self {
        Self { temperature: 4.0, weight: 0.9, hidden: 0.0 }
    }
}

/// How a network is trained: everything that changes the result.
///
/// # Examples
///
/// ```
/// use fnl::train::{FactorDecay, TrainingOptions};
///
/// let options = TrainingOptions::fine_tuning();
/// assert_eq!(options.factor_decay, FactorDecay::Frobenius);
/// assert_eq!(options.frobenius_decay(), options.weight_decay);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TrainingOptions {
    /// How often all of the training data is seen.
    pub epochs: usize,
    /// Samples in a batch.
    pub batch_size: usize,
    /// Batches whose gradients make one step.
    pub accumulate: usize,
    /// What shuffling, augmentation and initial weights are drawn from.
    pub seed: u64,
    /// The learning rate at its highest.
    pub learning_rate: f64,
    /// How the learning rate falls.
    pub schedule: Schedule,
    /// Steps over which it rises first.
    pub warmup_steps: u64,
    /// The optimizer.
    pub optimizer: OptimizerOptions,
    /// Lambda for dense weights.
    pub weight_decay: f64,
    /// What is punished in factored layers.
    pub factor_decay: FactorDecay,
    /// Lambda for factored layers, where it is not the dense weights'.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frobenius_decay: Option<f64>,
    /// What is punished in the weights of queries and keys where they are dense: each head's product, or the weights.
    pub query_key_decay: FactorDecay,
    /// What is punished in the weights of outputs and values where they are dense: each head's product, or the weights.
    pub output_value_decay: FactorDecay,
    /// Whether biases and normalizations get weight decay too.
    pub decay_all: bool,
    /// The largest norm of a step's gradients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip: Option<f64>,
    /// The part of the target that is spread over all classes.
    pub label_smoothing: f64,
    /// The decay of a moving average of the weights, which is evaluated and saved in their place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub average: Option<f64>,
    /// What a teacher's logits are to the loss.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distillation: Option<DistillationOptions>,
    /// Weights left out by magnitude: which part of all trained parameters is kept, and when the others go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pruning: Option<Pruning>,
    /// How pictures are varied, where it is not the data set's usual way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub augmentation: Option<Augmentation>,
    /// What brings pictures near zero, where it is not the data set's usual way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normalization: Option<Normalization>,
    /// The first so many training samples only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_limit: Option<usize>,
    /// The first so many test samples only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_limit: Option<usize>,
    /// Tokens that a language model learns from at once, where it is not as many as it takes or 256.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<usize>,
    /// The part of hidden elements that is left out at random, of networks that translate.
    pub dropout: f64,
    /// Whether matrix products and convolutions on a GPU are computed in bf16.
    pub bf16: bool,
    /// How factors are run.
    pub execution: Execution,
}

impl Default for TrainingOptions {
    /// Training from scratch: 200 epochs of SGD, the learning rate divided by ten at 50 % and 75 %.
    fn default() -> Self {
        Self {
            epochs: 200,
            batch_size: 128,
            accumulate: 1,
            seed: 0,
            learning_rate: 0.1,
            schedule: Schedule::Step { milestones: vec![0.5, 0.75], factor: 0.1 },
            warmup_steps: 0,
            optimizer: OptimizerOptions::Sgd(SgdOptions { momentum: 0.9, nesterov: false }),
            weight_decay: 1e-4,
            factor_decay: FactorDecay::Frobenius,
            frobenius_decay: None,
            query_key_decay: FactorDecay::Weight,
            output_value_decay: FactorDecay::Weight,
            decay_all: false,
            clip: None,
            label_smoothing: 0.0,
            average: None,
            distillation: None,
            pruning: None,
            augmentation: None,
            normalization: None,
            train_limit: None,
            test_limit: None,
            window: None,
            dropout: 0.0,
            bf16: false,
            execution: Execution::Auto,
        }
    }
}

impl TrainingOptions {
    /// Fine-tuning: 5 epochs, the learning rate falls from 0.02 along a cosine.
    #[must_use]
    pub fn fine_tuning() -> Self {
        Self { epochs: 5, learning_rate: 0.02, schedule: Schedule::Cosine { floor: 0.0 }, ..Self::default() }
    }

    /// Fine-tuning of networks for text: 3 epochs of AdamW in batches of 32, the learning rate falls from 1e-4 along a line.
    #[must_use]
    pub fn text() -> Self {
        Self {
            epochs: 3,
            batch_size: 32,
            learning_rate: 1e-4,
            schedule: Schedule::Linear { floor: 0.0 },
            optimizer: OptimizerOptions::AdamW(AdamWOptions::default()),
            weight_decay: 0.01,
            clip: Some(1.0),
            ..Self::default()
        }
    }

    /// Training of networks that translate: 10 epochs of AdamW in batches of 2048 tokens, labels smoothed by 0.1, the learning
    /// rate rises to 1e-3 over 500 steps and falls with the root of the step.
    #[must_use]
    pub fn translation() -> Self {
        Self {
            epochs: 10,
            batch_size: 2048,
            learning_rate: 1e-3,
            schedule: Schedule::InverseSquareRoot,
            warmup_steps: 500,
            optimizer: OptimizerOptions::AdamW(AdamWOptions { beta2: 0.98, ..AdamWOptions::default() }),
            weight_decay: 1e-4,
            clip: Some(1.0),
            label_smoothing: 0.1,
            ..Self::default()
        }
    }

    /// Lambda for factored layers.
    #[must_use]
    pub fn frobenius_decay(&self) -> f64 {
        self.frobenius_decay.unwrap_or(self.weight_decay)
    }

    /// The learning rate as a function of the step.
    #[must_use]
    pub fn rate(&self) -> LearningRate {
        LearningRate {
            base: self.learning_rate,
            schedule: self.schedule.clone(),
            warmup_steps: self.warmup_steps,
        }
    }

    /// Everything that is out of range.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut expect = |name: &str, found: String, expected: &str, holds: bool| {
            if !holds {
                problems.push(format!("`{name}` is {found}, expected {expected}"));
            }
        };
        let counts = [
            ("batch_size", Some(self.batch_size)),
            ("accumulate", Some(self.accumulate)),
            ("train_limit", self.train_limit),
            ("test_limit", self.test_limit),
            ("window", self.window),
        ];
        for (name, count) in counts.into_iter().filter_map(|(name, count)| Some((name, count?))) {
            expect(name, count.to_string(), "at least 1", count > 0);
        }
        let decays = [("weight_decay", self.weight_decay), ("frobenius_decay", self.frobenius_decay())];
        for (name, lambda) in decays {
            expect(name, lambda.to_string(), "a number from 0", lambda.is_finite() && lambda >= 0.0);
        }
        if let Some(clip) = self.clip {
            expect("clip", clip.to_string(), "a number above 0", clip.is_finite() && clip > 0.0);
        }
        let dropout = self.dropout;
        expect("dropout", dropout.to_string(), "at least 0 and below 1", (0.0..1.0).contains(&dropout));
        let smoothing = self.label_smoothing;
        expect(
            "label_smoothing",
            smoothing.to_string(),
            "at least 0 and below 1",
            (0.0..1.0).contains(&smoothing),
        );
        if let Some(decay) = self.average {
            expect("average", decay.to_string(), "above 0 and below 1", decay > 0.0 && decay < 1.0);
        }
        if let Some(DistillationOptions { temperature, weight, hidden }) = self.distillation {
            expect(
                "temperature",
                temperature.to_string(),
                "a number above 0",
                temperature > 0.0 && temperature.is_finite(),
            );
            expect("distillation weight", weight.to_string(), "0 to 1", (0.0..=1.0).contains(&weight));
            expect(
                "distillation of hidden states",
                hidden.to_string(),
                "a number from 0",
                hidden.is_finite() && hidden >= 0.0,
            );
        }
        problems
            .extend(self.pruning.and_then(|pruning| pruning.validate().err()).map(|error| error.to_string()));
        problems.extend(self.rate().validate().err().map(|error| error.to_string()));
        problems
    }
}
