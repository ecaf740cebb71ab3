use super::{
    EpochMetrics, EventWriter, LayerDiagnostics, Learner, Lessons, MetricsRecord, MetricsWriter, Position,
    RunFolder, Running, StepMetrics, StepOutcome, TrainError, Trainer, TrainingProgress,
};
use crate::checkpoint::{RUN_CHECKPOINTS, Record};
use crate::layers::State;
use candle_core::{DType, Device, Tensor};
use indexmap::IndexMap;
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use serde_json::Value;
use std::fs::File;
use std::rc::Rc;
use std::time::Instant;

/// Steps between two records of the metrics.
const RECORDED_STEPS: u64 = 50;

/// A run: a trainer, its data, and the folder where everything is kept.
#[derive(Debug)]
pub struct Session<L, D> {
    trainer: Trainer<L>,
    lessons: Rc<D>,
    device: Device,
    folder: RunFolder,
    /// The checkpoint whose tensors the network's replace when it is saved.
    template: State,
    record: Option<Record>,
    origin: Value,
    position: Position,
    /// Seconds of earlier sessions.
    before_secs: f64,
    start: Instant,
    save_every: Option<u64>,
    /// Keeps others out of the folder.
    _lock: File,
}

/// What a session is made of, beside the trainer.
#[derive(Debug)]
pub struct SessionParts<D> {
    /// The data.
    pub lessons: D,
    /// Where everything is kept.
    pub folder: RunFolder,
    /// The checkpoint whose tensors the network's replace when it is saved.
    pub template: State,
    /// The record that is saved with a factored network.
    pub record: Option<Record>,
    /// What the run is: options, data, checkpoint. A run continues only what was begun with the same.
    pub origin: Value,
    /// Steps between two saved states, beside the one after each epoch.
    pub save_every: Option<u64>,
}

impl<L: Learner, D: Lessons<L>> Session<L, D> {
    /// A run at its beginning, or where its folder's state has it.
    ///
    /// # Errors
    ///
    /// - as [`RunFolder::load_state`], when it is to be continued;
    /// - as [`RunFolder::lock`]
    pub fn new(
        mut trainer: Trainer<L>,
        parts: SessionParts<D>,
        device: &Device,
        resume: bool,
    ) -> Result<Self, TrainError> {
        let SessionParts { lessons, folder, template, record, origin, save_every } = parts;
        if resume && !folder.has_state() {
            // Says that there is none, and makes no folder.
            folder.load_state(&origin)?;
        }
        let lock = folder.lock()?;
        let mut position = Position::default();
        if resume {
            let (tensors, found) = folder.load_state(&origin)?;
            trainer.load(&tensors, found.step).map_err(|error| TrainError::Resume {
                path: folder.checkpoint("state").display().to_string(),
                problem: error.to_string(),
            })?;
            position = found;
        }
        Ok(Self {
            trainer,
            lessons: Rc::new(lessons),
            device: device.clone(),
            folder,
            template,
            record,
            origin,
            before_secs: position.elapsed_secs,
            position,
            start: Instant::now(),
            save_every,
            _lock: lock,
        })
    }

    /// The trainer.
    #[must_use]
    pub fn trainer(&self) -> &Trainer<L> {
        &self.trainer
    }

    /// Training samples in an epoch.
    #[must_use]
    pub fn samples_per_epoch(&self) -> usize {
        self.lessons.samples_per_epoch()
    }

    /// How far the run is.
    #[must_use]
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// Trains to the end.
    ///
    /// # Errors
    ///
    /// - [`TrainError::Diverged`] when the loss or a parameter is no number; the last state stays, and so do the checkpoints;
    /// - data that cannot be read, a folder that cannot be written
    pub fn run(&mut self, progress: &dyn TrainingProgress) -> Result<(), TrainError> {
        let fresh = self.position == Position::default();
        std::fs::create_dir_all(self.folder.path(RUN_CHECKPOINTS)).map_err(|source| {
            super::MetricsError::File { action: "create", path: self.folder.path(RUN_CHECKPOINTS), source }
        })?;
        let metrics = self.folder.path("metrics.jsonl");
        let mut records = Records {
            metrics: if fresh {
                MetricsWriter::create(&metrics)?
            } else {
                MetricsWriter::resume(&metrics, self.position.step)?
            },
            events: if fresh {
                EventWriter::create(self.folder.root())?
            } else {
                EventWriter::resume(self.folder.root(), self.position.step)?
            },
        };
        let epochs = self.trainer.options().epochs;
        let accumulate = self.trainer.options().accumulate;
        let steps = self.lessons.batches_per_epoch().div_ceil(accumulate) as u64;
        progress.begin(self.lessons.unit(), epochs, steps, self.position.step);
        if fresh {
            // What there is before training is measured like an epoch.
            self.finish_epoch(&mut records, progress)?;
        }
        while self.position.epoch < epochs {
            self.epoch(accumulate, &mut records, progress)?;
            self.position.epoch += 1;
            self.position.batch = 0;
            self.finish_epoch(&mut records, progress)?;
        }
        progress.end();
        Ok(())
    }

