//! Checkpoints to test on: the fixtures, and small files written by hand.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::path::{Path, PathBuf};

/// A checkpoint in `fixtures/`.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// A tensor as a file holds it.
#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) name: String,
    pub(crate) dtype: &'static str,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Vec<u8>,
}

impl Stored {
    pub(crate) fn new(name: &str, dtype: &'static str, shape: &[usize], bytes: Vec<u8>) -> Self {
        Self { name: name.to_owned(), dtype, shape: shape.to_vec(), bytes }
    }

    pub(crate) fn f32(name: &str, shape: &[usize], elements: &[f32]) -> Self {
        assert_eq!(elements.len(), shape.iter().product::<usize>());
        Self::new(name, "F32", shape, elements.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    /// Seeded numbers between -1 and 1.
    pub(crate) fn random(name: &str, shape: &[usize], seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let elements: Vec<f32> =
            (0..shape.iter().product::<usize>()).map(|_| rng.random_range(-1.0..1.0)).collect();
        Self::f32(name, shape, &elements)
    }
}

/// Writes a safetensors file, tensors in the order given.
pub(crate) fn write(path: &Path, tensors: &[Stored]) {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for tensor in tensors {
        let begin = data.len();
        data.extend_from_slice(&tensor.bytes);
        let entry = serde_json::json!({
            "dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [begin, data.len()],
        });
        header.insert(tensor.name.clone(), entry);
    }
    let header = serde_json::Value::Object(header).to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(&data);
    std::fs::write(path, bytes).unwrap();
}

/// A folder with `model.safetensors` and, if one is given, `config.json`.
pub(crate) fn folder(tensors: &[Stored], config: Option<&str>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("model.safetensors"), tensors);
    if let Some(config) = config {
        std::fs::write(folder.path().join("config.json"), config).unwrap();
    }
    folder
}
