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
    /// Tokens that are no text.
    #[error(transparent)]
    Text(#[from] crate::data::TextError),
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
    /// The loss, or what it follows from, is no longer a number.
    #[error("{what} became {value} at step {step} of epoch {epoch}, with learning rate {learning_rate:e}")]
    Diverged {
        /// What it is: the loss, the loss on the test set, a tensor of the state.
        what: String,
        /// The number that is none.
        value: f64,
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
    /// Another process trains in the same folder.
    #[error("another process trains in `{folder}`")]
    Busy {
        /// The run's folder.
        folder: String,
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
    /// Whether it is no failure but the end of an interrupted run.
    #[must_use]
    pub fn is_interrupt(&self) -> bool {
        matches!(
            self,
            Self::Output(OutputError::Abandoned) | Self::State(StateError::Output(OutputError::Abandoned))
        )
    }

    /// What to do about it, where that can be said.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Data(error) => error.hint(),
            Self::Checkpoint(error) => error.hint(),
            Self::Output(error) => error.hint(),
            Self::State(error) => error.hint(),
            Self::Diverged { .. } => Some(
                "the last state before it is kept; a smaller --learning-rate, --warmup-steps or --clip may help"
                    .to_owned(),
            ),
            Self::Busy { .. } => Some("wait for it, or name another folder".to_owned()),
            Self::Resume { .. } => {
                Some("begin the run anew, with --overwrite where its folder is not empty".to_owned())
            }
            Self::Changed { .. } => {
                Some("resume with the options of the beginning, or begin anew with --overwrite".to_owned())
            }
            _ => None,
        }
    }
}
