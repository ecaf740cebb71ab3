//! A plan carried out: layers factored, everything else copied, and what came of it.

use super::compress::{CompressOptions, DEFAULT_SHARD_BYTES};
use super::recalibrate::Recalibration;
use super::weights::{self, Element, decompose_error, numeric_error};
use super::{CommandError, model_card, side_files};
use crate::checkpoint::{
    Checkpoint, Dtype, ModuleRecord, OutputOptions, OutputTensor, RECORD_VERSION, Record, Staging, dtype_name,
};
use crate::decompose::{Factor, FormatOptions};
use crate::layers::record_of;
use crate::linalg::SvdOptions;
use crate::plan::{Job, LayerEvent, LayerPlan, Limits, Plan, Progress, Save, Stage, TensorAction, run_jobs};
use crate::report::{CompressReport, Outcome};
use std::collections::BTreeMap;
use std::time::Instant;

/// Carries out a plan that was made of the options' checkpoint, and looked at, where [`super::compress()`] makes its own. The options'
/// recipe and calibration are not asked again.
///
/// # Errors
///
/// - as [`super::compress()`]; a plan of another checkpoint
///
/// # Examples
///
/// ```
/// use fnl::checkpoint::Checkpoint;
/// use fnl::commands::{CompressOptions, carry_out};
/// use fnl::plan::{NoProgress, Plan, PlanOptions, RankRule, Recipe, Rule};
///
/// let folder = tempfile::tempdir()?;
/// let mut recipe = Recipe::default();
/// recipe.rules.push(Rule::new(RankRule::LayerKeep(0.5)));
/// let mut options = CompressOptions::new("fixtures/silero_vad_16k.safetensors".parse()?, recipe);
/// let checkpoint = Checkpoint::open(&options.source)?;
/// let plan = Plan::new(&checkpoint, &options.recipe, &PlanOptions::new(options.limits, false), &NoProgress)?;
/// for layer in &plan.layers {
///     println!("{}: {} of rank {}", layer.layer, layer.format.scheme(), layer.ranks);
/// }
/// options.output = Some(folder.path().join("factored.safetensors"));
/// let report = carry_out(&plan, &options, &NoProgress)?;
/// assert_eq!(report.layers.len(), plan.layers.len());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn carry_out(
    plan: &Plan,
    options: &CompressOptions,
    progress: &dyn Progress,
) -> Result<CompressReport, CommandError> {
    let start = Instant::now();
    let checkpoint = Checkpoint::open(&options.source)?;
    if !plan
        .tensors
        .iter()
        .map(|tensor| &tensor.name)
        .eq(checkpoint.tensors().iter().map(|entry| &entry.name))
    {
        let problem = format!("the plan is of another checkpoint than `{}`", options.source);
        return Err(CommandError::Unfit { problems: vec![problem] });
    }
    let (output, recalibration) = prepared(&checkpoint, options)?;
    let mut report = carried_out(&checkpoint, plan, output, recalibration, options, progress)?;
    report.totals.elapsed_secs = Some(start.elapsed().as_secs_f64());
    Ok(report)
}

/// The output and what is recalibrated, opened and checked before anything is computed.
pub(super) fn prepared(
    checkpoint: &Checkpoint,
    options: &CompressOptions,
) -> Result<(Option<OutputOptions>, Option<Recalibration>), CommandError> {
    let output = match &options.output {
        None if options.dry_run => None,
        None => return Err(CommandError::NoOutput),
        Some(target) => Some(output_options(checkpoint, target, options)?),
    };
    if let Some(output) = &output {
        // Before spectra are computed; the size is checked when the plan is known.
        Staging::check(output, &side_files::inputs(checkpoint), &[])?;
    }
    let recalibrate = options.recalibrate.as_ref();
    let opened = recalibrate.map(|data| Recalibration::new(checkpoint, data, options.architecture));
    Ok((output, opened.transpose()?))
}

