use super::CommandError;
use super::calibration::{self, CalibrationOptions};
use super::carry_out::{carried_out, prepared};
use crate::checkpoint::{Checkpoint, Source};
use crate::data::DataSource;
use crate::models::Architecture;
use crate::plan::{Limits, PlanOptions, Progress, Recipe};
use crate::report::{Check, CompressReport};
use std::path::PathBuf;
use std::time::Instant;

/// What [`compress`] is to do.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CompressOptions {
    /// The dense checkpoint.
    pub source: Source,
    /// Where the result goes; none with a dry run.
    pub output: Option<PathBuf>,
    /// Which layers get which rank, and how the result is saved.
    pub recipe: Recipe,
    /// How much of the machine is used.
    pub limits: Limits,
    /// Whether an existing output is replaced, at the end and at once.
    pub overwrite: bool,
    /// Whether only the plan is made.
    pub dry_run: bool,
    /// Whether the spectrum of every factored layer is computed, for a page.
    pub spectra: bool,
    /// What must hold for the result.
    pub checks: Vec<Check>,
    /// Training pictures on which batch normalization is re-estimated.
    pub recalibrate: Option<DataSource>,
    /// What methods that know the data are given.
    pub calibration: CalibrationOptions,
    /// The architecture of a network for pictures that is run, where the checkpoint's names do not tell.
    pub architecture: Option<Architecture>,
}

impl CompressOptions {
    /// Options for one checkpoint and recipe, with an output still to be named.
    #[must_use]
    pub fn new(source: Source, recipe: Recipe) -> Self {
        Self {
            source,
            output: None,
            recipe,
            limits: Limits::default(),
            overwrite: false,
            dry_run: false,
            spectra: false,
            checks: Vec::new(),
            recalibrate: None,
            calibration: CalibrationOptions::default(),
            architecture: None,
        }
    }
}

/// The size at which an output is split into several files, as Hugging Face's libraries have it.
pub(crate) const DEFAULT_SHARD_BYTES: u64 = 5_000_000_000;

/// Factors a checkpoint: reads it, plans, decomposes the layers side by side, and writes the result.
///
/// The output's name holds what it held before, or nothing, until everything is written.
///
/// # Determinism
///
/// The bytes written depend on the input and the recipe alone, not on the number of threads.
///
/// # Errors
///
/// - [`CommandError::Checkpoint`] when the input cannot be read;
/// - [`CommandError::Plan`] when the recipe and the checkpoint do not fit;
/// - [`CommandError::Output`] when the result cannot be written, told before the first decomposition where
///   that can be told;
/// - [`CommandError::NotRecalibrated`], [`CommandError::Unfit`], [`CommandError::Data`] when statistics cannot be
///   re-estimated;
/// - [`CommandError::Decompose`], [`CommandError::Numeric`] when a weight holds NaN or an infinity, or its factors
///   do not fit the element type asked for.
///
/// # Examples
///
/// ```
/// use fnl::commands::{CompressOptions, compress};
/// use fnl::plan::{NoProgress, RankRule, Recipe, Rule};
///
/// let folder = tempfile::tempdir()?;
/// let mut recipe = Recipe::default();
/// recipe.rules.push(Rule::new(RankRule::Rank(16)));
/// let mut options = CompressOptions::new("fixtures/silero_vad_16k.safetensors".parse()?, recipe);
/// options.output = Some(folder.path().join("factored.safetensors"));
/// let report = compress(&options, &NoProgress)?;
/// assert_eq!(report.layers[0].layer, "conv1");
/// assert_eq!(report.layers[0].rank, 16);
/// assert!(report.totals.keep < 1.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn compress(options: &CompressOptions, progress: &dyn Progress) -> Result<CompressReport, CommandError> {
    let start = Instant::now();
    let checkpoint = Checkpoint::open(&options.source)?;
    let (output, recalibration) = prepared(&checkpoint, options)?;
    let mut plan_options = PlanOptions::new(options.limits, options.spectra);
    plan_options.exact_errors =
        options.dry_run && options.checks.iter().any(|check| matches!(check, Check::MaxError(_)));
    let given = &options.calibration;
    if let (Some(save), Some(output)) = (&given.save, &options.output)
        && save.starts_with(output)
    {
        let problem = format!("the statistics `{}` lie inside the output", save.display());
        return Err(CommandError::Usage(problem));
    }
    let calibrated =
        calibration::prepare(&checkpoint, &options.recipe, given, options.architecture, &plan_options)?
            .map(|calibration| calibration.run(options.limits, progress))
            .transpose()?;
    let calibration_secs = calibrated.as_ref().map(|calibrated| calibrated.elapsed_secs);
    let plan = calibration::plan(&checkpoint, &options.recipe, &plan_options, calibrated, progress)?;
    let mut report = carried_out(&checkpoint, &plan, output, recalibration, options, progress)?;
    report.totals.calibration_secs = calibration_secs;
    report.totals.elapsed_secs = Some(start.elapsed().as_secs_f64());
    Ok(report)
}
