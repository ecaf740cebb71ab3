use super::loss::log_sum;
use super::similarity::{pearson, spearman};
use crate::data::token_batches;
use crate::layers::Tape;
use crate::models::{TextNetwork, Tokens};
use candle_core::{DType, Device, Result, bail};
use serde::Serialize;
use std::time::Instant;

/// What a network's vectors of sentence pairs say of their scores.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SimilarityEvaluation {
    /// Rank correlation of cosines with scores.
    pub spearman: f64,
    /// Correlation of cosines with scores.
    pub pearson: f64,
    /// Sentences that were run.
    pub sentences: usize,
    /// Their tokens.
    pub tokens: usize,
    /// How long it took.
    pub elapsed_secs: f64,
}

/// How well a network foretells a text.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PerplexityEvaluation {
    /// `exp(loss)`.
    pub perplexity: f64,
    /// The mean of `-log p` over tokens that follow others.
    pub loss: f64,
    /// The part of them that was thought likeliest.
    pub accuracy: f64,
    /// Tokens of a window.
    pub window: usize,
    /// Tokens that were run.
    pub tokens: usize,
    /// How long it took.
    pub elapsed_secs: f64,
}

/// One vector for each sequence, in order; `seen` hears how many sequences each batch had.
///
/// # Errors
///
/// - sequences that the network refuses
pub fn embed(
    network: &TextNetwork,
    sequences: &[Vec<u32>],
    mut seen: impl FnMut(usize),
) -> Result<Vec<Vec<f32>>> {
    let mut vectors = vec![Vec::new(); sequences.len()];
    for batch in token_batches(sequences) {
        let tokens = Tokens::new(&batch.iter().map(|&index| sequences[index].clone()).collect::<Vec<_>>())?;
        let found = network.embeddings(&Tape::inference(), &tokens)?;
        let found = found.tensor().to_device(&Device::Cpu)?.to_vec2::<f32>()?;
        seen(batch.len());
        for (index, vector) in batch.into_iter().zip(found) {
            vectors[index] = vector;
        }
    }
    Ok(vectors)
}

/// Holds cosines of a network's vectors against scores: sequences are pairs, one after the other.
///
/// # Errors
///
/// - sequences that the network refuses; scores of which no correlation is defined
pub fn evaluate_similarity(
    network: &TextNetwork,
    sequences: &[Vec<u32>],
    scores: &[f64],
    seen: impl FnMut(usize),
) -> Result<SimilarityEvaluation> {
    let start = Instant::now();
    let vectors = embed(network, sequences, seen)?;
    let (pairs, _) = vectors.as_chunks::<2>();
    if pairs.len() != scores.len() {
        bail!("{} pairs of sentences for {} scores", pairs.len(), scores.len());
    }
    let inner = |[one, other]: &[Vec<f32>; 2]| {
        one.iter().zip(other).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>()
    };
    let cosines: Vec<f64> = pairs.iter().map(inner).collect();
    let (Some(spearman), Some(pearson)) = (spearman(&cosines, scores), pearson(&cosines, scores)) else {
        bail!("no correlation is defined: all cosines or all scores are equal");
    };
    let tokens = sequences.iter().map(Vec::len).sum();
    let elapsed_secs = start.elapsed().as_secs_f64();
    Ok(SimilarityEvaluation { spearman, pearson, sentences: sequences.len(), tokens, elapsed_secs })
}

/// Measures how well a causal language model foretells each token of windows but their first; `seen` hears of each window.
///
/// # Errors
///
/// - a network without a head for the vocabulary; windows of fewer than two tokens
pub fn evaluate_perplexity(
    network: &TextNetwork,
    windows: &[Vec<u32>],
    mut seen: impl FnMut(usize),
) -> Result<PerplexityEvaluation> {
    let start = Instant::now();
    let (mut loss, mut right, mut foretold) = (0.0, 0, 0usize);
    for window in windows.iter().filter(|window| window.len() > 1) {
        let tape = Tape::inference();
        let hidden = network.hidden(&tape, &Tokens::new(std::slice::from_ref(window))?)?;
        let logits = network.vocabulary_logits(&tape, &hidden)?;
        let (_, vocabulary) = logits.tensor().dims2()?;
        let logits = logits.tensor().to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
        let logits = logits.flatten_all()?.to_vec1::<f32>()?;
        for (row, &next) in logits.chunks_exact(vocabulary).zip(&window[1..]) {
            let score = row[next as usize];
            loss += log_sum(row) - f64::from(score);
            right += usize::from(row.iter().all(|&x| x <= score));
            foretold += 1;
        }
        seen(1);
    }
    if foretold == 0 {
        bail!("no window has two tokens");
    }
    let loss = loss / foretold as f64;
    Ok(PerplexityEvaluation {
        perplexity: loss.exp(),
        loss,
        accuracy: right as f64 / foretold as f64,
        window: windows.iter().map(Vec::len).max().unwrap_or(0),
        tokens: windows.iter().map(Vec::len).sum(),
        elapsed_secs: start.elapsed().as_secs_f64(),
    })
}
