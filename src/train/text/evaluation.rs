use super::batches::each_batch;
use super::lessons::{TextBatch, TextTargets};
use super::masking::Masking;
use crate::data::random::Stream;
use crate::data::token_batches;
use crate::layers::Tape;
use crate::layers::operations::Lookup;
use crate::models::{TextNetwork, Tokens};
use crate::train::accuracy::is_right;
use crate::train::loss::log_sum;
use crate::train::{pearson, spearman};
use candle_core::{DType, Device, Result, Tensor, bail};
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

/// How often a network's class of a sequence is its label.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ClassEvaluation {
    /// The part of sequences whose label had the largest logit.
    pub accuracy: f64,
    /// The mean cross entropy.
    pub loss: f64,
    /// Sequences that were run.
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
    seen: impl FnMut(usize),
) -> Result<Vec<Vec<f32>>> {
    let embed = |tokens: &Tokens| {
        let found = network.embeddings(&Tape::inference(), tokens)?;
        found.tensor().to_device(&Device::Cpu)?.to_vec2::<f32>()
    };
    let mut vectors = vec![Vec::new(); sequences.len()];
    for (batch, found) in each_batch(network.parameters(), sequences, embed, seen)? {
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
    let cosines = cosines(network, sequences, seen)?;
    if cosines.len() != scores.len() {
        bail!("{} pairs of sentences for {} scores", cosines.len(), scores.len());
    }
    let (Some(spearman), Some(pearson)) = (spearman(&cosines, scores), pearson(&cosines, scores)) else {
        bail!("no correlation is defined: all cosines or all scores are equal");
    };
    let tokens = sequences.iter().map(Vec::len).sum();
    let elapsed_secs = start.elapsed().as_secs_f64();
    Ok(SimilarityEvaluation { spearman, pearson, sentences: sequences.len(), tokens, elapsed_secs })
}

/// The cosine of each pair of sequences, which lie one after the other.
pub(super) fn cosines(
    network: &TextNetwork,
    sequences: &[Vec<u32>],
    seen: impl FnMut(usize),
) -> Result<Vec<f64>> {
    let vectors = embed(network, sequences, seen)?;
    let (pairs, _) = vectors.as_chunks::<2>();
    let inner = |[one, other]: &[Vec<f32>; 2]| {
        one.iter().zip(other).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>()
    };
    Ok(pairs.iter().map(inner).collect())
}

/// Holds a network's classes of sequences against labels; `seen` hears how many sequences each batch had.
///
/// # Errors
///
/// - a network without a head for classes; sequences that it refuses, labels that it does not know
pub fn evaluate_classes(
    network: &TextNetwork,
    sequences: &[Vec<u32>],
    labels: &[u32],
    seen: impl FnMut(usize),
) -> Result<ClassEvaluation> {
    let start = Instant::now();
    if sequences.len() != labels.len() || labels.is_empty() {
        bail!("{} labels for {} sequences", labels.len(), sequences.len());
    }
    let logits = |tokens: &Tokens| Ok(network.class_logits(&Tape::inference(), tokens)?.tensor().clone());
    let mut sums = Sums::default();
    for (batch, logits) in each_batch(network.parameters(), sequences, logits, seen)? {
        let labels: Vec<u32> = batch.iter().map(|&index| labels[index]).collect();
        sums.add(&logits, &labels)?;
    }
    Ok(ClassEvaluation {
        accuracy: sums.accuracy(),
        loss: sums.mean_loss(),
        sentences: sequences.len(),
        tokens: sequences.iter().map(Vec::len).sum(),
        elapsed_secs: start.elapsed().as_secs_f64(),
    })
}

/// Sequences with tokens hidden, each by its position in the epoch, and what stood there.
pub(super) fn masked_batch(
    mut sequences: Vec<Vec<u32>>,
    masking: &Masking,
    seed: u64,
    epoch: usize,
    first: usize,
) -> Result<TextBatch> {
    let (mut rows, mut tokens, mut start) = (Vec::new(), Vec::new(), 0);
    for (index, sequence) in sequences.iter_mut().enumerate() {
        let mut stream = Stream::of_text(seed, epoch, first + index);
        for (place, stood) in masking.hide(sequence, &mut stream) {
            rows.push((start + place) as u32);
            tokens.push(stood);
        }
        start += sequence.len();
    }
    Ok(TextBatch { tokens: Tokens::new(&sequences)?, targets: TextTargets::Tokens { rows, tokens } })
}

/// Measures how well a network finds tokens that are hidden, the same of each sequence every time; `seen` hears how many
/// sequences each batch had. The perplexity is that of hidden tokens, a pseudo-perplexity.
///
/// # Errors
///
/// - a network without a head for the vocabulary; sequences of special tokens alone
pub fn evaluate_masked(
    network: &TextNetwork,
    sequences: &[Vec<u32>],
    masking: &Masking,
    mut seen: impl FnMut(usize),
) -> Result<PerplexityEvaluation> {
    let start = Instant::now();
    let mut sums = Sums::default();
    for batch in token_batches(sequences) {
        let mut targets = (Vec::new(), Vec::new());
        let mut hidden = Vec::with_capacity(batch.len());
        let mut first = 0;
        // What is hidden depends on the sequence's place among all, not on its batch.
        for &index in &batch {
            let one = masked_batch(vec![sequences[index].clone()], masking, 0, 0, index)?;
            if let TextTargets::Tokens { rows, tokens } = one.targets {
                targets.0.extend(rows.iter().map(|row| row + first as u32));
                targets.1.extend(tokens);
            }
            first += sequences[index].len();
            hidden.push(one.tokens.ids().to_vec());
        }
        seen(batch.len());
        if targets.1.is_empty() {
            continue;
        }
        let tape = Tape::inference();
        let states = network.hidden(&tape, &Tokens::new(&hidden)?)?;
        let rows = Tensor::new(targets.0, states.tensor().device())?;
        let states = tape.apply(Lookup::new(&rows), &[&states])?;
        sums.add(network.vocabulary_logits(&tape, &states)?.tensor(), &targets.1)?;
    }
    if sums.count == 0 {
        bail!("no sequence has a token that can be hidden");
    }
    Ok(PerplexityEvaluation {
        perplexity: sums.mean_loss().exp(),
        loss: sums.mean_loss(),
        accuracy: sums.accuracy(),
        window: sequences.iter().map(Vec::len).max().unwrap_or(0),
        tokens: sequences.iter().map(Vec::len).sum(),
        elapsed_secs: start.elapsed().as_secs_f64(),
    })
}

/// Sums over rows of logits.
#[derive(Debug, Default)]
struct Sums {
    loss: f64,
    right: usize,
    count: usize,
}

impl Sums {
    fn add(&mut self, logits: &Tensor, labels: &[u32]) -> Result<()> {
        let (rows, classes) = logits.dims2()?;
        if rows != labels.len() {
            bail!("{rows} rows of logits for {} labels", labels.len());
        }
        let logits = logits.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        for (row, &label) in logits.chunks_exact(classes).zip(labels) {
            let Some(&score) = row.get(label as usize) else {
                bail!("label {label} is not below {classes} classes");
            };
            self.loss += log_sum(row) - f64::from(score);
            self.right += usize::from(is_right(row, label as usize));
            self.count += 1;
        }
        Ok(())
    }

    fn mean_loss(&self) -> f64 {
        self.loss / self.count.max(1) as f64
    }

    fn accuracy(&self) -> f64 {
        self.right as f64 / self.count.max(1) as f64
    }
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
    let mut sums = Sums::default();
    for window in windows.iter().filter(|window| window.len() > 1) {
        let tape = Tape::inference();
        let hidden = network.hidden(&tape, &Tokens::new(std::slice::from_ref(window))?)?;
        let logits = network.vocabulary_logits(&tape, &hidden)?;
        // What follows the last token is not known.
        sums.add(&logits.tensor().narrow(0, 0, window.len() - 1)?, &window[1..])?;
        seen(1);
    }
    if sums.count == 0 {
        bail!("no window has two tokens");
    }
    Ok(PerplexityEvaluation {
        perplexity: sums.mean_loss().exp(),
        loss: sums.mean_loss(),
        accuracy: sums.accuracy(),
        window: windows.iter().map(Vec::len).max().unwrap_or(0),
        tokens: windows.iter().map(Vec::len).sum(),
        elapsed_secs: start.elapsed().as_secs_f64(),
    })
}
