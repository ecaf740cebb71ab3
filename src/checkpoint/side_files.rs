//! What else lies in a checkpoint's directory: tokenizers, configs, model cards, and copies of the weights.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::{
    error::CheckpointError,
    folder::{file_name, is_index, is_safetensors},
    foreign::holds_weights,
    natural::natural_order,
};

/// Folders that belong to tools, not to the checkpoint.
pub(crate) const TOOL_FOLDERS: [&str; 3] = [".git", ".cache", "__pycache__"];

/// Files at the top which say that sub-folders are parts of the model: of sentence-transformers, of diffusers.
pub(crate) const MODULE_LISTS: [&str; 2] = ["modules.json", "model_index.json"];

/// The files of a directory that aren't its weights, relative to it, in natural order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SideFiles {
    /// Those that a compressed checkpoint needs as well. `config.json` is among them.
    pub copied: Vec<PathBuf>,
    /// Further copies of the weights, which a compressed checkpoint must not have: pickled ones, those of other
    /// frameworks, and safetensors at the top that the checkpoint isn't made of.
    pub skipped: Vec<PathBuf>,
}

/// Lists a directory's files but for `weights`. Links to files count as files.
pub(crate) fn list(root: &Path, weights: &[PathBuf]) -> Result<SideFiles, CheckpointError> {
    let weights: BTreeSet<&Path> = weights.iter().map(PathBuf::as_path).collect();
    let modular = MODULE_LISTS.iter().any(|name| root.join(name).is_file());
    let mut found = SideFiles::default();
    let mut visited = BTreeSet::new();
    let mut pending = vec![root.to_owned()];
    while let Some(folder) = pending.pop() {
        let unread = || CheckpointError::read(&folder);
        // A link may lead back to a folder above it.
        if !visited.insert(fs::canonicalize(&folder).map_err(unread())?) {
            continue;
        }
        let mut paths = Vec::new();
        for entry in fs::read_dir(&folder).map_err(unread())? {
            paths.push(entry.map_err(unread())?.path());
        }
        let has_safetensors = paths.iter().any(|path| is_safetensors(path));
        for path in paths {
            let kind = fs::metadata(&path).map_err(CheckpointError::read(&path))?;
            if kind.is_dir() {
                if !TOOL_FOLDERS.contains(&file_name(&path).as_str()) {
                    pending.push(path);
                }
            } else if kind.is_file() && !weights.contains(path.as_path()) {
                let Ok(relative) = path.strip_prefix(root) else { continue };
                let duplicate = is_duplicate(relative, modular && !has_safetensors);
                let list = if duplicate { &mut found.skipped } else { &mut found.copied };
                list.push(relative.to_owned());
            }
        }
    }
    for list in [&mut found.copied, &mut found.skipped] {
        list.sort_by(|a, b| natural_order(&a.to_string_lossy(), &b.to_string_lossy()));
    }
    Ok(found)
}

/// Says whether a file holds the checkpoint's weights once more.
///
/// Pickled weights in a sub-folder may be a part's only weights (`sole`), such as the last layer of a sentence
/// encoder: if the model has parts, and no safetensors file lies beside them.
pub(crate) fn is_duplicate(relative: &Path, sole: bool) -> bool {
    if relative.components().count() == 1 {
        return holds_weights(relative) || is_safetensors(relative) || is_index(relative);
    }
    let exported = ["onnx", "h5", "msgpack", "tflite", "ot", "gguf"];
    let extension = relative.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
    extension.is_some_and(|extension| exported.contains(&extension.as_str()))
        || file_name(relative).starts_with("openvino_model")
        || (!sole && holds_weights(relative))
}
