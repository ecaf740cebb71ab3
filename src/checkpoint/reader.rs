//! An open checkpoint: every header read and checked, no weight touched yet.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{
    dtype::Dtype,
    error::CheckpointError,
    folder::{self, Index, Weights},
    foreign::Format,
    header::Header,
    hub::Hub,
    json::{reason, with_nulls},
    map::TensorBytes,
    natural::natural_order,
    problem::{Problem, Problems},
    record::{RECORD_KEY, Record},
    side_files::{self, SideFiles},
    source::Source,
};

/// One tensor of a checkpoint: what it is, and where its bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorEntry {
    /// Its name.
    pub name: String,
    /// The type of its elements.
    pub dtype: Dtype,
    /// Its shape, row-major.
    pub shape: Vec<usize>,
    /// Which of [`Checkpoint::files`] it is in.
    pub file: usize,
    /// Where its bytes start, counted from the start of the file.
    pub start: u64,
    /// How many bytes it has.
    pub len: u64,
}

impl TensorEntry {
    /// Counts the elements; 1 for a scalar.
    ///
    /// The product fits: reading the header has checked it.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// A checkpoint whose headers are read and checked.
///
/// Opening costs the headers; weights are mapped one at a time by [`Checkpoint::bytes`], from several threads
/// at once if need be.
///
/// # Examples
/// ```
/// use fnl::checkpoint::{Checkpoint, Dtype};
/// let folder = tempfile::tempdir()?;
/// let json = br#"{"w":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}"#;
/// let mut file = (json.len() as u64).to_le_bytes().to_vec();
/// file.extend_from_slice(json);
/// file.extend_from_slice(&[1, 2, 3]);
/// std::fs::write(folder.path().join("model.safetensors"), file)?;
///
/// let checkpoint = Checkpoint::open_path(folder.path())?;
/// let entry = checkpoint.get("w").unwrap();
/// assert_eq!((entry.dtype, entry.elements()), (Dtype::U8, 3));
/// assert_eq!(*checkpoint.bytes(entry)?, [1, 2, 3]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Checkpoint {
    source: Source,
    root: PathBuf,
    directory: bool,
    paths: Vec<PathBuf>,
    handles: Vec<File>,
    index: Option<PathBuf>,
    tensors: Vec<TensorEntry>,
    positions: HashMap<String, usize>,
    metadata: BTreeMap<String, String>,
    config: Option<Value>,
    record: Option<Record>,
}

impl Checkpoint {
    /// Opens a checkpoint; one of a hub is downloaded first, unless it is in the cache.
    ///
    /// # Errors
    /// See [`CheckpointError`]; everything that is wrong with a file is reported at once.
    pub fn open(source: &Source) -> Result<Self, CheckpointError> {
        match source {
            Source::Path(path) => Self::open_path(path),
            Source::Hub { repository, revision } => Self::open_hub(&Hub::from_env(), repository, revision),
        }
    }

    /// Opens a checkpoint of a given hub.
    pub fn open_hub(hub: &Hub, repository: &str, revision: &str) -> Result<Self, CheckpointError> {
        let mut checkpoint = Self::open_path(&hub.fetch(repository, revision)?)?;
        checkpoint.source = Source::Hub { repository: repository.to_owned(), revision: revision.to_owned() };
        Ok(checkpoint)
    }

    /// Opens a `.safetensors` file or a directory.
    pub fn open_path(path: &Path) -> Result<Self, CheckpointError> {
        let kind = fs::metadata(path).map_err(CheckpointError::read(path))?;
        let weights = if kind.is_dir() {
            folder::weights(path)?
        } else if kind.is_file() {
            Weights { files: vec![path.to_owned()], index: None }
        } else {
            return Err(CheckpointError::NotAFile { path: path.to_owned() });
        };
        let mut checkpoint = Self {
            source: Source::Path(path.to_owned()),
            root: path.to_owned(),
            directory: kind.is_dir(),
            paths: weights.files,
            handles: Vec::new(),
            index: weights.index.as_ref().map(|index| index.path.clone()),
            tensors: Vec::new(),
            positions: HashMap::new(),
            metadata: BTreeMap::new(),
            config: None,
            record: None,
        };
        checkpoint.read_headers(weights.index)?;
        if checkpoint.directory {
            checkpoint.config = read_config(&path.join("config.json"))?;
        }
        Ok(checkpoint)
    }

