//! Checkpoints: reading them, writing them, and the record of what was factored.
//!
//! A checkpoint is a `.safetensors` file, a directory of them in Hugging Face's manner, or a repository of a hub
//! ([`Source`]). [`Checkpoint`] reads headers first and checks everything in them; weights are memory-mapped one
//! at a time. [`Staging`] writes a new one beside its final name, tensors in any order and from several threads,
//! and renames it at the end, so that a final name never holds anything half-written.
//!
//! What factoring means, and which tensors are layers, is not known here: that is `decompose` and `plan`.
//!
//! # Examples
//! ```
//! use std::path::PathBuf;
//! use fnl::checkpoint::{Checkpoint, Dtype, OutputOptions, OutputTensor, Staging, numeric};
//! let folder = tempfile::tempdir()?;
//! let target = folder.path().join("model.safetensors");
//! let tensors = [OutputTensor { name: "w".into(), dtype: Dtype::F32, shape: vec![2] }];
//!
//! let staging = Staging::create(&OutputOptions::file(&target), &tensors)?;
//! staging.write("w", &numeric::narrow_f32(&[1.0, 2.0], Dtype::F32)?)?;
//! assert!(!target.exists());
//! assert_eq!(staging.publish(None)?, [target.clone()]);
//!
//! let checkpoint = Checkpoint::open_path(&target)?;
//! let bytes = checkpoint.bytes(&checkpoint.tensors()[0])?;
//! assert_eq!(numeric::widen_f32(&bytes, Dtype::F32)?, [1.0, 2.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod dtype;
mod error;
mod folder;
mod foreign;
mod gguf;
mod header;
mod hub;
mod hub_error;
mod json;
mod layout;
mod live;
mod map;
mod natural;
pub mod numeric;
mod output;
mod positional;
mod problem;
mod publish;
mod reader;
mod record;
mod side_files;
mod source;
mod staging;
mod target;

pub use dtype::{Dtype, dtype_bits, dtype_bytes, dtype_from_name, dtype_name, is_factorable};
pub use error::CheckpointError;
pub use foreign::Format;
pub use gguf::{BlockType, GgufError, GgufFile, GgufTensor, GgufValue};
pub use header::{Header, HeaderTensor};
pub use hub::Hub;
pub use hub_error::HubError;
pub(crate) use json::with_nulls;
pub use live::abandon_all;
pub use map::TensorBytes;
pub use natural::natural_order;
pub(crate) use output::Bytes;
pub use output::{OutputError, OutputOptions, OutputTensor};
pub use problem::{Problem, Problems};
pub use reader::{Checkpoint, TensorEntry};
pub use record::{ModuleRecord, RECORD_KEY, RECORD_VERSION, Record, RecordError};
pub use side_files::SideFiles;
pub(crate) use side_files::{EVENTS, RUN_CHECKPOINTS, RUN_FILES};
pub use source::{Source, SourceError};
pub use staging::Staging;
