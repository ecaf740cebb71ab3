use super::{
    BatchLoss, Correct, CrossEntropy, Distillation, DistillationOptions, Learner, Lessons, Measured,
    TrainError, TrainingOptions, correct, evaluate,
};
use crate::data::{Batch, Loader};
use crate::layers::{LayerEntry, Node, Parameters, Statistics, Tape};
use crate::models::Network;
use candle_core::{Device, Result, Tensor};
use indexmap::IndexMap;

/// How fast running statistics follow a batch's, as PyTorch has it.
const STATISTICS_MOMENTUM: f64 = 0.1;

/// A network that learns the classes of pictures, from their labels and from a teacher.
#[derive(Debug)]
pub struct Classifier {
    network: Network,
    teacher: Option<Network>,
    device: Device,
}

impl Classifier {
    /// A network on a device, and one on the same whose logits are learned as far as the options say so.
    #[must_use]
    pub fn new(network: Network, teacher: Option<Network>, device: &Device) -> Self {
        Self { network, teacher, device: device.clone() }
    }

    /// The network.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    fn mixed(
        &self,
        tape: &Tape,
        images: &Tensor,
        logits: &Node,
        labels: &[u32],
        options: &TrainingOptions,
    ) -> Result<Node> {
        let entropy = CrossEntropy::new(labels, options.label_smoothing);
        let (Some(teacher), Some(distillation)) = (&self.teacher, options.distillation) else {
            return tape.apply(entropy, &[logits]);
        };
        let DistillationOptions { temperature, weight, .. } = distillation;
        let apart = Tape::inference().with_autocast(tape.autocast());
        let taught = teacher.forward(&apart, &apart.constant(images), Statistics::Running)?;
        let taught = taught.tensor().to_dtype(candle_core::DType::F32)?;
        tape.apply(Distillation::new(entropy, &taught, temperature, weight)?, &[logits])
    }
}

impl Learner for Classifier {
    type Batch = Batch;

    fn parameters(&self) -> &Parameters {
        self.network.parameters()
    }

    fn layers(&self) -> &[LayerEntry] {
        self.network.layers()
    }

    fn samples(&self, batch: &Batch) -> usize {
        batch.labels.elem_count()
    }

    fn loss(&self, tape: &Tape, batch: &Batch, options: &TrainingOptions) -> Result<BatchLoss> {
        let inputs = batch.images.to_device(&self.device)?;
        let labels = batch.labels.to_vec1::<u32>()?;
        let statistics = Statistics::Batch { momentum: STATISTICS_MOMENTUM };
        let logits = self.network.forward(tape, &tape.constant(&inputs), statistics)?;
        let Correct { top1, .. } = correct(&logits.tensor().to_device(&Device::Cpu)?, &labels)?;
        let loss = self.mixed(tape, &inputs, &logits, &labels, options)?;
        Ok(BatchLoss { loss, correct: Some(top1) })
    }
}

/// Pictures to learn from, and others to be measured on.
#[derive(Debug)]
pub struct Pictures {
    /// Training data.
    pub train: Loader,
    /// Test data.
    pub test: Loader,
}

impl Lessons<Classifier> for Pictures {
    fn unit(&self) -> &'static str {
        "images"
    }

    fn samples_per_epoch(&self) -> usize {
        self.train.samples_per_epoch()
    }

    fn batches_per_epoch(&self) -> usize {
        self.train.batches_per_epoch()
    }

    fn epoch<'a>(
        &'a self,
        epoch: usize,
        first_batch: usize,
    ) -> Box<dyn Iterator<Item = std::result::Result<Batch, TrainError>> + 'a> {
        Box::new(self.train.epoch(epoch, first_batch).map(|batch| batch.map_err(TrainError::from)))
    }

    fn test_samples(&self) -> usize {
        self.test.samples_per_epoch()
    }

    fn measure(
        &self,
        learner: &Classifier,
        device: &Device,
        seen: &mut dyn FnMut(usize),
    ) -> std::result::Result<Measured, TrainError> {
        let found = evaluate(&learner.network, &self.test, device, seen)?;
        let (loss, accuracy) = (found.loss, found.accuracy);
        Ok(Measured { loss, accuracy: Some(accuracy), scores: IndexMap::new() })
    }
}
