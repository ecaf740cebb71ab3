//! Why a checkpoint can't be read.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use thiserror::Error;

use super::{
    foreign::{Format, conversion},
    hub_error::HubError,
    problem::{Problem, Problems},
    record::RecordError,
};

/// Why a checkpoint can't be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// Nothing has this name.
    #[error("`{}` does not exist", .path.display())]
    Missing {
        /// The path.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot read `{}`", .path.display())]
    Read {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is neither a file nor a directory.
    #[error("`{}` is neither a file nor a directory", .path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// A file's header, or an index, is malformed.
    #[error("`{}` is not a valid checkpoint: {problems}", .path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Everything that is wrong with it.
        problems: Problems,
    },
    /// The index isn't the JSON expected.
    #[error("`{}` is not a valid index, line {line}, column {column}: {reason}", .path.display())]
    Index {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
        /// The column.
        column: usize,
        /// What was expected.
        reason: String,
    },
    /// The file has another format.
    #[error("`{}` is {format}, expected safetensors", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is.
        format: Format,
    },
    /// A directory has weights, none of them as safetensors.
    #[error("`{}` has weights in other formats only ({}), expected safetensors", .path.display(), Names(.files))]
    OnlyForeign {
        /// The directory.
        path: PathBuf,
        /// The files that hold weights.
        files: Vec<PathBuf>,
    },
    /// A directory has no weights.
    #[error("`{}` has no safetensors file", .path.display())]
    NoWeights {
        /// The directory.
        path: PathBuf,
    },
    /// A directory has several checkpoints, or shards whose index is missing.
    #[error("`{}` has several safetensors files and no index ({})", .path.display(), Names(.files))]
    Ambiguous {
        /// The directory.
        path: PathBuf,
        /// The files.
        files: Vec<PathBuf>,
    },
    /// Numbered shards aren't all there.
    #[error("`{}` lacks the shard {}", .path.display(), Names(.missing))]
    IncompleteShards {
        /// The directory.
        path: PathBuf,
        /// The shards that aren't there.
        missing: Vec<PathBuf>,
    },
    /// `config.json` isn't what it should be.
    #[error("`{}` is not valid JSON, line {line}, column {column}: {reason}", .path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
        /// The column.
        column: usize,
        /// What was expected.
        reason: String,
    },
    /// A file's record can't be used.
    #[error("cannot use the factorization record of `{}`", .path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: RecordError,
    },
    /// Two shards say different things about how they were factored.
    #[error("`{}` and `{}` have different factorization records", .first.display(), .second.display())]
    RecordsDisagree {
        /// One shard.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// A file was cut short after its header had been read.
    #[error("`{}` changed while it was read: expected at least {expected} bytes, found {found}", .path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// The size that its header asked for.
        expected: u64,
        /// The size found.
        found: u64,
    },
    /// A hub didn't deliver.
    #[error(transparent)]
    Hub(#[from] HubError),
}

impl CheckpointError {
    /// Says what to do about it, where that can be told.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Foreign { path, format } => Some(format.hint(path)),
            Self::OnlyForeign { files, .. } => files.first().and_then(|file| conversion(file)),
            Self::Ambiguous { .. } => Some("name one of the files instead of the directory".to_owned()),
            Self::NoWeights { .. } => {
                Some("name a .safetensors file, or a directory that has one at its top".to_owned())
            }
            Self::IncompleteShards { .. } => Some("fetch the missing shards and run again".to_owned()),
            Self::Invalid { problems, .. } => problems.iter().find_map(|problem| match problem {
                Problem::Truncated { .. } | Problem::HeaderBeyondFile { .. } => {
                    Some("the file is incomplete: copy or download it again".to_owned())
                }
                Problem::MissingShard { .. } => Some("fetch the missing shards and run again".to_owned()),
                _ => None,
            }),
            Self::Missing { path } => missing_hint(path),
            Self::RecordsDisagree { .. } => {
                Some("the shards come from different runs: factor the dense checkpoint again".to_owned())
            }
            Self::Record { source, .. } => source.hint(),
            Self::Hub(error) => error.hint(),
            _ => None,
        }
    }

    pub(crate) fn read(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |source| match source.kind() {
            io::ErrorKind::NotFound => Self::Missing { path },
            _ => Self::Read { path, source },
        }
    }
}

/// Recognizes the name of a repository where a path was expected.
fn missing_hint(path: &Path) -> Option<String> {
    let text = path.to_str()?;
    let mut parts = text.split('/');
    let plain = |part: Option<&str>| part.is_some_and(|part| !part.is_empty() && !part.starts_with('.'));
    let named = plain(parts.next()) && plain(parts.next()) && parts.next().is_none();
    (named && path.extension().is_none_or(|extension| extension != "safetensors"))
        .then(|| format!("if it is a repository of the hub, name it hf://{text}"))
}

/// Lists the first few names of files.
struct Names<'a>(&'a [PathBuf]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 4;
        for (index, path) in self.0.iter().take(SHOWN).enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}`{}`", path.file_name().unwrap_or(path.as_os_str()).display())?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            rest => write!(f, " and {rest} more"),
        }
    }
}
