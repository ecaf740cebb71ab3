//! What can be wrong inside a safetensors file or its index: every problem is reported, not the first.

use std::fmt;

use thiserror::Error;

/// The most problems that one error lists; the rest are counted.
const LISTED: usize = 20;

/// One thing that is wrong with a safetensors file or an index.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Problem {
    /// There is not even a header length.
    #[error("a file of {size} bytes is too short, expected at least the 8 bytes of the header's length")]
    TooShort {
        /// The size of the file.
        size: u64,
    },
    /// The header ends beyond the file.
    #[error("the header should be {header} bytes long, found {available} bytes after its length")]
    HeaderBeyondFile {
        /// The length that the file gives.
        header: u64,
        /// What is there.
        available: u64,
    },
    /// The header is longer than any reader accepts.
    #[error(
        "no safetensors file: its first 8 bytes say that the header is {header} bytes long, expected at most {limit}"
    )]
    HeaderTooLarge {
        /// The length that the file gives.
        header: u64,
        /// The longest accepted.
        limit: u64,
    },
    /// The header isn't text.
    #[error("the header is not UTF-8 from its byte {offset} on")]
    NotUtf8 {
        /// Where the text ends.
        offset: usize,
    },
    /// The header isn't the JSON expected.
    #[error("the header is not valid JSON, line {line}, column {column}{}: {reason}", Within(.tensor))]
    Json {
        /// The line.
        line: usize,
        /// The column.
        column: usize,
        /// The tensor that is described there.
        tensor: Option<String>,
        /// What was expected.
        reason: String,
    },
    /// One key of the metadata is there twice.
    #[error("the metadata key `{key}` is there twice")]
    DuplicateMetadata {
        /// The key.
        key: String,
    },
    /// One name is there twice in a header.
    #[error("tensor `{tensor}` is described twice")]
    DuplicateTensor {
        /// The name.
        tensor: String,
    },
    /// The element type is unknown.
    #[error("tensor `{tensor}` has the unknown dtype `{dtype}`")]
    UnknownDtype {
        /// The tensor.
        tensor: String,
        /// The name of the type.
        dtype: String,
    },
    /// The shape is too large for any memory.
    #[error("tensor `{tensor}` of shape {shape:?} is too large for any file")]
    Overflow {
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<u64>,
    },
    /// The elements don't fill whole bytes.
    #[error("tensor `{tensor}` of shape {shape:?}, {dtype}, is not a whole number of bytes")]
    PartialByte {
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<u64>,
        /// Its type.
        dtype: &'static str,
    },
    /// The offsets don't agree with shape and type.
    #[error(
        "tensor `{tensor}` of shape {shape:?}, {dtype}, expected {expected} bytes, found offsets for {found}"
    )]
    Length {
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<u64>,
        /// Its type.
        dtype: &'static str,
        /// Shape times width.
        expected: u64,
        /// End minus start.
        found: u64,
    },
    /// The end comes before the start.
    #[error("tensor `{tensor}` has unordered offsets: it ends at {end}, before its start {start}")]
    Unordered {
        /// The tensor.
        tensor: String,
        /// Where it starts.
        start: u64,
        /// Where it ends.
        end: u64,
    },
    /// Two tensors share bytes.
    #[error("tensor `{tensor}` starts at {start}, inside tensor `{other}`, which ends at {end}")]
    Overlap {
        /// The later tensor.
        tensor: String,
        /// The tensor before it.
        other: String,
        /// Where the later one starts.
        start: u64,
        /// Where the one before it ends.
        end: u64,
    },
    /// Bytes before a tensor belong to none.
    #[error("bytes {start} to {end} of the data, before tensor `{tensor}`, belong to no tensor")]
    Gap {
        /// The tensor after the gap.
        tensor: String,
        /// Where the gap starts.
        start: u64,
        /// Where it ends.
        end: u64,
    },
    /// A tensor ends beyond the file.
    #[error("tensor `{tensor}` ends at byte {end} of the data, out of range: found {available} bytes")]
    OutOfRange {
        /// The tensor.
        tensor: String,
        /// Where it ends.
        end: u64,
        /// How many bytes there are.
        available: u64,
    },
    /// The header is sound, and the data end early.
    #[error("the file is truncated: expected {expected} bytes of data, found {found}")]
    Truncated {
        /// How many bytes the tensors have.
        expected: u64,
        /// How many bytes there are.
        found: u64,
    },
    /// Bytes after the last tensor.
    #[error("{excess} bytes after the last tensor belong to no tensor")]
    Trailing {
        /// How many.
        excess: u64,
    },
    /// A shard's path leads out of the folder.
    #[error("the shard `{shard}` is not the name of a file in this folder")]
    ShardPath {
        /// The path.
        shard: String,
    },
    /// An index whose `weight_map` names no tensor.
    #[error("the index names no tensor: its `weight_map` is empty")]
    EmptyIndex,
    /// A shard isn't there.
    #[error("the shard `{shard}` is missing, {} should be in it", counted(*.tensors))]
    MissingShard {
        /// The shard.
        shard: String,
        /// How many tensors the index puts there.
        tensors: usize,
    },
    /// A shard lacks a tensor.
    #[error("tensor `{tensor}` should be in `{shard}`, it is in no shard")]
    MissingTensor {
        /// The tensor.
        tensor: String,
        /// Where it should be.
        shard: String,
    },
    /// A tensor is in another shard than the index says.
    #[error("tensor `{tensor}` should be in `{expected}`, found in `{found}`")]
    Misplaced {
        /// The tensor.
        tensor: String,
        /// Where it should be.
        expected: String,
        /// Where it is.
        found: String,
    },
    /// The index doesn't know a tensor.
    #[error("tensor `{tensor}` in `{shard}` is not in the index")]
    Unindexed {
        /// The tensor.
        tensor: String,
        /// Where it is.
        shard: String,
    },
    /// Two shards have a tensor of one name.
    #[error("tensor `{tensor}` is in `{first}` and in `{second}`")]
    InTwoShards {
        /// The tensor.
        tensor: String,
        /// One shard.
        first: String,
        /// The other.
        second: String,
    },
}

