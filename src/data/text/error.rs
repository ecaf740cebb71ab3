use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why texts or their tokens can't be had.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TextError {
    /// The system refused.
    #[error("cannot read `{}`", .path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file that isn't of its format.
    #[error("`{}`, line {line}: {problem}", .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// There is nothing in it.
    #[error("`{}` holds no text", .path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A folder without the file that the format has there.
    #[error("`{}` lacks {file}", .path.display())]
    Missing {
        /// The folder.
        path: PathBuf,
        /// The file.
        file: String,
    },
    /// A checkpoint without a tokenizer, or with a broken one.
    #[error("the tokenizer of `{}` cannot be used: {problem}", .path.display())]
    Tokenizer {
        /// The checkpoint.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// Two files that should have as many lines.
    #[error(
        "`{}` has {} lines, `{}` {}; each line of one is expected to be a translation of the other's",
        .source_path.display(), .lines[0], .target.display(), .lines[1]
    )]
    Unpaired {
        /// One file.
        source_path: PathBuf,
        /// The other.
        target: PathBuf,
        /// Lines of both.
        lines: [usize; 2],
    },
    /// A vocabulary that can't be learned.
    #[error("a vocabulary of {size} tokens can't be learned: {problem}")]
    Vocabulary {
        /// Tokens that were asked for.
        size: usize,
        /// Why.
        problem: String,
    },
}

impl TextError {
    pub(super) fn read(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        |source| Self::Read { path: path.to_owned(), source }
    }

    /// What to do about it, where that can be said.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Tokenizer { .. } => {
                Some("a checkpoint's folder needs tokenizer.json beside config.json".to_owned())
            }
            _ => None,
        }
    }
}
