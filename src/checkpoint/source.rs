//! Where a checkpoint comes from, as it is typed.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use thiserror::Error;

/// The prefix that names a repository of a hub.
const SCHEME: &str = "hf://";

/// The revision that is meant when none is named.
pub(crate) const DEFAULT_REVISION: &str = "main";

/// Where a checkpoint comes from: a path, or `hf://org/name[@revision]`.
///
/// ```
/// use fnl::checkpoint::Source;
/// let source: Source = "hf://org/name@v1.0".parse()?;
/// assert_eq!(source, Source::Hub { repository: "org/name".into(), revision: "v1.0".into() });
/// assert_eq!(source.to_string(), "hf://org/name@v1.0");
/// assert_eq!("models/bert".parse::<Source>()?, Source::Path("models/bert".into()));
/// # Ok::<(), fnl::checkpoint::SourceError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file or a directory.
    Path(PathBuf),
    /// A repository of a Hugging Face hub.
    Hub {
        /// `org/name`, or `name` alone.
        repository: String,
        /// A branch, a tag or a commit.
        revision: String,
    },
}

/// What is wrong with a source as it was typed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SourceError {
    /// Nothing was typed.
    #[error("the name of a checkpoint is empty")]
    Empty,
    /// The repository isn't `name` or `org/name`.
    #[error("`{typed}` names no repository, expected `hf://org/name` or `hf://org/name@revision`")]
    Repository {
        /// What was typed.
        typed: String,
    },
    /// The revision is empty or has characters that no revision has.
    #[error("`{typed}` has the malformed revision `{revision}`, expected a branch, a tag or a commit")]
    Revision {
        /// What was typed.
        typed: String,
        /// The part after `@`.
        revision: String,
    },
    /// An address of another kind.
    #[error("`{typed}` is neither a path nor a repository, expected `hf://org/name`")]
    Scheme {
        /// What was typed.
        typed: String,
    },
}

impl SourceError {
    /// Suggests what to type instead, where that can be told.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let Self::Scheme { typed } = self else { return None };
        let rest = typed.strip_prefix("https://huggingface.co/")?;
        let mut parts = rest.split('/').filter(|part| !part.is_empty());
        Some(format!("write hf://{}/{}", parts.next()?, parts.next()?))
    }
}

impl FromStr for Source {
    type Err = SourceError;

    fn from_str(typed: &str) -> Result<Self, SourceError> {
        if typed.is_empty() {
            return Err(SourceError::Empty);
        }
        let Some(rest) = typed.strip_prefix(SCHEME) else {
            return if typed.contains("://") {
                Err(SourceError::Scheme { typed: typed.to_owned() })
            } else {
                Ok(Self::Path(PathBuf::from(typed)))
            };
        };
        let (repository, revision) = rest.split_once('@').unwrap_or((rest, DEFAULT_REVISION));
        let repository = repository.strip_suffix('/').unwrap_or(repository);
        let mut parts = repository.split('/');
        let named = parts.by_ref().take(2).all(is_name) && parts.next().is_none();
        if !named {
            return Err(SourceError::Repository { typed: typed.to_owned() });
        }
        if !revision.split('/').all(is_name) {
            return Err(SourceError::Revision { typed: typed.to_owned(), revision: revision.to_owned() });
        }
        Ok(Self::Hub { repository: repository.to_owned(), revision: revision.to_owned() })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Hub { repository, revision } if revision == DEFAULT_REVISION => {
                write!(f, "{SCHEME}{repository}")
            }
            Self::Hub { repository, revision } => write!(f, "{SCHEME}{repository}@{revision}"),
        }
    }
}

impl From<&Path> for Source {
    fn from(path: &Path) -> Self {
        Self::Path(path.to_owned())
    }
}

impl From<PathBuf> for Source {
    fn from(path: PathBuf) -> Self {
        Self::Path(path)
    }
}

/// Says whether a segment can't lead out of the folder or the address that it is put into.
fn is_name(segment: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+');
    !segment.is_empty() && segment.chars().all(plain) && !segment.starts_with('.') && !segment.contains("..")
}
