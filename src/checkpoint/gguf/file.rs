use super::super::dtype::Dtype;
use super::super::map::TensorBytes;
use super::super::numeric;
use super::block::BlockType;
use super::error::GgufError;
use super::header::Cursor;
use super::value::GgufValue;
use candle_core::quantized::GgmlDType;
use candle_core::quantized::ggml_file::qtensor_from_ggml;
use candle_core::{Device, Result as CandleResult};
use indexmap::IndexMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Where tensors start, unless the file says otherwise.
const ALIGNMENT: u64 = 32;
/// Axes of a tensor at most.
const MOST_AXES: u32 = 4;

/// A tensor of a GGUF file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GgufTensor {
    /// Its name in llama.cpp.
    pub name: String,
    /// Its shape, the outermost axis first: `[out, in]` of a linear layer.
    pub shape: Vec<usize>,
    /// How its elements are stored.
    pub block: BlockType,
    /// Bytes.
    pub len: u64,
    offset: u64,
}

/// A GGUF file whose header has been read and checked.
///
/// # Examples
///
/// ```
/// use candle_core::{Device, Tensor, quantized::{GgmlDType, QTensor, gguf_file}};
/// use fnl::checkpoint::GgufFile;
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("model.gguf");
/// let weight = Tensor::new(&[[1f32, -2.0], [0.5, 4.0]], &Device::Cpu)?;
/// let architecture = gguf_file::Value::String("llama".to_owned());
/// gguf_file::write(
///     &mut std::fs::File::create(&path)?,
///     &[("general.architecture", &architecture)],
///     &[("output.weight", &QTensor::quantize(&weight, GgmlDType::F16)?)],
/// )?;
///
/// let file = GgufFile::open(&path)?;
/// assert_eq!(file.text("general.architecture")?, "llama");
/// let tensor = file.tensor("output.weight").unwrap();
/// assert_eq!((tensor.shape.as_slice(), tensor.block.to_string().as_str()), (&[2, 2][..], "F16"));
/// assert_eq!(file.read(tensor)?, [1.0, -2.0, 0.5, 4.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct GgufFile {
    path: PathBuf,
    file: File,
    size: u64,
    metadata: IndexMap<String, GgufValue>,
    tensors: IndexMap<String, GgufTensor>,
    start: u64,
}

