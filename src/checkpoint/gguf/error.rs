use super::super::numeric::NumericError;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a GGUF file can't be read, or isn't a model that is known here.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GgufError {
    /// Nothing has this name.
    #[error("`{}` does not exist", .path.display())]
    Missing {
        /// The path.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot read `{}`", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is something else.
    #[error("`{}` is not a GGUF file: it starts with {found}, expected `GGUF`", .path.display())]
    NotGguf {
        /// The file.
        path: PathBuf,
        /// Its first bytes.
        found: String,
    },
    /// A version of the format, or an order of bytes, that isn't read.
    #[error("`{}` is {found}, expected version 2 or 3, little-endian", .path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: String,
    },
    /// The file ends before what it announces.
    #[error("`{}` is cut off: {what} needs {expected} bytes of the file, found {found}", .path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Where it ends.
        what: String,
        /// The size that this needs.
        expected: u64,
        /// The size of the file.
        found: u64,
    },
    /// Something in the header isn't what it should be.
    #[error("`{}`: {what} is {found}, expected {expected}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What.
        what: String,
        /// What it is.
        found: String,
        /// What it should be.
        expected: String,
    },
    /// Tensors are stored in blocks of a type that isn't known here.
    #[error("`{}` has blocks of type {found}, which is not known here: {tensors} tensors, the first is `{first}`", .path.display())]
    BlockType {
        /// The file.
        path: PathBuf,
        /// The type.
        found: String,
        /// How many tensors.
        tensors: usize,
        /// The first of them.
        first: String,
    },
    /// The header lacks an entry.
    #[error("`{}` does not say `{key}`", .path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
        /// The entry.
        key: String,
    },
    /// It is one of several files.
    #[error("`{}` is one of {count} files that hold a model together", .path.display())]
    Split {
        /// The file.
        path: PathBuf,
        /// How many there are.
        count: u64,
    },
    /// Numbers can't be converted.
    #[error("`{tensor}` can't be converted")]
    Numeric {
        /// The tensor.
        tensor: String,
        /// Why.
        #[source]
        source: NumericError,
    },
    /// Blocks can't be multiplied out.
    #[error("`{tensor}` can't be multiplied out")]
    Blocks {
        /// The tensor.
        tensor: String,
        /// Why.
        #[source]
        source: Box<candle_core::Error>,
    },
}

impl GgufError {
    /// What to do about it, where that can be said.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Truncated { .. } => Some("the file is incomplete: copy or download it again".to_owned()),
            Self::BlockType { .. } => Some(
                "known are F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K and Q6_K"
                    .to_owned(),
            ),
            Self::Split { .. } => Some("merge them with `llama-gguf-split --merge FIRST OUT`".to_owned()),
            Self::Numeric { source, .. } => source.hint(),
            _ => None,
        }
    }

    pub(super) fn read(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |source| match source.kind() {
            io::ErrorKind::NotFound => Self::Missing { path },
            _ => Self::Read { path, source },
        }
    }
}
