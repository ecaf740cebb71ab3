use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use thiserror::Error;

use super::{format::Format, source::Split};

/// Why a data set can't be read, or a batch can't be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DataError {
    /// The folder isn't there.
    #[error("the folder `{}` of the data set does not exist", .path.display())]
    MissingFolder {
        /// The folder.
        path: PathBuf,
    },
    /// The folder is something else.
    #[error("`{}` is a file, expected the folder of the data set", .path.display())]
    NotAFolder {
        /// What is there.
        path: PathBuf,
    },
    /// Files of a split aren't there.
    #[error("the {split} split of {format} lacks {} (looked in {})", Quoted(.files), Quoted(.folders))]
    MissingFiles {
        /// The format.
        format: Format,
        /// The split.
        split: Split,
        /// What was looked for.
        files: Vec<String>,
        /// Where it was looked for.
        folders: Vec<String>,
    },
    /// The system refused.
    #[error("cannot read `{}`", .path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file has another size than its format or header says.
    #[error("`{}` has the wrong size: expected {expected}, found {found} bytes", .path.display())]
    Size {
        /// The file.
        path: PathBuf,
        /// What is right.
        expected: String,
        /// The size found, after decompression where the file is compressed.
        found: u64,
    },
    /// A file's header isn't its format's.
    #[error("`{}` is not an idx file of {what}: expected {expected}, found {found}", .path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// The header expected.
        expected: String,
        /// The header found.
        found: String,
    },
    /// Images and labels aren't as many.
    #[error("`{}` has {images} images and `{}` {labels} labels", .image_file.display(), .label_file.display())]
    Counts {
        /// The file of images.
        image_file: PathBuf,
        /// How many it has.
        images: usize,
        /// The file of labels.
        label_file: PathBuf,
        /// How many it has.
        labels: usize,
    },
    /// A label is no class.
    #[error("sample {sample} of `{}` has the label {label}, expected less than {classes}", .path.display())]
    Label {
        /// The file.
        path: PathBuf,
        /// The sample's number in that file, from 0.
        sample: usize,
        /// The label found.
        label: usize,
        /// How many classes there are.
        classes: usize,
    },
    /// A line of the annotations can't be used.
    #[error("line {line} of `{}`: expected a file and one of the {classes} classes, found `{found}`", .path.display())]
    Annotation {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// How many classes there are.
        classes: usize,
        /// The line's text.
        found: String,
    },
    /// A folder has no class, or no image.
    #[error("`{}` has no {what}", .path.display())]
    Empty {
        /// The folder or file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// Classes have no image.
    #[error("no image (.jpg, .jpeg, .png) in the classes {} of `{}`", Quoted(.classes), .path.display())]
    EmptyClasses {
        /// The folder of the classes.
        path: PathBuf,
        /// Their names.
        classes: Vec<String>,
    },
    /// The splits have different classes.
    #[error("`{}` and `{}` have different classes: {}", .train.display(), .test.display(), Difference(.missing, .unknown))]
    ClassesDiffer {
        /// The folder of the train split.
        train: PathBuf,
        /// The folder of the test split.
        test: PathBuf,
        /// Classes that only the train split has.
        missing: Vec<String>,
        /// Classes that only the test split has.
        unknown: Vec<String>,
    },
    /// An image file is damaged, or isn't one.
    #[error("cannot decode the image `{}`", .path.display())]
    Decode {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: image::ImageError,
    },
    /// Options of a loader can't be used with this data set.
    #[error("{}", .problems.join("; "))]
    Options {
        /// Everything that is wrong with them.
        problems: Vec<String>,
    },
    /// A worker panicked.
    #[error("a worker panicked at batch {batch}: {message}")]
    Panicked {
        /// The batch it was making.
        batch: usize,
        /// What it said.
        message: String,
    },
    /// A worker could not be started.
    #[error("cannot start a thread that makes batches")]
    Start {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A batch's tensors could not be made.
    #[error("cannot make the tensors of batch {batch}")]
    Tensor {
        /// The batch.
        batch: usize,
        /// Why.
        #[source]
        source: candle_core::Error,
    },
}

impl DataError {
    /// Says what to do about it, where that can be told.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::MissingFiles { format, .. } => format.layout(),
            Self::Size { .. } => "the file is incomplete or of another format: copy or download it again",
            Self::Decode { .. } => "replace the file, or remove it from the data set",
            Self::EmptyClasses { .. } => "add images, or remove the folders",
            Self::ClassesDiffer { .. } => "both splits need a folder for each class, under the same names",
            Self::Start { .. } => "ask for fewer workers",
            _ => return None,
        };
        Some(text.to_owned())
    }

    pub(super) fn read(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::Read { path, source }
    }
}

/// Lists names in backticks.
struct Quoted<'a>(&'a [String]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 6;
        for (index, name) in self.0.iter().take(SHOWN).enumerate() {
            write!(f, "{}`{name}`", if index == 0 { "" } else { ", " })?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            rest => write!(f, " and {rest} more"),
        }
    }
}

/// Says which names only one of two lists has.
struct Difference<'a>(&'a [String], &'a [String]);

impl fmt::Display for Difference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0, self.1) {
            (missing, []) => write!(f, "the second lacks {}", Quoted(missing)),
            ([], unknown) => write!(f, "the first lacks {}", Quoted(unknown)),
            (missing, unknown) => {
                write!(f, "the second lacks {}, the first {}", Quoted(missing), Quoted(unknown))
            }
        }
    }
}
