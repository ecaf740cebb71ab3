use super::evaluation::embed;
use super::lessons::{TextBatch, TextTargets};
use super::losses::{PairCosines, SquaredDistance};
use crate::layers::operations::{Add, Lookup};
use crate::layers::{HeadProduct, LayerEntry, Node, Parameters, Tape};
use crate::models::TextNetwork;
use crate::train::{
    BatchLoss, Correct, CrossEntropy, Distillation, DistillationOptions, Learner, TrainingOptions, correct,
};
use candle_core::{DType, Device, Result, Tensor, bail};

/// A network for text that learns from labels, from the text itself, and from a teacher.
///
/// What is learned from a teacher, a network of the same tokens, depends on what is asked: its distribution over tokens or
/// classes, as [`Distillation`] has it; or its vectors of sequences, whose squared distance is averaged over them. Where
/// there are labels too, the options say which part of the loss is the teacher's. Beside that its hidden states after
/// each layer can be learned: the squared distance over the squared norm, averaged over layers.
#[derive(Debug)]
pub struct TextLearner {
    network: TextNetwork,
    teacher: Option<TextNetwork>,
    device: Device,
}

impl TextLearner {
    /// A network on a device, and one on the same that it learns from.
    #[must_use]
    pub fn new(network: TextNetwork, teacher: Option<TextNetwork>, device: &Device) -> Self {
        Self { network, teacher, device: device.clone() }
    }

    /// The network.
    #[must_use]
    pub fn network(&self) -> &TextNetwork {
        &self.network
    }

    /// The mean squared distance of its vectors from the teacher's.
    pub(super) fn distance(&self, sequences: &[Vec<u32>], seen: &mut dyn FnMut(usize)) -> Result<f64> {
        let Some(teacher) = &self.teacher else { bail!("there is no teacher") };
        let (own, taught) = (embed(&self.network, sequences, seen)?, embed(teacher, sequences, |_| {})?);
        let squares =
            own.iter().flatten().zip(taught.iter().flatten()).map(|(x, t)| f64::from(x - t).powi(2));
        Ok(squares.sum::<f64>() / sequences.len().max(1) as f64)
    }

    /// What is asked of the network: vectors of sequences, or scores of classes or tokens.
    fn answer(&self, network: &TextNetwork, tape: &Tape, hidden: &Node, batch: &TextBatch) -> Result<Node> {
        match &batch.targets {
            TextTargets::Scores(_) | TextTargets::Vectors => {
                network.embeddings_of(tape, hidden, &batch.tokens)
            }
            TextTargets::Classes(_) => network.class_logits_of(tape, hidden, &batch.tokens),
            TextTargets::Tokens { rows, .. } => {
                let rows = Tensor::new(rows.as_slice(), &self.device)?;
                let hidden = tape.apply(Lookup::new(&rows), &[hidden])?;
                network.vocabulary_logits(tape, &hidden)
            }
        }
    }

    /// What the teacher answers, and its hidden states after each layer where they are wanted.
    fn taught(&self, tape: &Tape, batch: &TextBatch, states: bool) -> Result<Option<(Tensor, Vec<Tensor>)>> {
        let Some(teacher) = &self.teacher else { return Ok(None) };
        let apart = Tape::inference().with_autocast(tape.autocast());
        let apart = if states { apart.keeping_states() } else { apart };
        let hidden = teacher.hidden(&apart, &batch.tokens)?;
        let answer = self.answer(teacher, &apart, &hidden, batch)?.tensor().to_dtype(DType::F32)?;
        Ok(Some((answer, apart.states().into_iter().map(|state| state.tensor().clone()).collect())))
    }
}

impl Learner for TextLearner {
    type Batch = TextBatch;

    fn parameters(&self) -> &Parameters {
        self.network.parameters()
    }

    fn layers(&self) -> &[LayerEntry] {
        self.network.layers()
    }

    fn products(&self) -> &[HeadProduct] {
        self.network.products()
    }

    fn samples(&self, batch: &TextBatch) -> usize {
        match &batch.targets {
            TextTargets::Scores(scores) => scores.len(),
            TextTargets::Classes(classes) => classes.len(),
            TextTargets::Tokens { tokens, .. } => tokens.len(),
            TextTargets::Vectors => batch.tokens.sequences().count(),
        }
    }

    fn loss(&self, tape: &Tape, batch: &TextBatch, options: &TrainingOptions) -> Result<BatchLoss> {
        let DistillationOptions { temperature, weight, hidden: of_states } =
            options.distillation.unwrap_or_default();
        let states = self.teacher.is_some() && of_states > 0.0;
        let taught = self.taught(tape, batch, states)?;
        tape.keep_states(states);
        let hidden = self.network.hidden(tape, &batch.tokens)?;
        let answer = self.answer(&self.network, tape, &hidden, batch)?;
        let logits = |labels: &[u32]| -> Result<BatchLoss> {
            let Correct { top1, .. } = correct(&answer.tensor().to_device(&Device::Cpu)?, labels)?;
            let entropy = CrossEntropy::new(labels, options.label_smoothing);
            let loss = match &taught {
                None => tape.apply(entropy, &[&answer])?,
                Some((taught, _)) => {
                    tape.apply(Distillation::new(entropy, taught, temperature, weight)?, &[&answer])?
                }
            };
            Ok(BatchLoss { loss, correct: Some(top1) })
        };
        let distance = |taught: &Tensor, weight: f64| {
            let rows = taught.dim(0)?.max(1) as f64;
            tape.apply(SquaredDistance::new(taught, weight / rows), &[&answer])
        };
        let mut found = match (&batch.targets, &taught) {
            (TextTargets::Classes(labels) | TextTargets::Tokens { tokens: labels, .. }, _) => logits(labels)?,
            (TextTargets::Scores(scores), None) => {
                let loss = tape.apply(PairCosines::new(scores, 1.0), &[&answer])?;
                BatchLoss { loss, correct: None }
            }
            (TextTargets::Scores(scores), Some((taught, _))) => {
                let of_labels = tape.apply(PairCosines::new(scores, 1.0 - weight), &[&answer])?;
                let loss = tape.apply(Add, &[&of_labels, &distance(taught, weight)?])?;
                BatchLoss { loss, correct: None }
            }
            (TextTargets::Vectors, Some((taught, _))) => {
                BatchLoss { loss: distance(taught, 1.0)?, correct: None }
            }
            (TextTargets::Vectors, None) => bail!("there are no labels, and there is no teacher"),
        };
        if let Some((_, taught)) = taught.filter(|_| states) {
            let own = tape.states();
            if own.len() != taught.len() {
                bail!("the teacher has {} layers, the network {}", taught.len(), own.len());
            }
            let weight = of_states / own.len() as f64;
            for (own, taught) in own.iter().zip(&taught) {
                let norm = taught.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar::<f64>()?;
                let part = SquaredDistance::new(taught, weight / norm.max(f64::MIN_POSITIVE));
                let part = tape.apply(part, &[own])?;
                found.loss = tape.apply(Add, &[&found.loss, &part])?;
            }
        }
        Ok(found)
    }
}
