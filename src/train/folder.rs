use super::TrainError;
use crate::checkpoint::{
    Checkpoint, Dtype, EVENTS, OutputOptions, OutputTensor, RUN_CHECKPOINTS, RUN_FILES, Record, Staging,
};
use crate::layers::State;
use candle_core::{DType, Device, Tensor};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The key of a state's metadata under which its position and origin lie.
const STATE_KEY: &str = "training";

/// What lies beside the weights of a network: its sizes, and how pictures become numbers, or text tokens.
pub const MODEL_FILES: [&str; 18] = [
    "config.json",
    "preprocessor_config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
    "1_Pooling/config.json",
];

/// How far a run is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// Epochs that are over.
    pub epoch: usize,
    /// Batches of the current epoch that are done.
    pub batch: usize,
    /// Steps taken.
    pub step: u64,
    /// Sums over the current epoch.
    pub running: Running,
    /// Sums since the last record of the metrics in this epoch.
    pub since: Running,
    /// The best epoch so far, how good it was, more is better, and its loss on the test set.
    pub best: Option<(usize, f64, f64)>,
    /// Seconds of training, over all sessions.
    pub elapsed_secs: f64,
}

/// Sums over samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Running {
    /// Losses.
    pub loss: f64,
    /// Those that were right, where one can be.
    pub correct: Option<usize>,
    /// Samples.
    pub samples: usize,
}

/// The folder of a run, and what lies where in it.
///
/// | file | what |
/// | --- | --- |
/// | `model.safetensors` | the result, with those of [`MODEL_FILES`] beside it that its checkpoint had |
/// | `metrics.jsonl`, `events.out.tfevents.*`, `report.html`, `report.json` | what was measured |
/// | `options.toml` | what was asked for |
/// | `checkpoints/best.safetensors`, `checkpoints/last.safetensors` | the network after the best and the last epoch |
/// | `checkpoints/state.safetensors` | everything that a run is continued from |
///
/// Every file but the growing records appears whole: a run that is killed leaves the last of each.
#[derive(Clone, Debug)]
pub struct RunFolder {
    root: PathBuf,
}

