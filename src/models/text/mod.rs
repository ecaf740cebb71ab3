//! Networks for text, described by Hugging Face's `config.json`, with its tensor names.
//!
//! | file | what |
//! | --- | --- |
//! | `config`, `config_json` | what a configuration says, and how Hugging Face writes it |
//! | `tokens` | what goes in |
//! | `network` | a network of any kind, and what it gives |
//! | `encoder`, `gpt2`, `llama` | the kinds |
//! | `generation`, `sampler` | texts that they continue |
//! | `gguf` | language models out of GGUF files |

mod config;
mod config_json;
mod encoder;
mod generation;
mod gguf;
mod gpt2;
mod llama;
mod network;
mod sampler;
mod tokens;

pub use config::{EncoderConfig, EncoderFamily, Gpt2Config, LlamaConfig, Stretch, TextConfig};
pub use config_json::ConfigError;
pub(crate) use config_json::labels;
pub(super) use config_json::{divided, keys};
pub use generation::Generation;
pub use gguf::{Arrangement, GgufModel, GgufModelError, ImportedTensor};
pub use network::{Head, Task, TextNetwork};
pub use sampler::{Sampler, Sampling};
pub use tokens::Tokens;
