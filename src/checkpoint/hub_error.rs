//! Why a hub didn't deliver, and what to do about it.

use std::{io, path::PathBuf};

use thiserror::Error;

use super::source::SourceError;

/// Why a hub didn't deliver.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HubError {
    /// The name or the revision is malformed.
    #[error(transparent)]
    Name(#[from] SourceError),
    /// Neither the repository nor, in it, the revision exists.
    #[error("`{repository}` with revision `{revision}` was not found at {endpoint}")]
    NotFound {
        /// The repository.
        repository: String,
        /// The revision asked for.
        revision: String,
        /// The hub.
        endpoint: String,
    },
    /// The repository exists and the file doesn't.
    #[error("the hub lists `{file}` in `{repository}`, and has no such file")]
    NoFile {
        /// The repository.
        repository: String,
        /// The file.
        file: String,
    },
    /// The hub wants to know who asks.
    #[error("{endpoint} refuses access to `{repository}` {}", if *.identified { "with this token" } else { "without a token" })]
    Refused {
        /// The repository.
        repository: String,
        /// The hub.
        endpoint: String,
        /// Whether a token was sent.
        identified: bool,
    },
    /// The cache lacks something, and nothing may be downloaded.
    #[error("`{file}` of `{repository}`, revision `{revision}`, is not in the cache `{}`, and HF_HUB_OFFLINE is set", .cache.display())]
    NotCached {
        /// The repository.
        repository: String,
        /// The revision.
        revision: String,
        /// What is missing.
        file: String,
        /// The cache.
        cache: PathBuf,
    },
    /// A file would lie outside of the cache.
    #[error("`{repository}` has a file with the path `{file}`, which leads out of its folder")]
    UnsafePath {
        /// The repository.
        repository: String,
        /// The path.
        file: String,
    },
    /// The hub answers what no hub should.
    #[error("{endpoint} did not answer as a hub does, asked for {what}")]
    Protocol {
        /// The hub.
        endpoint: String,
        /// What was asked for.
        what: String,
    },
    /// The transfer failed.
    #[error("cannot get {what} from {endpoint}")]
    Transfer {
        /// The hub.
        endpoint: String,
        /// What was asked for.
        what: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The cache can't be written.
    #[error("cannot write the cache `{}`", .path.display())]
    Cache {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl HubError {
    /// Says what to do about it, where that can be told.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Refused { identified: false, .. } => {
                Some("check the name; for a private or gated repository set HF_TOKEN".to_owned())
            }
            Self::Refused { repository, endpoint, .. } => {
                Some(format!("accept the conditions at {endpoint}/{repository}, or use another token"))
            }
            Self::NotFound { .. } => Some("check the name and, after `@`, the revision".to_owned()),
            Self::NotCached { .. } => Some("unset HF_HUB_OFFLINE to download it".to_owned()),
            Self::Transfer { .. } => {
                Some("run again to resume; HF_HUB_OFFLINE=1 uses what is in the cache".to_owned())
            }
            Self::Protocol { .. } => Some("check HF_ENDPOINT".to_owned()),
            _ => None,
        }
    }
}
