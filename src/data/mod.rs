//! Data sets of labelled images, their augmentation, and batches.
//!
//! A [`DataSource`] names a folder and its [`Format`]; an [`ImageDataset`] is one [`Split`] of it; a
//! [`Loader`] makes the batches of an epoch, on threads that work ahead. Order and augmentation are drawn
//! from a seed, the epoch and the position in it alone, so a run can be resumed in the middle of an epoch,
//! with another number of threads.
//!
//! Values `p` in 0..=255 become `(p / 255 - mean) / std` with the [`Normalization`] of the network's
//! training. What a network makes of them isn't known here: that is `models` and `train`.
//!
//! # Examples
//!
//! ```
//! use std::sync::Arc;
//! use fnl::data::{ImageDataset, Loader, LoaderOptions, Normalization, Split};
//!
//! // three records of CIFAR-10: a label and 3 x 32 x 32 values
//! let folder = tempfile::tempdir()?;
//! let records: Vec<u8> = [(6, 0), (9, 51), (9, 255)].iter().flat_map(|&(label, value)| {
//!     let mut record = vec![value; 3073];
//!     record[0] = label;
//!     record
//! }).collect();
//! std::fs::write(folder.path().join("test_batch.bin"), records)?;
//!
//! let source = format!("cifar10:{}", folder.path().display()).parse()?;
//! let dataset = Arc::new(ImageDataset::open(&source, Split::Test)?);
//! assert_eq!((dataset.len(), dataset.shape()), (3, [3, 32, 32]));
//! assert_eq!(dataset.class_names()[9], "truck");
//!
//! let mut options = LoaderOptions::new(2);
//! options.normalization = Some(Normalization { mean: vec![0.5; 3], std: vec![0.5; 3] });
//! let loader = Loader::new(dataset, options)?;
//! let batches = loader.epoch(0, 0).collect::<Result<Vec<_>, _>>()?;
//! assert_eq!(batches.len(), 2);
//! assert_eq!(batches[0].labels.to_vec1::<u32>()?, [6, 9]);
//! assert_eq!(batches[0].images.dims(), [2, 3, 32, 32]);
//! assert_eq!(batches[0].images.get(1)?.max_all()?.to_scalar::<f32>()?, (0.2 - 0.5) / 0.5);
//! assert_eq!(batches[1].images.min_all()?.to_scalar::<f32>()?, 1.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod augmentation;
mod cifar;
mod contents;
mod dataset;
mod error;
mod files;
mod fingerprint;
mod folder;
mod format;
mod idx;
mod loader;
mod material;
mod normalization;
mod options;
mod picture;
pub(crate) mod random;
mod resample;
mod samples;
mod source;
mod text;
mod tiny_imagenet;
mod workers;

pub use augmentation::Augmentation;
pub use dataset::ImageDataset;
pub use error::DataError;
pub use format::Format;
pub use loader::{Batch, Batches, Loader};
pub use material::Material;
pub use normalization::Normalization;
pub use options::LoaderOptions;
pub use source::{DataSource, DataSourceError, Split};
pub use text::{
    GgufTokenizer, GgufTokenizerError, LabelledText, MASK_TOKEN, PairBatches, ParallelSource,
    ParallelSourceError, SPECIAL_TOKENS, SentencePair, TextError, TextFormat, TextSource, TextSourceError,
    TextStream, TextTokenizer, WINDOW, class_names, fingerprint_of, read_labelled, read_pairs, sample,
    sample_of, token_batches, token_batches_within, windows,
};
