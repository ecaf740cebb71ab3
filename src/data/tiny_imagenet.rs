use std::{fs, path::Path};

use super::{
    contents::Contents,
    error::DataError,
    files::{find_all, require_folder, subfolders},
    folder,
    format::Format,
    samples::Samples,
    source::Split,
};

const SIDE: usize = 64;
const NESTED: [&str; 1] = ["tiny-imagenet-200"];

/// Reads the names in Tiny ImageNet's folder; its test set has no labels, so the validation set is what
/// networks are judged by.
pub(super) fn open(path: &Path, split: Split) -> Result<Contents, DataError> {
    require_folder(path)?;
    let nested = path.join(NESTED[0]);
    let root = if !path.join("train").is_dir() && nested.is_dir() { nested } else { path.to_owned() };
    let train = root.join("train");
    match split {
        Split::Train if !train.is_dir() => Err(DataError::MissingFiles {
            format: Format::TinyImagenet,
            split,
            files: vec!["train/".to_owned()],
            folders: vec![root.display().to_string()],
        }),
        Split::Train => folder::read(&train, classes(&root)?, |class| format!("{class}/images"), SIDE),
        Split::Test => read_annotated(&root, classes(&root)?),
    }
}

/// The classes: those trained on, or those of the list where only the validation set is at hand.
fn classes(root: &Path) -> Result<Vec<String>, DataError> {
    let (train, list) = (root.join("train"), root.join("wnids.txt"));
    let (path, names) = if train.is_dir() || !list.is_file() {
        (train.clone(), if train.is_dir() { subfolders(&train)? } else { Vec::new() })
    } else {
        let text = fs::read_to_string(&list).map_err(DataError::read(&list))?;
        let mut names: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        names.sort();
        names.dedup();
        (list, names)
    };
    if names.is_empty() { Err(DataError::Empty { path, what: "class" }) } else { Ok(names) }
}

/// Reads the validation set: a line for each image with its name, its class, and a box that isn't needed
/// here.
fn read_annotated(root: &Path, class_names: Vec<String>) -> Result<Contents, DataError> {
    let annotations = "val/val_annotations.txt";
    let path = find_all(Format::TinyImagenet, Split::Test, root, &[], &[&[annotations]])?.remove(0);
    let text = fs::read_to_string(&path).map_err(DataError::read(&path))?;
    let folder = root.join("val/images");
    let (mut paths, mut labels) = (Vec::new(), Vec::new());
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let mut fields = line.split('\t');
        let file = fields
            .next()
            .filter(|name| !name.is_empty() && Path::new(name).file_name() == Some(name.as_ref()));
        let label = fields.next().and_then(|class| class_names.iter().position(|name| name == class.trim()));
        let (Some(file), Some(label)) = (file, label) else {
            let found = line.to_owned();
            return Err(DataError::Annotation { path, line: index + 1, classes: class_names.len(), found });
        };
        paths.push(folder.join(file));
        labels.push(label as u32);
    }
    if paths.is_empty() {
        return Err(DataError::Empty { path, what: "annotation" });
    }
    Ok(Contents { samples: Samples::Files { paths, side: SIDE }, labels, class_names })
}
