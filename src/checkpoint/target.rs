//! The final name: whether an output may go there, decided before anything is created.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    folder::is_weights,
    output::{OutputError, OutputOptions},
};

/// Files that an output may have whatever its input had.
const USUAL: [&str; 3] = ["config.json", "README.md", "report.json"];

/// A final name that may be used.
#[derive(Debug)]
pub(crate) struct Target {
    /// The name itself, links resolved.
    pub(crate) path: PathBuf,
    /// The folder that it is in.
    pub(crate) parent: PathBuf,
}

/// Resolves the target and refuses what can be refused without knowing the input.
pub(crate) fn resolve(options: &OutputOptions) -> Result<Target, OutputError> {
    let typed = &options.target;
    let path = match fs::symlink_metadata(typed) {
        Ok(_) => {
            // What a link leads to is replaced, not the link; one that leads nowhere can't be used.
            let path = fs::canonicalize(typed).map_err(|_| OutputError::IsSpecial { path: typed.clone() })?;
            check_existing(&path, options)?;
            path
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let name = typed.file_name().ok_or_else(|| OutputError::NoName { path: typed.clone() })?;
            let parent = match typed.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent,
                _ => Path::new("."),
            };
            let parent = fs::canonicalize(parent).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => OutputError::ParentMissing { path: parent.to_owned() },
                io::ErrorKind::NotADirectory => OutputError::ParentNotFolder { path: parent.to_owned() },
                _ => OutputError::Unwritable { path: parent.to_owned(), source: error },
            })?;
            parent.join(name)
        }
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            let bare = PathBuf::from(typed.to_string_lossy().trim_end_matches(std::path::is_separator));
            if bare.is_file() {
                return Err(OutputError::IsFile { path: bare });
            }
            let parent = typed.parent().unwrap_or(typed).to_owned();
            return Err(OutputError::ParentNotFolder { path: parent });
        }
        Err(source) => return Err(OutputError::Unwritable { path: typed.clone(), source }),
    };
    let Some(parent) = path.parent().map(Path::to_owned) else {
        return Err(OutputError::NoName { path: typed.clone() });
    };
    if !parent.is_dir() {
        return Err(OutputError::ParentNotFolder { path: parent });
    }
    check_writable(&parent)?;
    Ok(Target { path, parent })
}

/// Refuses what exists and is of another kind than the output.
fn check_existing(path: &Path, options: &OutputOptions) -> Result<(), OutputError> {
    let refused = |source| OutputError::Unwritable { path: path.to_owned(), source };
    let kind = fs::metadata(path).map_err(refused)?;
    let path = || options.target.clone();
    match (kind.is_dir(), kind.is_file()) {
        (false, false) => return Err(OutputError::IsSpecial { path: path() }),
        (true, _) if !options.as_directory => return Err(OutputError::IsDirectory { path: path() }),
        (_, true) if options.as_directory => return Err(OutputError::IsFile { path: path() }),
        _ => {}
    }
    Ok(())
}

/// Refuses to replace what is not to be replaced: anything but an empty directory without being told to, and files that
/// the output does not have ever.
pub(crate) fn check_replaced(target: &Target, options: &OutputOptions) -> Result<(), OutputError> {
    let path = || options.target.clone();
    let refused = |source| OutputError::Unwritable { path: path(), source };
    let Ok(kind) = fs::metadata(&target.path) else { return Ok(()) };
    if kind.is_dir() {
        // A wrong `--out` must not cost a home directory.
        let own = [options.side_files.clone(), recorded_files(&target.path)].concat();
        let files = foreign(&target.path, &own).map_err(refused)?;
        if !files.is_empty() {
            return Err(OutputError::Foreign { path: path(), files });
        }
        if fs::read_dir(&target.path).map_err(refused)?.next().is_none() {
            return Ok(());
        }
    }
    if options.overwrite { Ok(()) } else { Err(OutputError::Exists { path: path() }) }
}

/// The files beside the weights that the report of an earlier output names.
fn recorded_files(root: &Path) -> Vec<PathBuf> {
    #[derive(serde::Deserialize)]
    struct Report {
        tool: String,
        files: Vec<PathBuf>,
    }
    let read = fs::read(root.join("report.json")).ok();
    let report = read.and_then(|bytes| serde_json::from_slice::<Report>(&bytes).ok());
    let own = report.filter(|report| report.tool.starts_with(env!("CARGO_PKG_NAME")));
    own.map(|report| report.files).unwrap_or_default()
}

/// The files of a directory that are neither weights nor what an output has beside them, in order: all of them where there
/// are no weights, since no output is without.
fn foreign(root: &Path, own: &[PathBuf]) -> io::Result<Vec<PathBuf>> {
    let (mut found, mut usual, mut pending) = (Vec::new(), Vec::new(), vec![PathBuf::new()]);
    let mut is_output = false;
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(root.join(&folder))? {
            let entry = entry?;
            let relative = folder.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                pending.push(relative);
                continue;
            }
            let is_weights = is_weights(&relative);
            is_output |= is_weights;
            let is_usual = USUAL.iter().any(|usual| relative == Path::new(usual));
            let list =
                if is_weights || is_usual || own.contains(&relative) { &mut usual } else { &mut found };
            list.push(relative);
        }
    }
    if !is_output {
        found.append(&mut usual);
    }
    found.sort();
    Ok(found)
}

/// Refuses a target that is an input, lies inside one, or contains one, by whatever name.
pub(crate) fn check_inputs(target: &Target, inputs: &[PathBuf]) -> Result<(), OutputError> {
    for input in inputs {
        // An input that can't be found can't be overwritten either.
        let Ok(real) = fs::canonicalize(input) else { continue };
        let path = target.path.clone();
        let input = input.clone();
        if target.path == real || same_file(&target.path, &real) {
            return Err(OutputError::IsInput { path, input });
        }
        if target.path.starts_with(&real) {
            return Err(OutputError::InsideInput { path, input });
        }
        if real.starts_with(&target.path) {
            return Err(OutputError::ContainsInput { path, input });
        }
    }
    Ok(())
}

/// Refuses an output that the disk has no room for.
pub(crate) fn check_space(target: &Target, needed: u64) -> Result<(), OutputError> {
    match free_bytes(&target.parent) {
        Some(free) if free < needed => {
            Err(OutputError::NoSpace { path: target.parent.clone(), needed, free })
        }
        _ => Ok(()),
    }
}

/// Says whether two names are hard links to one file.
#[cfg(unix)]
fn same_file(left: &Path, right: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (fs::metadata(left), fs::metadata(right)) {
        (Ok(left), Ok(right)) => (left.dev(), left.ino()) == (right.dev(), right.ino()),
        _ => false,
    }
}

#[cfg(not(unix))]
fn same_file(_: &Path, _: &Path) -> bool {
    false
}

#[cfg(unix)]
fn check_writable(folder: &Path) -> Result<(), OutputError> {
    use rustix::fs::{Access, access};
    access(folder, Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|error| OutputError::Unwritable { path: folder.to_owned(), source: error.into() })
}

#[cfg(not(unix))]
fn check_writable(_: &Path) -> Result<(), OutputError> {
    // Creating the staging folder will tell.
    Ok(())
}

/// Asks how much an ordinary user may still write, in bytes.
#[cfg(unix)]
fn free_bytes(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    disk.f_bavail.checked_mul(disk.f_frsize)
}

#[cfg(not(unix))]
fn free_bytes(_: &Path) -> Option<u64> {
    None
}
