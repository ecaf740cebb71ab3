use super::collector::Collector;
use super::run::CalibrationRun;
use super::statistics::Statistics;
use super::text::{SCORES, surprise};
use crate::data::PairBatches;
use crate::layers::Tape;
use crate::models::{Tokens, TranslationNetwork};
use candle_core::{Result, bail};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use std::rc::Rc;

/// Tokens of a side that are run at once.
const TOKENS: usize = 2048;

/// Runs a network that translates over pairs and sums up what goes into its dense layers; with gradients also what their outputs
/// mean to what it says: the distribution of each token of the translation, given those before it.
///
/// Sources end with the end token, targets have neither start nor end.
///
/// # Determinism
///
/// The sums depend on the network, the pairs and the seed alone, not on the number of threads.
///
/// # Errors
///
/// - not as many sources as targets, sequences that the network refuses
pub fn calibrate_translation(
    network: &TranslationNetwork,
    sources: &[Vec<u32>],
    targets: &[Vec<u32>],
    run: &CalibrationRun<'_>,
) -> Result<Statistics> {
    if sources.len() != targets.len() {
        bail!("{} sources for {} targets", sources.len(), targets.len());
    }
    let CalibrationRun { gradients, seed, threads, progress, .. } = *run;
    let wanted = |layer: &str| run.wants(layer);
    let collector = Rc::new(Collector::new(network.layers(), &wanted, seed, threads));
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let lengths: Vec<[usize; 2]> =
        sources.iter().zip(targets).map(|(source, target)| [source.len(), target.len() + 1]).collect();
    let vocabulary = network.config().vocabularies[1].max(1);
    let most = if gradients { TOKENS.min(SCORES / vocabulary) } else { TOKENS };
    let (mut samples, mut tokens) = (0, 0);
    for batch in PairBatches::new(&lengths, most, seed).by_length() {
        let of = |all: &[Vec<u32>]| batch.iter().map(|&index| all[index].clone()).collect::<Vec<_>>();
        let (sources, targets) = (of(sources), of(targets));
        let observer: Rc<Collector> = Rc::clone(&collector);
        let tape = if gradients { Tape::observed(observer) } else { Tape::observed_inference(observer) };
        let encoded = network.encode(&tape, &Tokens::new(&sources)?)?;
        let logits = network.logits(&tape, &encoded, &network.inputs(&targets)?)?;
        if gradients {
            let gradient = surprise(logits.tensor(), &mut random)?;
            tape.backward_from(&logits, &gradient)?;
        }
        collector.next_batch();
        let count: usize = batch.iter().map(|&index| lengths[index].iter().sum::<usize>()).sum();
        samples += batch.len() as u64;
        tokens += count as u64;
        progress.ran(count);
    }
    let (inputs, layers) = collector.finish();
    Ok(Statistics { model: String::new(), data: String::new(), samples, tokens, inputs, layers })
}
