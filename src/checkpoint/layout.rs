//! Which byte of the output goes where, fixed by names, types and shapes alone.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
};

use serde_json::{Value, json};

use super::{
    dtype::{Dtype, dtype_name, size_bytes},
    folder::{INDEX_FILE, SINGLE_FILE, shard_name},
    header::{LARGEST_HEADER, LENGTH_BYTES},
    json::METADATA_KEY,
    output::{OutputError, OutputOptions, OutputTensor},
    record::RECORD_KEY,
};

/// The metadata key and value that loaders of Hugging Face ask for.
const FORMAT: (&str, &str) = ("format", "pt");

/// Offsets in files are signed in the systems' interfaces.
const LARGEST_FILE: u64 = i64::MAX as u64;

/// The files of the output.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) shards: Vec<Shard>,
    /// From a tensor's name to its shard and its place in there.
    positions: HashMap<String, (usize, usize)>,
    metadata: BTreeMap<String, String>,
}

/// One file of the output.
#[derive(Debug)]
pub(crate) struct Shard {
    /// Its name in a directory.
    pub(crate) file: String,
    /// The bytes of the header, without those of its length.
    header_bytes: u64,
    data_bytes: u64,
    /// The tensors in the order of their bytes.
    pub(crate) tensors: Vec<Placed>,
}

/// One tensor of the output.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    /// Counted from the start of the data.
    start: u64,
    pub(crate) len: u64,
}

impl Shard {
    /// Where the data start in the file.
    fn data_start(&self) -> u64 {
        LENGTH_BYTES + self.header_bytes
    }

    /// The size of the file.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.data_start() + self.data_bytes
    }

    /// Where a tensor starts in the file.
    pub(crate) fn offset(&self, tensor: &Placed) -> u64 {
        self.data_start() + tensor.start
    }

    /// Writes the header's JSON. Metadata come first, with sorted keys; tensors in the order of their bytes.
    fn json(&self, metadata: &BTreeMap<String, String>) -> String {
        let string = |text: &str| Value::from(text).to_string();
        let mut text = format!("{{{}:{}", string(METADATA_KEY), json!(metadata));
        for tensor in &self.tensors {
            let end = tensor.start + tensor.len;
            // Writing to a string can't fail.
            let _ = write!(
                text,
                ",{}:{{\"dtype\":\"{}\",\"shape\":{},\"data_offsets\":[{},{end}]}}",
                string(&tensor.name),
                dtype_name(tensor.dtype),
                json!(tensor.shape),
                tensor.start,
            );
        }
        text.push('}');
        text
    }
}

