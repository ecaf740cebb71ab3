use super::bleu::bleu;
use super::evaluation::{reference_loss, translate};
use super::learner::TranslationLearner;
use crate::data::{PairBatches, TextTokenizer};
use crate::models::SearchOptions;
use crate::train::metrics::PERPLEXITY;
use crate::train::{Lessons, Measured, TrainError};
use candle_core::Device;
use indexmap::IndexMap;

/// Sentences and their translations, as tokens: sources end with the end token, targets have neither start nor end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TranslationPairs {
    /// What is translated from.
    pub sources: Vec<Vec<u32>>,
    /// What it is translated to.
    pub targets: Vec<Vec<u32>>,
    /// The same, as text.
    pub references: Vec<String>,
}

impl TranslationPairs {
    fn lengths(&self) -> Vec<[usize; 2]> {
        let pairs = self.sources.iter().zip(&self.targets);
        pairs.map(|(source, target)| [source.len(), target.len() + 1]).collect()
    }
}

/// Pairs that are learned from at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TranslationBatch {
    /// What is translated from.
    pub sources: Vec<Vec<u32>>,
    /// What it is translated to.
    pub targets: Vec<Vec<u32>>,
    /// What is left out by dropout is drawn from this, which no other batch of a run has.
    pub draw: u64,
}

/// Translations to learn from, and others to be measured on.
///
/// The test pairs are translated without search after each epoch: their BLEU is what the best epoch is told by.
#[derive(Debug)]
pub struct TranslationLessons {
    train: TranslationPairs,
    test: TranslationPairs,
    batches: PairBatches,
    tokenizer: TextTokenizer,
    seed: u64,
}

impl TranslationLessons {
    /// Lessons from these pairs, of so many tokens in a batch.
    #[must_use]
    pub fn new(
        train: TranslationPairs,
        test: TranslationPairs,
        tokenizer: TextTokenizer,
        tokens: usize,
        seed: u64,
    ) -> Self {
        let batches = PairBatches::new(&train.lengths(), tokens, seed);
        Self { train, test, batches, tokenizer, seed }
    }
}

impl Lessons<TranslationLearner> for TranslationLessons {
    fn unit(&self) -> &'static str {
        "tokens"
    }

    fn samples_per_epoch(&self) -> usize {
        self.train.targets.iter().map(|target| target.len() + 1).sum()
    }

    fn batches_per_epoch(&self) -> usize {
        self.batches.per_epoch()
    }

    fn epoch<'a>(
        &'a self,
        epoch: usize,
        first_batch: usize,
    ) -> Box<dyn Iterator<Item = Result<TranslationBatch, TrainError>> + 'a> {
        let per_epoch = self.batches_per_epoch();
        let batches = self.batches.epoch(epoch).into_iter().enumerate().skip(first_batch);
        Box::new(batches.map(move |(index, pairs)| {
            let of = |all: &[Vec<u32>]| pairs.iter().map(|&pair| all[pair].clone()).collect();
            let number = (epoch * per_epoch + index) as u64;
            // Seeds far apart, so that those of no two runs or batches meet.
            let draw = (self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_add(number);
            Ok(TranslationBatch { sources: of(&self.train.sources), targets: of(&self.train.targets), draw })
        }))
    }

    fn test_samples(&self) -> usize {
        self.test.sources.len()
    }

    fn measure(
        &self,
        learner: &TranslationLearner,
        _device: &Device,
        seen: &mut dyn FnMut(usize),
    ) -> Result<Measured, TrainError> {
        let network = learner.network();
        let said = reference_loss(network, &self.test.sources, &self.test.targets)?;
        let found = translate(network, &self.test.sources, &SearchOptions::greedy(), seen)?;
        let texts = found.iter().map(|tokens| Ok(self.tokenizer.decode(tokens)?.trim().to_owned()));
        let texts = texts.collect::<Result<Vec<String>, crate::data::TextError>>()?;
        let score = bleu(&texts, &self.test.references).score;
        let perplexity = said.loss.exp().min(f64::MAX);
        let scores = IndexMap::from([("bleu".to_owned(), score), (PERPLEXITY.to_owned(), perplexity)]);
        Ok(Measured { loss: said.loss, accuracy: Some(said.accuracy), scores })
    }
}
