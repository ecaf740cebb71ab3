//! A checkpoint factored in memory, for what goes on with it.

use super::weights::decompose_error;
use super::{CommandError, carry_out, side_files};
use crate::checkpoint::{Checkpoint, Record};
use crate::decompose::{Factor, Format, FormatOptions, Layout, Ranks};
use crate::layers::{State, Stored, initial};
use crate::linalg::SvdOptions;
use crate::plan::{Job, LayerEvent, LayerPlan, Limits, Plan, Progress, Save, Stage, TensorAction, run_jobs};
use candle_core::{Device, Tensor};
use std::collections::BTreeMap;
use std::time::Instant;

/// How factors start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Initialization {
    /// From the truncated SVD of the dense weight.
    #[default]
    Spectral,
    /// Each as a layer of its own, at random.
    Default,
}

/// Says so where a recipe factors nothing, since what follows would train a dense network for long.
pub(super) fn warn_of_none(plan: &Plan) {
    if plan.layers.is_empty() {
        let larger = plan.tensors.iter().find(|tensor| tensor.reason == Some("not_smaller"));
        let why = larger.and_then(|tensor| Some(format!(": `{}`: {}", tensor.name, tensor.detail.as_ref()?)));
        tracing::warn!("no layer is factored{}", why.unwrap_or_default());
    }
}

/// Replaces the planned layers of what was read from a checkpoint by their factors; also says what the record of it is.
pub(super) fn factor_state(
    mut read: State,
    checkpoint: &Checkpoint,
    plan: &Plan,
    initialization: Initialization,
    seed: u64,
    limits: Limits,
    progress: &dyn Progress,
) -> Result<(State, Record), CommandError> {
    let jobs: Vec<Job<&LayerPlan>> = plan
        .layers
        .iter()
        .map(|layer| Job { item: layer, work: layer.work, memory_bytes: layer.memory_bytes })
        .collect();
    progress.begin(Stage::Factoring, jobs.len(), jobs.iter().map(|job| job.work).sum());
    let factored = run_jobs(&jobs, limits, |layer| {
        progress.started(&layer.layer);
        let start = Instant::now();
        let done = factor_layer(&read, layer, plan, initialization, seed)?;
        let mut event = LayerEvent::new(&layer.layer, start.elapsed().as_secs_f64());
        event.scheme = layer.is_compared().then(|| layer.format.scheme());
        event.ranks = Some(layer.ranks);
        event.relative_error = Some(done.1);
        progress.finished(&event, layer.work);
        Ok::<_, CommandError>(done)
    });
    progress.end();
    let factored = factored?;
    let errors: Vec<f64> = factored.iter().map(|(_, error)| *error).collect();
    let config = side_files::named_dtypes(checkpoint.config(), plan.recipe.dtype);
    let record = carry_out::record(plan, &errors, &config);
    let mut factors: BTreeMap<&str, Vec<Factor<f32>>> = BTreeMap::new();
    for (layer, (chain, _)) in plan.layers.iter().zip(factored) {
        for (tensor, _, format) in &layer.tied {
            let tied = format.convert(&layer.format, &chain).map_err(decompose_error(tensor))?;
            factors.insert(tensor, tied);
        }
        factors.insert(&layer.tensor, chain);
    }
    let mut state = State::default();
    if plan.recipe.save == Save::Factored {
        state.modules.clone_from(&record.modules);
    }
    for tensor in &plan.tensors {
        let chain = factors.remove(tensor.name.as_str());
        let stored = read.tensors.swap_remove(&tensor.name);
        match (tensor.action, chain, stored, tensor.outputs.as_slice()) {
            (TensorAction::Collapsed, Some(chain), ..) => {
                let Some(output) = tensor.outputs.first() else { continue };
                let Some(format) = format_of(plan, &tensor.name) else { continue };
                let data = format.collapse(&chain, 1).map_err(decompose_error(&tensor.name))?;
                let dense = Tensor::from_vec(data, format.shape(), &Device::Cpu)?;
                state
                    .tensors
                    .insert(output.name.clone(), Stored::Floating { tensor: dense, dtype: output.dtype });
            }
            (TensorAction::Factored, Some(chain), ..) => {
                for (output, factor) in tensor.outputs.iter().zip(chain) {
                    let dtype = output.dtype;
                    let tensor = Tensor::from_vec(factor.data, factor.shape, &Device::Cpu)?;
                    state.tensors.insert(output.name.clone(), Stored::Floating { tensor, dtype });
                }
            }
            (_, _, Some(Stored::Floating { tensor, .. }), [output]) => {
                let dtype = output.dtype;
                state.tensors.insert(output.name.clone(), Stored::Floating { tensor, dtype });
            }
            (_, _, Some(other), [output]) => {
                state.tensors.insert(output.name.clone(), other);
            }
            _ => {}
        }
    }
    Ok((state, record))
}

