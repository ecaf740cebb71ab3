//! Texts: files of them, their tokens, and what they are labelled with.

mod error;
mod gguf;
mod pairs;
mod sequences;
mod source;
mod stream;
mod tokenizer;

pub use error::TextError;
pub use gguf::{GgufTokenizer, GgufTokenizerError};
pub use pairs::{SentencePair, read_pairs};
pub use sequences::{WINDOW, fingerprint_of, sample, token_batches, windows};
pub use source::{TextFormat, TextSource, TextSourceError};
pub use stream::TextStream;
pub use tokenizer::TextTokenizer;
