use crate::checkpoint::GgufError;
use std::path::PathBuf;

/// Why a GGUF file's tokenizer can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufTokenizerError {
    /// The file's header.
    #[error(transparent)]
    File(#[from] GgufError),
    /// There is none.
    #[error("`{}` holds no tokenizer", path.display())]
    None {
        /// The file.
        path: PathBuf,
    },
    /// It is of a kind that is not known here.
    #[error("the tokenizer of `{}` is not known here: {key} is `{found}`, expected {expected}", path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// What says the kind.
        key: &'static str,
        /// What it is.
        found: String,
        /// What is known.
        expected: String,
    },
    /// Its tokens contradict each other.
    #[error("the tokenizer of `{}` cannot be used: {problem}", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

impl GgufTokenizerError {
    /// What to do about it, where that can be said.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::File(error) => error.hint(),
            _ => Some("--tokenizer DIR takes the model's tokenizer.json from another folder".to_owned()),
        }
    }
}
