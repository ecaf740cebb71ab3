//! What a run needs, opened and checked before anything is computed.

use super::training::RunOptions;
use super::{CommandError, networks};
use crate::checkpoint::{OutputError, Source};
use crate::data::{Augmentation, DataSource, Format, Loader, LoaderOptions, Material, Split};
use crate::layers::Execution;
use crate::models::{Architecture, Network};
use crate::train::RunFolder;
use candle_core::Device;
use serde_json::Value;
use std::io;
use std::path::Path;

/// Where a run is computed, and where it is kept.
pub(super) struct Place {
    pub(super) device: Device,
    pub(super) folder: RunFolder,
    overwrite: bool,
    resume: bool,
}

/// The place, the data and the teacher of a run on pictures.
pub(super) struct Preparation {
    pub(super) place: Place,
    pub(super) train: Loader,
    pub(super) test: Loader,
    pub(super) teacher: Option<Teacher>,
}

/// A network whose logits are learned, and what tells it from others.
pub(super) struct Teacher {
    pub(super) network: Network,
    pub(super) fingerprint: String,
}

impl Place {
    /// Refuses what can be refused of a run before anything is read. Nothing is written or removed.
    pub(super) fn new(options: &RunOptions, checkpoint: Option<&Source>) -> Result<Self, CommandError> {
        let device = options.device.open()?;
        let folder = RunFolder::new(&options.output);
        check_folder(&folder, options, checkpoint)?;
        Ok(Self { device, folder, overwrite: options.overwrite, resume: options.resume })
    }

    /// Makes room where an earlier run is to be replaced: the last thing before this one writes.
    pub(super) fn clear(&self) -> Result<(), CommandError> {
        if !self.folder.is_run() {
            return Ok(());
        }
        if !self.overwrite {
            // Another run may have begun, and ended, since this one was asked for.
            let path = self.folder.root().to_path_buf();
            return if self.resume { Ok(()) } else { Err(CommandError::Taken { path }) };
        }
        let _lock = self.folder.lock()?;
        let failed = |source| CommandError::SideFile {
            what: "can't remove the earlier run in",
            path: self.folder.root().to_path_buf(),
            source,
        };
        self.folder.clear().map_err(failed)
    }
}

impl Preparation {
    /// Refuses what can be refused of a run before its network is made. Nothing is written or removed.
    pub(super) fn new(
        options: &RunOptions,
        data: &DataSource,
        checkpoint: Option<&Source>,
    ) -> Result<Self, CommandError> {
        let place = Place::new(options, checkpoint)?;
        let (train, test) = loaders(options, data)?;
        let teacher = match &options.teacher {
            None => None,
            Some(source) => {
                let named = options.teacher_architecture;
                let (_, state, network) = networks::open(source, named, Execution::Auto, &place.device)?;
                networks::check(network.architecture(), &train)?;
                Some(Teacher { network, fingerprint: state.fingerprint()? })
            }
        };
        Ok(Self { place, train, test, teacher })
    }

    /// Refuses a network that the data were not made for.
    pub(super) fn check(&self, architecture: &Architecture) -> Result<(), CommandError> {
        networks::check(architecture, &self.train)?;
        networks::check(architecture, &self.test)
    }
}

/// Refuses a folder that is taken, that cannot be written, or where something would be lost.
fn check_folder(
    folder: &RunFolder,
    options: &RunOptions,
    checkpoint: Option<&Source>,
) -> Result<(), CommandError> {
    let root = folder.root();
    let path = root.to_path_buf();
    // A relative name's last ancestor is empty, and exists nowhere.
    let existing = root.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("."));
    if !existing.is_dir() {
        return Err(CommandError::NoFolder { path: existing.to_path_buf() });
    }
    let taken = root.read_dir().is_ok_and(|mut entries| entries.next().is_some());
    if taken && !folder.is_run() {
        return Err(CommandError::NoRun { path });
    }
    if taken && !options.overwrite && !options.resume {
        return Err(CommandError::Taken { path });
    }
    if options.resume && !folder.has_state() {
        // Says that there is none.
        folder.load_state(&Value::Null)?;
    }
    // A checkpoint's folder is never changed: what lies in it is taken for a part of it.
    if let (Some(Source::Path(input)), Ok(place)) = (checkpoint, existing.canonicalize())
        && input.is_dir()
        && !options.resume
        && input
            .canonicalize()
            .is_ok_and(|input| place.starts_with(&input) && (root != existing || place != input))
    {
        return Err(CommandError::InsideInput { path, input: input.clone() });
    }
    if let Ok(root) = root.canonicalize() {
        let inputs = checkpoint.into_iter().chain(&options.teacher);
        for input in inputs.filter(|_| options.overwrite).filter_map(|source| match source {
            Source::Path(path) => Some(path),
            Source::Hub { .. } => None,
        }) {
            if input.canonicalize().is_ok_and(|input| input.starts_with(&root)) {
                return Err(CommandError::OwnInput { path, input: input.clone() });
            }
        }
    }
    // Pictures of a folder are all that is in it.
    if let Material::Images(source) = &options.data
        && let (Ok(resolved), Ok(data)) = (existing.canonicalize(), source.path.canonicalize())
        && matches!(source.format, Format::Images | Format::TinyImagenet)
        && ["train", "val", "test"].iter().any(|split| resolved.starts_with(data.join(split)))
    {
        return Err(CommandError::InsideData { path, data });
    }
    let unwritable = |source: io::Error| OutputError::Unwritable { path: existing.to_path_buf(), source };
    tempfile::tempfile_in(existing).map(drop).map_err(|error| unwritable(error).into())
}

fn loaders(options: &RunOptions, data: &DataSource) -> Result<(Loader, Loader), CommandError> {
    let training = &options.training;
    let train = networks::dataset(data, Split::Train, training.train_limit)?;
    let test = networks::dataset(data, Split::Test, training.test_limit)?;
    let augmentation = training.augmentation.unwrap_or_else(|| Augmentation::for_format(train.format()));
    let mut loading = LoaderOptions::new(training.batch_size);
    loading.seed = training.seed;
    loading.shuffle = true;
    loading.augmentation = augmentation;
    loading.normalization.clone_from(&training.normalization);
    loading.workers = options.workers.unwrap_or(loading.workers);
    let train = Loader::new(train, loading)?;
    let normalization = training.normalization.as_ref();
    let test = networks::plain_loader(test, training.batch_size, normalization, options.workers, None)?;
    Ok((train, test))
}
