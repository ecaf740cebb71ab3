use super::bleu::Bleu;
use crate::data::PairBatches;
use crate::layers::Tape;
use crate::models::{SearchOptions, Tokens, TranslationNetwork};
use crate::train::accuracy::is_right;
use crate::train::loss::log_sum;
use candle_core::{DType, Device, Result, bail};
use serde::Serialize;

/// Tokens of the longer sides that are run together at most, unless one pair has more.
const BATCH_TOKENS: usize = 2048;

/// How well a network translates.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TranslationEvaluation {
    /// The BLEU of its translations, from 0 to 100.
    pub bleu: f64,
    /// The precisions that it comes from, in percent.
    pub precisions: [f64; 4],
    /// The penalty for translations that are too short.
    pub brevity_penalty: f64,
    /// `exp(loss)`.
    pub perplexity: f64,
    /// The mean of `-log p` over the references' tokens, their ends counted.
    pub loss: f64,
    /// The part of them that was thought likeliest.
    pub accuracy: f64,
    /// Hypotheses of a search.
    pub beams: usize,
    /// Sentences that were translated.
    pub sentences: usize,
    /// Tokens of the references, their ends counted.
    pub tokens: usize,
    /// How long translating took.
    pub elapsed_secs: f64,
}

impl TranslationEvaluation {
    /// What was measured: the BLEU of translations, what the network says of the references, and how long it took.
    #[must_use]
    pub fn new(bleu: Bleu, said: ReferenceLoss, beams: usize, sentences: usize, elapsed_secs: f64) -> Self {
        let ReferenceLoss { loss, accuracy, tokens } = said;
        Self {
            bleu: bleu.score,
            precisions: bleu.precisions,
            brevity_penalty: bleu.brevity_penalty,
            perplexity: loss.exp(),
            loss,
            accuracy,
            beams,
            sentences,
            tokens,
            elapsed_secs,
        }
    }
}

/// What a network says of given translations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReferenceLoss {
    /// The mean of `-log p` over their tokens, their ends counted.
    pub loss: f64,
    /// The part of them that was thought likeliest.
    pub accuracy: f64,
    /// How many tokens they are.
    pub tokens: usize,
}

/// Translates sources, each ending with the end token: one translation of each, in order; `seen` hears how many sources each
/// batch had.
///
/// # Errors
///
/// - sources that the network refuses
pub fn translate(
    network: &TranslationNetwork,
    sources: &[Vec<u32>],
    options: &SearchOptions,
    mut seen: impl FnMut(usize),
) -> Result<Vec<Vec<u32>>> {
    let lengths: Vec<[usize; 2]> = sources.iter().map(|source| [source.len(); 2]).collect();
    let mut found = vec![Vec::new(); sources.len()];
    for batch in PairBatches::new(&lengths, BATCH_TOKENS, 0).by_length() {
        let tokens: Vec<Vec<u32>> = batch.iter().map(|&index| sources[index].clone()).collect();
        let translations = network.translate(&Tokens::new(&tokens)?, options)?;
        seen(batch.len());
        for (index, translation) in batch.into_iter().zip(translations) {
            found[index] = translation.tokens;
        }
    }
    Ok(found)
}

/// Measures what a network says of given translations: sources end with the end token, targets have neither start nor end.
///
/// # Errors
///
/// - no pairs, not as many sources as targets, sequences that the network refuses
pub fn reference_loss(
    network: &TranslationNetwork,
    sources: &[Vec<u32>],
    targets: &[Vec<u32>],
) -> Result<ReferenceLoss> {
    if sources.len() != targets.len() || sources.is_empty() {
        bail!("{} sources for {} targets", sources.len(), targets.len());
    }
    let lengths: Vec<[usize; 2]> =
        sources.iter().zip(targets).map(|(source, target)| [source.len(), target.len() + 1]).collect();
    let (mut loss, mut right, mut tokens) = (0.0, 0, 0);
    for batch in PairBatches::new(&lengths, BATCH_TOKENS, 0).by_length() {
        let of = |all: &[Vec<u32>]| batch.iter().map(|&index| all[index].clone()).collect::<Vec<_>>();
        let (sources, targets) = (of(sources), of(targets));
        let tape = Tape::inference();
        let encoded = network.encode(&tape, &Tokens::new(&sources)?)?;
        let logits = network.logits(&tape, &encoded, &network.inputs(&targets)?)?;
        let (_, vocabulary) = logits.tensor().dims2()?;
        let logits = logits.tensor().to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
        let logits = logits.flatten_all()?.to_vec1::<f32>()?;
        for (row, label) in logits.chunks_exact(vocabulary).zip(network.labels(&targets)) {
            let score = row[label as usize];
            loss += log_sum(row) - f64::from(score);
            right += usize::from(is_right(row, label as usize));
            tokens += 1;
        }
    }
    let tokens_counted = tokens as f64;
    Ok(ReferenceLoss { loss: loss / tokens_counted, accuracy: right as f64 / tokens_counted, tokens })
}
