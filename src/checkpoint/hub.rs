//! Checkpoints of a Hugging Face hub.

use std::path::PathBuf;

use thiserror::Error;

/// Why a hub didn't deliver.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HubError {
    /// placeholder
    #[error("hub repositories are not available yet: `{repository}`")]
    Unavailable {
        /// The repository.
        repository: String,
    },
}

impl HubError {
    /// Says what to do about it, where that can be told.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        None
    }
}

pub(crate) fn fetch(repository: &str, _revision: &str) -> Result<PathBuf, HubError> {
    Err(HubError::Unavailable { repository: repository.to_owned() })
}
