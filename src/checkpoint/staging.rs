//! An output in the making: beside its final name, under one that the next run recognizes.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read, Write},
    path::{Component, Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, RwLockReadGuard,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    error::CheckpointError,
    folder::INDEX_FILE,
    layout::Layout,
    live::{Folder, State, remove_any, sweep},
    output::{OutputError, OutputOptions, OutputTensor},
    positional, publish,
    reader::{Checkpoint, TensorEntry},
    target::{self, Target},
};

/// A checkpoint being written. Dropping it without [`Staging::publish`] removes everything.
///
/// Several threads may write different tensors at once. Which byte goes where is fixed when it is created, so
/// that the order of writing doesn't matter.
#[derive(Debug)]
pub struct Staging {
    target: Target,
    as_directory: bool,
    overwrite: bool,
    layout: Layout,
    folder: Arc<Folder>,
    /// One file for each shard, with what is written of it.
    files: Vec<ShardFile>,
    side_files: Mutex<BTreeSet<PathBuf>>,
}

/// A shard on disk.
#[derive(Debug)]
struct ShardFile {
    path: PathBuf,
    file: File,
    /// For each tensor, whether it has been claimed by a writer, and whether that succeeded.
    tensors: Vec<(AtomicBool, AtomicBool)>,
}

impl Staging {
    /// Refuses everything that can be refused before work begins; nothing is created, and what killed runs left
    /// in the same place is removed.
    ///
    /// `inputs` are the paths that must not be touched: the input's root and its files.
    ///
    /// # Errors
    /// - the target exists (and is not to be overwritten), is of the other kind, or is a directory of
    ///   something else
    /// - the target is an input, lies inside one or contains one, through links of either kind
    /// - the folder of the target is missing, unwritable or no folder
    /// - there is not enough space
    /// - two tensors of one name, or a header beyond what the format allows
    pub fn check(
        options: &OutputOptions,
        inputs: &[PathBuf],
        tensors: &[OutputTensor],
    ) -> Result<(), OutputError> {
        let target = target::resolve(options)?;
        target::check_inputs(&target, inputs)?;
        target::check_replaced(&target, options)?;
        let layout = Layout::plan(options, tensors)?;
        sweep(&target.parent);
        target::check_space(&target, layout.size_bytes())
    }

    /// Creates the files of the output at their full size, in a hidden folder beside the final name.
    ///
    /// What killed runs left in the same place is removed first.
    pub fn create(options: &OutputOptions, tensors: &[OutputTensor]) -> Result<Self, OutputError> {
        let target = target::resolve(options)?;
        target::check_replaced(&target, options)?;
        let layout = Layout::plan(options, tensors)?;
        sweep(&target.parent);
        let folder = Folder::create(&target.parent)?;
        let content = folder.content();
        if options.as_directory {
            fs::create_dir(&content).map_err(OutputError::write(&content))?;
        }
        let mut files = Vec::with_capacity(layout.shards.len());
        for shard in &layout.shards {
            let path = if options.as_directory { content.join(&shard.file) } else { content.clone() };
            let file = File::create_new(&path).map_err(OutputError::write(&path))?;
            positional::reserve(&file, shard.size_bytes()).map_err(OutputError::write(&path))?;
            let tensors = shard.tensors.iter().map(|_| Default::default()).collect();
            files.push(ShardFile { path, file, tensors });
        }
        Ok(Self {
            target,
            as_directory: options.as_directory,
            overwrite: options.overwrite,
            layout,
            folder,
            files,
            side_files: Mutex::default(),
        })
    }

