//! Encoder-decoders that translate: Marian's, with Hugging Face's configuration and tensor names.
//!
//! | file | what |
//! | --- | --- |
//! | `config` | what a configuration says |
//! | `marian`, `attention` | the computation |
//! | `network` | the network with its tensors |
//! | `kept` | what decoding keeps of the tokens so far |
//! | `search`, `hypotheses` | from scores to translations |

mod attention;
mod config;
mod hypotheses;
mod kept;
mod marian;
mod network;
mod search;

pub use config::TranslationConfig;
pub use kept::KeptTokens;
pub use network::{Encoded, TranslationNetwork};
pub use search::{LengthLimit, SearchOptions, Translation};
