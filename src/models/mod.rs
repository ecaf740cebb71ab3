//! Networks as structs over [`crate::layers`], with the tensor names of public checkpoints.
//!
//! | architecture | names |
//! | --- | --- |
//! | `resnet20`, `resnet32x2`, ... | residual networks for small pictures: depth `6 n + 2`, times a width |
//! | `wrn-28-10`, ... | wide residual networks: depth `6 n + 4`, times a width |
//! | `vgg11` to `vgg19` | with batch normalization, one linear layer at the end |
//! | `resnet18`, `resnet34`, `resnet50` | residual networks for large pictures, as torchvision has them |
//! | `vit-tiny` to `vit-large`, and ViTs that `config.json` describes | transformers for pictures, with Hugging Face's names |
//! | Marian | encoder-decoders that translate, described by `config.json` |
//! | BERT, RoBERTa, DistilBERT, ALBERT, GPT-2, Llama, Mistral, Qwen2, Qwen3 | networks for text, described by `config.json` |
//!
//! # Examples
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use fnl::layers::{Statistics, Tape};
//! use fnl::models::{Architecture, Network};
//!
//! let architecture: Architecture = "resnet20".parse()?;
//! let network = Network::fresh(&architecture.with_classes(10), 0, &Device::Cpu)?;
//! assert_eq!(network.parameters().count(), 269_722);
//! let tape = Tape::inference();
//! let images = tape.constant(&Tensor::zeros((2, 3, 32, 32), candle_core::DType::F32, &Device::Cpu)?);
//! let logits = network.forward(&tape, &images, Statistics::Running)?;
//! assert_eq!(logits.dims(), [2, 10]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod architecture;
mod network;
mod residual;
mod text;
mod translation;
mod vgg;
mod vit;
mod wide;

pub use architecture::{Architecture, ArchitectureError, Family};
pub use network::{Model, Network, NetworkError};
pub(crate) use text::labels;
pub use text::{
    Arrangement, ConfigError, EncoderConfig, EncoderFamily, Generation, GgufModel, GgufModelError,
    Gpt2Config, Head, ImportedTensor, LlamaConfig, Sampler, Sampling, Stretch, Task, TextConfig, TextNetwork,
    Tokens,
};
pub use translation::{
    Encoded, KeptTokens, LengthLimit, SearchOptions, Translation, TranslationConfig, TranslationNetwork,
};
pub use vit::VitConfig;
