//! Networks and data, opened for what goes on with them.

use super::CommandError;
use crate::checkpoint::{Checkpoint, Source};
use crate::data::{DataSource, ImageDataset, Loader, LoaderOptions, Normalization, Split};
use crate::layers::{Builder, Execution, State};
use crate::models::{Architecture, ArchitectureError, Network};
use candle_core::Device;
use std::sync::Arc;

/// The network of a checkpoint's tensors, its architecture as named or as its tensors tell.
pub(super) fn network(
    state: &State,
    named: Option<Architecture>,
    execution: Execution,
    device: &Device,
) -> Result<Network, CommandError> {
    let architecture = architecture(state, named)?;
    let builder = Builder::new(state, device).with_execution(execution);
    Ok(Network::build(&architecture, &builder)?)
}

/// The architecture of a checkpoint's tensors, as named or as they tell.
pub(super) fn architecture(
    state: &State,
    named: Option<Architecture>,
) -> Result<Architecture, ArchitectureError> {
    match (named, Architecture::detect(state)) {
        // A name says nothing of classes and channels.
        (Some(named), Ok(told)) => Ok(named.with_classes(told.classes).with_channels(told.channels)),
        (Some(named), Err(_)) => Ok(named),
        (None, told) => told,
    }
}

/// The network of a checkpoint, and its tensors.
pub(super) fn open(
    source: &Source,
    named: Option<Architecture>,
    execution: Execution,
    device: &Device,
) -> Result<(Checkpoint, State, Network), CommandError> {
    let checkpoint = Checkpoint::open(source)?;
    let state = State::read(&checkpoint)?;
    let network = network(&state, named, execution, device)?;
    Ok((checkpoint, state, network))
}

/// The samples of a split, the first `limit` of them.
pub(super) fn dataset(
    data: &DataSource,
    split: Split,
    limit: Option<usize>,
) -> Result<Arc<ImageDataset>, CommandError> {
    let dataset = ImageDataset::open(data, split)?;
    Ok(Arc::new(match limit {
        Some(limit) => dataset.limit(limit),
        None => dataset,
    }))
}

/// Batches in order, as they are, for evaluation.
pub(super) fn plain_loader(
    dataset: Arc<ImageDataset>,
    batch_size: usize,
    normalization: Option<&Normalization>,
    workers: Option<usize>,
) -> Result<Loader, CommandError> {
    let mut options = LoaderOptions::new(batch_size);
    options.normalization = normalization.cloned();
    options.workers = workers.unwrap_or(options.workers);
    Ok(Loader::new(dataset, options)?)
}

/// Multiply-adds for one of the data's pictures.
pub(super) fn multiply_adds(network: &Network, loader: &Loader) -> Result<u64, CommandError> {
    let [_, height, width] = loader.shape();
    network.multiply_adds([height, width], 1).map_err(|source| CommandError::Picture {
        architecture: network.architecture().to_string(),
        height,
        width,
        source: Box::new(source),
    })
}

/// Refuses data that a network was not made for.
pub(super) fn check(architecture: &Architecture, loader: &Loader) -> Result<(), CommandError> {
    let [channels, ..] = loader.shape();
    let classes = loader.dataset().classes();
    let mut problems = Vec::new();
    if classes != architecture.classes {
        problems.push(format!("the data has {classes} classes, the network {}", architecture.classes));
    }
    if channels != architecture.channels {
        problems.push(format!(
            "the data's pictures have {channels} channels, the network takes {}",
            architecture.channels
        ));
    }
    if problems.is_empty() { Ok(()) } else { Err(CommandError::Unfit { problems }) }
}
