use super::evaluation::{cosines, evaluate_classes, evaluate_masked, evaluate_perplexity, masked_batch};
use super::learner::TextLearner;
use super::masking::Masking;
use crate::data::random::permutation;
use crate::models::Tokens;
use crate::train::metrics::PERPLEXITY;
use crate::train::{Lessons, Measured, TrainError, pearson, spearman};
use candle_core::{Device, Result};
use indexmap::IndexMap;

/// What a network for text is to learn.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum TextAim {
    /// How near in meaning two sentences are.
    Similarity,
    /// Classes of whole sequences.
    Classes,
    /// Each token from those before it.
    NextToken,
    /// Tokens that were hidden.
    MaskedToken(Masking),
    /// A teacher's vectors of sequences, without labels.
    Vectors,
}

impl TextAim {
    fn unit(&self) -> &'static str {
        match self {
            Self::Similarity => "pairs",
            Self::Classes | Self::Vectors => "sentences",
            Self::NextToken | Self::MaskedToken(_) => "tokens",
        }
    }
}

/// Sequences that belong together, and what is said of them.
#[derive(Clone, Debug)]
pub struct TextSample {
    /// One sequence, or the two of a pair.
    pub sequences: Vec<Vec<u32>>,
    /// The score of a pair from 0 to 1, or the number of a class.
    pub label: f64,
}

/// Samples that are learned from at once, with no padding between them.
#[derive(Clone, Debug)]
pub struct TextBatch {
    /// All their sequences.
    pub tokens: Tokens,
    /// What is asked.
    pub targets: TextTargets,
}

/// What is asked of a batch.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum TextTargets {
    /// The score of each pair of sequences.
    Scores(Vec<f32>),
    /// The class of each sequence.
    Classes(Vec<u32>),
    /// The tokens at these rows.
    Tokens {
        /// Rows of hidden states that are asked.
        rows: Vec<u32>,
        /// The tokens.
        tokens: Vec<u32>,
    },
    /// What a teacher has.
    Vectors,
}

/// Texts to learn from, and others to be measured on.
///
/// # Determinism
///
/// The order of an epoch depends on the seed and the epoch's number, what is hidden of a sequence on its position in the
/// epoch too. Tests hide the same tokens each time.
#[derive(Debug)]
pub struct TextLessons {
    aim: TextAim,
    train: Vec<TextSample>,
    test: Vec<TextSample>,
    batch_size: usize,
    seed: u64,
}

impl TextLessons {
    /// Lessons from these samples, so many in a batch.
    #[must_use]
    pub fn new(
        aim: TextAim,
        train: Vec<TextSample>,
        test: Vec<TextSample>,
        batch_size: usize,
        seed: u64,
    ) -> Self {
        Self { aim, train, test, batch_size: batch_size.max(1), seed }
    }

    /// What is to be learned.
    #[must_use]
    pub fn aim(&self) -> &TextAim {
        &self.aim
    }

    fn count(&self, samples: &[TextSample]) -> usize {
        let sequences = samples.iter().flat_map(|sample| &sample.sequences);
        match &self.aim {
            TextAim::NextToken => sequences.map(|sequence| sequence.len().saturating_sub(1)).sum(),
            TextAim::MaskedToken(masking) => sequences.map(|sequence| masking.count(sequence)).sum(),
            _ => samples.len(),
        }
    }

    /// The samples at these places of an epoch.
    fn batch(&self, samples: &[&TextSample], epoch: usize, first: usize) -> Result<TextBatch> {
        let sequences: Vec<Vec<u32>> =
            samples.iter().flat_map(|sample| sample.sequences.iter().cloned()).collect();
        let targets = match &self.aim {
            TextAim::Similarity => {
                TextTargets::Scores(samples.iter().map(|sample| sample.label as f32).collect())
            }
            TextAim::Classes => {
                TextTargets::Classes(samples.iter().map(|sample| sample.label as u32).collect())
            }
            TextAim::Vectors => TextTargets::Vectors,
            TextAim::MaskedToken(masking) => {
                return masked_batch(sequences, masking, self.seed, epoch, first);
            }
            TextAim::NextToken => {
                let (mut rows, mut tokens, mut start) = (Vec::new(), Vec::new(), 0);
                for sequence in &sequences {
                    rows.extend((start..start + sequence.len() - 1).map(|row| row as u32));
                    tokens.extend(&sequence[1..]);
                    start += sequence.len();
                }
                TextTargets::Tokens { rows, tokens }
            }
        };
        Ok(TextBatch { tokens: Tokens::new(&sequences)?, targets })
    }
}

