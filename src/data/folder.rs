use std::path::Path;

use super::{
    contents::Contents,
    error::DataError,
    files::{images, require_folder, subfolders},
    format::Format,
    samples::Samples,
    source::Split,
};

/// The side that images are brought to: what most networks for ImageNet were trained with.
const SIDE: usize = 224;

/// Reads the names in a folder of folders, one for each class.
pub(super) fn open(folder: &Path, split: Split) -> Result<Contents, DataError> {
    require_folder(folder)?;
    let names: &[&str] = match split {
        Split::Train => &["train"],
        Split::Test => &["val", "test"],
    };
    let Some(split_folder) = names.iter().map(|name| folder.join(name)).find(|path| path.is_dir()) else {
        return Err(DataError::MissingFiles {
            format: Format::Images,
            split,
            files: names.iter().map(|name| format!("{name}/")).collect(),
            folders: vec![folder.display().to_string()],
        });
    };
    let class_names = subfolders(&split_folder)?;
    if class_names.is_empty() {
        return Err(DataError::Empty { path: split_folder, what: "class folder" });
    }
    let train = folder.join("train");
    if split == Split::Test && train.is_dir() {
        let trained = subfolders(&train)?;
        let only_in = |one: &[String], other: &[String]| -> Vec<String> {
            one.iter().filter(|name| other.binary_search(name).is_err()).cloned().collect()
        };
        let (missing, unknown) = (only_in(&trained, &class_names), only_in(&class_names, &trained));
        if !(missing.is_empty() && unknown.is_empty()) {
            return Err(DataError::ClassesDiffer { train, test: split_folder, missing, unknown });
        }
    }
    read(&split_folder, class_names, str::to_owned, SIDE)
}

/// Lists the images of each class; `within` says in which folder they are.
pub(super) fn read(
    folder: &Path,
    class_names: Vec<String>,
    within: impl Fn(&str) -> String,
    side: usize,
) -> Result<Contents, DataError> {
    let (mut paths, mut labels, mut classes) = (Vec::new(), Vec::new(), Vec::new());
    for (label, name) in (0..).zip(&class_names) {
        let place = folder.join(within(name));
        let found = if place.is_dir() { images(&place)? } else { Vec::new() };
        if found.is_empty() {
            classes.push(name.clone());
        }
        labels.extend(std::iter::repeat_n(label, found.len()));
        paths.extend(found);
    }
    if !classes.is_empty() {
        return Err(DataError::EmptyClasses { path: folder.to_owned(), classes });
    }
    Ok(Contents { samples: Samples::Files { paths, side }, labels, class_names })
}