impl GgufFile {
    /// Reads a header and checks it against the file.
    ///
    /// # Errors
    ///
    /// - a file that is missing, no GGUF, of another version, cut off, or one of several
    /// - entries or tensors that are malformed or have one name; block types that are not known here
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        let file = File::open(path).map_err(GgufError::read(path))?;
        let facts = file.metadata().map_err(GgufError::read(path))?;
        if !facts.is_file() {
            return Err(GgufError::NotGguf { path: path.to_owned(), found: "no file's contents".to_owned() });
        }
        let size = facts.len();
        let mut cursor = Cursor::new(path, file.try_clone().map_err(GgufError::read(path))?, size);
        magic(path, size, &mut cursor)?;
        let (tensors, entries) = (cursor.u64("number of tensors")?, cursor.u64("number of entries")?);
        let mut metadata = IndexMap::new();
        for _ in 0..entries {
            let key = cursor.text("key of an entry")?;
            let value = GgufValue::read(&mut cursor, &key)?;
            if metadata.contains_key(&key) {
                return Err(cursor.malformed(&key, "there twice", "one entry"));
            }
            metadata.insert(key, value);
        }
        let tensors = read_tensors(path, &mut cursor, tensors)?;
        let key = "general.alignment";
        let alignment = metadata.get(key).map_or(Some(ALIGNMENT), GgufValue::as_count);
        // Blocks are read in place, and have elements of up to eight bytes.
        let Some(alignment) = alignment.filter(|&bytes| bytes % 8 == 0 && (8..1 << 30).contains(&bytes))
        else {
            return Err(cursor.malformed(key, "no such number", "a multiple of 8"));
        };
        let start = cursor.position().next_multiple_of(alignment);
        let opened = Self { path: path.to_owned(), file, size, metadata, tensors, start };
        if let Some(count) = opened.count_if("split.count")?.filter(|&count| count > 1) {
            return Err(GgufError::Split { path: path.to_owned(), count });
        }
        opened.check_tensors(alignment)?;
        Ok(opened)
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the file.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.size
    }

    /// What the header says, in its order.
    #[must_use]
    pub fn metadata(&self) -> &IndexMap<String, GgufValue> {
        &self.metadata
    }

    /// The tensors, in the file's order.
    #[must_use]
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = &GgufTensor> {
        self.tensors.values()
    }

    /// The tensor of this name.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<&GgufTensor> {
        self.tensors.get(name)
    }

    /// Whether two tensors are one and the same: of one shape and type, and with the same bytes.
    ///
    /// # Errors
    ///
    /// - the system's
    pub fn same(&self, one: &GgufTensor, other: &GgufTensor) -> Result<bool, GgufError> {
        let alike = (&one.shape, one.block) == (&other.shape, other.block);
        Ok(alike && self.bytes(one)?[..] == self.bytes(other)?[..])
    }

    fn bytes(&self, tensor: &GgufTensor) -> Result<TensorBytes, GgufError> {
        TensorBytes::map(&self.file, self.start + tensor.offset, tensor.len as usize)
            .map_err(GgufError::read(&self.path))
    }

    /// The elements of a tensor, in the order of its shape: exactly what its blocks stand for.
    ///
    /// # Errors
    ///
    /// - the system's; a file that was cut short meanwhile
    pub fn read(&self, tensor: &GgufTensor) -> Result<Vec<f32>, GgufError> {
        let bytes = self.bytes(tensor)?;
        let plain = match tensor.block.of_candle() {
            GgmlDType::F32 => Some(Dtype::F32),
            GgmlDType::F16 => Some(Dtype::F16),
            GgmlDType::BF16 => Some(Dtype::BF16),
            _ => None,
        };
        if let Some(dtype) = plain {
            return numeric::widen_f32(&bytes, dtype)
                .map_err(|source| GgufError::Numeric { tensor: tensor.name.clone(), source });
        }
        let multiplied_out = || -> CandleResult<Vec<f32>> {
            qtensor_from_ggml(tensor.block.of_candle(), &bytes, tensor.shape.clone(), &Device::Cpu)?
                .dequantize(&Device::Cpu)?
                .flatten_all()?
                .to_vec1()
        };
        multiplied_out()
            .map_err(|source| GgufError::Blocks { tensor: tensor.name.clone(), source: Box::new(source) })
    }

    /// A text that must be there.
    ///
    /// # Errors
    ///
    /// - an entry that is missing or of another kind
    pub fn text(&self, key: &str) -> Result<&str, GgufError> {
        self.text_if(key)?.ok_or_else(|| self.no_key(key))
    }

    /// A text that may be there.
    ///
    /// # Errors
    ///
    /// - an entry of another kind
    pub fn text_if(&self, key: &str) -> Result<Option<&str>, GgufError> {
        self.entry(key, "a text", GgufValue::as_text)
    }

    /// A whole number from 0 up that must be there.
    ///
    /// # Errors
    ///
    /// - an entry that is missing or of another kind
    pub fn count(&self, key: &str) -> Result<u64, GgufError> {
        self.count_if(key)?.ok_or_else(|| self.no_key(key))
    }

    /// A whole number from 0 up that may be there.
    ///
    /// # Errors
    ///
    /// - an entry of another kind
    pub fn count_if(&self, key: &str) -> Result<Option<u64>, GgufError> {
        self.entry(key, "a whole number from 0 up", GgufValue::as_count)
    }

    /// A number that must be there.
    ///
    /// # Errors
    ///
    /// - an entry that is missing or of another kind
    pub fn number(&self, key: &str) -> Result<f64, GgufError> {
        self.number_if(key)?.ok_or_else(|| self.no_key(key))
    }

    /// A number that may be there.
    ///
    /// # Errors
    ///
    /// - an entry of another kind
    pub fn number_if(&self, key: &str) -> Result<Option<f64>, GgufError> {
        self.entry(key, "a number", GgufValue::as_number)
    }

    /// A flag that may be there.
    ///
    /// # Errors
    ///
    /// - an entry of another kind
    pub fn flag_if(&self, key: &str) -> Result<Option<bool>, GgufError> {
        self.entry(key, "a flag", GgufValue::as_flag)
    }

    /// A list that must be there, each value as `get` has it.
    ///
    /// # Errors
    ///
    /// - an entry that is missing, no list, or of values that `get` does not take
    pub fn list<'a, T>(
        &'a self,
        key: &str,
        get: impl Fn(&'a GgufValue) -> Option<T>,
    ) -> Result<Vec<T>, GgufError> {
        let values = self.entry(key, "a list", GgufValue::as_list)?.ok_or_else(|| self.no_key(key))?;
        let wrong =
            |value: &GgufValue| self.wrong(key, &format!("a list with {}", value.kind()), "another list");
        values.iter().map(|value| get(value).ok_or_else(|| wrong(value))).collect()
    }

    fn entry<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        get: impl Fn(&'a GgufValue) -> Option<T>,
    ) -> Result<Option<T>, GgufError> {
        let Some(value) = self.metadata.get(key) else { return Ok(None) };
        get(value).map(Some).ok_or_else(|| self.wrong(key, value.kind(), expected))
    }

    fn wrong(&self, key: &str, found: &str, expected: &str) -> GgufError {
        GgufError::Malformed {
            path: self.path.clone(),
            what: format!("`{key}`"),
            found: found.to_owned(),
            expected: expected.to_owned(),
        }
    }

    fn no_key(&self, key: &str) -> GgufError {
        GgufError::NoKey { path: self.path.clone(), key: key.to_owned() }
    }

    /// Refuses tensors that are not where they should be, or beyond the end.
    fn check_tensors(&self, alignment: u64) -> Result<(), GgufError> {
        for tensor in self.tensors.values() {
            if tensor.offset % alignment != 0 {
                let found = format!("at {}", tensor.offset);
                return Err(self.wrong(&tensor.name, &found, &format!("a multiple of {alignment}")));
            }
            let end = self.start.saturating_add(tensor.offset).saturating_add(tensor.len);
            if end > self.size {
                let (path, what) = (self.path.clone(), format!("`{}`", tensor.name));
                return Err(GgufError::Truncated { path, what, expected: end, found: self.size });
            }
        }
        Ok(())
    }
}

