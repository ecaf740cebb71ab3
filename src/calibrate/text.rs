use super::collector::Collector;
use super::run::CalibrationRun;
use super::statistics::Statistics;
use crate::data::{token_batches, token_batches_within};
use crate::layers::{Tape, initial};
use crate::models::{Head, TextNetwork, Tokens};
use candle_core::{Device, Result, Tensor};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use std::rc::Rc;

/// Scores of the vocabulary that are held at once, where their gradients are wanted, unless one sequence has more.
pub(super) const SCORES: usize = 1 << 25;

/// Runs a network over sequences and sums up what goes into its dense layers; with gradients also what their outputs mean to
/// what the network says.
///
/// What it says is, by the heads that the checkpoint has: a distribution over the vocabulary for each token or over classes
/// for each sequence, whose Fisher information the gradients have on average (labels are drawn from the distribution
/// itself); or else one unit vector for each sequence, whose squared change they have on average.
///
/// # Determinism
///
/// The sums depend on the network, the sequences and the seed alone, not on the number of threads.
///
/// # Errors
///
/// - sequences that the network refuses
pub fn calibrate_text(
    network: &TextNetwork,
    sequences: &[Vec<u32>],
    run: &CalibrationRun<'_>,
) -> Result<Statistics> {
    let CalibrationRun { gradients, seed, threads, progress, .. } = *run;
    let wanted = |layer: &str| run.wants(layer);
    let collector = Rc::new(Collector::new(network.layers(), &wanted, seed, threads));
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let (mut samples, mut tokens) = (0, 0);
    // Scores of a large vocabulary and their gradients are what takes most memory.
    let batches = match network.head() {
        Head::Vocabulary if gradients => {
            token_batches_within(sequences, SCORES / network.config().vocabulary().max(1))
        }
        _ => token_batches(sequences),
    };
    for (number, batch) in batches.into_iter().enumerate() {
        let batch: Vec<Vec<u32>> = batch.into_iter().map(|index| sequences[index].clone()).collect();
        let batch = Tokens::new(&batch)?;
        let observer: Rc<Collector> = Rc::clone(&collector);
        if gradients {
            let tape = Tape::observed(observer);
            let (said, gradient) = match network.head() {
                Head::Vocabulary => {
                    let hidden = network.hidden(&tape, &batch)?;
                    let logits = network.vocabulary_logits(&tape, &hidden)?;
                    let gradient = surprise(logits.tensor(), &mut random)?;
                    (logits, gradient)
                }
                Head::Classes => {
                    let logits = network.class_logits(&tape, &batch)?;
                    let gradient = surprise(logits.tensor(), &mut random)?;
                    (logits, gradient)
                }
                Head::Embeddings => {
                    let vectors = network.embeddings(&tape, &batch)?;
                    let count = vectors.tensor().elem_count();
                    let probes = initial::normal(seed, &format!("probes {number}"), count, 1.0);
                    let probes = Tensor::from_vec(probes, vectors.dims(), &Device::Cpu)?;
                    (vectors, probes)
                }
            };
            tape.backward_from(&said, &gradient)?;
        } else {
            network.hidden(&Tape::observed_inference(observer), &batch)?;
        }
        collector.next_batch();
        samples += batch.sequences().count() as u64;
        tokens += batch.ids().len() as u64;
        progress.ran(batch.ids().len());
    }
    let (inputs, layers) = collector.finish();
    Ok(Statistics { model: String::new(), data: String::new(), samples, tokens, inputs, layers })
}

/// The gradient of `-log p(y)` for labels drawn from `p = softmax(logits)`, row by row.
pub(super) fn surprise(logits: &Tensor, random: &mut ChaCha8Rng) -> Result<Tensor> {
    let (rows, classes) = logits.dims2()?;
    let mut values = logits.flatten_all()?.to_vec1::<f32>()?;
    for row in values.chunks_exact_mut(classes.max(1)) {
        let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        for x in row.iter_mut() {
            *x = (*x - most).exp();
        }
        let sum: f64 = row.iter().map(|&x| f64::from(x)).sum();
        let scale = (1.0 / sum) as f32;
        let mut left = random.random::<f64>();
        let mut drawn = classes - 1;
        for (index, x) in row.iter_mut().enumerate() {
            *x *= scale;
            left -= f64::from(*x);
            if left < 0.0 {
                drawn = drawn.min(index);
            }
        }
        row[drawn] -= 1.0;
    }
    Tensor::from_vec(values, (rows, classes), logits.device())
}
