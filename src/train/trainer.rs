use super::policy::product_decay;
use super::{
    Average, Decay, DecayTable, FactorDecay, GradientSum, Learner, Masks, Optimizer, Pruning, TrainError,
    TrainingOptions, Update, clip_gradients, decay_table,
};
use crate::layers::{HeadProduct, LayerEntry, Tape};
use candle_core::{DType, Device, Result, Tensor};
use indexmap::IndexMap;

/// A learner in training: takes steps, knows no files and no clock.
///
/// A step is, in this order: the loss and its gradients over all micro-batches; the gradients' norm, and its limit; the learning
/// rate of the step; the gradients of Frobenius decay in closed form; the optimizer; masks, where weights are pruned; the
/// moving average.
///
/// # Determinism
///
/// On the CPU the network after a step depends on the one before, the batches and the options alone.
#[derive(Debug)]
pub struct Trainer<L> {
    learner: L,
    device: Device,
    options: TrainingOptions,
    optimizer: Box<dyn Optimizer>,
    decay: DecayTable,
    average: Option<Average>,
    /// The part of what is masked that is kept, and the masks.
    pruning: Option<(Pruning, Masks)>,
    total_steps: u64,
    step: u64,
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct StepOutcome {
    /// The mean loss over the step's samples.
    pub loss: f64,
    /// Samples that were right, where one can be.
    pub correct: Option<usize>,
    /// Samples.
    pub samples: usize,
    /// The learning rate.
    pub learning_rate: f64,
    /// The norm of the gradients before clipping, where they are clipped.
    pub gradient_norm: Option<f64>,
}

impl<L: Learner> Trainer<L> {
    /// A learner at the beginning of `total_steps` steps.
    ///
    /// # Errors
    ///
    /// - [`TrainError::Options`] with everything that is out of range
    pub fn new(
        learner: L,
        options: &TrainingOptions,
        total_steps: u64,
        device: &Device,
    ) -> std::result::Result<Self, TrainError> {
        let mut problems = options.problems();
        let joint = learner.products().iter().find(|product| product.left.name == product.right.name);
        if let Some(product) = joint.filter(|_| options.query_key_decay != options.output_value_decay) {
            problems.push(format!(
                "queries, keys and values lie in one weight, `{}`: what is punished in them must be the same",
                product.left.name
            ));
        }
        let optimizer = options.optimizer.build().map_err(|error| problems.push(error.to_string())).ok();
        let (Some(optimizer), true) = (optimizer, problems.is_empty()) else {
            return Err(TrainError::Options { problems });
        };
        let decay = decay_table(learner.parameters(), learner.products(), options);
        let average = options.average.map(|decay| Average::new(decay, learner.parameters())).transpose()?;
        let pruning = options.pruning.map(|pruning| masks(&learner, pruning)).transpose()?;
        let mut trainer = Self {
            learner,
            device: device.clone(),
            options: options.clone(),
            optimizer,
            decay,
            average,
            pruning,
            total_steps,
            step: 0,
        };
        trainer.prune()?;
        Ok(trainer)
    }

    /// The learner, as the last step left it.
    #[must_use]
    pub fn learner(&self) -> &L {
        &self.learner
    }

    /// The options.
    #[must_use]
    pub fn options(&self) -> &TrainingOptions {
        &self.options
    }

    /// Which parameters are decayed how.
    #[must_use]
    pub fn decay(&self) -> &DecayTable {
        &self.decay
    }

    /// Steps taken.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// Steps in all.
    #[must_use]
    pub fn total_steps(&self) -> u64 {
        self.total_steps
    }

    /// The learning rate of the next step.
    #[must_use]
    pub fn learning_rate(&self) -> f64 {
        self.options.rate().at(self.step, self.total_steps)
    }

    /// Parameters that are not pruned away.
    #[must_use]
    pub fn parameters_kept(&self) -> usize {
        let all = self.learner.parameters().count();
        self.pruning.as_ref().map_or(all, |(_, masks)| all - (masks.count() - masks.kept()))
    }