impl RunFolder {
    /// The folder at this path, which need not exist.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_path_buf() }
    }

    /// Its path.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The path of something in it.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The path of one of its checkpoints.
    #[must_use]
    pub fn checkpoint(&self, name: &str) -> PathBuf {
        self.root.join(RUN_CHECKPOINTS).join(format!("{name}.safetensors"))
    }

    /// Whether there is a state to continue from.
    #[must_use]
    pub fn has_state(&self) -> bool {
        self.checkpoint("state").is_file()
    }

    /// Writes a file, whole or not at all.
    ///
    /// # Errors
    ///
    /// - a folder that cannot be written
    pub fn write_file(&self, name: &str, bytes: &[u8]) -> Result<(), TrainError> {
        let failed = |source| super::MetricsError::File { action: "write", path: self.path(name), source };
        let write = || -> std::io::Result<()> {
            let path = self.path(name);
            std::fs::create_dir_all(path.parent().unwrap_or(&self.root))?;
            // Of a fixed name, so that the next run replaces what a killed one left.
            let partial = self.partial(name);
            let mut file = File::create(&partial)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            std::fs::rename(partial, path)
        };
        Ok(write().map_err(failed)?)
    }

    fn partial(&self, name: &str) -> PathBuf {
        self.root.join(format!(".{}.partial", name.replace('/', "-")))
    }

    /// Whether a run wrote here: what [`RunFolder::clear`] removes is a run's.
    #[must_use]
    pub fn is_run(&self) -> bool {
        self.has_state() || self.path("metrics.jsonl").is_file()
    }

    /// Keeps other processes from training in this folder, until the file returned is dropped.
    ///
    /// # Errors
    ///
    /// - [`TrainError::Busy`] when another does already;
    /// - a folder that cannot be written
    pub fn lock(&self) -> Result<File, TrainError> {
        let path = self.path("metrics.jsonl");
        let open = || {
            std::fs::create_dir_all(&self.root)?;
            OpenOptions::new().append(true).create(true).open(&path)
        };
        let file = open().map_err(|source| super::MetricsError::File {
            action: "open",
            path: path.clone(),
            source,
        })?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                Err(TrainError::Busy { folder: self.root.display().to_string() })
            }
            // Some file systems have no locks.
            Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
        }
    }

    /// Removes what a run wrote, and nothing else.
    ///
    /// # Errors
    ///
    /// - files that cannot be removed
    pub fn clear(&self) -> std::io::Result<()> {
        // What makes it a run goes last: a removal that is cut short can be repeated.
        let texts = || MODEL_FILES.into_iter().chain(RUN_FILES);
        let partial: Vec<PathBuf> = texts().map(|name| self.partial(name)).collect();
        let checkpoints = ["best", "last", "state"].map(|name| self.checkpoint(name));
        let others = [self.path("model.safetensors")].into_iter().chain(texts().map(|name| self.path(name)));
        for path in partial.into_iter().chain(checkpoints).chain(others) {
            if path.is_file() {
                std::fs::remove_file(path)?;
            }
        }
        for entry in self.root.read_dir()? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(EVENTS) {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Writes a network under a path of this folder, replacing what is there.
    ///
    /// # Errors
    ///
    /// - a folder that cannot be written
    pub fn save_network(
        &self,
        path: &Path,
        state: &State,
        record: Option<&Record>,
    ) -> Result<(), TrainError> {
        let mut options = OutputOptions::file(path);
        options.overwrite = true;
        options.metadata.insert("format".to_owned(), "pt".to_owned());
        state.write(&options, record)?;
        Ok(())
    }

    /// Writes what a run is continued from.
    ///
    /// # Errors
    ///
    /// - a folder that cannot be written
    pub fn save_state(
        &self,
        tensors: &IndexMap<String, Tensor>,
        position: &Position,
        origin: &Value,
    ) -> Result<(), TrainError> {
        let mut options = OutputOptions::file(&self.checkpoint("state"));
        options.overwrite = true;
        let state = serde_json::json!({ "position": position, "origin": origin });
        options.metadata.insert(STATE_KEY.to_owned(), state.to_string());
        let outputs: Vec<OutputTensor> = tensors
            .iter()
            .map(|(name, tensor)| {
                let dtype = dtype(tensor.dtype())?;
                Ok(OutputTensor { name: name.clone(), dtype, shape: tensor.dims().to_vec() })
            })
            .collect::<candle_core::Result<_>>()?;
        let staging = Staging::create(&options, &outputs)?;
        for (name, tensor) in tensors {
            staging.write(name, &bytes(tensor)?)?;
        }
        staging.publish(None)?;
        Ok(())
    }

    /// Reads what a run is continued from, if `origin` is what it was begun with.
    ///
    /// # Errors
    ///
    /// - [`TrainError::Resume`] where there is none, or it is damaged;
    /// - [`TrainError::Changed`] with every difference
    pub fn load_state(&self, origin: &Value) -> Result<(IndexMap<String, Tensor>, Position), TrainError> {
        let path = self.checkpoint("state");
        let problem = |problem: String| TrainError::Resume { path: path.display().to_string(), problem };
        if !path.is_file() {
            return Err(problem(
                "there is no state: the run ended before its first checkpoint, or never began".to_owned(),
            ));
        }
        let checkpoint = Checkpoint::open_path(&path)?;
        let text = checkpoint.metadata().get(STATE_KEY);
        let text = text.ok_or_else(|| problem(format!("its metadata has no key `{STATE_KEY}`")))?;
        let mut value: Value = serde_json::from_str(text).map_err(|error| problem(error.to_string()))?;
        let mut differences = Vec::new();
        compare("", value.get("origin").unwrap_or(&Value::Null), origin, &mut differences);
        if !differences.is_empty() {
            return Err(TrainError::Changed { folder: self.root.display().to_string(), differences });
        }
        let position = value.get_mut("position").map(Value::take).unwrap_or_default();
        let position = serde_json::from_value(position)
            .map_err(|error| problem(format!("its position cannot be read: {error}")))?;
        let mut tensors = IndexMap::new();
        for entry in checkpoint.tensors() {
            let bytes = checkpoint.bytes(entry)?;
            let dtype = match entry.dtype {
                Dtype::F32 => DType::F32,
                Dtype::F64 => DType::F64,
                Dtype::U32 => DType::U32,
                Dtype::U8 => DType::U8,
                Dtype::I64 => DType::I64,
                other => {
                    return Err(problem(format!(
                        "`{}` has elements of type {other:?}, which no state has",
                        entry.name
                    )));
                }
            };
            let tensor = Tensor::from_raw_buffer(&bytes, dtype, &entry.shape, &Device::Cpu)?;
            tensors.insert(entry.name.clone(), tensor);
        }
        Ok((tensors, position))
    }
}

/// Says where two documents differ.
fn compare(place: &str, begun: &Value, now: &Value, differences: &mut Vec<String>) {
    match (begun, now) {
        (Value::Object(one), Value::Object(other)) => {
            let mut keys: Vec<&String> = one.keys().chain(other.keys()).collect();
            keys.sort_unstable();
            keys.dedup();
            for key in keys {
                let place = if place.is_empty() { key.clone() } else { format!("{place}.{key}") };
                let value = |of: &serde_json::Map<String, Value>| of.get(key).cloned().unwrap_or(Value::Null);
                compare(&place, &value(one), &value(other), differences);
            }
        }
        _ if begun == now => {}
        _ => differences.push(format!("`{place}` was {begun}, now it is {now}")),
    }
}

fn dtype(dtype: DType) -> candle_core::Result<Dtype> {
    Ok(match dtype {
        DType::F32 => Dtype::F32,
        DType::F64 => Dtype::F64,
        DType::U32 => Dtype::U32,
        DType::U8 => Dtype::U8,
        DType::I64 => Dtype::I64,
        other => candle_core::bail!("a state with elements of type {other:?} is not written"),
    })
}

/// The elements in little endian, as safetensors has them.
fn bytes(tensor: &Tensor) -> candle_core::Result<Vec<u8>> {
    let flat = tensor.flatten_all()?;
    Ok(match tensor.dtype() {
        DType::F32 => flat.to_vec1::<f32>()?.into_iter().flat_map(f32::to_le_bytes).collect(),
        DType::F64 => flat.to_vec1::<f64>()?.into_iter().flat_map(f64::to_le_bytes).collect(),
        DType::U32 => flat.to_vec1::<u32>()?.into_iter().flat_map(u32::to_le_bytes).collect(),
        DType::I64 => flat.to_vec1::<i64>()?.into_iter().flat_map(i64::to_le_bytes).collect(),
        _ => flat.to_dtype(DType::U8)?.to_vec1::<u8>()?,
    })
}