    /// Writes the bytes of one tensor, once.
    ///
    /// # Errors
    /// - a tensor that wasn't announced, or that is written already
    /// - more or fewer bytes than its shape has
    /// - an interrupt, or whatever the system says
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), OutputError> {
        self.fill(name, bytes.len() as u64, |file, offset, path| {
            positional::write_all_at(file, bytes, offset).map_err(OutputError::write(path))
        })
    }

    /// Copies one tensor from an input byte for byte, in the kernel where it can.
    pub fn copy(&self, name: &str, from: &Checkpoint, entry: &TensorEntry) -> Result<(), OutputError> {
        self.fill(name, entry.len, |file, offset, path| {
            let (source_path, source) = from.sound_file(entry)?;
            positional::copy(source, entry.start, file, offset, entry.len).map_err(|failure| match failure {
                positional::CopyError::Read(error) => CheckpointError::read(source_path)(error).into(),
                positional::CopyError::Write(error) => OutputError::write(path)(error),
            })
        })
    }

    /// Adds a file to a directory, or replaces the one added under this name.
    ///
    /// # Errors
    /// - the output is a single file
    /// - the path leads out of the directory, or is that of a weight file
    pub fn add_file(&self, relative: &Path, contents: &[u8]) -> Result<(), OutputError> {
        self.side_file(relative, |file, path| file.write_all(contents).map_err(OutputError::write(path)))
    }

    /// Adds a copy of a file to a directory; errors as in [`Staging::add_file`].
    pub fn copy_file(&self, relative: &Path, from: &Path) -> Result<(), OutputError> {
        self.side_file(relative, |file, path| {
            let mut source = File::open(from).map_err(CheckpointError::read(from))?;
            let mut buffer = vec![0u8; positional::CHUNK];
            loop {
                let count = match source.read(&mut buffer) {
                    Ok(0) => return Ok(()),
                    Ok(count) => count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(CheckpointError::read(from)(error).into()),
                };
                let filled = buffer.get(..count).unwrap_or_default();
                file.write_all(filled).map_err(OutputError::write(path))?;
            }
        })
    }

    /// Completes the headers with the record, brings everything to disk, and gives it the final name at once.
    ///
    /// Returns the final paths of the files: weights, index, side files.
    ///
    /// # Errors
    /// - tensors that aren't written, a record longer than the reserve
    /// - a final name taken meanwhile, unless it is to be overwritten
    /// - an interrupt, or whatever the system says; the final name then holds what it held before
    pub fn publish(mut self, record_json: Option<&str>) -> Result<Vec<PathBuf>, OutputError> {
        let folder = Arc::clone(&self.folder);
        let mut state = folder.state.write().unwrap_or_else(PoisonError::into_inner);
        if *state != State::Active {
            return Err(OutputError::Abandoned);
        }
        let published = self.complete(record_json).and_then(|names| {
            publish::install(&self.target.path, &self.target.parent, &folder, self.overwrite)?;
            Ok(names)
        });
        // On failure `folder` removes itself when it is dropped, which takes the lock again.
        let names = published?;
        *state = State::Gone;
        folder.remove();
        Ok(names)
    }

    /// Brings the complete content to disk under its staging name.
    fn complete(&mut self, record_json: Option<&str>) -> Result<Vec<PathBuf>, OutputError> {
        self.check_written()?;
        let mut names = Vec::new();
        for (shard, ShardFile { path, file, .. }) in self.layout.shards.iter().zip(self.files.drain(..)) {
            let header = self.layout.header(shard, record_json)?;
            positional::write_all_at(&file, &header, 0).map_err(OutputError::write(&path))?;
            file.sync_all().map_err(OutputError::write(&path))?;
            names.push(PathBuf::from(&shard.file));
        }
        if !self.as_directory {
            return Ok(vec![self.target.path.clone()]);
        }
        let content = self.folder.content();
        if let Some((name, text)) = self.layout.index() {
            write_file(&content.join(name), |file, path| {
                file.write_all(text.as_bytes()).map_err(OutputError::write(path))
            })?;
            names.push(PathBuf::from(name));
        }
        let side_files = self.side_files.get_mut().unwrap_or_else(PoisonError::into_inner);
        let mut folders = BTreeSet::from([content.clone()]);
        for relative in side_files.iter() {
            folders.extend(relative.ancestors().skip(1).map(|folder| content.join(folder)));
        }
        for folder in folders.iter().rev() {
            publish::sync_folder(folder).map_err(OutputError::write(folder))?;
        }
        names.extend(std::mem::take(side_files));
        Ok(names.into_iter().map(|name| self.target.path.join(name)).collect())
    }

    /// Refuses to publish a tensor that nobody wrote.
    fn check_written(&self) -> Result<(), OutputError> {
        let mut missing = self.layout.shards.iter().zip(&self.files).flat_map(|(shard, file)| {
            let written = file.tensors.iter().map(|(_, written)| written.load(Ordering::Acquire));
            shard.tensors.iter().zip(written).filter(|(_, written)| !written).map(|(tensor, _)| &tensor.name)
        });
        match missing.next() {
            None => Ok(()),
            Some(first) => Err(OutputError::Unwritten { first: first.clone(), total: 1 + missing.count() }),
        }
    }

    /// Claims a tensor, checks the length, and has it written at its offset.
    fn fill(
        &self,
        name: &str,
        found: u64,
        write: impl FnOnce(&File, u64, &Path) -> Result<(), OutputError>,
    ) -> Result<(), OutputError> {
        let unknown = || OutputError::UnknownTensor { tensor: name.to_owned() };
        let (shard_number, number, tensor) = self.layout.find(name).ok_or_else(unknown)?;
        let shard = self.layout.shards.get(shard_number).ok_or_else(unknown)?;
        let target = self.files.get(shard_number).ok_or_else(unknown)?;
        let (claimed, written) = target.tensors.get(number).ok_or_else(unknown)?;
        if tensor.len != found {
            return Err(OutputError::Length { tensor: name.to_owned(), expected: tensor.len, found });
        }
        let _writing = self.writing()?;
        if claimed.swap(true, Ordering::AcqRel) {
            return Err(OutputError::WrittenTwice { tensor: name.to_owned() });
        }
        write(&target.file, shard.offset(tensor), &target.path)?;
        written.store(true, Ordering::Release);
        Ok(())
    }

    /// Checks the name of a side file and has it written.
    fn side_file(
        &self,
        relative: &Path,
        write: impl FnOnce(&mut File, &Path) -> Result<(), OutputError>,
    ) -> Result<(), OutputError> {
        let refused = |reason| Err(OutputError::SideFile { path: relative.to_owned(), reason });
        if !self.as_directory {
            return refused("the output is a single file");
        }
        let leads_out = |component| !matches!(component, Component::Normal(_));
        if relative.as_os_str().is_empty() || relative.components().any(leads_out) {
            return refused("it leads out of the directory");
        }
        let index = self.layout.shards.len() > 1 && relative == Path::new(INDEX_FILE);
        if index || self.layout.shards.iter().any(|shard| relative == Path::new(&shard.file)) {
            return refused("the weights are under this name");
        }
        let _writing = self.writing()?;
        // One at a time: two of the same name, or the folders of both, would get into each other's way.
        let mut side_files = self.side_files.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.folder.content().join(relative);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(OutputError::write(folder))?;
        }
        write_file(&path, write)?;
        side_files.insert(relative.to_owned());
        Ok(())
    }

    /// Keeps the folder from being removed or published while something is written.
    fn writing(&self) -> Result<RwLockReadGuard<'_, State>, OutputError> {
        let state = self.folder.state.read().unwrap_or_else(PoisonError::into_inner);
        if *state == State::Active { Ok(state) } else { Err(OutputError::Abandoned) }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Some systems don't remove open files.
        self.files.clear();
        self.folder.abandon();
    }
}

/// Writes a file anew and brings it to disk.
fn write_file(
    path: &Path,
    write: impl FnOnce(&mut File, &Path) -> Result<(), OutputError>,
) -> Result<(), OutputError> {
    remove_any(path).map_err(OutputError::write(path))?;
    let mut file = File::create_new(path).map_err(OutputError::write(path))?;
    write(&mut file, path)?;
    file.sync_all().map_err(OutputError::write(path))
}
