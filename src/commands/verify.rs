use super::CommandError;
use super::weights::{self, Element, Recorded, decompose_error};
use crate::checkpoint::{Checkpoint, Dtype, Record, Source, TensorEntry, dtype_name};
use crate::plan::{Job, LayerEvent, Limits, Progress, Stage, run_jobs};
use crate::report::{VerifiedLayer, VerifyReport};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// What [`verify`] is to do.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct VerifyOptions {
    /// The factored checkpoint.
    pub factored: Source,
    /// The dense checkpoint that it was made from.
    pub against: Source,
    /// How much of the machine is used.
    pub limits: Limits,
}

impl VerifyOptions {
    /// Options for a factored checkpoint and the dense one that it was made from.
    #[must_use]
    pub fn new(factored: Source, against: Source) -> Self {
        Self { factored, against, limits: Limits::default() }
    }
}

/// How far a recomputed error may be from the recorded one. Products in f32 may round differently on another
/// machine; their rounding, about 1e-7 of the weight, is independent of the error and enters it squared.
fn tolerance(recorded: f64) -> f64 {
    1e-9 + 1e-13 / (recorded + 1e-7)
}

/// Recomputes every layer's error from the files and compares it with the record; compares every other tensor
/// with the dense checkpoint's, byte for byte.
///
/// # Errors
///
/// - [`CommandError::NotFactored`] when the first checkpoint has no record;
/// - [`CommandError::Checkpoint`] when one cannot be read.
///
/// What does not hold is not an error but in the report: see [`VerifyReport::passed`].
pub fn verify(options: &VerifyOptions, progress: &dyn Progress) -> Result<VerifyReport, CommandError> {
    let start = Instant::now();
    let factored = Checkpoint::open(&options.factored)?;
    let dense = Checkpoint::open(&options.against)?;
    let Some(record) = factored.record() else {
        return Err(CommandError::NotFactored { checkpoint: options.factored.to_string() });
    };
    let mut problems = Vec::new();
    let mut jobs = Vec::new();
    for (name, module) in &record.modules {
        let recorded = Recorded::new(name, module)?;
        let (work, memory_bytes) = (recorded.work(), recorded.memory_bytes());
        jobs.push(Job { item: recorded, work, memory_bytes });
    }
    progress.begin(Stage::Verifying, jobs.len(), jobs.iter().map(|job| job.work).sum());
    let layers = run_jobs(&jobs, options.limits, |recorded| {
        progress.started(recorded.name);
        let begin = Instant::now();
        let layer = if weights::is_wide(recorded.module) {
            verify_layer::<f64>(&factored, &dense, recorded)?
        } else {
            verify_layer::<f32>(&factored, &dense, recorded)?
        };
        let mut event = LayerEvent::new(recorded.name, begin.elapsed().as_secs_f64());
        event.ranks = Some(recorded.ranks);
        event.relative_error = layer.found;
        progress.finished(&event, recorded.work());
        Ok::<_, CommandError>(layer)
    });
    progress.end();
    let layers = layers?;
    let compared = compare_kept(record, &factored, &dense, jobs.iter().map(|job| &job.item), &mut problems)?;
    Ok(VerifyReport::new(
        options.factored.to_string(),
        options.against.to_string(),
        layers,
        compared,
        problems,
        start.elapsed().as_secs_f64(),
    ))
}

