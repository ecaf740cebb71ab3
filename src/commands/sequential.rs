//! Inputs that layers have once those before them are factored.

use super::CommandError;
use super::calibrated_model::CalibratedModel;
use super::calibration::Heard;
use super::weights::decompose_error;
use crate::calibrate::{CalibrationRun, Damping};
use crate::decompose::{FormatOptions, Method, Metric};
use crate::layers::Weight;
use crate::linalg::SvdOptions;
use crate::plan::{CalibrationRule, Job, LayerPlan, Limits, Plan, Progress, Stage, run_jobs};
use candle_core::{DType, Device, Tensor};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// How often the model is run at most: blocks that follow each other share a run where it has more.
const MOST_STAGES: usize = 12;

/// Gives the planned layers the metrics of what they see once the blocks before theirs are factored, ranks and what outputs mean
/// staying as they are: block after block, the model runs over the samples, and the block's weights are replaced in it by what
/// their factors stand for.
pub(super) fn refine(
    plan: &mut Plan,
    model: &CalibratedModel,
    rule: &CalibrationRule,
    limits: Limits,
    progress: &dyn Progress,
) -> Result<(), CommandError> {
    let Some((what, samples)) = model.samples() else { return Ok(()) };
    let weights: BTreeMap<&str, &Weight> =
        model.layers().iter().map(|layer| (layer.name.as_str(), &layer.weight)).collect();
    let order = model.layers().iter().map(|layer| layer.name.as_str());
    let stages = stages(plan, order);
    let method = if plan.recipe.method == Method::Diagonal { Method::Diagonal } else { Method::Whitened };
    let damping = Damping { inputs: rule.input_damping, outputs: rule.output_damping };
    for (number, stage) in stages.iter().enumerate() {
        // The first sees what it saw.
        if number > 0 {
            progress.begin(Stage::Calibrating, samples, samples as u64);
            let heard = Heard { progress, what, start: Instant::now() };
            let wanted = |layer: &str| stage.contains(layer);
            let mut run = CalibrationRun::new(&heard);
            (run.seed, run.threads) = (rule.seed, limits.threads);
            run.wanted = Some(&wanted);
            let found = model.run(&run);
            progress.end();
            let found = found?;
            found.check()?;
            let seen = found.metrics(method, damping);
            for layer in &mut plan.layers {
                if let (Some(own), Some(seen)) =
                    (layer.metric.take_if(|_| seen.contains_key(&layer.layer)), seen.get(&layer.layer))
                {
                    layer.metric = Some(own.with_inputs_of(seen));
                }
            }
        }
        replace(plan, stage, &weights, limits)?;
    }
    Ok(())
}

/// Puts what their factors stand for in the place of a stage's weights.
fn replace(
    plan: &Plan,
    stage: &BTreeSet<String>,
    weights: &BTreeMap<&str, &Weight>,
    limits: Limits,
) -> Result<(), CommandError> {
    let of_stage = plan.layers.iter().filter(|layer| stage.contains(&layer.layer));
    let jobs: Vec<Job<&LayerPlan>> =
        of_stage.map(|item| Job { item, work: item.work, memory_bytes: item.memory_bytes }).collect();
    let options = FormatOptions { svd: SvdOptions { method: plan.recipe.svd, threads: 1 }, seed: 0 };
    run_jobs(&jobs, limits, |layer| {
        let Some(Weight::Dense(weight)) = weights.get(layer.layer.as_str()) else { return Ok(()) };
        let data = weight.as_detached_tensor().to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
        let metric: Option<&Metric> = layer.metric.as_ref();
        let fail = |source| decompose_error(&layer.tensor)(source);
        let factored = layer.format.factor(&data, &layer.ranks, metric, &options).map_err(fail)?;
        let dense = layer.format.collapse(&factored.factors, 1).map_err(fail)?;
        let dense = Tensor::from_vec(dense, weight.dims(), &Device::Cpu)?.to_dtype(weight.dtype())?;
        weight.set(&dense)?;
        Ok::<_, CommandError>(())
    })
    .map(drop)
}

/// The planned layers by block, in the order in which the network has them.
fn stages<'a>(plan: &Plan, order: impl Iterator<Item = &'a str>) -> Vec<BTreeSet<String>> {
    let planned: BTreeSet<&str> = plan.layers.iter().map(|layer| layer.layer.as_str()).collect();
    let mut blocks: Vec<(&str, BTreeSet<String>)> = Vec::new();
    for layer in order.filter(|layer| planned.contains(layer)) {
        let block = block_of(layer);
        match blocks.iter_mut().find(|(name, _)| *name == block) {
            Some((_, layers)) => {
                layers.insert(layer.to_owned());
            }
            None => blocks.push((block, BTreeSet::from([layer.to_owned()]))),
        }
    }
    let together = blocks.len().div_ceil(MOST_STAGES).max(1);
    blocks
        .chunks(together)
        .map(|chunk| chunk.iter().flat_map(|(_, layers)| layers.iter().cloned()).collect())
        .collect()
}

/// A layer's name up to its last number: `encoder.layer.3` of `encoder.layer.3.output.dense`; the whole name where there is none.
fn block_of(layer: &str) -> &str {
    let mut end = 0;
    let mut block = layer;
    for part in layer.split('.') {
        end += part.len();
        if part.bytes().all(|byte| byte.is_ascii_digit()) && !part.is_empty() {
            block = &layer[..end];
        }
        end += 1;
    }
    block
}

#[cfg(test)]
mod tests {
    use super::block_of;

    #[test]
    fn blocks_end_with_the_last_number() {
        assert_eq!(block_of("encoder.layer.3.output.dense"), "encoder.layer.3");
        assert_eq!(block_of("layer1.0.conv1"), "layer1.0");
        assert_eq!(block_of("features.12"), "features.12");
        assert_eq!(block_of("classifier"), "classifier");
    }
}
