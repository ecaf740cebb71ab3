//! What is to be written, and why it can't be.

use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
};

use thiserror::Error;

use super::{dtype::Dtype, error::CheckpointError};

/// The largest file of a checkpoint unless another size is asked for, as in Hugging Face's tools: 5 GB.
pub(crate) const DEFAULT_SHARD_BYTES: u64 = 5_000_000_000;

/// One tensor to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputTensor {
    /// Its name.
    pub name: String,
    /// The type of its elements.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
}

/// Where and how to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputOptions {
    /// The final name.
    pub target: PathBuf,
    /// Whether the output is a directory, with shards and side files, or a single file.
    pub as_directory: bool,
    /// The most bytes of tensors in one file of a directory; a larger tensor gets a file of its own.
    pub max_shard_bytes: u64,
    /// Whether a file, or a directory of such an output, may be replaced.
    pub overwrite: bool,
    /// What will lie beside the weights of a directory, by path in it: a directory with other files is not replaced.
    pub side_files: Vec<PathBuf>,
    /// Bytes of each header to hold for the factorization record, which is known only at the end: see
    /// [`Record::reserve`](super::Record::reserve).
    pub reserve: usize,
    /// The metadata of each file. `format` is set to `pt` where it is missing: loaders ask for it.
    pub metadata: BTreeMap<String, String>,
}

impl OutputOptions {
    /// Describes a single file.
    #[must_use]
    pub fn file(target: &Path) -> Self {
        Self {
            target: target.to_owned(),
            as_directory: false,
            max_shard_bytes: DEFAULT_SHARD_BYTES,
            overwrite: false,
            side_files: Vec::new(),
            reserve: 0,
            metadata: BTreeMap::new(),
        }
    }

    /// Describes a directory.
    #[must_use]
    pub fn directory(target: &Path) -> Self {
        Self { as_directory: true, ..Self::file(target) }
    }
}

