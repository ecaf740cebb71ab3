//! Networks and data, opened for what goes on with them.

use super::CommandError;
use crate::checkpoint::{Checkpoint, Source};
use crate::data::{DataSource, Format, ImageDataset, Loader, LoaderOptions, Normalization, Split};
use crate::layers::{Builder, Execution, State};
use crate::models::{Architecture, ArchitectureError, Family, Network};
use candle_core::Device;
use std::path::Path;
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
        (Some(named), _) => Ok(named.fitted_to(state)),
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
    let named = architecture_of(&checkpoint, &state, named)?;
    let network = network(&state, Some(named), execution, device)?;
    Ok((checkpoint, state, network))
}

/// The architecture of a checkpoint, as named, or as its configuration or its tensors tell.
pub(super) fn architecture_of(
    checkpoint: &Checkpoint,
    state: &State,
    named: Option<Architecture>,
) -> Result<Architecture, CommandError> {
    let told = match (named, checkpoint.config()) {
        (None, Some(config)) => Architecture::from_config(config, state)?,
        _ => None,
    };
    match told {
        Some(told) => Ok(told),
        None => Ok(architecture(state, named)?),
    }
}

/// What brings pictures near zero: as given, or as `preprocessor_config.json` beside a checkpoint has it.
pub(super) fn normalization(folder: &Path, given: Option<&Normalization>) -> Option<Normalization> {
    if given.is_some() {
        return given.cloned();
    }
    normalization_in(&std::fs::read(folder.join("preprocessor_config.json")).ok()?)
}

/// What a `preprocessor_config.json` brings pictures near zero by.
pub(super) fn normalization_in(text: &[u8]) -> Option<Normalization> {
    let json: serde_json::Value = serde_json::from_slice(text).ok()?;
    let numbers = |key: &str| -> Option<Vec<f32>> {
        json.get(key)?.as_array()?.iter().map(|value| Some(value.as_f64()? as f32)).collect()
    };
    Some(Normalization { mean: numbers("image_mean")?, std: numbers("image_std")? })
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

/// The side that pictures of any size are brought to, where a network takes one size alone.
pub(super) fn side(architecture: &Architecture, dataset: &ImageDataset) -> Option<usize> {
    match (architecture.family, dataset.format()) {
        (Family::Vit(config), Format::Images | Format::TinyImagenet) => Some(config.image),
        _ => None,
    }
}

/// Batches in order, as they are, for evaluation; pictures of any size are brought to this one.
pub(super) fn plain_loader(
    dataset: Arc<ImageDataset>,
    batch_size: usize,
    normalization: Option<&Normalization>,
    workers: Option<usize>,
    size: Option<usize>,
) -> Result<Loader, CommandError> {
    let mut options = LoaderOptions::new(batch_size);
    options.size = size;
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