    fn epoch(
        &mut self,
        accumulate: usize,
        records: &mut Records,
        progress: &dyn TrainingProgress,
    ) -> Result<(), TrainError> {
        let lessons = Rc::clone(&self.lessons);
        let mut batches = lessons.epoch(self.position.epoch, self.position.batch);
        // The rate is that of this session, whatever the sums since the last record hold.
        let (mut samples, mut clock) = (0, Instant::now());
        loop {
            let of_step: Vec<L::Batch> = batches.by_ref().take(accumulate).collect::<Result<_, _>>()?;
            if of_step.is_empty() {
                return Ok(());
            }
            let outcome = self.trainer.step(&of_step)?;
            if !outcome.loss.is_finite() {
                return Err(TrainError::Diverged {
                    what: "the loss".to_owned(),
                    value: outcome.loss,
                    step: self.trainer.steps() + 1,
                    epoch: self.position.epoch + 1,
                    learning_rate: outcome.learning_rate,
                });
            }
            self.position.batch += of_step.len();
            self.position.step = self.trainer.steps();
            self.position.running.add(&outcome);
            self.position.since.add(&outcome);
            samples += outcome.samples;
            progress.step(self.position.epoch + 1, &outcome);
            if self.position.step.is_multiple_of(RECORDED_STEPS) {
                let since = std::mem::take(&mut self.position.since);
                records.write(&MetricsRecord::Step(StepMetrics {
                    epoch: self.position.epoch as u64 + 1,
                    step: self.position.step,
                    loss: since.mean_loss(),
                    accuracy: since.accuracy(),
                    learning_rate: outcome.learning_rate,
                    gradient_norm: outcome.gradient_norm,
                    samples_per_sec: samples as f64 / clock.elapsed().as_secs_f64(),
                }))?;
                (samples, clock) = (0, Instant::now());
            }
            let due = self.save_every.is_some_and(|every| self.position.step.is_multiple_of(every));
            // The end of an epoch saves by itself.
            if due && self.position.batch < self.lessons.batches_per_epoch() {
                let tensors = self.sound_state(self.position.epoch + 1)?;
                self.save_state(&tensors)?;
            }
        }
    }

    /// Evaluates, records and saves after an epoch, or before the first.
    fn finish_epoch(
        &mut self,
        records: &mut Records,
        progress: &dyn TrainingProgress,
    ) -> Result<(), TrainError> {
        let learning_rate = self
            .trainer
            .options()
            .rate()
            .at(self.position.step.saturating_sub(1), self.trainer.total_steps());
        progress.pass("evaluating", self.lessons.test_samples());
        let measured = self.trainer.with_average(|learner| {
            self.as_stored(learner, || {
                self.lessons.measure(learner, &self.device, &mut |samples| progress.seen(samples))
            })
        })?;
        progress.passed();
        // Before training, running statistics may not fit the weights at all.
        if self.position.step > 0 && !measured.loss.is_finite() {
            let (what, epoch) = ("the loss on the test set".to_owned(), self.position.epoch);
            let (value, step) = (measured.loss, self.position.step);
            return Err(TrainError::Diverged { what, value, step, epoch, learning_rate });
        }
        let tensors = self.sound_state(self.position.epoch)?;
        let running = std::mem::take(&mut self.position.running);
        self.position.since = Running::default();
        let metrics = EpochMetrics {
            epoch: self.position.epoch as u64,
            step: self.position.step,
            train_loss: running.mean_loss(),
            train_accuracy: running.accuracy(),
            test_loss: measured.loss,
            test_accuracy: measured.accuracy.unwrap_or(f64::NAN),
            scores: measured.scores,
            learning_rate,
            elapsed_secs: self.before_secs + self.start.elapsed().as_secs_f64(),
            layers: self.diagnostics(learning_rate)?,
        };
        records.write(&MetricsRecord::Epoch(metrics.clone()))?;
        // A network of which more will be left out is no result.
        let better = self.trainer.is_pruned()
            && self.position.best.is_none_or(|(_, merit, loss)| metrics.is_better_than(merit, loss));
        if better {
            self.position.best = Some((self.position.epoch, metrics.merit(), metrics.test_loss));
        }
        self.save_network("last")?;
        if better {
            self.save_network("best")?;
        }
        self.save_state(&tensors)?;
        progress.epoch(&metrics);
        Ok(())
    }

