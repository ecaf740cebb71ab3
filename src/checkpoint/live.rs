//! The staging folders of this process and of others: which are in use, and which a killed run left behind.
//!
//! A staging folder lies beside the final name as `.fnl-staging-PROCESS-NUMBER` and has
//!
//! - `lock`, a file whose lock is held as long as the run lives,
//! - `content`, what will get the final name,
//! - `old/NAME`, for a moment, what had the final name before, where the two can't be exchanged at once.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use super::{folder::file_name, output::OutputError};

pub(crate) const STAGING_PREFIX: &str = ".fnl-staging-";
const LOCK: &str = "lock";
const OLD: &str = "old";

/// Names tried before giving up: each collides only with a run of the same number.
const ATTEMPTS: usize = 64;

static LIVE: Mutex<Vec<Weak<Folder>>> = Mutex::new(Vec::new());
static PUBLISHED: AtomicBool = AtomicBool::new(false);
static ABANDONED: AtomicBool = AtomicBool::new(false);
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// Removes every staging folder of this process, and makes later writes fail, of this run and of all that come after it.
///
/// For an interrupt handler of a process that ends. A publication in progress is waited for: its final name then has the whole new
/// content. Tensors being written are waited for as well. Returns whether this process has published something,
/// so that nobody is told that nothing was written when something was.
pub fn abandon_all() -> bool {
    ABANDONED.store(true, Ordering::SeqCst);
    // Not under the lock: a folder takes it when it is dropped.
    let live: Vec<_> = registry().iter().filter_map(Weak::upgrade).collect();
    for folder in live {
        folder.abandon();
    }
    PUBLISHED.load(Ordering::SeqCst)
}

/// Notes that a final name has its new content.
pub(crate) fn note_published() {
    PUBLISHED.store(true, Ordering::SeqCst);
}

/// What has become of a staging folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It is being written.
    Active,
    /// Its content has the final name, or it is removed.
    Gone,
}

/// A staging folder of this process, locked.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// Held for reading while something is written, for writing while the state changes.
    pub(crate) state: RwLock<State>,
    lock: Mutex<Option<File>>,
}

impl Folder {
    /// Creates and locks a staging folder in `parent`.
    pub(crate) fn create(parent: &Path) -> Result<Arc<Self>, OutputError> {
        let mut failure = io::Error::other("no free name for a staging folder");
        for _ in 0..ATTEMPTS {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let path = parent.join(format!("{STAGING_PREFIX}{}-{number}", process::id()));
            match fs::create_dir(&path).and_then(|()| lock(&path)) {
                Ok(lock) => {
                    let folder = Arc::new(Self {
                        path,
                        state: RwLock::new(State::Active),
                        lock: Mutex::new(Some(lock)),
                    });
                    let mut live = registry();
                    live.retain(|folder| folder.strong_count() > 0);
                    live.push(Arc::downgrade(&folder));
                    drop(live);
                    if ABANDONED.load(Ordering::SeqCst) {
                        folder.abandon();
                        return Err(OutputError::Abandoned);
                    }
                    return Ok(folder);
                }
                // Another machine's process of this number, or a run that cleaned up before we had the lock.
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) =>
                {
                    failure = error;
                }
                Err(source) => return Err(refused(parent, source)),
            }
        }
        Err(refused(parent, failure))
    }

    /// What will get the final name.
    pub(crate) fn content(&self) -> PathBuf {
        self.path.join("content")
    }

    /// Where what had the final name is put aside.
    pub(crate) fn old(&self) -> PathBuf {
        self.path.join(OLD)
    }

    /// Removes the folder unless its content has been published; waits for writes in progress.
    pub(crate) fn abandon(&self) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if *state == State::Active {
            *state = State::Gone;
            self.remove();
        }
    }

    /// Removes the folder. What can't be removed is left to the next run.
    pub(crate) fn remove(&self) {
        let _ = remove_any(&self.content());
        let _ = remove_any(&self.old());
        // Some systems don't remove open files.
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
        let _ = fs::remove_dir_all(&self.path);
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        self.abandon();
    }
}

/// Removes the staging folders in `parent` that killed runs left, and gives back what such a run had put aside.
///
/// Those of running processes hold their locks, and stay. Nothing here is worth failing for.
pub(crate) fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        if is_staging(&path) {
            sweep_one(parent, &path);
        }
    }
}

fn sweep_one(parent: &Path, path: &Path) {
    let Ok(lock) = File::open(path.join(LOCK)) else {
        // Killed before it had a lock, or about to get one: it then finds its folder gone and tries again.
        let _ = fs::remove_dir(path);
        return;
    };
    if lock.try_lock().is_err() {
        return;
    }
    if let Ok(aside) = fs::read_dir(path.join(OLD)) {
        for old in aside.flatten().map(|entry| entry.path()) {
            let target = parent.join(file_name(&old));
            if fs::symlink_metadata(&target).is_err() && fs::rename(&old, &target).is_err() {
                // The only copy of what had the final name.
                return;
            }
        }
    }
    let _ = remove_any(&path.join("content"));
    let _ = fs::remove_dir_all(path);
}

/// Tells a folder that takes no files from one that is full.
fn refused(parent: &Path, source: io::Error) -> OutputError {
    match source.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            OutputError::Unwritable { path: parent.to_owned(), source }
        }
        _ => OutputError::write(parent)(source),
    }
}

/// Creates and locks the lock file of a staging folder.
fn lock(path: &Path) -> io::Result<File> {
    let name = path.join(LOCK);
    let lock = File::create_new(&name)?;
    match lock.try_lock() {
        // A sweep may have come between: then the name is gone, or on its way.
        Ok(()) => fs::metadata(&name).map(|_| lock),
        Err(fs::TryLockError::WouldBlock) => Err(io::ErrorKind::NotFound.into()),
        // Without locks on this file system, sweeps can't lock it either, and leave it.
        Err(fs::TryLockError::Error(_)) => Ok(lock),
    }
}

/// Removes a file, a link or a directory; nothing there is success.
pub(crate) fn remove_any(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(kind) if kind.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Recognizes a staging folder by its name.
fn is_staging(path: &Path) -> bool {
    let name = file_name(path);
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    name.strip_prefix(STAGING_PREFIX)
        .and_then(|rest| rest.split_once('-'))
        .is_some_and(|(process, count)| number(process) && number(count))
}

fn registry() -> MutexGuard<'static, Vec<Weak<Folder>>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}
