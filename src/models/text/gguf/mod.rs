//! Language models that llama.cpp's GGUF files hold, as Hugging Face's folders have them.
//!
//! | here | what |
//! | --- | --- |
//! | `configuration` | `config.json` and `generation_config.json` |
//! | `rope` | how a file says that rotary frequencies are stretched |
//! | `tensors` | which tensor is which, and how its elements are ordered |
//!
//! How blocks become numbers is [`GgufFile`]'s to know; the tokenizer is made in `data`.

mod configuration;
mod error;
mod rope;
mod tensors;

use crate::checkpoint::GgufFile;
use crate::models::TextConfig;
pub use error::GgufModelError;
use serde_json::Value;
pub use tensors::{Arrangement, ImportedTensor};

/// A GGUF file's model as Hugging Face names and describes it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GgufModel {
    /// What goes into `config.json`, without the element type.
    pub config: Value,
    /// What goes into `generation_config.json`.
    pub generation: Value,
    /// Every tensor, in the network's order.
    pub tensors: Vec<ImportedTensor>,
}

impl GgufModel {
    /// Finds out what a file holds, from its header alone (but for rotary frequencies, and an output head that may be the embedding).
    ///
    /// # Errors
    ///
    /// - [`GgufModelError`]: an architecture or a setting that is not known here; tensors that are missing, left over, or of
    ///   other shapes, all of them
    pub fn of(file: &GgufFile) -> Result<Self, GgufModelError> {
        let (config, generation) = configuration::of(file)?;
        let known = TextConfig::from_json(&config)?;
        let tensors = tensors::of(file, &known)?;
        Ok(Self { config, generation, tensors })
    }
}
