use super::lessons::TranslationBatch;
use crate::layers::operations::Dropouts;
use crate::layers::{HeadProduct, LayerEntry, Parameters, Tape};
use crate::models::{Tokens, TranslationNetwork};
use crate::train::{
    BatchLoss, Correct, CrossEntropy, Distillation, DistillationOptions, Learner, TrainingOptions, correct,
};
use candle_core::{DType, Device, Result};

/// A network that learns to translate, each token of a reference from the source and the tokens before it, from the
/// references and from a teacher.
#[derive(Debug)]
pub struct TranslationLearner {
    network: TranslationNetwork,
    teacher: Option<TranslationNetwork>,
}

impl TranslationLearner {
    /// A network, and one on the same device whose distribution over tokens is learned as far as the options say so.
    #[must_use]
    pub fn new(network: TranslationNetwork, teacher: Option<TranslationNetwork>) -> Self {
        Self { network, teacher }
    }

    /// The network.
    #[must_use]
    pub fn network(&self) -> &TranslationNetwork {
        &self.network
    }
}

impl Learner for TranslationLearner {
    type Batch = TranslationBatch;

    fn parameters(&self) -> &Parameters {
        self.network.parameters()
    }

    fn layers(&self) -> &[LayerEntry] {
        self.network.layers()
    }

    fn products(&self) -> &[HeadProduct] {
        self.network.products()
    }

    fn samples(&self, batch: &TranslationBatch) -> usize {
        self.network.labels(&batch.targets).len()
    }

    fn loss(&self, tape: &Tape, batch: &TranslationBatch, options: &TrainingOptions) -> Result<BatchLoss> {
        let dropouts = (options.dropout > 0.0).then(|| Dropouts::new(options.dropout, batch.draw));
        let sources = Tokens::new(&batch.sources)?;
        let inputs = self.network.inputs(&batch.targets)?;
        let labels = self.network.labels(&batch.targets);
        let encoded = self.network.encode_dropped(tape, &sources, dropouts.as_ref())?;
        let logits = self.network.logits_dropped(tape, &encoded, &inputs, dropouts.as_ref())?;
        let Correct { top1, .. } = correct(&logits.tensor().to_device(&Device::Cpu)?, &labels)?;
        let entropy = CrossEntropy::new(&labels, options.label_smoothing);
        let loss = match (&self.teacher, options.distillation) {
            (Some(teacher), Some(DistillationOptions { temperature, weight, .. })) => {
                let apart = Tape::inference().with_autocast(tape.autocast());
                let encoded = teacher.encode(&apart, &sources)?;
                let taught = teacher.logits(&apart, &encoded, &inputs)?.tensor().to_dtype(DType::F32)?;
                tape.apply(Distillation::new(entropy, &taught, temperature, weight)?, &[&logits])?
            }
            _ => tape.apply(entropy, &[&logits])?,
        };
        Ok(BatchLoss { loss, correct: Some(top1) })
    }
}
