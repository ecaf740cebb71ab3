//! Transformers for pictures, with Hugging Face's names.

mod config;
mod detection;
mod network;

pub use config::VitConfig;
pub(super) use detection::{detect, ends};
pub(super) use network::Vit;