impl Lessons<TextLearner> for TextLessons {
    fn unit(&self) -> &'static str {
        self.aim.unit()
    }

    fn samples_per_epoch(&self) -> usize {
        self.count(&self.train)
    }

    fn batches_per_epoch(&self) -> usize {
        self.train.len().div_ceil(self.batch_size)
    }

    fn epoch<'a>(
        &'a self,
        epoch: usize,
        first_batch: usize,
    ) -> Box<dyn Iterator<Item = std::result::Result<TextBatch, TrainError>> + 'a> {
        let order = permutation(self.seed, epoch, self.train.len());
        Box::new((first_batch..self.batches_per_epoch()).map(move |batch| {
            let first = batch * self.batch_size;
            let places = &order[first..order.len().min(first + self.batch_size)];
            let samples: Vec<&TextSample> = places.iter().map(|&place| &self.train[place]).collect();
            Ok(self.batch(&samples, epoch, first)?)
        }))
    }

    fn test_samples(&self) -> usize {
        self.test.iter().map(|sample| sample.sequences.len()).sum()
    }

    fn measure(
        &self,
        learner: &TextLearner,
        _device: &Device,
        seen: &mut dyn FnMut(usize),
    ) -> std::result::Result<Measured, TrainError> {
        let sequences: Vec<Vec<u32>> =
            self.test.iter().flat_map(|sample| sample.sequences.iter().cloned()).collect();
        let labels = || self.test.iter().map(|sample| sample.label);
        let network = learner.network();
        let named = |scores: &[(&str, f64)]| -> IndexMap<String, f64> {
            scores.iter().map(|&(name, score)| (name.to_owned(), score)).collect()
        };
        Ok(match &self.aim {
            TextAim::Similarity => {
                let cosines = cosines(network, &sequences, seen)?;
                let scores: Vec<f64> = labels().collect();
                let misses = cosines.iter().zip(&scores).map(|(cosine, score)| (cosine - score).powi(2));
                let loss = misses.sum::<f64>() / scores.len().max(1) as f64;
                // Of vectors that say nothing no correlation is defined.
                let correlations = [
                    ("spearman", spearman(&cosines, &scores).unwrap_or(0.0)),
                    ("pearson", pearson(&cosines, &scores).unwrap_or(0.0)),
                ];
                Measured { loss, accuracy: None, scores: named(&correlations) }
            }
            TextAim::Classes => {
                let classes: Vec<u32> = labels().map(|label| label as u32).collect();
                let found = evaluate_classes(network, &sequences, &classes, seen)?;
                Measured { loss: found.loss, accuracy: Some(found.accuracy), scores: IndexMap::new() }
            }
            TextAim::NextToken => {
                let found = evaluate_perplexity(network, &sequences, seen)?;
                let scores = named(&[(PERPLEXITY, found.perplexity.min(f64::MAX))]);
                Measured { loss: found.loss, accuracy: Some(found.accuracy), scores }
            }
            TextAim::MaskedToken(masking) => {
                let found = evaluate_masked(network, &sequences, masking, seen)?;
                let scores = named(&[(PERPLEXITY, found.perplexity.min(f64::MAX))]);
                Measured { loss: found.loss, accuracy: Some(found.accuracy), scores }
            }
            TextAim::Vectors => {
                let loss = learner.distance(&sequences, seen)?;
                // Of vectors of length one.
                let scores = named(&[("cosine", (1.0 - loss / 2.0).max(-1.0))]);
                Measured { loss, accuracy: None, scores }
            }
        })
    }
}