    /// The best epoch so far of those that could be the result, counted from 1.
    #[must_use]
    pub fn best_epoch(&self) -> Option<usize> {
        self.position.best.map(|(epoch, ..)| epoch)
    }

    fn diagnostics(&self, learning_rate: f64) -> Result<Vec<LayerDiagnostics>, TrainError> {
        let of_layer = |layer: &crate::layers::LayerEntry| {
            let chain = layer.weight.chain()?;
            Some(chain.diagnostics(learning_rate).map(|found| LayerDiagnostics {
                layer: layer.name.clone(),
                norm: found.norm,
                nuclear_norm: found.nuclear_norm,
                nuclear_bound: found.nuclear_bound,
                effective_step_size: found.effective_step_size,
                non_orthogonality: found.non_orthogonality,
                stable_rank: found.stable_rank,
            }))
        };
        let layers: Vec<_> = self.trainer.factored().collect();
        Ok(layers.into_par_iter().filter_map(of_layer).collect::<candle_core::Result<_>>()?)
    }

    /// The trainer's state, all of it numbers: a loss can be one when the step that follows from it is not.
    fn sound_state(&self, epoch: usize) -> Result<IndexMap<String, Tensor>, TrainError> {
        let state = self.trainer.state()?;
        for (name, tensor) in
            state.iter().filter(|(_, tensor)| self.position.step > 0 && tensor.dtype().is_float())
        {
            let elements = tensor.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
            if let Some(&value) = elements.iter().find(|element| !element.is_finite()) {
                let (step, rate) = (self.position.step, self.trainer.options().rate());
                let learning_rate = rate.at(step - 1, self.trainer.total_steps());
                let what = format!("an element of `{name}`");
                return Err(TrainError::Diverged { what, value, step, epoch, learning_rate });
            }
        }
        Ok(state)
    }

    /// Runs `act` with the weights that the checkpoint will hold, where its element types round.
    fn as_stored<T>(
        &self,
        learner: &L,
        act: impl FnOnce() -> Result<T, TrainError>,
    ) -> Result<T, TrainError> {
        if !self.template.rounds() {
            return act();
        }
        let parameters = learner.parameters();
        let own = parameters.snapshot()?;
        parameters.restore(&self.template.rounded(&own)?)?;
        let result = act();
        parameters.restore(&own)?;
        result
    }

    fn save_state(&mut self, tensors: &IndexMap<String, Tensor>) -> Result<(), TrainError> {
        self.position.elapsed_secs = self.before_secs + self.start.elapsed().as_secs_f64();
        self.folder.save_state(tensors, &self.position, &self.origin)
    }

    fn save_network(&self, name: &str) -> Result<(), TrainError> {
        let state = self.saved_state()?;
        self.folder.save_network(&self.folder.checkpoint(name), &state, self.record.as_ref())
    }

    /// The checkpoint of the network as it is saved, with averaged weights where weights are averaged.
    ///
    /// # Errors
    ///
    /// - a device that fails
    pub fn saved_state(&self) -> Result<State, TrainError> {
        let mut state = self.template.clone();
        let snapshot = self.trainer.with_average(|learner| Ok(learner.parameters().snapshot()?))?;
        state.update(&snapshot);
        Ok(state)
    }
}

impl Running {
    fn add(&mut self, outcome: &StepOutcome) {
        self.loss += outcome.loss * outcome.samples as f64;
        self.correct = outcome.correct.map(|more| self.correct.unwrap_or(0) + more);
        self.samples += outcome.samples;
    }

    fn mean_loss(&self) -> f64 {
        self.loss / self.samples as f64
    }

    fn accuracy(&self) -> f64 {
        self.correct.map_or(f64::NAN, |correct| correct as f64 / self.samples as f64)
    }
}

/// Where a run's numbers go.
struct Records {
    metrics: MetricsWriter,
    events: EventWriter,
}

impl Records {
    fn write(&mut self, record: &MetricsRecord) -> Result<(), TrainError> {
        self.events.record(record)?;
        Ok(self.metrics.write(record)?)
    }
}
