//! The statistics of batch normalization after factoring, without training.

use super::{CommandError, Initialization, factoring, networks};
use crate::checkpoint::Checkpoint;
use crate::data::{DataSource, Loader, LoaderOptions, Split};
use crate::layers::{Execution, Role, State};
use crate::models::{Architecture, Network};
use crate::plan::{Limits, NoProgress, Plan};
use crate::train::{self, TrainingOptions, TrainingProgress, Unheard};
use candle_core::Device;
use std::collections::BTreeMap;

/// How many pictures the statistics are estimated on.
const IMAGES: usize = 5000;

/// What re-estimation needs of a checkpoint, opened and checked before a layer is factored.
pub(super) struct Recalibration {
    state: State,
    architecture: Architecture,
    loader: Loader,
}

impl Recalibration {
    /// Refuses a checkpoint that is no known network, and data that are not what it takes.
    pub(super) fn new(
        checkpoint: &Checkpoint,
        data: &DataSource,
        named: Option<Architecture>,
    ) -> Result<Self, CommandError> {
        let state = State::read(checkpoint)?;
        let architecture =
            networks::architecture_of(checkpoint, &state, named).map_err(|error| match error {
                CommandError::Architecture(error) => CommandError::NotRecalibrated(error),
                other => other,
            })?;
        let loader = loader(data, &TrainingOptions::fine_tuning(), None)?;
        networks::check(&architecture, &loader)?;
        Ok(Self { state, architecture, loader })
    }

    /// The running statistics that the planned network has on training pictures, by name.
    pub(super) fn statistics(
        self,
        checkpoint: &Checkpoint,
        plan: &Plan,
        limits: Limits,
    ) -> Result<BTreeMap<String, Vec<f32>>, CommandError> {
        let Self { state, architecture, loader } = self;
        let spectral = Initialization::Spectral;
        let (state, _) = factoring::factor_state(state, checkpoint, plan, spectral, 0, limits, &NoProgress)?;
        let network = networks::network(&state, Some(architecture), Execution::Auto, &Device::Cpu)?;
        estimate(&network, &loader, &Device::Cpu, &Unheard)?;
        let mut statistics = BTreeMap::new();
        for (name, parameter) in network.parameters().iter() {
            if parameter.role() == Role::Statistic {
                statistics.insert(name.to_owned(), parameter.var().flatten_all()?.to_vec1::<f32>()?);
            }
        }
        Ok(statistics)
    }
}

/// Re-estimates a network's statistics on a run's training pictures.
pub(super) fn recalibrate(
    network: &Network,
    data: &DataSource,
    options: &TrainingOptions,
    workers: Option<usize>,
    device: &Device,
    progress: &dyn TrainingProgress,
) -> Result<(), CommandError> {
    estimate(network, &loader(data, options, workers)?, device, progress)
}

/// Training pictures, shuffled once and not augmented.
fn loader(
    data: &DataSource,
    options: &TrainingOptions,
    workers: Option<usize>,
) -> Result<Loader, CommandError> {
    let dataset = networks::dataset(data, Split::Train, options.train_limit)?;
    let mut loading = LoaderOptions::new(options.batch_size);
    loading.seed = options.seed;
    loading.shuffle = true;
    loading.normalization.clone_from(&options.normalization);
    loading.workers = workers.unwrap_or(loading.workers);
    Ok(Loader::new(dataset, loading)?)
}

fn estimate(
    network: &Network,
    loader: &Loader,
    device: &Device,
    progress: &dyn TrainingProgress,
) -> Result<(), CommandError> {
    let batch_size = loader.options().batch_size;
    let batches = IMAGES.div_ceil(batch_size).min(loader.batches_per_epoch());
    progress.pass("recalibrating", (batches * batch_size).min(loader.samples_per_epoch()));
    train::recalibrate(network, loader, batches, device, |images| progress.seen(images))?;
    progress.passed();
    Ok(())
}