/// Reads the first bytes, and refuses what isn't read here.
fn magic(path: &Path, size: u64, cursor: &mut Cursor) -> Result<(), GgufError> {
    let refuse = |found: String| GgufError::NotGguf { path: path.to_owned(), found };
    if size < 8 {
        return Err(refuse(format!("{size} bytes in all")));
    }
    let start: [u8; 4] = cursor.bytes("start")?;
    if &start != b"GGUF" {
        return Err(refuse(format!("`{}`", start.escape_ascii())));
    }
    match cursor.u32("version")? {
        2 | 3 => Ok(()),
        version => {
            let swapped = version.swap_bytes();
            let found = if swapped < version {
                format!("version {swapped}, big-endian")
            } else {
                format!("version {version}")
            };
            Err(GgufError::Version { path: path.to_owned(), found })
        }
    }
}

/// Reads what the header says of tensors; where they end is checked later.
fn read_tensors(
    path: &Path,
    cursor: &mut Cursor,
    count: u64,
) -> Result<IndexMap<String, GgufTensor>, GgufError> {
    let mut tensors = IndexMap::new();
    let mut unknown: Vec<(u32, String)> = Vec::new();
    for _ in 0..count {
        let name = cursor.text("name of a tensor")?;
        let axes = cursor.u32(&name)?;
        if axes > MOST_AXES {
            return Err(cursor.malformed(&name, format!("of {axes} axes"), format!("at most {MOST_AXES}")));
        }
        let mut sizes = (0..axes).map(|_| cursor.u64(&name)).collect::<Result<Vec<_>, _>>()?;
        sizes.reverse();
        let number = cursor.u32(&name)?;
        let offset = cursor.u64(&name)?;
        let Some(block) = BlockType::of(number) else {
            unknown.push((number, name));
            continue;
        };
        let (elements, bytes) = (block.block_elements() as u64, block.block_bytes() as u64);
        if sizes.last().is_some_and(|row| row % elements != 0) {
            let found = format!("{sizes:?} in blocks of {elements}");
            return Err(cursor.malformed(&name, found, "rows of whole blocks"));
        }
        let len = sizes
            .iter()
            .try_fold(1u64, |product, &size| product.checked_mul(size))
            .and_then(|count| (count / elements).checked_mul(bytes))
            .filter(|&len| len < 1 << 62);
        let Some(len) = len else {
            return Err(cursor.malformed(&name, format!("{sizes:?}"), "a shape that fits into memory"));
        };
        let shape = sizes.into_iter().map(|size| size as usize).collect();
        let tensor = GgufTensor { name: name.clone(), shape, block, len, offset };
        if tensors.insert(name.clone(), tensor).is_some() {
            return Err(cursor.malformed(&name, "there twice", "one tensor"));
        }
    }
    let Some((number, first)) = unknown.first() else { return Ok(tensors) };
    Err(GgufError::BlockType {
        path: path.to_owned(),
        found: BlockType::name_of(*number),
        tensors: unknown.iter().filter(|(other, _)| other == number).count(),
        first: first.clone(),
    })
}