    /// Lists the tensors of all files in natural order: `layer.2` before `layer.10`.
    #[must_use]
    pub fn tensors(&self) -> &[TensorEntry] {
        &self.tensors
    }

    /// Finds a tensor by its name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&TensorEntry> {
        self.positions.get(name).and_then(|&position| self.tensors.get(position))
    }

    /// Maps the bytes of one of this checkpoint's tensors; they are unmapped on drop.
    ///
    /// # Errors
    /// - the file became shorter since its header was read
    /// - the system refuses the map
    pub fn bytes(&self, entry: &TensorEntry) -> Result<TensorBytes, CheckpointError> {
        let (path, file) = self.sound_file(entry)?;
        let len = usize::try_from(entry.len).map_err(|_| CheckpointError::Read {
            path: path.to_owned(),
            source: std::io::Error::other("the tensor is larger than the address space"),
        })?;
        TensorBytes::map(file, entry.start, len).map_err(CheckpointError::read(path))
    }

    /// Lists the files that hold the tensors, in natural order.
    #[must_use]
    pub fn files(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Returns the file or the directory itself; for a hub's checkpoint, the folder in the cache.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Says whether the checkpoint is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.directory
    }

    /// Returns where the checkpoint came from.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Returns the metadata of the files, without the factorization record. Where files disagree about a key,
    /// the first in natural order has it.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Returns the `config.json` of a directory that has one.
    #[must_use]
    pub fn config(&self) -> Option<&Value> {
        self.config.as_ref()
    }

    /// Returns how the checkpoint was factored; `None` for a dense one.
    #[must_use]
    pub fn record(&self) -> Option<&Record> {
        self.record.as_ref()
    }

    /// Lists what else lies in the directory, and which of it isn't worth a copy; empty for a file.
    pub fn side_files(&self) -> Result<SideFiles, CheckpointError> {
        if !self.directory {
            return Ok(SideFiles::default());
        }
        let mut weights = self.paths.clone();
        weights.extend(self.index.clone());
        side_files::list(&self.root, &weights)
    }

    /// Returns the open file of an entry, after checking that it still has the entry's bytes.
    pub(crate) fn sound_file(&self, entry: &TensorEntry) -> Result<(&Path, &File), CheckpointError> {
        let (Some(path), Some(file)) = (self.paths.get(entry.file), self.handles.get(entry.file)) else {
            return Err(CheckpointError::Read {
                path: self.root.clone(),
                source: std::io::Error::other("the tensor belongs to another checkpoint"),
            });
        };
        let found = file.metadata().map_err(CheckpointError::read(path))?.len();
        let expected = entry.start.saturating_add(entry.len);
        if found < expected {
            return Err(CheckpointError::Changed { path: path.clone(), expected, found });
        }
        Ok((path, file))
    }

    /// Reads the headers of all files, and checks them against each other and the index.
    fn read_headers(&mut self, index: Option<Index>) -> Result<(), CheckpointError> {
        let mut merged = Problems::default();
        let mut records: Option<(usize, Option<String>)> = None;
        for (file, path) in self.paths.iter().enumerate() {
            let (handle, header) = read_header(path)?;
            self.handles.push(handle);
            let mut metadata = header.metadata;
            let text = metadata.remove(RECORD_KEY);
            match &records {
                None => records = Some((file, text)),
                Some((first, known)) if *known != text => {
                    return Err(CheckpointError::RecordsDisagree {
                        first: self.paths[*first].clone(),
                        second: path.clone(),
                    });
                }
                Some(_) => {}
            }
            for (key, value) in metadata {
                self.metadata.entry(key).or_insert(value);
            }
            for tensor in header.tensors {
                let entry = TensorEntry {
                    name: tensor.name,
                    dtype: tensor.dtype,
                    shape: tensor.shape,
                    file,
                    start: tensor.start,
                    len: tensor.len,
                };
                if let Some(first) = self.positions.insert(entry.name.clone(), self.tensors.len()) {
                    merged.push(Problem::InTwoShards {
                        tensor: entry.name.clone(),
                        first: folder::file_name(&self.paths[self.tensors[first].file]),
                        second: folder::file_name(path),
                    });
                }
                self.tensors.push(entry);
            }
        }
        let blamed = index.as_ref().map_or_else(|| self.root.clone(), |index| index.path.clone());
        if let Some(index) = index {
            merged = self.check_index(index, merged);
        }
        if !merged.is_empty() {
            return Err(CheckpointError::Invalid { path: blamed, problems: merged });
        }
        self.tensors.sort_by(|a, b| natural_order(&a.name, &b.name));
        self.positions =
            self.tensors.iter().enumerate().map(|(at, tensor)| (tensor.name.clone(), at)).collect();
        if let Some((file, Some(text))) = records {
            let path = &self.paths[file];
            let failed = |source| CheckpointError::Record { path: path.clone(), source };
            self.record = Some(Record::parse(&text).map_err(failed)?);
        }
        Ok(())
    }

    /// Adds what is wrong between the index and the shards to the problems of both.
    fn check_index(&self, index: Index, merged: Problems) -> Problems {
        let mut problems = index.problems;
        let present: Vec<String> = self
            .paths
            .iter()
            .map(|path| path.strip_prefix(&self.root).unwrap_or(path).to_string_lossy().replace('\\', "/"))
            .collect();
        for (tensor, shard) in &index.shards {
            // A shard that isn't there has been reported as a whole.
            if !present.contains(shard) {
                continue;
            }
            match self.positions.get(tensor).map(|&at| &present[self.tensors[at].file]) {
                None => {
                    problems.push(Problem::MissingTensor { tensor: tensor.clone(), shard: shard.clone() });
                }
                Some(found) if found != shard && merged.is_empty() => problems.push(Problem::Misplaced {
                    tensor: tensor.clone(),
                    expected: shard.clone(),
                    found: found.clone(),
                }),
                Some(_) => {}
            }
        }
        for entry in &self.tensors {
            if !index.shards.contains_key(&entry.name) {
                let shard = present[entry.file].clone();
                problems.push(Problem::Unindexed { tensor: entry.name.clone(), shard });
            }
        }
        problems.extend(merged);
        problems
    }
}