    /// The layers that are factored.
    pub fn factored(&self) -> impl Iterator<Item = &LayerEntry> {
        self.learner.layers().iter().filter(|layer| layer.weight.chain().is_some())
    }

    /// Takes a step on micro-batches of one batch.
    ///
    /// A loss that is no number is returned as it is, and no step is taken; running statistics may have seen what led to it.
    ///
    /// # Errors
    ///
    /// - a batch that the network cannot take; a device that fails
    pub fn step(&mut self, batches: &[L::Batch]) -> std::result::Result<StepOutcome, TrainError> {
        let samples: usize = batches.iter().map(|batch| self.learner.samples(batch)).sum();
        let learning_rate = self.learning_rate();
        let (mut gradients, mut loss, mut correct) = (GradientSum::new(), 0.0, None);
        for batch in batches {
            let part = self.learner.samples(batch) as f64 / samples as f64;
            let tape = Tape::training().with_autocast(self.autocast());
            let of_batch = self.learner.loss(&tape, batch, &self.options)?;
            loss += part * of_batch.loss.tensor().to_dtype(DType::F64)?.to_scalar::<f64>()?;
            correct = match (correct, of_batch.correct) {
                (Some(before), Some(more)) => Some(before + more),
                (None, found) => found,
                (before, None) => before,
            };
            if !loss.is_finite() {
                return Ok(StepOutcome { loss, correct, samples, learning_rate, gradient_norm: None });
            }
            gradients.add(self.learner.parameters(), &tape.backward(&of_batch.loss)?, part)?;
        }
        let gradient_norm = self.options.clip.map(|clip| clip_gradients(&mut gradients, clip)).transpose()?;
        let frobenius = self.frobenius()?;
        let update =
            Update { gradients: &gradients, decay: &self.decay, frobenius: &frobenius, learning_rate };
        self.optimizer.step(self.learner.parameters(), &update)?;
        self.step += 1;
        self.prune()?;
        if let Some(average) = &mut self.average {
            average.update(self.learner.parameters())?;
        }
        Ok(StepOutcome { loss, correct, samples, learning_rate, gradient_norm })
    }

    fn autocast(&self) -> Option<DType> {
        (self.options.bf16 && !self.device.is_cpu()).then_some(DType::BF16)
    }

    /// The gradients of half the squared norm of each product, by the factors' names.
    fn frobenius(&self) -> Result<IndexMap<String, Tensor>> {
        let mut found = IndexMap::new();
        for layer in self.factored() {
            let Some(chain) = layer.weight.chain() else { continue };
            let names = chain.format().factor_names(&layer.name);
            if !names.iter().any(|name| matches!(self.decay.get(name), Decay::Frobenius(_))) {
                continue;
            }
            found.extend(names.into_iter().zip(chain.frobenius_gradients()?));
        }
        let asked = |product: &&HeadProduct| product_decay(product, &self.options) == FactorDecay::Frobenius;
        for product in self.learner.products().iter().filter(asked) {
            for (name, gradient) in product.frobenius_gradients(self.learner.parameters())? {
                match found.get_mut(&name) {
                    None => {
                        found.insert(name, gradient);
                    }
                    Some(sum) => *sum = (&*sum + gradient)?,
                }
            }
        }
        Ok(found)
    }

    /// Whether all is left out that the schedule of pruning leaves out in the end; true without pruning.
    #[must_use]
    pub fn is_pruned(&self) -> bool {
        let open = |pruning: &Pruning| pruning.keep_at(self.step, self.total_steps) > pruning.keep;
        !self.pruning.as_ref().is_some_and(|(pruning, _)| open(pruning))
    }

    /// Leaves out what the schedule of pruning says by now.
    fn prune(&mut self) -> Result<()> {
        let Some((pruning, masks)) = &mut self.pruning else { return Ok(()) };
        if pruning.is_due(self.step, self.total_steps) {
            masks.prune(self.learner.parameters(), pruning.keep_at(self.step, self.total_steps))?;
        }
        masks.apply(self.learner.parameters())?;
        masks.apply_to_optimizer(self.optimizer.as_mut())
    }

