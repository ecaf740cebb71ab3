//! Small checkpoints, written without the code under test.

use std::{
    fs,
    path::{Path, PathBuf},
};

use fnl::checkpoint::{Checkpoint, CheckpointError, Dtype, OutputTensor};
use tempfile::TempDir;

/// A folder that is removed at the end of a test.
pub(crate) fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// The bytes of a safetensors file.
pub(crate) fn file(json: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(json.as_bytes());
    bytes.extend_from_slice(data);
    bytes
}

/// A header of byte tensors of the given lengths, and data that count up.
pub(crate) fn bytes_file(tensors: &[(&str, usize)], metadata: &str) -> Vec<u8> {
    let mut entries = Vec::new();
    if !metadata.is_empty() {
        entries.push(format!("\"__metadata__\":{metadata}"));
    }
    let mut end = 0;
    for (name, len) in tensors {
        let start = end;
        end += len;
        entries.push(format!(
            "\"{name}\":{{\"dtype\":\"U8\",\"shape\":[{len}],\"data_offsets\":[{start},{end}]}}"
        ));
    }
    let data: Vec<u8> = (0..end).map(|index| (index % 251) as u8).collect();
    file(&format!("{{{}}}", entries.join(",")), &data)
}

/// Writes a file into a folder, with the folders above it.
pub(crate) fn put(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
    fs::write(&path, bytes).expect("a file");
    path
}

/// Opens what must not open.
pub(crate) fn refusal(path: &Path) -> CheckpointError {
    match Checkpoint::open_path(path) {
        Ok(checkpoint) => panic!("opened {checkpoint:?}"),
        Err(error) => error,
    }
}

/// The message without the folder of the test.
pub(crate) fn message(error: &impl ToString, folder: &Path) -> String {
    error.to_string().replace(&folder.display().to_string(), "DIR")
}

/// One tensor to be written.
pub(crate) fn output(name: &str, dtype: Dtype, shape: &[usize]) -> OutputTensor {
    OutputTensor { name: name.to_owned(), dtype, shape: shape.to_vec() }
}

/// The names in a folder, sorted.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
