use super::model_card::Section;
use super::weights::{self, Element, Recorded, decompose_error};
use super::{CommandError, side_files};
use crate::checkpoint::{Checkpoint, Dtype, OutputTensor, Record, Source, Staging, dtype_from_name};
use crate::decompose::Factor;
use crate::plan::{Job, LayerEvent, Limits, Progress, Stage, run_jobs};
use crate::report::CollapseReport;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Instant;

/// What [`collapse`] is to do.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CollapseOptions {
    /// The factored checkpoint.
    pub source: Source,
    /// Where the dense one goes.
    pub output: PathBuf,
    /// How much of the machine is used.
    pub limits: Limits,
    /// Whether an existing output is replaced, at the end and at once.
    pub overwrite: bool,
    /// The largest file written, in bytes.
    pub max_shard_bytes: u64,
}

impl CollapseOptions {
    /// Options for one checkpoint and output.
    #[must_use]
    pub fn new(source: Source, output: PathBuf) -> Self {
        let max_shard_bytes = super::compress::DEFAULT_SHARD_BYTES;
        Self { source, output, limits: Limits::default(), overwrite: false, max_shard_bytes }
    }
}

/// One module that is multiplied out.
struct Module<'a> {
    recorded: Recorded<'a>,
    dtype: Dtype,
}

/// Multiplies every factored layer out: the original names, shapes and element types.
///
/// # Errors
///
/// - [`CommandError::NotFactored`] when the input has no record;
/// - [`CommandError::RecordMismatch`] when its record and its tensors do not fit;
/// - [`CommandError::Checkpoint`], [`CommandError::Output`] as [`super::compress()`].
pub fn collapse(options: &CollapseOptions, progress: &dyn Progress) -> Result<CollapseReport, CommandError> {
    let start = Instant::now();
    let checkpoint = Checkpoint::open(&options.source)?;
    let Some(record) = checkpoint.record() else {
        return Err(CommandError::NotFactored { checkpoint: options.source.to_string() });
    };
    let mut modules = Vec::new();
    for (name, module) in &record.modules {
        let recorded = Recorded::new(name, module)?;
        let dtype = dtype_from_name(&module.dtype).ok_or_else(|| CommandError::RecordMismatch {
            module: name.clone(),
            problem: format!("dtype `{}` is not known", module.dtype),
        })?;
        modules.push(Module { recorded, dtype });
    }
    let (tensors, kept) = outputs(&checkpoint, record, &modules)?;
    let output =
        side_files::output_options(&checkpoint, &options.output, options.max_shard_bytes, options.overwrite)?;
    Staging::check(&output, &side_files::inputs(&checkpoint), &tensors)?;
    let staging = Staging::create(&output, &tensors)?;
    for (name, written) in &kept {
        let Some(entry) = checkpoint.get(name) else { continue };
        if written.dtype == entry.dtype {
            staging.copy(&written.name, &checkpoint, entry)?;
        } else {
            let elements: Vec<f64> = weights::read(&checkpoint, entry)?;
            let bytes = f64::narrow(&elements, written.dtype).map_err(weights::numeric_error(name))?;
            staging.write(&written.name, &bytes)?;
        }
    }
    let jobs: Vec<Job<&Module<'_>>> = modules
        .iter()
        .map(|module| Job {
            item: module,
            work: module.recorded.work(),
            memory_bytes: module.recorded.memory_bytes(),
        })
        .collect();
    progress.begin(Stage::Collapsing, jobs.len(), jobs.iter().map(|job| job.work).sum());
    let done = run_jobs(&jobs, options.limits, |module| {
        progress.started(module.recorded.name);
        let begin = Instant::now();
        if module.dtype == Dtype::F64 {
            write_dense::<f64>(&checkpoint, module, &staging)?;
        } else {
            write_dense::<f32>(&checkpoint, module, &staging)?;
        }
        let mut event = LayerEvent::new(module.recorded.name, begin.elapsed().as_secs_f64());
        event.ranks = Some(module.recorded.ranks);
        progress.finished(&event, module.recorded.work());
        Ok::<_, CommandError>(())
    });
    progress.end();
    done?;
    let left_out = side_files::copy(&checkpoint, &staging, None, &record.config, &Section::Factoring(None))?;
    staging.publish(None)?;
    Ok(CollapseReport::new(
        options.source.to_string(),
        output.target.display().to_string(),
        modules.len(),
        checkpoint.tensors().iter().map(|tensor| tensor.len).sum(),
        tensors.iter().map(size_bytes).sum(),
        left_out,
        start.elapsed().as_secs_f64(),
    ))
}

fn size_bytes(tensor: &OutputTensor) -> u64 {
    let elements: u64 = tensor.shape.iter().map(|&axis| axis as u64).product();
    (elements * crate::checkpoint::dtype_bits(tensor.dtype) as u64).div_ceil(8)
}

type Kept = Vec<(String, OutputTensor)>;

/// Everything that is written, in natural order, and what of it is only copied.
fn outputs(
    checkpoint: &Checkpoint,
    record: &Record,
    modules: &[Module<'_>],
) -> Result<(Vec<OutputTensor>, Kept), CommandError> {
    let mut links: BTreeSet<String> = BTreeSet::new();
    let mut biases: BTreeMap<String, String> = BTreeMap::new();
    let mut tensors: Vec<OutputTensor> = Vec::new();
    for module in modules {
        let Recorded { name, module: record, format, .. } = &module.recorded;
        for factor in format.factor_names(name) {
            weights::expect(checkpoint, name, &factor)?;
            links.insert(factor);
        }
        biases.insert(format.bias_name(name), format!("{name}.bias"));
        tensors.push(OutputTensor {
            name: format!("{name}.weight"),
            dtype: module.dtype,
            shape: record.shape.clone(),
        });
    }
    let mut kept = Vec::new();
    for entry in checkpoint.tensors().iter().filter(|entry| !links.contains(&entry.name)) {
        let name = biases.get(&entry.name).unwrap_or(&entry.name).clone();
        let dtype =
            record.converted.get(&name).and_then(|dtype| dtype_from_name(dtype)).unwrap_or(entry.dtype);
        let written = OutputTensor { name, dtype, shape: entry.shape.clone() };
        tensors.push(written.clone());
        kept.push((entry.name.clone(), written));
    }
    tensors.sort_by(|a, b| crate::checkpoint::natural_order(&a.name, &b.name));
    if let Some(twice) = tensors.windows(2).find(|pair| pair[0].name == pair[1].name) {
        let name = &twice[0].name;
        let module = name.strip_suffix(".weight").or(name.strip_suffix(".bias")).unwrap_or(name).to_owned();
        return Err(CommandError::RecordMismatch {
            module,
            problem: format!("`{name}` stands beside its factors"),
        });
    }
    Ok((tensors, kept))
}

fn write_dense<T: Element>(
    checkpoint: &Checkpoint,
    module: &Module<'_>,
    staging: &Staging,
) -> Result<(), CommandError> {
    let name = format!("{}.weight", module.recorded.name);
    let factors: Vec<Factor<T>> = module.recorded.read(checkpoint)?;
    let weight = module.recorded.format.collapse(&factors, 1).map_err(decompose_error(&name))?;
    let bytes = T::narrow(&weight, module.dtype).map_err(weights::numeric_error(&name))?;
    Ok(staging.write(&name, &bytes)?)
}
