//! Weights in other formats: recognized, never read, and how to convert them.

use std::{
    fmt,
    path::{Path, PathBuf},
};

/// A format of weights that isn't safetensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// A zip archive, as `torch.save` writes.
    Zip,
    /// A bare pickle, as old versions of `torch.save` write.
    Pickle,
    /// llama.cpp's format.
    Gguf,
    /// HDF5, as Keras writes.
    Hdf5,
    /// A pointer of Git LFS, whose contents weren't fetched.
    LfsPointer,
    /// A page instead of a file.
    Html,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Zip => "a zip archive, probably a pickled PyTorch checkpoint",
            Self::Pickle => "a pickled checkpoint",
            Self::Gguf => "a GGUF file",
            Self::Hdf5 => "an HDF5 file",
            Self::LfsPointer => "a Git LFS pointer whose contents were not fetched",
            Self::Html => "a web page",
        })
    }
}

impl Format {
    /// Recognizes a format by the first bytes of a file that isn't valid safetensors.
    pub(crate) fn of(start: &[u8]) -> Option<Self> {
        let known: [(&[u8], Self); 6] = [
            (b"PK\x03\x04", Self::Zip),
            (b"GGUF", Self::Gguf),
            (b"\x89HDF\r\n\x1a\n", Self::Hdf5),
            (b"version https://git-lfs", Self::LfsPointer),
            (b"<!DOCTYPE", Self::Html),
            (b"<html", Self::Html),
        ];
        if let Some((_, format)) = known.into_iter().find(|(magic, _)| start.starts_with(magic)) {
            return Some(format);
        }
        // A pickle starts with its protocol; a header of safetensors could, but a `{` follows its length.
        let pickled = matches!(start, [0x80, 2..=5, ..]) && start.get(8) != Some(&b'{');
        pickled.then_some(Self::Pickle)
    }

    pub(crate) fn hint(self, path: &Path) -> String {
        match self {
            Self::Zip | Self::Pickle => torch_conversion(path),
            Self::Hdf5 => transformers_conversion("from_tf=True"),
            Self::Gguf => import(path),
            Self::LfsPointer => "fetch the contents with `git lfs pull`".to_owned(),
            Self::Html => "download the file itself, not its page".to_owned(),
        }
    }
}

/// Says whether a file holds weights, by its name.
pub(crate) fn holds_weights(path: &Path) -> bool {
    const EXTENSIONS: [&str; 11] =
        ["bin", "pt", "pth", "ckpt", "h5", "msgpack", "onnx", "gguf", "pkl", "tflite", "ot"];
    path.extension()
        .and_then(|extension| extension.to_str())
        .is_some_and(|extension| EXTENSIONS.contains(&extension.to_ascii_lowercase().as_str()))
}

/// Explains how to turn a file into safetensors, by its name.
pub(crate) fn conversion(path: &Path) -> Option<String> {
    match path.extension()?.to_str()? {
        "bin" | "pt" | "pth" | "ckpt" | "pkl" => Some(torch_conversion(path)),
        "h5" => Some(transformers_conversion("from_tf=True")),
        "msgpack" => Some(transformers_conversion("from_flax=True")),
        "gguf" => Some(import(path)),
        _ => None,
    }
}

/// How a GGUF file becomes a folder beside it.
fn import(path: &Path) -> String {
    let (path, folder) = (path.display(), path.with_extension(""));
    format!("import it first: compress import {path} --out {}", folder.display())
}

fn torch_conversion(path: &Path) -> String {
    let target = path.parent().unwrap_or(Path::new("")).join("model.safetensors");
    format!(
        "convert it with Python:\n  \
         import torch, safetensors.torch\n  \
         weights = torch.load({}, map_location=\"cpu\", weights_only=True)\n  \
         safetensors.torch.save_file({{name: weight.clone().contiguous() for name, weight in weights.items()}}, \
         {}, metadata={{\"format\": \"pt\"}})",
        python_string(path),
        python_string(&target),
    )
}

fn transformers_conversion(option: &str) -> String {
    format!(
        "convert it with Python:\n  \
         from transformers import AutoModel\n  \
         AutoModel.from_pretrained(\"FOLDER\", {option}).save_pretrained(\"FOLDER\")"
    )
}

/// Quotes a path for Python.
fn python_string(path: &Path) -> String {
    format!("{:?}", path.display().to_string())
}

/// Lists the files of a folder that hold weights in other formats.
pub(crate) fn foreign_files(files: &[PathBuf]) -> Vec<PathBuf> {
    files.iter().filter(|file| holds_weights(file)).cloned().collect()
}