/// What a plan comes out as: written, or only reported.
pub(super) fn carried_out(
    checkpoint: &Checkpoint,
    plan: &Plan,
    output: Option<OutputOptions>,
    recalibration: Option<Recalibration>,
    options: &CompressOptions,
    progress: &dyn Progress,
) -> Result<CompressReport, CommandError> {
    let recipe = plan.recipe.to_json();
    let input = options.source.to_string();
    let Some(mut output) = output.filter(|_| !options.dry_run) else {
        let mut report = CompressReport::new(input, plan, None, recipe);
        report.check(&options.checks);
        return Ok(report);
    };
    let tensors: Vec<OutputTensor> = plan.outputs().cloned().collect();
    let zero_errors = vec![0.0; plan.layers.len()];
    let config = side_files::named_dtypes(checkpoint.config(), plan.recipe.dtype);
    let statistics = match recalibration {
        Some(recalibration) => recalibration.statistics(checkpoint, plan, options.limits)?,
        None => BTreeMap::new(),
    };
    let record = |errors: &[f64]| Record {
        recalibrated: statistics.keys().cloned().collect(),
        ..record(plan, errors, &config)
    };
    output.reserve = match plan.recipe.save {
        Save::Factored => record(&zero_errors).reserve(),
        Save::Collapsed => 0,
    };
    Staging::check(&output, &side_files::inputs(checkpoint), &tensors)?;
    let staging = Staging::create(&output, &tensors)?;
    write_kept(checkpoint, plan, &statistics, &staging)?;
    let outcomes = factor_layers(checkpoint, plan, &staging, options.limits, progress)?;

    let errors: Vec<f64> = outcomes.iter().map(|outcome| outcome.relative_error).collect();
    let record = (plan.recipe.save == Save::Factored).then(|| record(&errors));
    let mut report = CompressReport::new(input, plan, Some(&outcomes), recipe);
    report.check(&options.checks);
    if output.as_directory {
        let card = model_card::of_factoring(&report);
        let dtypes = side_files::new_dtypes(checkpoint.config(), plan.recipe.dtype);
        let left_out = side_files::copy(checkpoint, &staging, record.as_ref(), &dtypes, &card)?;
        report.files_left_out = left_out;
        report.files = side_files::names(&output);
        staging.add_file("report.json".as_ref(), report.reproducible().to_json().as_bytes())?;
    }
    staging.publish(record.map(|record| record.to_json()).as_deref())?;
    report.output = Some(output.target.display().to_string());
    Ok(report)
}

fn output_options(
    checkpoint: &Checkpoint,
    target: &std::path::Path,
    options: &CompressOptions,
) -> Result<OutputOptions, CommandError> {
    let max_shard_bytes = options.recipe.max_shard_bytes.unwrap_or(DEFAULT_SHARD_BYTES);
    side_files::output_options(checkpoint, target, max_shard_bytes, options.overwrite)
}

/// Writes every tensor that is not factored.
fn write_kept(
    checkpoint: &Checkpoint,
    plan: &Plan,
    statistics: &BTreeMap<String, Vec<f32>>,
    staging: &Staging,
) -> Result<(), CommandError> {
    for tensor in &plan.tensors {
        let (Some(entry), [output]) = (checkpoint.get(&tensor.name), tensor.outputs.as_slice()) else {
            continue;
        };
        if let Some(elements) = statistics.get(&tensor.name) {
            let bytes = f32::narrow(elements, output.dtype).map_err(numeric_error(&tensor.name))?;
            staging.write(&output.name, &bytes)?;
            continue;
        }
        match tensor.action {
            TensorAction::Copied | TensorAction::Renamed => staging.copy(&output.name, checkpoint, entry)?,
            TensorAction::Converted => {
                let bytes = checkpoint.bytes(entry)?;
                let converted = if entry.dtype == Dtype::F64 {
                    f64::widen(&bytes, entry.dtype).and_then(|elements| f64::narrow(&elements, output.dtype))
                } else {
                    f32::widen(&bytes, entry.dtype).and_then(|elements| f32::narrow(&elements, output.dtype))
                };
                staging.write(&output.name, &converted.map_err(numeric_error(&tensor.name))?)?;
            }
            TensorAction::Factored | TensorAction::Collapsed => {}
        }
    }
    Ok(())
}

fn factor_layers(
    checkpoint: &Checkpoint,
    plan: &Plan,
    staging: &Staging,
    limits: Limits,
    progress: &dyn Progress,
) -> Result<Vec<Outcome>, CommandError> {
    let jobs: Vec<Job<&LayerPlan>> = plan
        .layers
        .iter()
        .map(|layer| Job { item: layer, work: layer.work, memory_bytes: layer.memory_bytes })
        .collect();
    progress.begin(Stage::Factoring, jobs.len(), jobs.iter().map(|job| job.work).sum());
    let outcomes = run_jobs(&jobs, limits, |layer| {
        progress.started(&layer.layer);
        let start = Instant::now();
        let mut outcome = if layer.dtypes.0 == Dtype::F64 {
            factor_layer::<f64>(checkpoint, layer, plan, staging)?
        } else {
            factor_layer::<f32>(checkpoint, layer, plan, staging)?
        };
        outcome.elapsed_secs = start.elapsed().as_secs_f64();
        let mut event = LayerEvent::new(&layer.layer, outcome.elapsed_secs);
        event.scheme = layer.is_compared().then(|| layer.format.scheme());
        event.ranks = Some(layer.ranks);
        event.relative_error = Some(outcome.relative_error);
        progress.finished(&event, layer.work);
        Ok::<_, CommandError>(outcome)
    });
    progress.end();
    outcomes
}

