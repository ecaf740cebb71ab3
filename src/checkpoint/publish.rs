//! The moment at which an output gets its final name.

use std::{fs, io, path::Path};

use super::{
    live::{Folder, note_published, remove_any},
    output::OutputError,
};

/// Gives the content of a staging folder the final name.
///
/// One call of the system does it: a rename that refuses to replace, an exchange (directories), or a rename
/// that replaces (files). Where directories can't be exchanged the old one is put aside for the moment between
/// two renames; the next run gives it back if this one is killed there.
pub(crate) fn install(
    target: &Path,
    parent: &Path,
    staging: &Folder,
    overwrite: bool,
) -> Result<(), OutputError> {
    let content = staging.content();
    // Who may read the old directory may read the new one, and nobody else.
    if let Ok(old) = fs::metadata(target)
        && old.is_dir()
    {
        fs::set_permissions(&content, old.permissions()).map_err(OutputError::write(&content))?;
    }
    // An empty directory holds nothing to lose.
    let occupied = fs::symlink_metadata(target).is_ok() && (overwrite || fs::remove_dir(target).is_err());
    if occupied && !overwrite {
        return Err(OutputError::Exists { path: target.to_owned() });
    }
    let renamed = if !occupied {
        rename_new(&content, target)
    } else if target.is_dir() {
        replace_directory(&content, target, staging)
    } else {
        fs::rename(&content, target)
    };
    renamed.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => OutputError::Exists { path: target.to_owned() },
        _ => OutputError::write(target)(error),
    })?;
    note_published();
    // The new content is in place; that it stays after a power failure is all that is left.
    sync_folder(parent).map_err(OutputError::write(parent))
}

/// Renames to a name that must be free.
fn rename_new(content: &Path, target: &Path) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    {
        use rustix::{
            fs::{CWD, RenameFlags, renameat_with},
            io::Errno,
        };
        match renameat_with(CWD, content, CWD, target, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(()),
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if fs::symlink_metadata(target).is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    fs::rename(content, target)
}

/// Exchanges a directory for the one that has the final name, which ends up in the staging folder.
fn replace_directory(content: &Path, target: &Path, staging: &Folder) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    {
        use rustix::{
            fs::{CWD, RenameFlags, renameat_with},
            io::Errno,
        };
        match renameat_with(CWD, content, CWD, target, RenameFlags::EXCHANGE) {
            Ok(()) => return Ok(()),
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    swap_by_two_renames(content, target, &staging.old())
}

/// Puts the old directory aside, and back if the new one can't take its name.
fn swap_by_two_renames(content: &Path, target: &Path, aside: &Path) -> io::Result<()> {
    let name = target.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    remove_any(aside)?;
    fs::create_dir(aside)?;
    let old = aside.join(name);
    fs::rename(target, &old)?;
    fs::rename(content, target).inspect_err(|_| {
        // Should this fail as well, the next run tries again.
        let _ = fs::rename(&old, target);
    })
}

/// Brings the names in a folder to disk.
#[cfg(unix)]
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    match fs::File::open(folder)?.sync_all() {
        // Some file systems have nothing to do for folders, and say so.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        other => other,
    }
}

/// Other systems bring names to disk with the files.
#[cfg(not(unix))]
pub(crate) fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_renames_replace_a_directory_and_give_it_back_on_failure() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let (content, target, aside) =
            (folder.path().join("content"), folder.path().join("out"), folder.path().join("aside"));
        fs::create_dir(&target)?;
        fs::write(target.join("a"), "old")?;
        let failed = swap_by_two_renames(&content, &target, &aside);
        assert_eq!(failed.map_err(|error| error.kind()), Err(io::ErrorKind::NotFound));
        assert_eq!(fs::read_to_string(target.join("a"))?, "old");

        fs::create_dir(&content)?;
        fs::write(content.join("a"), "new")?;
        swap_by_two_renames(&content, &target, &aside)?;
        assert_eq!(fs::read_to_string(target.join("a"))?, "new");
        assert_eq!(fs::read_to_string(aside.join("out").join("a"))?, "old");
        Ok(())
    }
}
