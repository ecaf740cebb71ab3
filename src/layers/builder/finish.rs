//! What was made, or why it could not be.

use super::{Builder, Source};
use crate::layers::build_error::BuildError;
use crate::layers::built::Built;
use crate::layers::state::Stored;

impl Builder<'_> {
    /// Refuses a network that was given up while it was made for what the checkpoint does not hold.
    ///
    /// # Errors
    ///
    /// - tensors that are missing, or of another shape: those that were found
    pub fn refuse_problems(&self, architecture: &str) -> std::result::Result<(), BuildError> {
        let problems = self.shared.borrow().problems.clone();
        let (architecture, unexpected) = (architecture.to_owned(), Vec::new());
        if problems.is_empty() { Ok(()) } else { Err(BuildError { architecture, problems, unexpected }) }
    }

    /// All that was made, if the checkpoint held all of it and nothing else.
    ///
    /// Tensors that are not of floating type, such as counters, may be left over.
    ///
    /// # Errors
    ///
    /// - tensors that are missing, of another shape, or used by nothing: all of them
    pub fn finish(self, architecture: &str) -> std::result::Result<Built, BuildError> {
        let shared = self.shared.borrow();
        let Source::Checkpoint(state) = shared.source else { return Ok(shared.built.clone()) };
        let left =
            |(name, stored): &(&String, &Stored)| stored.tensor().is_some() && !shared.used.contains(*name);
        let unexpected: Vec<String> = state
            .tensors
            .iter()
            .filter(left)
            .map(|(name, stored)| format!("`{name}`, shape {:?}", stored.shape()))
            .collect();
        if shared.problems.is_empty() && unexpected.is_empty() {
            return Ok(shared.built.clone());
        }
        let (architecture, problems) = (architecture.to_owned(), shared.problems.clone());
        Err(BuildError { architecture, problems, unexpected })
    }
}