/// Why a checkpoint can't be written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OutputError {
    /// The final name is taken.
    #[error("`{}` exists", .path.display())]
    Exists {
        /// The path.
        path: PathBuf,
    },
    /// A directory is asked for where a file is.
    #[error("`{}` is a file, expected a directory or nothing", .path.display())]
    IsFile {
        /// The path.
        path: PathBuf,
    },
    /// A file is asked for where a directory is.
    #[error("`{}` is a directory, expected a file or nothing", .path.display())]
    IsDirectory {
        /// The path.
        path: PathBuf,
    },
    /// Neither file nor directory: a device, a socket, a link that leads nowhere.
    #[error("`{}` is neither a file nor a directory", .path.display())]
    IsSpecial {
        /// The path.
        path: PathBuf,
    },
    /// The path has no last part.
    #[error("`{}` has no file name", .path.display())]
    NoName {
        /// The path.
        path: PathBuf,
    },
    /// Replacing a directory would remove files that the output does not have.
    #[error("`{}` has files that the output would not have: {}", .path.display(), few(.files))]
    Foreign {
        /// The path.
        path: PathBuf,
        /// The files, by path in it.
        files: Vec<PathBuf>,
    },
    /// The output is the input.
    #[error("the output `{}` is the input `{}`", .path.display(), .input.display())]
    IsInput {
        /// The output.
        path: PathBuf,
        /// The input.
        input: PathBuf,
    },
    /// The output lies inside the input.
    #[error("the output `{}` lies inside the input `{}`", .path.display(), .input.display())]
    InsideInput {
        /// The output.
        path: PathBuf,
        /// The input.
        input: PathBuf,
    },
    /// Replacing the output would remove the input.
    #[error("the output `{}` contains the input `{}`", .path.display(), .input.display())]
    ContainsInput {
        /// The output.
        path: PathBuf,
        /// The input.
        input: PathBuf,
    },
    /// The folder to write to doesn't exist.
    #[error("the folder `{}` does not exist", .path.display())]
    ParentMissing {
        /// The folder.
        path: PathBuf,
    },
    /// The folder to write to isn't one.
    #[error("`{}` is not a folder", .path.display())]
    ParentNotFolder {
        /// What is there.
        path: PathBuf,
    },
    /// The folder to write to refuses files.
    #[error("the folder `{}` is not writable", .path.display())]
    Unwritable {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The disk is too small.
    #[error("no space in `{}`: the output needs {}, {} free", .path.display(), Bytes(*.needed), Bytes(*.free))]
    NoSpace {
        /// The folder.
        path: PathBuf,
        /// The size of the output, in bytes.
        needed: u64,
        /// What is free, in bytes.
        free: u64,
    },
    /// Two tensors have one name.
    #[error("tensor `{tensor}` would be written twice under one name")]
    DuplicateTensor {
        /// The name.
        tensor: String,
    },
    /// A tensor has a name that the format reserves.
    #[error("tensor `{tensor}` has a name that safetensors reserves")]
    ReservedName {
        /// The name.
        tensor: String,
    },
    /// A shape is no number of bytes.
    #[error("tensor `{tensor}` of shape {shape:?}, {dtype}, has no size in whole bytes below 2^63")]
    Size {
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
        /// Its type.
        dtype: &'static str,
    },
    /// More names and metadata than a header may have.
    #[error("the header of `{file}` would have {found} bytes, expected at most {limit}")]
    HeaderTooLarge {
        /// The file.
        file: String,
        /// Its header's length.
        found: u64,
        /// The longest accepted.
        limit: u64,
    },
    /// The record is longer than what was reserved.
    #[error("the header of `{file}` needs {needed} bytes, {held} are reserved")]
    RecordTooLong {
        /// The file.
        file: String,
        /// Its header's length with the record.
        needed: u64,
        /// The length held.
        held: u64,
    },
    /// Bytes for a tensor that wasn't announced.
    #[error("tensor `{tensor}` is not part of the output")]
    UnknownTensor {
        /// The name.
        tensor: String,
    },
    /// Bytes for a tensor that has them.
    #[error("tensor `{tensor}` is written already")]
    WrittenTwice {
        /// The name.
        tensor: String,
    },
    /// Too few or too many bytes.
    #[error("tensor `{tensor}` expected {expected} bytes, found {found}")]
    Length {
        /// The name.
        tensor: String,
        /// Shape times width.
        expected: u64,
        /// The bytes given.
        found: u64,
    },
    /// Some tensors have no bytes at the end.
    #[error("{total} tensors are not written, the first is `{first}`")]
    Unwritten {
        /// How many.
        total: usize,
        /// The first of them.
        first: String,
    },
    /// A side file for a single file, outside the directory, or under the name of a weight file.
    #[error("`{}` can not be a side file of the output: {reason}", .path.display())]
    SideFile {
        /// The path given.
        path: PathBuf,
        /// Why not.
        reason: &'static str,
    },
    /// The system refused.
    #[error("cannot write `{}`", .path.display())]
    Write {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A tensor or a side file of the input can't be read.
    #[error(transparent)]
    Input(#[from] CheckpointError),
    /// The run was interrupted.
    #[error("interrupted: nothing is written")]
    Abandoned,
}

impl OutputError {
    /// Says what to do about it, where that can be told.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Exists { .. } => {
                Some("`--overwrite` replaces it once the new content is complete".to_owned())
            }
            Self::IsFile { .. } => Some("name a directory that does not exist yet".to_owned()),
            Self::IsDirectory { path } => {
                Some(format!("name a file in it, such as {}", path.join("model.safetensors").display()))
            }
            Self::Foreign { .. } => {
                Some("replacing it would remove them: move them away, or name another folder".to_owned())
            }
            Self::IsInput { .. } | Self::InsideInput { .. } | Self::ContainsInput { .. } => {
                Some("the input is never changed: write beside it".to_owned())
            }
            Self::ParentMissing { path } => Some(format!("create it: mkdir -p {}", path.display())),
            Self::Write { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Some("free some space or write to another disk".to_owned())
            }
            Self::NoSpace { .. } => Some("free some space or write to another disk".to_owned()),
            Self::Input(error) => error.hint(),
            _ => None,
        }
    }

    pub(crate) fn write(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::Write { path, source }
    }
}

/// The first few of some files.
fn few(files: &[PathBuf]) -> String {
    let shown: Vec<String> = files.iter().take(3).map(|file| format!("`{}`", file.display())).collect();
    match files.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Formats a number of bytes in binary units.
pub(crate) struct Bytes(pub(crate) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
        if self.0 < 1024 {
            return write!(f, "{} bytes", self.0);
        }
        let mut size = self.0 as f64 / 1024.0;
        let mut unit = UNITS[0];
        for next in &UNITS[1..] {
            if size < 1024.0 {
                break;
            }
            size /= 1024.0;
            unit = next;
        }
        if size < 10.0 { write!(f, "{size:.1} {unit}") } else { write!(f, "{size:.0} {unit}") }
    }
}
