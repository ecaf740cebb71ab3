use super::error::PlanError;
use super::progress::{LayerEvent, Progress, Stage};
use super::schedule::{Job, Limits, run_jobs};
use super::{CatalogEntry, floating_dtype};
use crate::checkpoint::{Checkpoint, Dtype, numeric};
use crate::decompose::{
    Curve, DecomposeError, Format, Metric, Unfolding, curve, spectrum_in, weight_spectrum,
};
use crate::linalg::{self, Spectrum, SvdOptions};
use std::time::Instant;

/// Bytes of an element while it is computed with: weights narrower than f32 are widened to it.
pub(crate) fn computed_bytes(dtype: &str) -> usize {
    if floating_dtype(dtype) == Some(Dtype::F64) { 8 } else { 4 }
}

/// Reads a weight and computes all its singular values, in a metric where there is one.
///
/// # Errors
///
/// - [`PlanError::Checkpoint`] when the tensor cannot be read;
/// - [`PlanError::Decompose`] when it holds NaN or an infinity.
pub fn read_spectrum(
    checkpoint: &Checkpoint,
    entry: &CatalogEntry,
    unfolding: &Unfolding,
    metric: Option<&Metric>,
) -> Result<Spectrum, PlanError> {
    let of = |weight: &[f32]| spectrum_of(weight, unfolding, metric);
    read(checkpoint, entry, of, |weight| spectrum_of(weight, unfolding, metric))
}

/// What is found of a weight in the type in which it is computed with.
pub(super) fn read<R>(
    checkpoint: &Checkpoint,
    entry: &CatalogEntry,
    narrow: impl FnOnce(&[f32]) -> Result<R, DecomposeError>,
    wide: impl FnOnce(&[f64]) -> Result<R, DecomposeError>,
) -> Result<R, PlanError> {
    let Some(tensor) = checkpoint.get(&entry.name) else {
        return Err(PlanError::Patterns(vec![format!("`{}` is not in the checkpoint", entry.name)]));
    };
    let fail = |source: DecomposeError| PlanError::Decompose { tensor: entry.name.clone(), source };
    let bytes = checkpoint.bytes(tensor)?;
    let unreadable =
        |error: numeric::NumericError| PlanError::Patterns(vec![format!("`{}`: {error}", entry.name)]);
    if tensor.dtype == Dtype::F64 {
        wide(&numeric::widen_f64(&bytes, tensor.dtype).map_err(unreadable)?).map_err(fail)
    } else {
        narrow(&numeric::widen_f32(&bytes, tensor.dtype).map_err(unreadable)?).map_err(fail)
    }
}

fn spectrum_of<T: linalg::Scalar>(
    weight: &[T],
    unfolding: &Unfolding,
    metric: Option<&Metric>,
) -> Result<Spectrum, DecomposeError> {
    match metric {
        Some(metric) => spectrum_in(metric, weight, unfolding, 1),
        None => weight_spectrum(weight, unfolding, 1),
    }
}

/// A format of a weight, what it is near in, and the multiple that its ranks are of.
pub(super) struct Wanted<'a> {
    pub(super) entry: &'a CatalogEntry,
    pub(super) format: &'a Format,
    pub(super) metric: Option<&'a Metric>,
    pub(super) round_to: usize,
    /// Whether it is one of several formats of the weight.
    pub(super) is_compared: bool,
}

/// Reads a weight and finds what it loses in a format, rank by rank; of matrices in a metric where there is one.
///
/// # Errors
///
/// - as [`read_spectrum`]
pub fn read_curve(
    checkpoint: &Checkpoint,
    entry: &CatalogEntry,
    format: &Format,
    metric: Option<&Metric>,
    round_to: usize,
) -> Result<Curve, PlanError> {
    if let Format::Matrix(unfolding) = format {
        let spectrum = read_spectrum(checkpoint, entry, unfolding, metric)?;
        return Ok(Curve::of_spectrum(&spectrum, format, round_to));
    }
    read(
        checkpoint,
        entry,
        |weight| curve(weight, format, round_to, 1),
        |weight| curve(weight, format, round_to, 1),
    )
}

/// Curves of several weights and formats, side by side.
pub(super) fn compute(
    checkpoint: &Checkpoint,
    wanted: &[Wanted<'_>],
    limits: Limits,
    progress: &dyn Progress,
) -> Result<Vec<Curve>, PlanError> {
    let jobs: Vec<Job<&Wanted<'_>>> = wanted
        .iter()
        .map(|wanted| {
            let item = computed_bytes(wanted.entry.dtype);
            let held = match wanted.format {
                Format::Matrix(unfolding) => linalg::spectrum_bytes(unfolding.rows(), unfolding.cols(), item),
                format @ Format::Tensor(_) => {
                    format.working_bytes(&format.max_ranks(), item, &SvdOptions::default())
                }
            };
            let memory_bytes = wanted.entry.elements() * item as u64 + held;
            Job { item: wanted, work: wanted.format.work(), memory_bytes }
        })
        .collect();
    // A matrix whose singular values take too much is refused with its factors; a tensor's formats are tried that may not be taken.
    let beyond = |limit: u64| {
        let is_tensor = |job: &&Job<&Wanted<'_>>| job.item.format.unfolding().is_none();
        jobs.iter().filter(is_tensor).find(|job| job.memory_bytes > limit).map(|job| (limit, job))
    };
    if let Some((limit, job)) = limits.memory_bytes.and_then(beyond) {
        let (tensor, needed) = (job.item.entry.name.clone(), job.memory_bytes);
        return Err(PlanError::Memory { tensor, needed, limit });
    }
    progress.begin(Stage::Spectra, jobs.len(), jobs.iter().map(|job| job.work).sum());
    let curves = run_jobs(&jobs, limits, |wanted| {
        progress.started(&wanted.entry.layer);
        let start = Instant::now();
        let found = read_curve(checkpoint, wanted.entry, wanted.format, wanted.metric, wanted.round_to)?;
        let mut event = LayerEvent::new(&wanted.entry.layer, start.elapsed().as_secs_f64());
        event.scheme = wanted.is_compared.then(|| wanted.format.scheme());
        progress.finished(&event, wanted.format.work());
        Ok(found)
    });
    progress.end();
    curves
}
