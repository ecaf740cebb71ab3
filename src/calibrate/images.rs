use super::collector::Collector;
use super::run::CalibrationRun;
use super::statistics::Statistics;
use crate::data::{DataError, Loader};
use crate::layers::{Statistics as Normalized, Tape, initial};
use crate::models::Network;
use candle_core::{Device, Result as TensorResult, Tensor};
use std::rc::Rc;

/// Why a network could not be run over pictures.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CalibrationError {
    /// Pictures that cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Pictures that the network refuses.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// Runs a network over pictures, the first `images` of a loader's epoch, and sums up what goes into its dense layers; with
/// gradients also what their outputs mean to what the network says.
///
/// Batch normalization has its running statistics. What the network says of a picture is its logits, but for what all of them
/// have in common; the gradients have their squared change on average. (Of labels drawn from the logits' distribution they would
/// have its Fisher information; but a trained network is sure of most pictures, so that a few of them would count alone:
/// measured, that is worse, BENCHMARKS.md.) A convolution's input is the patch under its kernel, at up to 64 positions of each
/// picture that are drawn from the seed and stand for all of them.
///
/// # Determinism
///
/// The sums depend on the network, the pictures, their order and the seed alone, not on the number of threads.
///
/// # Errors
///
/// - pictures that cannot be read, or that the network refuses
pub fn calibrate_images(
    network: &Network,
    loader: &Loader,
    images: usize,
    run: &CalibrationRun<'_>,
) -> Result<Statistics, CalibrationError> {
    let CalibrationRun { gradients, seed, threads, progress, .. } = *run;
    let wanted = |layer: &str| run.wants(layer);
    let collector = Rc::new(Collector::new(network.layers(), &wanted, seed, threads));
    let mut samples = 0;
    let batches = images.div_ceil(loader.options().batch_size);
    for batch in loader.epoch(0, 0).take(batches) {
        let pictures = batch?.images.to_device(&Device::Cpu)?;
        let count = pictures.dim(0)?.min(images - samples);
        let pictures = pictures.narrow(0, 0, count)?;
        let observer: Rc<Collector> = Rc::clone(&collector);
        if gradients {
            let tape = Tape::observed(observer);
            let logits = network.forward(&tape, &tape.constant(&pictures), Normalized::Running)?;
            let gradient = contrast(logits.tensor(), seed, samples)?;
            tape.backward_from(&logits, &gradient)?;
        } else {
            let tape = Tape::observed_inference(observer);
            network.forward(&tape, &tape.constant(&pictures), Normalized::Running)?;
        }
        collector.next_batch();
        samples += count;
        progress.ran(count);
    }
    let (inputs, layers) = collector.finish();
    let samples = samples as u64;
    Ok(Statistics { model: String::new(), data: String::new(), samples, tokens: samples, inputs, layers })
}

/// Directions in which logits are looked at, at random and one for each picture, across what all logits have in common.
fn contrast(logits: &Tensor, seed: u64, number: usize) -> TensorResult<Tensor> {
    let (rows, classes) = logits.dims2()?;
    let probes = initial::normal(seed, &format!("probes {number}"), rows * classes, 1.0);
    let probes = Tensor::from_vec(probes, (rows, classes), logits.device())?;
    if classes == 1 { Ok(probes) } else { probes.broadcast_sub(&probes.mean_keepdim(1)?) }
}
