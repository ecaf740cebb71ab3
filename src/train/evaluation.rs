use super::{Correct, CrossEntropy, TrainError, correct};
use crate::data::Loader;
use crate::layers::{Statistics, Tape};
use crate::models::Network;
use candle_core::{DType, Device};
use serde::Serialize;
use std::time::Instant;

/// How good a network is on a data set.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Evaluation {
    /// The mean cross entropy.
    pub loss: f64,
    /// The part of samples whose label had the largest logit.
    pub accuracy: f64,
    /// The part of samples whose label was among the five largest.
    pub top5_accuracy: f64,
    /// Samples.
    pub images: usize,
    /// How long it took, reading included.
    pub elapsed_secs: f64,
}

impl Evaluation {
    /// Samples a second.
    #[must_use]
    pub fn images_per_sec(&self) -> f64 {
        self.images as f64 / self.elapsed_secs
    }
}

/// Runs a network over a data set, with its running statistics; `seen` hears how many samples each batch had.
///
/// # Errors
///
/// - data that cannot be read, or that the network cannot take
pub fn evaluate(
    network: &Network,
    loader: &Loader,
    device: &Device,
    mut seen: impl FnMut(usize),
) -> Result<Evaluation, TrainError> {
    let start = Instant::now();
    let (mut loss, mut right, mut images) = (0.0, Correct::default(), 0);
    for batch in loader.epoch(0, 0) {
        let batch = batch?;
        let labels = batch.labels.to_vec1::<u32>()?;
        let tape = Tape::inference();
        let inputs = tape.constant(&batch.images.to_device(device)?);
        let logits = network.forward(&tape, &inputs, Statistics::Running)?;
        let of_batch = tape.apply(CrossEntropy::new(&labels, 0.0), &[&logits])?;
        loss += of_batch.tensor().to_dtype(DType::F64)?.to_scalar::<f64>()? * labels.len() as f64;
        right += correct(&logits.tensor().to_device(&Device::Cpu)?, &labels)?;
        images += labels.len();
        seen(labels.len());
    }
    let part = |count: usize| count as f64 / images.max(1) as f64;
    Ok(Evaluation {
        loss: loss / images.max(1) as f64,
        accuracy: part(right.top1),
        top5_accuracy: part(right.top5),
        images,
        elapsed_secs: start.elapsed().as_secs_f64(),
    })
}

/// Re-estimates the running statistics of batch normalization: the mean over these batches of what each had.
///
/// Factoring moves the outputs of a layer, and with them the statistics that the next normalization subtracts; this
/// needs no labels and no gradients.
///
/// # Determinism
///
/// The statistics depend on the data, its order and the batch size.
///
/// # Errors
///
/// - data that cannot be read, or that the network cannot take
pub fn recalibrate(
    network: &Network,
    loader: &Loader,
    batches: usize,
    device: &Device,
    mut seen: impl FnMut(usize),
) -> Result<usize, TrainError> {
    let mut images = 0;
    for batch in loader.epoch(0, 0).take(batches) {
        let batch = batch?;
        let tape = Tape::inference();
        let inputs = tape.constant(&batch.images.to_device(device)?);
        let count = batch.images.dim(0)?;
        images += count;
        // A mean over batches, each with its part of the pictures: the first replaces what was there.
        network.forward(&tape, &inputs, Statistics::Batch { momentum: count as f64 / images as f64 })?;
        seen(count);
    }
    Ok(images)
}