impl Layout {
    /// Places the tensors.
    ///
    /// They are dealt to the files in the order given. Within a file the wider types come first, so that every
    /// tensor starts at a multiple of its own width, as other writers of the format see to as well.
    pub(crate) fn plan(options: &OutputOptions, tensors: &[OutputTensor]) -> Result<Self, OutputError> {
        let limit = if options.as_directory { options.max_shard_bytes } else { u64::MAX };
        let mut metadata = options.metadata.clone();
        metadata.remove(RECORD_KEY);
        metadata.entry(FORMAT.0.to_owned()).or_insert_with(|| FORMAT.1.to_owned());

        let mut groups: Vec<Vec<(&OutputTensor, u64)>> = vec![Vec::new()];
        let mut filled = 0u64;
        for tensor in tensors {
            if tensor.name == METADATA_KEY {
                return Err(OutputError::ReservedName { tensor: tensor.name.clone() });
            }
            let size = size_bytes(tensor.dtype, &tensor.shape).ok().filter(|&size| size <= LARGEST_FILE);
            let sum = size.and_then(|size| Some((size, filled.checked_add(size)?)));
            let Some((size, sum)) = sum.filter(|&(_, sum)| sum <= LARGEST_FILE) else {
                return Err(OutputError::Size {
                    tensor: tensor.name.clone(),
                    shape: tensor.shape.clone(),
                    dtype: dtype_name(tensor.dtype),
                });
            };
            let full = sum > limit && filled > 0;
            filled = if full { size } else { sum };
            if full {
                groups.push(Vec::new());
            }
            if let Some(group) = groups.last_mut() {
                group.push((tensor, size));
            }
        }

        let mut layout = Self { shards: Vec::new(), positions: HashMap::new(), metadata };
        let count = groups.len();
        for (number, mut group) in groups.into_iter().enumerate() {
            let file =
                if count == 1 { SINGLE_FILE.to_owned() } else { shard_name("model", number + 1, count) };
            group.sort_by_key(|(tensor, _)| std::cmp::Reverse(tensor.dtype.bitsize()));
            let mut shard = Shard { file, header_bytes: 0, data_bytes: 0, tensors: Vec::new() };
            for (tensor, len) in group {
                let position = (number, shard.tensors.len());
                if layout.positions.insert(tensor.name.clone(), position).is_some() {
                    return Err(OutputError::DuplicateTensor { tensor: tensor.name.clone() });
                }
                shard.tensors.push(Placed {
                    name: tensor.name.clone(),
                    dtype: tensor.dtype,
                    shape: tensor.shape.clone(),
                    start: shard.data_bytes,
                    len,
                });
                shard.data_bytes += len;
            }
            let text = (shard.json(&layout.metadata).len() as u64).saturating_add(options.reserve as u64);
            shard.header_bytes = text.checked_next_multiple_of(LENGTH_BYTES).unwrap_or(u64::MAX);
            if shard.header_bytes > LARGEST_HEADER {
                return Err(OutputError::HeaderTooLarge {
                    file: shard.file,
                    found: shard.header_bytes,
                    limit: LARGEST_HEADER,
                });
            }
            layout.shards.push(shard);
        }
        Ok(layout)
    }

    /// Finds a tensor: the number of its shard, its number in there, and its place.
    pub(crate) fn find(&self, name: &str) -> Option<(usize, usize, &Placed)> {
        let &(shard, place) = self.positions.get(name)?;
        Some((shard, place, self.shards.get(shard)?.tensors.get(place)?))
    }

    /// Sums the sizes of all files, in bytes.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.shards.iter().fold(0, |sum, shard| sum.saturating_add(shard.size_bytes()))
    }

    /// Writes the start of a file: the header's length, its JSON, and spaces up to the data.
    pub(crate) fn header(&self, shard: &Shard, record: Option<&str>) -> Result<Vec<u8>, OutputError> {
        let mut metadata = self.metadata.clone();
        if let Some(record) = record {
            metadata.insert(RECORD_KEY.to_owned(), record.to_owned());
        }
        let text = shard.json(&metadata);
        if text.len() as u64 > shard.header_bytes {
            return Err(OutputError::RecordTooLong {
                file: shard.file.clone(),
                needed: text.len() as u64,
                held: shard.header_bytes,
            });
        }
        let mut bytes = shard.header_bytes.to_le_bytes().to_vec();
        bytes.extend_from_slice(text.as_bytes());
        bytes.resize(shard.data_start() as usize, b' ');
        Ok(bytes)
    }

    /// Writes the index of a checkpoint of several files, as Hugging Face's tools do.
    pub(crate) fn index(&self) -> Option<(&'static str, String)> {
        if self.shards.len() < 2 {
            return None;
        }
        let total: u64 = self.shards.iter().map(|shard| shard.data_bytes).sum();
        let files: BTreeMap<&str, &str> = self
            .shards
            .iter()
            .flat_map(|shard| shard.tensors.iter().map(|tensor| (tensor.name.as_str(), shard.file.as_str())))
            .collect();
        let index = json!({"metadata": {"total_size": total}, "weight_map": files});
        Some((INDEX_FILE, format!("{index:#}\n")))
    }
}
