use super::RunFileError;
use crate::calibrate::{CalibrationError, StatisticsError};
use crate::checkpoint::{CheckpointError, GgufError, OutputError, RecordError, numeric::NumericError};
use crate::data::{DataError, GgufTokenizerError, TextError};
use crate::decompose::DecomposeError;
use crate::layers::StateError;
use crate::models::{ArchitectureError, ConfigError, GgufModelError, NetworkError};
use crate::plan::PlanError;
use crate::train::TrainError;
use std::path::PathBuf;

/// Why a command failed. Nothing was written under a final name when it did.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The checkpoint cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A GGUF file that cannot be read.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A GGUF file whose model is not known.
    #[error(transparent)]
    GgufModel(#[from] GgufModelError),
    /// A GGUF file whose tokenizer is not known.
    #[error(transparent)]
    GgufTokenizer(#[from] GgufTokenizerError),
    /// What is asked for cannot be planned.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The output cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// A layer's elements cannot be converted.
    #[error("`{tensor}` can't be converted")]
    Numeric {
        /// The tensor.
        tensor: String,
        /// Why.
        #[source]
        source: NumericError,
    },
    /// A layer cannot be factored or multiplied out.
    #[error("`{tensor}` can't be decomposed")]
    Decompose {
        /// The tensor.
        tensor: String,
        /// Why.
        #[source]
        source: DecomposeError,
    },
    /// A layer whose error is no number.
    #[error("what factoring `{tensor}` loses is no number: the squares of its elements are beyond f64")]
    Unmeasured {
        /// The tensor.
        tensor: String,
    },
    /// A checkpoint without a factorization record.
    #[error("`{checkpoint}` is not factored: it has no factorization record")]
    NotFactored {
        /// The checkpoint.
        checkpoint: String,
    },
    /// The record does not fit the tensors beside it.
    #[error("the record of `{module}` does not fit: {problem}")]
    RecordMismatch {
        /// The module.
        module: String,
        /// What was expected and what is there.
        problem: String,
    },
    /// The record is not one.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A checkpoint that is no known network.
    #[error(transparent)]
    Architecture(#[from] ArchitectureError),
    /// A checkpoint that is no known network, whose statistics are to be re-estimated.
    #[error("batch normalization can't be recalibrated")]
    NotRecalibrated(#[source] ArchitectureError),
    /// A checkpoint that is no known network, which was to be run over pictures.
    #[error("the checkpoint can't be run over pictures")]
    NotCalibrated(#[source] ArchitectureError),
    /// A network that cannot be made.
    #[error(transparent)]
    Network(Box<NetworkError>),
    /// Data that a network was not made for.
    #[error("{}", problems.join("; "))]
    Unfit {
        /// Every difference.
        problems: Vec<String>,
    },
    /// Pictures of a size that a network does not take.
    #[error("`{architecture}` does not take pictures of {height} x {width}")]
    Picture {
        /// The network.
        architecture: String,
        /// The pictures' height.
        height: usize,
        /// Their width.
        width: usize,
        /// Where in the network it fails.
        #[source]
        source: Box<candle_core::Error>,
    },
    /// Data that cannot be read.
    #[error(transparent)]
    Data(Box<DataError>),
    /// Texts that cannot be read, or split into tokens.
    #[error(transparent)]
    Text(Box<TextError>),
    /// A configuration of no known network for text.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Calibration statistics that cannot be read, written or used.
    #[error(transparent)]
    Statistics(Box<StatisticsError>),
    /// Training or evaluation that stopped.
    #[error(transparent)]
    Train(Box<TrainError>),
    /// Tensors that cannot be read or written.
    #[error(transparent)]
    State(Box<StateError>),
    /// A computation that failed.
    #[error(transparent)]
    Tensor(Box<candle_core::Error>),
    /// A run's folder that is taken.
    #[error("`{}` holds a run already", path.display())]
    Taken {
        /// The folder.
        path: PathBuf,
    },
    /// A folder that is neither empty nor a run's.
    #[error("`{}` is not empty, and holds no run", path.display())]
    NoRun {
        /// The folder.
        path: PathBuf,
    },
    /// A file where a run's folder should be.
    #[error("`{}` is a file, expected a folder for the run", path.display())]
    NoFolder {
        /// The file.
        path: PathBuf,
    },
    /// An input that lies in the run that is to be replaced.
    #[error("the input `{}` lies in `{}`, whose run is to be replaced", input.display(), path.display())]
    OwnInput {
        /// The run's folder.
        path: PathBuf,
        /// The input.
        input: PathBuf,
    },
    /// A run's folder in the checkpoint that it starts from.
    #[error("`{}` lies inside the input `{}`, which is never changed", path.display(), input.display())]
    InsideInput {
        /// The run's folder.
        path: PathBuf,
        /// The checkpoint's folder.
        input: PathBuf,
    },
    /// A run's folder among pictures, where it would be taken for a class.
    #[error("`{}` lies among the pictures of the data set `{}`", path.display(), data.display())]
    InsideData {
        /// The run's folder.
        path: PathBuf,
        /// The data set's folder.
        data: PathBuf,
    },
    /// Options that a run's folder cannot keep.
    #[error(transparent)]
    RunFile(#[from] Box<RunFileError>),
    /// What cannot be asked together.
    #[error("{0}")]
    Usage(String),
    /// No output was named.
    #[error("no output is named")]
    NoOutput,
    /// A file beside the weights cannot be read or written.
    #[error("{what} `{}`", path.display())]
    SideFile {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}

impl CommandError {
    /// Whether it is no failure but the end of an interrupted run.
    #[must_use]
    pub fn is_interrupt(&self) -> bool {
        match self {
            Self::Output(error) => matches!(error, OutputError::Abandoned),
            Self::State(error) => error.is_interrupt(),
            Self::Train(error) => error.is_interrupt(),
            _ => false,
        }
    }

    /// Whether what was asked contradicts itself, whatever the checkpoint and the data are.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Usage(_) | Self::NoOutput => true,
            Self::Plan(error) => {
                matches!(
                    error,
                    PlanError::Recipe(_) | PlanError::NotCalibrated { .. } | PlanError::Overcomplete { .. }
                )
            }
            _ => false,
        }
    }

    /// What to do about it, where that can be said.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Checkpoint(error) => error.hint(),
            Self::Gguf(error) => error.hint(),
            Self::GgufModel(error) => error.hint(),
            Self::GgufTokenizer(error) => error.hint(),
            Self::Plan(error) => error.hint(),
            Self::Output(error) => error.hint(),
            Self::Numeric { source, .. } => source.hint(),
            Self::Record(error) => error.hint(),
            Self::NotFactored { .. } => {
                Some("`compress --rank 64 CHECKPOINT --out DIR` factors one".to_owned())
            }
            Self::Architecture(error) | Self::NotCalibrated(error) => error.hint(),
            Self::NotRecalibrated(_) => {
                Some("--recalibrate is for the networks that `compress train` can train".to_owned())
            }
            Self::Data(error) => error.hint(),
            Self::Text(error) => error.hint(),
            Self::Config(error) => error.hint(),
            Self::Train(error) => error.hint(),
            Self::State(error) => error.hint(),
            Self::Taken { .. } => Some("--resume continues it, --overwrite replaces it".to_owned()),
            Self::NoRun { .. } | Self::InsideData { .. } => {
                Some("name a folder of its own: only what a run wrote is ever replaced".to_owned())
            }
            Self::OwnInput { .. } => {
                Some("copy it elsewhere, or name another folder for the new run".to_owned())
            }
            _ => None,
        }
    }
}

impl From<CalibrationError> for CommandError {
    fn from(error: CalibrationError) -> Self {
        match error {
            CalibrationError::Data(error) => error.into(),
            CalibrationError::Tensor(error) => error.into(),
        }
    }
}

// They are large, and every result of a command would be.
macro_rules! boxed {
    ($($error:ty => $variant:ident),*) => {
        $(impl From<$error> for CommandError {
            fn from(error: $error) -> Self {
                Self::$variant(Box::new(error))
            }
        })*
    };
}

boxed!(NetworkError => Network, DataError => Data, TextError => Text, StatisticsError => Statistics, TrainError => Train, StateError => State, candle_core::Error => Tensor);