/// How the weight of this name is factored: a layer's own, or one that is tied to it.
fn format_of<'a>(plan: &'a Plan, tensor: &str) -> Option<&'a Format> {
    plan.layers.iter().find_map(|layer| {
        let tied = layer.tied.iter().find(|(name, ..)| name == tensor).map(|(.., format)| format);
        (layer.tensor == tensor).then_some(&layer.format).or(tied)
    })
}

fn factor_layer(
    state: &State,
    layer: &LayerPlan,
    plan: &Plan,
    initialization: Initialization,
    seed: u64,
) -> Result<(Vec<Factor<f32>>, f64), CommandError> {
    let name = layer.tensor.as_str();
    let Some(weight) = state.tensors.get(name).and_then(Stored::tensor) else {
        let problem = format!("expected the tensor `{name}`, which is missing");
        return Err(CommandError::RecordMismatch { module: layer.layer.clone(), problem });
    };
    if initialization == Initialization::Default {
        let shapes = layer.format.factor_shapes(&layer.ranks);
        let factor = |(name, shape): (&String, Vec<usize>)| {
            let deviation = deviation(&layer.format, &layer.ranks, &shape);
            Factor { data: initial::normal(seed, name, shape.iter().product(), deviation), shape }
        };
        let names = layer.format.factor_names(&layer.layer);
        // Nothing is approximated.
        return Ok((names.iter().zip(shapes).map(factor).collect(), 1.0));
    }
    let data: Vec<f64> = weight.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f64::from).collect();
    let options = FormatOptions { svd: SvdOptions { method: plan.recipe.svd, threads: 1 }, seed };
    let done = layer
        .format
        .factor(&data, &layer.ranks, layer.metric.as_ref(), &options)
        .map_err(decompose_error(name))?;
    let narrow = |factor: Factor<f64>| Factor {
        data: factor.data.into_iter().map(|x| x as f32).collect(),
        shape: factor.shape,
    };
    Ok((done.factors.into_iter().map(narrow).collect(), done.relative_error))
}

/// How far from zero the elements of a factor start: as a layer's own, or, where factors are multiplied out before they run,
/// so that what they make starts as a dense layer would.
fn deviation(format: &Format, ranks: &Ranks, shape: &[usize]) -> f64 {
    let of_layer = |fan_in: usize| (2.0 / fan_in.max(1) as f64).sqrt();
    if format.is_chain() {
        return of_layer(shape.iter().skip(1).product());
    }
    let fan_in: usize = match format.layout() {
        Layout::TransposedLinear => format.shape()[0],
        _ => format.shape().iter().skip(1).product(),
    };
    // The variance of a sum of products is how many there are, times the product of the variances.
    let count = format.factor_names("").len() as f64;
    let sums: usize = ranks.values().iter().product();
    (of_layer(fan_in).powi(2) / sums as f64).powf(0.5 / count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decompose::{Pairs, Scheme};

    #[test]
    fn what_is_multiplied_out_starts_as_a_dense_layer() {
        for scheme in [Scheme::TensorTrain, Scheme::Tucker] {
            for (layout, shape) in [(Layout::Linear, [64, 144]), (Layout::TransposedLinear, [144, 64])] {
                let format = Format::new(layout, scheme, &shape, 1, &Pairs::Count(3)).unwrap();
                let ranks = format.ranks(&Ranks::from(8)).unwrap();
                // The mean over many draws: in one of them elements have factors in common.
                let draw = |seed: u64| -> f64 {
                    let factor = |(name, shape): (&String, Vec<usize>)| {
                        let deviation = deviation(&format, &ranks, &shape);
                        let data = initial::normal(seed, name, shape.iter().product(), deviation);
                        Factor { shape, data }
                    };
                    let (names, shapes) = (format.factor_names("x"), format.factor_shapes(&ranks));
                    let factors: Vec<Factor<f32>> = names.iter().zip(shapes).map(factor).collect();
                    let weight = format.collapse(&factors, 1).unwrap();
                    weight.iter().map(|x| f64::from(x * x)).sum::<f64>() / weight.len() as f64
                };
                let variance = (0..200).map(draw).sum::<f64>() / 200.0;
                assert!((variance * 144.0 / 2.0 - 1.0).abs() < 0.1, "{scheme} {layout:?}: {variance}");
            }
        }
    }
}
