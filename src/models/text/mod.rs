//! Networks for text, described by Hugging Face's `config.json`, with its tensor names.
//!
//! | file | what |
//! | --- | --- |
//! | `config` | what a configuration says |
//! | `tokens` | what goes in |
//! | `network` | a network of any kind, and what it gives |
//! | `encoder`, `gpt2`, `llama` | the kinds |

mod config;
mod encoder;
mod feed_forward;
mod gpt2;
mod llama;
mod network;
mod tokens;

pub use config::{ConfigError, EncoderConfig, EncoderFamily, Gpt2Config, LlamaConfig, Stretch, TextConfig};
pub use network::{Head, Task, TextNetwork};
pub use tokens::Tokens;
