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
    live::STAGING_PREFIX,
    natural::natural_order,
};

/// Folders that belong to tools, not to the checkpoint.
pub(crate) const TOOL_FOLDERS: [&str; 3] = [".git", ".cache", "__pycache__"];

/// Files at the top which say that sub-folders are parts of the model: of sentence-transformers, of diffusers.
pub(crate) const MODULE_LISTS: [&str; 2] = ["modules.json", "model_index.json"];

/// What a training run keeps in its folder beside a checkpoint's files. The last of these is there from the start.
pub(crate) const RUN_FILES: [&str; 4] = ["report.html", "report.json", "options.toml", "metrics.jsonl"];
/// What lies in a folder in which Hugging Face's Trainer kept a state.
const TRAINER_STATE: &str = "trainer_state.json";
/// How the names of its records for TensorBoard begin.
pub(crate) const EVENTS: &str = "events.out.tfevents.";
/// Where it keeps networks, and what it is continued from.
pub(crate) const RUN_CHECKPOINTS: &str = "checkpoints";

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
    let is_run = root.join(RUN_FILES[3]).is_file();
    let mut found = SideFiles::default();
    let mut visited = BTreeSet::new();
    let mut pending = vec![root.to_owned()];
    let place = fs::canonicalize(root).map_err(CheckpointError::read(root))?;
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
        // An earlier state of training, with weights and an optimizer of its own.
        let is_state = folder != root && paths.iter().any(|path| file_name(path) == TRAINER_STATE);
        for path in paths {
            let kind = fs::metadata(&path).map_err(CheckpointError::read(&path))?;
            if kind.is_dir() {
                let name = file_name(&path);
                let own = TOOL_FOLDERS.contains(&name.as_str()) || name.starts_with(STAGING_PREFIX);
                // A link to a folder that this one lies in would bring in what is no part of it.
                if !own && !place.starts_with(fs::canonicalize(&path).map_err(unread())?) {
                    pending.push(path);
                }
            } else if kind.is_file() && !weights.contains(path.as_path()) {
                let Ok(relative) = path.strip_prefix(root) else { continue };
                if is_run && is_of_run(relative) {
                    continue;
                }
                let duplicate = is_state || is_duplicate(relative, modular && !has_safetensors);
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

/// Says whether a file of a training run's folder tells of the run, and not of the network.
fn is_of_run(relative: &Path) -> bool {
    let name = relative.to_string_lossy();
    relative.starts_with(RUN_CHECKPOINTS) || RUN_FILES.contains(&&*name) || name.starts_with(EVENTS)
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
