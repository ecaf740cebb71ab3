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

/// What the names of a directory's files say about its weights.
#[derive(Debug)]
pub(crate) enum Choice {
    /// The index lists the files.
    Index(PathBuf),
    /// These are the files.
    Files(Vec<PathBuf>),
}

/// Finds the weights of a directory and reads its index, if it has one.
pub(crate) fn weights(root: &Path) -> Result<Weights, CheckpointError> {
    match choose(root, &files(root)?)? {
        Choice::Index(path) => indexed(root, path),
        Choice::Files(files) => Ok(Weights { files, index: None }),
    }
}

/// Chooses among the files at the top of a directory: the index, `model.safetensors`, the only safetensors file,
/// or the numbered shards.
pub(crate) fn choose(root: &Path, files: &[PathBuf]) -> Result<Choice, CheckpointError> {
    let named = |name: &str| files.iter().find(|file| file_name(file) == name).cloned();
    let indexes: Vec<&PathBuf> = files.iter().filter(|file| is_index(file)).collect();
    let index = named(INDEX_FILE).or_else(|| match (indexes.as_slice(), named(SINGLE_FILE)) {
        ([only], None) => Some((*only).clone()),
        _ => None,
    });
    if let Some(index) = index {
        return Ok(Choice::Index(index));
    }
    if let Some(file) = named(SINGLE_FILE) {
        return Ok(Choice::Files(vec![file]));
    }
    let safetensors: Vec<PathBuf> = files.iter().filter(|file| is_safetensors(file)).cloned().collect();
    match safetensors.as_slice() {
        [] => {
            let foreign = foreign_files(files);
            Err(if foreign.is_empty() {
                CheckpointError::NoWeights { path: root.to_owned() }
            } else {
                CheckpointError::OnlyForeign { path: root.to_owned(), files: foreign }
            })
        }
        [only] if shard_number(only).is_none() => Ok(Choice::Files(safetensors)),
        _ => numbered(root, safetensors).map(Choice::Files),
    }
}

/// Accepts files that are the complete numbered shards of one checkpoint.
fn numbered(root: &Path, files: Vec<PathBuf>) -> Result<Vec<PathBuf>, CheckpointError> {
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
        Ok(files)
    } else {
        Err(CheckpointError::IncompleteShards { path: root.to_owned(), missing })
    }
}

/// Reads the entries of an index: tensors and their shards.
pub(crate) fn read_index(path: &Path) -> Result<Vec<(String, String)>, CheckpointError> {
    let text = fs::read(path).map_err(CheckpointError::read(path))?;
    let raw: RawIndex = serde_json::from_slice(&text).map_err(|error| CheckpointError::Index {
        path: path.to_owned(),
        line: error.line(),
        column: error.column(),
        reason: reason(&error),
    })?;
    Ok(raw.weight_map.0)
}

/// Reads an index and finds its shards.
fn indexed(root: &Path, path: PathBuf) -> Result<Weights, CheckpointError> {
    let entries = read_index(&path)?;
    let mut problems = Problems::default();
    let mut shards: BTreeMap<String, String> = BTreeMap::new();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (tensor, shard) in entries {
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
    if counts.is_empty() {
        problems.push(Problem::EmptyIndex);
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

/// Says whether a file has a name that weights or their index are written under, at the top of a directory.
pub(crate) fn is_weights(relative: &Path) -> bool {
    let Some(name) = relative.to_str() else { return false };
    let numbered = || {
        let (number, count) =
            name.strip_prefix("model-")?.strip_suffix(".safetensors")?.split_once("-of-")?;
        Some(
            [number, count]
                .iter()
                .all(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())),
        )
    };
    name == SINGLE_FILE || name == INDEX_FILE || numbered().unwrap_or(false)
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