/// Formats "in tensor `x`", or nothing.
struct Within<'a>(&'a Option<String>);

impl fmt::Display for Within<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(tensor) => write!(f, ", in tensor `{tensor}`"),
            None => Ok(()),
        }
    }
}

/// Everything that is wrong with one file: the first twenty problems, and how many there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems {
    listed: Vec<Problem>,
    total: usize,
}

impl Problems {
    /// Adds a problem.
    pub(crate) fn push(&mut self, problem: Problem) {
        if self.listed.len() < LISTED {
            self.listed.push(problem);
        }
        self.total += 1;
    }

    /// Adds the problems of another list.
    pub(crate) fn extend(&mut self, other: Self) {
        let unlisted = other.total - other.listed.len();
        other.listed.into_iter().for_each(|problem| self.push(problem));
        self.total += unlisted;
    }

    /// Says whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// Counts the problems, listed or not.
    #[must_use]
    pub fn total(&self) -> usize {
        self.total
    }

    /// Iterates over the problems listed, at most twenty.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.listed.iter()
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self { listed: vec![problem], total: 1 }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let ([problem], 1) = (self.listed.as_slice(), self.total) {
            return write!(f, "{problem}");
        }
        write!(f, "{} problems", self.total)?;
        for problem in &self.listed {
            write!(f, "\n  - {problem}")?;
        }
        match self.total - self.listed.len() {
            0 => Ok(()),
            rest => write!(f, "\n  - and {rest} more"),
        }
    }
}

/// A number of tensors in words.
fn counted(tensors: usize) -> String {
    if tensors == 1 { "1 tensor".to_owned() } else { format!("{tensors} tensors") }
}