fn verify_layer<T: Element>(
    factored: &Checkpoint,
    dense: &Checkpoint,
    module: &Recorded<'_>,
) -> Result<VerifiedLayer, CommandError> {
    let (name, recorded_as, module) = (module.name, module, module.module);
    let recorded = module.relative_error;
    let layer = |found: Option<f64>, passed: bool, problem: Option<String>| VerifiedLayer {
        layer: name.to_owned(),
        scheme: module.scheme.clone(),
        rank: recorded_as.ranks.largest(),
        ranks: recorded_as.ranks,
        recorded,
        found,
        passed,
        problem,
    };
    let tensor = format!("{name}.weight");
    let Some(entry) = dense.get(&tensor) else {
        return Ok(layer(None, false, Some(format!("the dense checkpoint has no `{tensor}`"))));
    };
    if entry.shape != module.shape {
        let problem = format!("`{tensor}` has shape {:?}, the record says {:?}", entry.shape, module.shape);
        return Ok(layer(None, false, Some(problem)));
    }
    if dtype_name(entry.dtype) != module.dtype {
        let found = dtype_name(entry.dtype);
        let problem = format!("`{tensor}` is {found}, the record says {}", module.dtype);
        return Ok(layer(None, false, Some(problem)));
    }
    let chain = match recorded_as.read::<T>(factored) {
        Ok(chain) => chain,
        Err(CommandError::RecordMismatch { problem, .. }) => return Ok(layer(None, false, Some(problem))),
        Err(error) => return Err(error),
    };
    let weight: Vec<T> = weights::read(dense, entry)?;
    let found = recorded_as.format.error_of(&weight, &chain, 1).map_err(decompose_error(&tensor))?;
    // Not a number holds for nothing.
    let passed = (found - recorded).abs() <= tolerance(recorded);
    let problem = (!passed).then(|| format!("relative error {found:.6}, the record says {recorded:.6}"));
    Ok(layer(Some(found), passed, problem))
}

/// Compares the tensors that were not factored; returns how many.
fn compare_kept<'a>(
    record: &Record,
    factored: &Checkpoint,
    dense: &Checkpoint,
    modules: impl Iterator<Item = &'a Recorded<'a>>,
    problems: &mut Vec<String>,
) -> Result<usize, CommandError> {
    let (mut factors, mut biases, mut seen) = (BTreeSet::new(), BTreeMap::new(), BTreeSet::new());
    for Recorded { name, format, .. } in modules {
        factors.extend(format.factor_names(name));
        biases.insert(format.bias_name(name), format!("{name}.bias"));
        seen.insert(format!("{name}.weight"));
    }
    let mut compared = 0;
    for entry in factored.tensors().iter().filter(|entry| !factors.contains(&entry.name)) {
        let name = biases.get(&entry.name).unwrap_or(&entry.name).clone();
        let Some(original) = dense.get(&name) else {
            problems.push(format!("the dense checkpoint has no `{name}`"));
            continue;
        };
        compared += 1;
        let recalibrated = record.recalibrated.contains(&name);
        // Another element type is the record's, or none.
        let said = record.converted.get(&name).map_or(dtype_name(entry.dtype), String::as_str);
        if original.shape != entry.shape {
            problems.push(format!("`{name}` has shape {:?}, expected {:?}", entry.shape, original.shape));
        } else if said != dtype_name(original.dtype) {
            let found = dtype_name(original.dtype);
            problems.push(format!(
                "`{name}` was {said} as the record says, and is {found} in the dense checkpoint"
            ));
        } else if recalibrated {
            // Its statistics are of the factored network.
        } else if !same(factored, entry, dense, original)? {
            problems.push(format!("`{name}` differs from the dense checkpoint's"));
        }
        seen.insert(name);
    }
    for entry in dense.tensors().iter().filter(|entry| !seen.contains(&entry.name)) {
        problems.push(format!("`{}` of the dense checkpoint is missing", entry.name));
    }
    Ok(compared)
}

/// Whether two tensors hold the same elements, after rounding where one was converted.
fn same(
    factored: &Checkpoint,
    entry: &TensorEntry,
    dense: &Checkpoint,
    original: &TensorEntry,
) -> Result<bool, CommandError> {
    let bytes = factored.bytes(entry)?;
    let before = dense.bytes(original)?;
    if entry.dtype == original.dtype {
        return Ok(*bytes == *before);
    }
    if !crate::checkpoint::is_factorable(entry.dtype) || !crate::checkpoint::is_factorable(original.dtype) {
        return Ok(false);
    }
    let rounded = if original.dtype == Dtype::F64 {
        f64::widen(&before, original.dtype).and_then(|elements| f64::narrow(&elements, entry.dtype))
    } else {
        f32::widen(&before, original.dtype).and_then(|elements| f32::narrow(&elements, entry.dtype))
    };
    Ok(rounded.map_err(weights::numeric_error(&entry.name))?[..] == bytes[..])
}