/// Factors one layer and writes what stands in its place; the error is that of the elements written.
fn factor_layer<T: Element>(
    checkpoint: &Checkpoint,
    layer: &LayerPlan,
    plan: &Plan,
    staging: &Staging,
) -> Result<Outcome, CommandError> {
    let name = layer.tensor.as_str();
    let entry = weights::expect(checkpoint, &layer.layer, name)?;
    let weight: Vec<T> = weights::read(checkpoint, entry)?;
    let options = FormatOptions { svd: SvdOptions { method: plan.recipe.svd, threads: 1 }, seed: 0 };
    let factored = layer
        .format
        .factor(&weight, &layer.ranks, layer.metric.as_ref(), &options)
        .map_err(decompose_error(name))?;
    let written = layer.dtypes.1;
    let relative_error = match plan.recipe.save {
        Save::Collapsed => {
            let data = layer.format.collapse(&factored.factors, 1).map_err(decompose_error(name))?;
            let dense = Factor { shape: layer.format.shape().to_vec(), data };
            let (bytes, dense) = weights::rounded(&dense, written, name)?;
            staging.write(name, &bytes)?;
            for (tied, _, _) in &layer.tied {
                staging.write(tied, &bytes)?;
            }
            weights::relative_difference(&weight, &dense.data)
        }
        Save::Factored => {
            let mut rounded = Vec::new();
            for (link, factor) in layer.format.factor_names(&layer.layer).iter().zip(&factored.factors) {
                let (bytes, factor) = weights::rounded(factor, written, link)?;
                staging.write(link, &bytes)?;
                rounded.push(factor);
            }
            for (tied, tied_layer, format) in &layer.tied {
                let own = format.convert(&layer.format, &rounded).map_err(decompose_error(tied))?;
                for (link, factor) in format.factor_names(tied_layer).iter().zip(&own) {
                    staging.write(link, &T::narrow(&factor.data, written).map_err(numeric_error(link))?)?;
                }
            }
            layer.format.error_of(&weight, &rounded, 1).map_err(decompose_error(name))?
        }
    };
    if !relative_error.is_finite() {
        return Err(CommandError::Unmeasured { tensor: name.to_owned() });
    }
    let spectrum = layer.spectrum.clone().or(factored.spectrum);
    let output_error = layer.metric.as_ref().map(|_| factored.relative_error);
    let (svd, degeneracy) = (factored.path, factored.degeneracy);
    Ok(Outcome { relative_error, output_error, svd, degeneracy, elapsed_secs: 0.0, spectrum })
}

/// The record of a plan whose layers came out with these errors.
pub(super) fn record(plan: &Plan, errors: &[f64], config: &BTreeMap<String, String>) -> Record {
    let mut modules = BTreeMap::new();
    for (layer, &relative_error) in plan.layers.iter().zip(errors) {
        let uses: Vec<_> = std::iter::once((&layer.tensor, &layer.layer, &layer.format))
            .chain(layer.tied.iter().map(|(tensor, name, format)| (tensor, name, format)))
            .collect();
        for (tensor, name, format) in &uses {
            let mut module = ModuleRecord {
                dtype: dtype_name(layer.dtypes.0).to_owned(),
                relative_error,
                stride: layer.facts.stride,
                padding: layer.facts.padding,
                dilation: layer.facts.dilation,
                ..record_of(format, &layer.ranks)
            };
            let grouped = format.groups() > 1 || layer.facts.groups.is_some();
            module.groups = grouped.then(|| format.groups());
            module.tied_with =
                uses.iter().filter(|(other, ..)| other != tensor).map(|(o, ..)| (*o).clone()).collect();
            modules.insert((*name).clone(), module);
        }
    }
    let converted = plan
        .tensors
        .iter()
        .filter(|tensor| tensor.action == TensorAction::Converted)
        .map(|tensor| (tensor.name.clone(), tensor.dtype.to_owned()))
        .collect();
    let tool = crate::TOOL.to_owned();
    let config = config.clone();
    let (recalibrated, recipe) = (Vec::new(), plan.recipe.to_json());
    Record { version: RECORD_VERSION, tool, modules, converted, recalibrated, config, recipe }
}
