use super::MetricsError;
use crate::checkpoint::{CheckpointError, OutputError};
use crate::data::DataError;
use crate::layers::StateError;
use crate::models::NetworkError;

/// Why training or evaluation stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// Data that cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A network that cannot be made.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// Tensors that cannot be read or written.
    #[error(transparent)]
    State(#[from] StateError),
    /// A checkpoint that cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A file that cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// Records that cannot be written.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// A computation that failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// Options out of range.
    #[error("{}", problems.join("; "))]
    Options {
        /// Every problem.
        problems: Vec<String>,
    },
    /// The loss is no longer a number.
    #[error("the loss became {loss} at step {step} of epoch {epoch}, with learning rate {learning_rate}")]
    Diverged {
        /// The loss.
        loss: f64,
        /// The step, counted from 1.
        step: u64,
        /// The epoch, counted from 1.
        epoch: usize,
        /// The learning rate of that step.
        learning_rate: f64,
    },
    /// What is resumed is not what was begun.
    #[error("the run in `{folder}` was begun differently: {}", differences.join("; "))]
    Changed {
        /// The run's folder.
        folder: String,
        /// Every difference.
        differences: Vec<String>,
    },
    /// A file of a run that is missing or not what it should be.
    #[error("`{path}` can't be resumed: {problem}")]
    Resume {
        /// The file.
        path: String,
        /// What is wrong.
        problem: String,
    },
}

impl TrainError {
    /// What to do about it, where that can be said.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Data(error) => error.hint(),
            Self::Checkpoint(error) => error.hint(),
            Self::Output(error) => error.hint(),
            Self::Diverged { .. } => Some(
                "the state before it is kept; a smaller --learning-rate, --warmup-steps or --clip may help"
                    .to_owned(),
            ),
            Self::Changed { .. } => {
                Some("resume with the options of the beginning, or begin anew with --overwrite".to_owned())
            }
            _ => None,
        }
    }
}
