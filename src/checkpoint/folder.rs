//! Which files of a directory hold its weights, and what the index says about them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Component, Path, PathBuf},
};

use super::{
    error::CheckpointError,
    foreign::foreign_files,
    json::{RawIndex, reason},
    natural::natural_order,
    problem::{Problem, Problems},
};

/// The usual name of a checkpoint's only file.
pub(crate) const SINGLE_FILE: &str = "model.safetensors";

/// The usual name of an index.
pub(crate) const INDEX_FILE: &str = "model.safetensors.index.json";

/// The end of every index's name.
const INDEX_END: &str = ".safetensors.index.json";

/// The weights of a directory.
#[derive(Debug, Default)]
pub(crate) struct Weights {
    /// The files, in natural order.
    pub(crate) files: Vec<PathBuf>,
    /// The index, where there is one.
    pub(crate) index: Option<Index>,
}

/// An index: which tensor is in which file.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) path: PathBuf,
    /// From the name of a tensor to that of its shard.
    pub(crate) shards: BTreeMap<String, String>,
    /// What is wrong with it so far.
    pub(crate) problems: Problems,
}

/// Finds the weights of a directory: those of the index, `model.safetensors`, the only file, or the numbered
/// shards.
pub(crate) fn weights(root: &Path) -> Result<Weights, CheckpointError> {
    let files = files(root)?;
    let named = |name: &str| files.iter().find(|file| file_name(file) == name).cloned();
    let indexes: Vec<&PathBuf> = files.iter().filter(|file| file_name(file).ends_with(INDEX_END)).collect();
    let index = named(INDEX_FILE).or_else(|| match (indexes.as_slice(), named(SINGLE_FILE)) {
        ([only], None) => Some((*only).clone()),
        _ => None,
    });
    if let Some(path) = index {
        return indexed(root, path);
    }
    if let Some(file) = named(SINGLE_FILE) {
        return Ok(Weights { files: vec![file], index: None });
    }
    let safetensors: Vec<PathBuf> = files.iter().filter(|file| is_safetensors(file)).cloned().collect();
    match safetensors.len() {
        0 => {
            let foreign = foreign_files(&files);
            Err(if foreign.is_empty() {
                CheckpointError::NoWeights { path: root.to_owned() }
            } else {
                CheckpointError::OnlyForeign { path: root.to_owned(), files: foreign }
            })
        }
        1 if shard_number(&safetensors[0]).is_none() => Ok(Weights { files: safetensors, index: None }),
        _ => numbered(root, safetensors),
    }
}

/// Accepts files that are the complete numbered shards of one checkpoint.
fn numbered(root: &Path, files: Vec<PathBuf>) -> Result<Weights, CheckpointError> {
    let numbers: Option<Vec<ShardNumber>> = files.iter().map(|file| shard_number(file)).collect();
    let numbers = numbers.unwrap_or_default();
    let Some(first) = numbers.first() else {
        return Err(CheckpointError::Ambiguous { path: root.to_owned(), files });
    };
    if numbers.iter().any(|number| number.stem != first.stem || number.count != first.count) {
        return Err(CheckpointError::Ambiguous { path: root.to_owned(), files });
    }
    let present: BTreeSet<usize> = numbers.iter().map(|number| number.number).collect();
    // At most a hundred names: the count is only a number in a file's name.
    let missing: Vec<PathBuf> = (1..=first.count)
        .filter(|number| !present.contains(number))
        .take(100)
        .map(|number| PathBuf::from(shard_name(&first.stem, number, first.count)))
        .collect();
    if missing.is_empty() {
        Ok(Weights { files, index: None })
    } else {
        Err(CheckpointError::IncompleteShards { path: root.to_owned(), missing })
    }
}

/// Reads an index and finds its shards.
fn indexed(root: &Path, path: PathBuf) -> Result<Weights, CheckpointError> {
    let text = fs::read(&path).map_err(CheckpointError::read(&path))?;
    let raw: RawIndex = serde_json::from_slice(&text).map_err(|error| CheckpointError::Index {
        path: path.clone(),
        line: error.line(),
        column: error.column(),
        reason: reason(&error),
    })?;
    let mut problems = Problems::default();
    let mut shards: BTreeMap<String, String> = BTreeMap::new();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (tensor, shard) in raw.weight_map.0 {
        *counts.entry(shard.clone()).or_default() += 1;
        match shards.get(&tensor) {
            Some(first) if *first != shard => {
                problems.push(Problem::InTwoShards { tensor, first: first.clone(), second: shard });
            }
            Some(_) => problems.push(Problem::DuplicateTensor { tensor }),
            None => {
                shards.insert(tensor, shard);
            }
        }
    }
    let mut files = Vec::new();
    for (shard, tensors) in counts {
        if !is_inside(&shard) {
            problems.push(Problem::ShardPath { shard });
        } else if root.join(&shard).is_file() {
            files.push(root.join(shard));
        } else {
            problems.push(Problem::MissingShard { shard, tensors });
        }
    }
    files.sort_by(|a, b| natural_order(&a.to_string_lossy(), &b.to_string_lossy()));
    Ok(Weights { files, index: Some(Index { path, shards, problems }) })
}

/// Says whether a path stays inside the folder that it is joined to.
pub(crate) fn is_inside(path: impl AsRef<Path>) -> bool {
    let path = path.as_ref();
    let plain = path.components().all(|component| matches!(component, Component::Normal(_)));
    // On Unix a backslash is part of a name, elsewhere it leads into folders: no name of ours has one.
    plain && !path.as_os_str().is_empty() && !path.to_string_lossy().contains('\\')
}

/// Lists the regular files of a folder (and what links lead to), in natural order.
pub(crate) fn files(root: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(root).map_err(CheckpointError::read(root))? {
        let path = entry.map_err(CheckpointError::read(root))?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort_by(|a, b| natural_order(&file_name(a), &file_name(b)));
    Ok(files)
}

/// Says whether a file is safetensors, by its name.
pub(crate) fn is_safetensors(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "safetensors")
}

/// Says whether a file is an index, by its name.
pub(crate) fn is_index(path: &Path) -> bool {
    file_name(path).ends_with(INDEX_END)
}

/// Returns the last part of a path as text.
pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Names the shard with this number, counted from 1, of a checkpoint of several files.
pub(crate) fn shard_name(stem: &str, number: usize, count: usize) -> String {
    format!("{stem}-{number:05}-of-{count:05}.safetensors")
}

struct ShardNumber {
    stem: String,
    number: usize,
    count: usize,
}

/// Takes `model-00001-of-00003.safetensors` apart.
fn shard_number(path: &Path) -> Option<ShardNumber> {
    let name = file_name(path);
    let (rest, count) = name.strip_suffix(".safetensors")?.rsplit_once("-of-")?;
    let (stem, number) = rest.rsplit_once('-')?;
    let digits = |text: &str| text.len() >= 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(number) || !digits(count) {
        return None;
    }
    Some(ShardNumber { stem: stem.to_owned(), number: number.parse().ok()?, count: count.parse().ok()? })
}
