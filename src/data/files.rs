use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use super::{error::DataError, format::Format, source::Split};

/// Finds files in a folder or in one of the folders that archives unpack to; each may have several names. All
/// of them come from the same place.
pub(super) fn find_all(
    format: Format,
    split: Split,
    folder: &Path,
    nested: &[&str],
    wanted: &[&[&str]],
) -> Result<Vec<PathBuf>, DataError> {
    require_folder(folder)?;
    let places: Vec<PathBuf> =
        std::iter::once(folder.to_owned()).chain(nested.iter().map(|name| folder.join(name))).collect();
    let find =
        |place: &Path, names: &[&str]| names.iter().map(|name| place.join(name)).find(|path| path.is_file());
    let mut fewest_missing: Option<Vec<String>> = None;
    for place in &places {
        let found: Vec<Option<PathBuf>> = wanted.iter().map(|names| find(place, names)).collect();
        let absent = wanted.iter().zip(&found).filter(|(_, path)| path.is_none());
        let missing: Vec<String> =
            absent.filter_map(|(names, _)| names.first()).map(|&name| name.to_owned()).collect();
        if missing.is_empty() {
            return Ok(found.into_iter().flatten().collect());
        }
        if fewest_missing.as_ref().is_none_or(|fewest| missing.len() < fewest.len()) {
            fewest_missing = Some(missing);
        }
    }
    let folders = places.iter().map(|place| place.display().to_string()).collect();
    Err(DataError::MissingFiles { format, split, files: fewest_missing.unwrap_or_default(), folders })
}

/// Refuses a folder that isn't there.
pub(super) fn require_folder(folder: &Path) -> Result<(), DataError> {
    let path = folder.to_owned();
    match fs::metadata(folder) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(DataError::NotAFolder { path }),
        Err(_) => Err(DataError::MissingFolder { path }),
    }
}

/// The folders in a folder, by name; hidden ones aside.
pub(super) fn subfolders(folder: &Path) -> Result<Vec<String>, DataError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(DataError::read(folder))? {
        let entry = entry.map_err(DataError::read(folder))?;
        let kind = entry.file_type().map_err(DataError::read(&entry.path()))?;
        // what a link points to counts
        if kind.is_dir() || kind.is_symlink() && entry.path().is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    Ok(names)
}

/// The JPEG and PNG files in a folder, by name; hidden ones aside.
pub(super) fn images(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    const EXTENSIONS: [&str; 3] = ["jpg", "jpeg", "png"];
    let is_image = |name: &OsStr| {
        let extension = Path::new(name).extension().unwrap_or_default();
        EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known))
            && !name.as_encoded_bytes().starts_with(b".")
    };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(DataError::read(folder))? {
        let entry = entry.map_err(DataError::read(folder))?;
        let kind = entry.file_type().map_err(DataError::read(&entry.path()))?;
        if is_image(&entry.file_name()) && !kind.is_dir() {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}
