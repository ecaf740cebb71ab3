use super::error::PlanError;
use super::progress::{LayerEvent, Progress, Stage};
use super::schedule::{Job, Limits, run_jobs};
use super::{CatalogEntry, floating_dtype};
use crate::checkpoint::{Checkpoint, Dtype, numeric};
use crate::decompose::{DecomposeError, Metric, Unfolding, spectrum_in, weight_spectrum};
use crate::linalg::{self, Spectrum};
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
    let Some(tensor) = checkpoint.get(&entry.name) else {
        return Err(PlanError::Patterns(vec![format!("`{}` is not in the checkpoint", entry.name)]));
    };
    let fail = |source: DecomposeError| PlanError::Decompose { tensor: entry.name.clone(), source };
    let bytes = checkpoint.bytes(tensor)?;
    let unreadable =
        |error: numeric::NumericError| PlanError::Patterns(vec![format!("`{}`: {error}", entry.name)]);
    if tensor.dtype == Dtype::F64 {
        let weight = numeric::widen_f64(&bytes, tensor.dtype).map_err(unreadable)?;
        spectrum_of(&weight, unfolding, metric).map_err(fail)
    } else {
        let weight = numeric::widen_f32(&bytes, tensor.dtype).map_err(unreadable)?;
        spectrum_of(&weight, unfolding, metric).map_err(fail)
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

/// Spectra of several weights, side by side.
pub(super) fn compute(
    checkpoint: &Checkpoint,
    layers: &[(&CatalogEntry, &Unfolding, Option<&Metric>)],
    limits: Limits,
    progress: &dyn Progress,
) -> Result<Vec<Spectrum>, PlanError> {
    let jobs: Vec<Job<(&CatalogEntry, &Unfolding, Option<&Metric>, u64)>> = layers
        .iter()
        .map(|&(entry, unfolding, metric)| {
            let (rows, cols) = (unfolding.rows(), unfolding.cols());
            let item = computed_bytes(entry.dtype);
            let small = rows.min(cols) as u64;
            let work = unfolding.groups() as u64 * small * small * rows.max(cols) as u64;
            let memory_bytes = entry.elements() * item as u64 + linalg::spectrum_bytes(rows, cols, item);
            Job { item: (entry, unfolding, metric, work), work, memory_bytes }
        })
        .collect();
    progress.begin(Stage::Spectra, jobs.len(), jobs.iter().map(|job| job.work).sum());
    let spectra = run_jobs(&jobs, limits, |(entry, unfolding, metric, work)| {
        progress.started(&entry.layer);
        let start = Instant::now();
        let spectrum = read_spectrum(checkpoint, entry, unfolding, *metric)?;
        progress.finished(&LayerEvent::new(&entry.layer, start.elapsed().as_secs_f64()), *work);
        Ok(spectrum)
    });
    progress.end();
    spectra
}
