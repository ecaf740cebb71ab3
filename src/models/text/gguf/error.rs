use crate::checkpoint::GgufError;
use crate::models::ConfigError;
use std::path::PathBuf;

/// Why a GGUF file's model can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufModelError {
    /// The file's header or its blocks.
    #[error(transparent)]
    File(#[from] GgufError),
    /// An architecture that is not known here.
    #[error("`{}` is a model of the architecture `{found}`, which is not known here", path.display())]
    Architecture {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: String,
    },
    /// A setting that is not supported.
    #[error("`{}`: {key} is {found}, expected {expected}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The entry or tensor.
        key: String,
        /// What it is.
        found: String,
        /// What is supported.
        expected: String,
    },
    /// A configuration that no network is made from.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Tensors that are not the architecture's.
    #[error("the tensors of `{}` do not fit: {}", path.display(), problems.join("; "))]
    Tensors {
        /// The file.
        path: PathBuf,
        /// Every difference.
        problems: Vec<String>,
    },
}

impl GgufModelError {
    /// What to do about it, where that can be said.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::File(error) => error.hint(),
            Self::Config(error) => error.hint(),
            Self::Architecture { .. } => Some("known are llama, qwen2, qwen3 and gpt2".to_owned()),
            _ => None,
        }
    }
}
