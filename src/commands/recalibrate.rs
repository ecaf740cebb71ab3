//! The statistics of batch normalization after factoring, without training.

use super::{CommandError, Initialization, factoring, networks};
use crate::checkpoint::Checkpoint;
use crate::data::{DataSource, Loader, LoaderOptions, Split};
use crate::layers::{Execution, Role};
use crate::models::Network;
use crate::plan::{Limits, NoProgress, Plan};
use crate::train::{self, TrainingOptions, TrainingProgress, Unheard};
use candle_core::Device;
use std::collections::BTreeMap;

/// How many pictures the statistics are estimated on.
const IMAGES: usize = 5000;

/// The running statistics that a planned network has on training pictures, by name.
pub(super) fn statistics(
    checkpoint: &Checkpoint,
    plan: &Plan,
    data: &DataSource,
    limits: Limits,
) -> Result<BTreeMap<String, Vec<f32>>, CommandError> {
    let (state, _) =
        factoring::factor_state(checkpoint, plan, Initialization::Spectral, 0, limits, &NoProgress)?;
    let network = networks::network(&state, None, Execution::Auto, &Device::Cpu)?;
    let options = TrainingOptions::fine_tuning();
    recalibrate(&network, data, &options, None, &Device::Cpu, &Unheard)?;
    let statistics = network.parameters().iter().filter(|(_, parameter)| parameter.role() == Role::Statistic);
    let elements = |(name, parameter): (&str, &crate::layers::Parameter)| {
        Ok((name.to_owned(), parameter.var().flatten_all()?.to_vec1::<f32>()?))
    };
    statistics.map(elements).collect()
}

/// Re-estimates a network's statistics on training pictures, shuffled once and not augmented.
pub(super) fn recalibrate(
    network: &Network,
    data: &DataSource,
    options: &TrainingOptions,
    workers: Option<usize>,
    device: &Device,
    progress: &dyn TrainingProgress,
) -> Result<(), CommandError> {
    let dataset = networks::dataset(data, Split::Train, options.train_limit)?;
    let mut loading = LoaderOptions::new(options.batch_size);
    loading.seed = options.seed;
    loading.shuffle = true;
    loading.normalization.clone_from(&options.normalization);
    loading.workers = workers.unwrap_or(loading.workers);
    let loader = Loader::new(dataset, loading)?;
    networks::check(network, &loader)?;
    let batches = IMAGES.div_ceil(options.batch_size).min(loader.batches_per_epoch());
    progress.pass("recalibrating", batches * options.batch_size);
    train::recalibrate(network, &loader, batches, device, |images| progress.seen(images))?;
    progress.passed();
    Ok(())
}
