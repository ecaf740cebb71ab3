//! The header of one safetensors file: read, then checked whole before any tensor is believed.
//!
//! A file is eight bytes of header length (little-endian), that many bytes of JSON, and the data:
//!
//! ```text
//! {"__metadata__": {"format": "pt"}, "w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}
//! ```
//!
//! The tensors fill the data without gap or overlap. What is read here is also what the `safetensors` crate
//! reads, which accepts a repeated name besides.

use std::{
    collections::{BTreeMap, HashSet, btree_map::Entry},
    io::Read,
};

use super::{
    dtype::{Dtype, SizeProblem, dtype_from_name, dtype_name, size_bytes},
    json::{RawHeader, RawTensor, parse_header},
    problem::{Problem, Problems},
};

/// The bytes of the header's length.
pub(crate) const LENGTH_BYTES: u64 = 8;

/// The longest header that readers of the format accept.
pub(crate) const LARGEST_HEADER: u64 = 100_000_000;

/// One tensor of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderTensor {
    /// Its name.
    pub name: String,
    /// The type of its elements.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Where its bytes start, counted from the start of the file.
    pub start: u64,
    /// How many bytes it has.
    pub len: u64,
}

/// What a safetensors file says about its contents, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its `__metadata__`.
    pub metadata: BTreeMap<String, String>,
    /// Its tensors, in the order of their bytes.
    pub tensors: Vec<HeaderTensor>,
}

impl Header {
    /// Reads and checks the header of a file of `size` bytes.
    ///
    /// Nothing is allocated for a length that the file doesn't have.
    ///
    /// # Errors
    /// The outer error is the reader's; the inner one has every [`Problem`] of the header, up to twenty.
    ///
    /// # Examples
    /// ```
    /// use fnl::checkpoint::Header;
    /// let json = br#"{"w":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}"#;
    /// let mut file = (json.len() as u64).to_le_bytes().to_vec();
    /// file.extend_from_slice(json);
    /// file.extend_from_slice(&[1, 2, 3]);
    /// let header = Header::read(&mut file.as_slice(), file.len() as u64)?.unwrap();
    /// assert_eq!((header.tensors[0].start, header.tensors[0].len), (61, 3));
    ///
    /// file.pop();
    /// let problems = Header::read(&mut file.as_slice(), file.len() as u64)?.unwrap_err();
    /// assert_eq!(problems.to_string(), "the file is truncated: expected 3 bytes of data, found 2");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn read(reader: &mut impl Read, size: u64) -> std::io::Result<Result<Self, Problems>> {
        let Some(available) = size.checked_sub(LENGTH_BYTES) else {
            return Ok(Err(Problem::TooShort { size }.into()));
        };
        let mut length = [0u8; LENGTH_BYTES as usize];
        reader.read_exact(&mut length)?;
        let header = u64::from_le_bytes(length);
        if header > LARGEST_HEADER {
            return Ok(Err(Problem::HeaderTooLarge { header, limit: LARGEST_HEADER }.into()));
        }
        if header > available {
            return Ok(Err(Problem::HeaderBeyondFile { header, available }.into()));
        }
        let mut text = vec![0u8; header as usize];
        reader.read_exact(&mut text)?;
        Ok(Self::parse(&text, available - header))
    }

    /// Checks the text of a header that `available` bytes of data follow.
    fn parse(text: &[u8], available: u64) -> Result<Self, Problems> {
        let data_start = LENGTH_BYTES + text.len() as u64;
        let text =
            std::str::from_utf8(text).map_err(|error| Problem::NotUtf8 { offset: error.valid_up_to() })?;
        let RawHeader { metadata: entries, tensors: raw } = parse_header(text)?;

        let mut problems = Problems::default();
        let mut metadata = BTreeMap::new();
        for (key, value) in entries {
            match metadata.entry(key) {
                Entry::Occupied(known) => {
                    problems.push(Problem::DuplicateMetadata { key: known.key().clone() });
                }
                Entry::Vacant(place) => {
                    place.insert(value);
                }
            }
        }
        let mut names = HashSet::new();
        for (name, _) in &raw {
            if !names.insert(name.as_str()) {
                problems.push(Problem::DuplicateTensor { tensor: name.clone() });
            }
        }
        drop(names);
        let mut tensors: Vec<HeaderTensor> =
            raw.into_iter().filter_map(|(name, tensor)| check_tensor(name, &tensor, &mut problems)).collect();
        tensors.sort_by_key(|tensor| (tensor.start, tensor.len));
        check_layout(&tensors, available, &mut problems);
        if !problems.is_empty() {
            return Err(problems);
        }
        for tensor in &mut tensors {
            tensor.start += data_start;
        }
        Ok(Self { metadata, tensors })
    }
}

/// Checks one tensor by itself. `start` counts from the start of the data here.
fn check_tensor(name: String, raw: &RawTensor, problems: &mut Problems) -> Option<HeaderTensor> {
    let [start, end] = raw.data_offsets;
    let Some(len) = end.checked_sub(start) else {
        problems.push(Problem::Unordered { tensor: name, start, end });
        return None;
    };
    let Some(dtype) = dtype_from_name(&raw.dtype) else {
        problems.push(Problem::UnknownDtype { tensor: name, dtype: raw.dtype.clone() });
        return None;
    };
    let shape: Option<Vec<usize>> = raw.shape.iter().map(|&dim| usize::try_from(dim).ok()).collect();
    let size = shape.as_deref().map_or(Err(SizeProblem::Overflow), |shape| size_bytes(dtype, shape));
    match size {
        Ok(expected) if expected == len => {}
        Ok(expected) => problems.push(Problem::Length {
            tensor: name.clone(),
            shape: raw.shape.clone(),
            dtype: dtype_name(dtype),
            expected,
            found: len,
        }),
        Err(SizeProblem::Overflow) => {
            problems.push(Problem::Overflow { tensor: name.clone(), shape: raw.shape.clone() });
        }
        Err(SizeProblem::PartialByte) => problems.push(Problem::PartialByte {
            tensor: name.clone(),
            shape: raw.shape.clone(),
            dtype: dtype_name(dtype),
        }),
    }
    Some(HeaderTensor { name, dtype, shape: shape.unwrap_or_default(), start, len })
}

/// Checks that the tensors, ordered by their bytes, fill the data without gap or overlap.
fn check_layout(tensors: &[HeaderTensor], available: u64, problems: &mut Problems) {
    let sound = problems.is_empty();
    let mut end = 0u64;
    let mut last: Option<&HeaderTensor> = None;
    let mut beyond = Vec::new();
    for tensor in tensors {
        let tensor_end = tensor.start.saturating_add(tensor.len);
        match last {
            Some(other) if tensor.start < end => problems.push(Problem::Overlap {
                tensor: tensor.name.clone(),
                other: other.name.clone(),
                start: tensor.start,
                end,
            }),
            // A tensor that was refused leaves a gap that says nothing new.
            _ if tensor.start > end && sound => {
                problems.push(Problem::Gap { tensor: tensor.name.clone(), start: end, end: tensor.start });
            }
            _ => {}
        }
        if tensor_end > available {
            beyond.push((tensor, tensor_end));
        }
        if tensor_end >= end {
            end = tensor_end;
            last = Some(tensor);
        }
    }
    if problems.is_empty() && end > available {
        problems.push(Problem::Truncated { expected: end, found: available });
    } else {
        for (tensor, end) in beyond {
            problems.push(Problem::OutOfRange { tensor: tensor.name.clone(), end, available });
        }
    }
    if sound && end < available {
        problems.push(Problem::Trailing { excess: available - end });
    }
}
