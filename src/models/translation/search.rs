use super::hypotheses::Hypotheses;
use super::network::TranslationNetwork;
use crate::layers::Tape;
use crate::models::Tokens;
use candle_core::{DType, Device, Result};

/// How many tokens a translation may have, its end counted: `factor` times those of its source, and `plus` more.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LengthLimit {
    /// For each token of the source.
    pub factor: f64,
    /// Beside that.
    pub plus: usize,
}

/// How translations are searched for.
///
/// With one beam the likeliest token is taken each time. With more, that many hypotheses go on side by side, and of those that
/// ended the one with the greatest `score / length^length_penalty` is taken, where the score is the sum of its tokens'
/// logarithms of probability and the length counts the end token. A search is over when the likeliest running hypothesis,
/// ended as it is, would be no better than the worst of as many ended ones as there are beams.
///
/// # Reference
///
/// Transformers' and fairseq's beam search.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct SearchOptions {
    /// Hypotheses of each source.
    pub beams: usize,
    /// How much longer translations are preferred: 0 compares sums, 1 means.
    pub length_penalty: f64,
    /// When a hypothesis is cut.
    pub longest: LengthLimit,
    /// Whether a search is over as soon as as many hypotheses ended as there are beams.
    pub early_stopping: bool,
}

impl Default for SearchOptions {
    fn default() -> Self {
        let longest = LengthLimit { factor: 1.2, plus: 10 };
        Self { beams: 5, length_penalty: 1.0, longest, early_stopping: false }
    }
}

impl SearchOptions {
    /// The likeliest token each time.
    #[must_use]
    pub fn greedy() -> Self {
        Self { beams: 1, ..Self::default() }
    }
}

/// A translation that was found.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Translation {
    /// Its tokens, without start and end.
    pub tokens: Vec<u32>,
    /// What it was chosen by: `score / length^length_penalty`.
    pub score: f64,
}

impl TranslationNetwork {
    /// Translates sources, each ending with the end token, side by side: one translation of each, in order. Padding is never
    /// among its tokens.
    ///
    /// # Errors
    ///
    /// - tokens beyond the vocabulary, sequences that are too long
    pub fn translate(&self, sources: &Tokens, options: &SearchOptions) -> Result<Vec<Translation>> {
        let (config, tape) = (self.config(), Tape::inference());
        let encoded = self.encode(&tape, sources)?;
        let mut kept = self.begin(&tape, &encoded)?;
        let limit = |tokens: usize| {
            let limit = (options.longest.factor * tokens as f64) as usize + options.longest.plus;
            limit.min(config.positions)
        };
        let mut found: Vec<Hypotheses> =
            sources.sequences().ranges().map(|range| Hypotheses::new(limit(range.len()))).collect();
        let mut live: Vec<usize> = (0..found.len()).collect();
        while !live.is_empty() {
            let last = |tokens: &Vec<u32>| tokens.last().copied().unwrap_or(config.start);
            let running = live.iter().flat_map(|&index| &found[index].running);
            let tokens: Vec<u32> = running.map(|hypothesis| last(&hypothesis.tokens)).collect();
            let logits = self.step(&tape, &tokens, &mut kept)?;
            let logits = logits.tensor().to_device(&Device::Cpu)?.to_dtype(DType::F32)?.to_vec2::<f32>()?;
            let mut rows = logits.into_iter().map(|row| log_probabilities(&row, config.pad as usize));
            let (mut chosen, mut still) = (Vec::new(), Vec::new());
            for &index in &live {
                let hypotheses = &mut found[index];
                let rows: Vec<Vec<f64>> = rows.by_ref().take(hypotheses.running.len()).collect();
                hypotheses.advance(&rows, config.end, options);
                if hypotheses.is_done() {
                    chosen.push(Vec::new());
                } else {
                    chosen.push(hypotheses.running.iter().map(|hypothesis| hypothesis.parent).collect());
                    still.push(index);
                }
            }
            live = still;
            if !live.is_empty() {
                kept.select(&chosen)?;
            }
        }
        Ok(found.into_iter().map(Hypotheses::into_best).collect())
    }
}

/// Logarithms of the softmax over all tokens but one that can't be.
fn log_probabilities(row: &[f32], never: usize) -> Vec<f64> {
    let allowed = || row.iter().enumerate().filter(|&(token, _)| token != never).map(|(_, &x)| f64::from(x));
    let most = allowed().fold(f64::NEG_INFINITY, f64::max);
    let shift = most + allowed().map(|x| (x - most).exp()).sum::<f64>().ln();
    let log_p = |(token, &x)| if token == never { f64::NEG_INFINITY } else { f64::from(x) - shift };
    row.iter().enumerate().map(log_p).collect()
}
