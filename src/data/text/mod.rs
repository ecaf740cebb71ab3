//! Texts: files of them, their tokens, and what they are labelled with.

mod byte_pairs;
mod error;
mod gguf;
mod labelled;
mod pair_batches;
mod pairs;
mod parallel;
mod sequences;
mod source;
mod stream;
mod tokenizer;

pub use byte_pairs::{MASK_TOKEN, SPECIAL_TOKENS};
pub use error::TextError;
pub use gguf::{GgufTokenizer, GgufTokenizerError};
pub use labelled::{LabelledText, class_names, read_labelled};
pub use pair_batches::PairBatches;
pub use pairs::{SentencePair, read_pairs};
pub use parallel::{ParallelSource, ParallelSourceError};
pub use sequences::{
    WINDOW, fingerprint_of, sample, sample_of, token_batches, token_batches_within, windows,
};
pub use source::{TextFormat, TextSource, TextSourceError};
pub use stream::TextStream;
pub use tokenizer::TextTokenizer;