    /// Runs `act` with the averaged weights in the network's place, where weights are averaged.
    ///
    /// # Errors
    ///
    /// - what `act` returns; a device that fails
    pub fn with_average<T>(
        &self,
        act: impl FnOnce(&L) -> std::result::Result<T, TrainError>,
    ) -> std::result::Result<T, TrainError> {
        let Some(average) = &self.average else { return act(&self.learner) };
        let parameters = self.learner.parameters();
        let own = parameters.snapshot()?;
        parameters.restore(&average.snapshot()?)?;
        // A weight that was left out late is still in the average.
        let masked = self.pruning.as_ref().map_or(Ok(()), |(_, masks)| masks.apply(parameters));
        let result = masked.map_err(TrainError::from).and_then(|()| act(&self.learner));
        parameters.restore(&own)?;
        result
    }

    /// Everything that later steps depend on, on the CPU: `model.*`, `optimizer.*`, `average.*`, `masks.*`.
    ///
    /// # Errors
    ///
    /// - a device that fails
    pub fn state(&self) -> Result<IndexMap<String, Tensor>> {
        let mut parts =
            vec![("model", self.learner.parameters().snapshot()?), ("optimizer", self.optimizer.state()?)];
        if let Some(average) = &self.average {
            parts.push(("average", average.state()?));
        }
        if let Some((_, masks)) = &self.pruning {
            parts.push(("masks", masks.state()?));
        }
        let named = |(part, tensors): (&str, IndexMap<String, Tensor>)| {
            let part = part.to_owned();
            tensors
                .into_iter()
                .map(move |(name, tensor)| (format!("{part}.{name}"), tensor))
                .collect::<Vec<_>>()
        };
        Ok(parts.into_iter().flat_map(named).collect())
    }

    /// Continues from a state after `step` steps.
    ///
    /// # Errors
    ///
    /// - a state that lacks a tensor, or has one of another shape
    pub fn load(&mut self, state: &IndexMap<String, Tensor>, step: u64) -> Result<()> {
        let part = |part: &str| -> IndexMap<String, Tensor> {
            let own = |(name, tensor): (&String, &Tensor)| {
                Some((name.strip_prefix(part)?.strip_prefix('.')?.to_owned(), tensor.clone()))
            };
            state.iter().filter_map(own).collect()
        };
        self.learner.parameters().restore(&part("model"))?;
        self.optimizer.load(self.learner.parameters(), &part("optimizer"))?;
        if let Some(average) = &mut self.average {
            average.load(&part("average"))?;
        }
        if let Some((_, masks)) = &mut self.pruning {
            masks.load(&part("masks"))?;
        }
        self.step = step;
        Ok(())
    }
}

/// Masks over the weights of all layers, and the part of them whose loss leaves the asked part of all parameters.
fn masks(learner: &impl Learner, pruning: Pruning) -> Result<(Pruning, Masks)> {
    let parameters = learner.parameters();
    let names: Vec<String> = learner
        .layers()
        .iter()
        .flat_map(|layer| match layer.weight.chain() {
            None => vec![format!("{}.weight", layer.name)],
            Some(chain) => chain.format().factor_names(&layer.name),
        })
        .collect();
    let masks = Masks::new(parameters, &names.iter().map(String::as_str).collect::<Vec<_>>())?;
    let (all, masked) = (parameters.count() as f64, masks.count() as f64);
    let keep = (pruning.keep * all - (all - masked)) / masked;
    if keep < 0.0 {
        let least = 1.0 - masked / all;
        candle_core::bail!(
            "pruning cannot keep {} of all parameters: without any weight {least:.4} are left",
            pruning.keep
        );
    }
    Ok((Pruning { keep, ..pruning }, masks))
}
