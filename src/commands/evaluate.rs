use super::{CommandError, DeviceName, networks};
use crate::checkpoint::Source;
use crate::data::{DataSource, Normalization, Split};
use crate::layers::{Execution, keep_freed_memory};
use crate::models::Architecture;
use crate::report::{EvaluateReport, Evaluated};
use crate::train::{self, TrainingProgress};

/// What [`evaluate`] is to do.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EvaluateOptions {
    /// The checkpoint: dense, factored or collapsed.
    pub source: Source,
    /// The data whose test split is used.
    pub data: DataSource,
    /// The architecture, where the checkpoint's names do not tell.
    pub architecture: Option<Architecture>,
    /// Samples in a batch.
    pub batch_size: usize,
    /// The first so many samples only.
    pub limit: Option<usize>,
    /// What brings pictures near zero, where it is not the data set's usual way.
    pub normalization: Option<Normalization>,
    /// How factors are run.
    pub execution: Execution,
    /// Where it is computed.
    pub device: DeviceName,
    /// Threads that read and decode.
    pub workers: Option<usize>,
    /// The accuracy that it must have.
    pub min_accuracy: Option<f64>,
}

impl EvaluateOptions {
    /// Options for one checkpoint and data set.
    #[must_use]
    pub fn new(source: Source, data: DataSource) -> Self {
        Self {
            source,
            data,
            architecture: None,
            batch_size: 128,
            limit: None,
            normalization: None,
            execution: Execution::Auto,
            device: DeviceName::Cpu,
            workers: None,
            min_accuracy: None,
        }
    }
}

/// Measures a network on the test split of a data set.
///
/// # Errors
///
/// - [`CommandError::Architecture`], [`CommandError::Network`] when the checkpoint is no known network;
/// - [`CommandError::Unfit`] when the data is not what the network takes;
/// - [`CommandError::Train`] when data cannot be read
pub fn evaluate(
    options: &EvaluateOptions,
    progress: &dyn TrainingProgress,
) -> Result<EvaluateReport, CommandError> {
    keep_freed_memory();
    let device = options.device.open()?;
    let (checkpoint, state, network) =
        networks::open(&options.source, options.architecture, options.execution, &device)?;
    let dataset = networks::dataset(&options.data, Split::Test, options.limit)?;
    let size = networks::side(network.architecture(), &dataset);
    let normalization = networks::normalization(checkpoint.root(), options.normalization.as_ref());
    let loader =
        networks::plain_loader(dataset, options.batch_size, normalization.as_ref(), options.workers, size)?;
    networks::check(network.architecture(), &loader)?;
    let multiply_adds = networks::multiply_adds(&network, &loader)?;
    progress.pass("evaluating", loader.samples_per_epoch());
    let evaluation = train::evaluate(&network, &loader, &device, |images| progress.seen(images))?;
    progress.passed();
    let names = [options.source.to_string(), network.architecture().to_string(), options.data.to_string()];
    let (layers, parameters) = (network.layers(), network.parameters());
    let evaluated = Evaluated::new(names, layers, parameters, state.size_bytes(), multiply_adds);
    let mut report = EvaluateReport::new(evaluated, &evaluation);
    if let Some(least) = options.min_accuracy {
        report.require_accuracy(least);
    }
    Ok(report)
}
