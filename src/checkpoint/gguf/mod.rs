//! GGUF, llama.cpp's format: what a file says of its model and its tokens, and its weights as numbers.
//!
//! A header, then the tensors' blocks, each at a multiple of an alignment:
//!
//! ```text
//! "GGUF"  version (u32)  tensors (u64)  entries (u64)
//! entries:  key (length, bytes)  type (u32)  value
//! tensors:  name  axes (u32)  sizes (u64 each, the innermost first)  block type (u32)  offset (u64)
//! ```
//!
//! Everything in a header is checked before a weight is read. Blocks are read and multiplied out to `f32` by candle,
//! one tensor at a time. Which tensor is which layer isn't known here: that is `models`.
//!
//! # Reference
//!
//! The ggml project's description of the format, versions 2 and 3, little-endian.

mod block;
mod error;
mod file;
mod header;
mod value;

pub use block::BlockType;
pub use error::GgufError;
pub use file::{GgufFile, GgufTensor};
pub use value::GgufValue;