/// Opens a file and reads its header.
fn read_header(path: &Path) -> Result<(File, Header), CheckpointError> {
    let mut file = File::open(path).map_err(CheckpointError::read(path))?;
    let size = file.metadata().map_err(CheckpointError::read(path))?.len();
    match Header::read(&mut file, size).map_err(CheckpointError::read(path))? {
        Ok(header) => Ok((file, header)),
        Err(problems) => {
            // Only now: the first bytes of a sound file may look like another format's.
            let mut start = Vec::new();
            let sniffed = File::open(path).and_then(|file| file.take(64).read_to_end(&mut start));
            sniffed.map_err(CheckpointError::read(path))?;
            Err(match Format::of(&start) {
                Some(format) => CheckpointError::Foreign { path: path.to_owned(), format },
                None => CheckpointError::Invalid { path: path.to_owned(), problems },
            })
        }
    }
}

/// Reads a directory's `config.json`, if it has one.
fn read_config(path: &Path) -> Result<Option<Value>, CheckpointError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(CheckpointError::read(path)(error)),
    };
    let parsed = serde_json::from_slice(&text);
    let config: Value = parsed.or_else(|error| {
        // Python writes numbers that JSON has no words for.
        let lenient = str::from_utf8(&text).ok().and_then(|text| with_nulls(text).parse().ok());
        lenient.ok_or_else(|| CheckpointError::Config {
            path: path.to_owned(),
            line: error.line(),
            column: error.column(),
            reason: reason(&error),
        })
    })?;
    if config.is_object() {
        Ok(Some(config))
    } else {
        let reason = "expected an object".to_owned();
        Err(CheckpointError::Config { path: path.to_owned(), line: 1, column: 1, reason })
    }
}
