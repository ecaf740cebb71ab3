//! Checkpoints of a Hugging Face hub: what of a repository is needed, downloaded into the shared cache.
//!
//! The cache is the one that Hugging Face's other tools use, and is left as they expect it. A repository is
//! taken at one commit: what a branch means is asked once, and every file then comes from there.

use std::{
    collections::BTreeSet,
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use hf_hub::{
    Cache, Repo, RepoType,
    api::sync::{ApiBuilder, ApiError, ApiRepo},
};
use indicatif::ProgressBar;

use super::{
    error::CheckpointError,
    folder::{self, Choice, file_name, is_inside, is_safetensors},
    hub_error::HubError,
    side_files::{MODULE_LISTS, TOOL_FOLDERS, is_duplicate},
    source::Source,
};

const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// A hub and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hub {
    /// The address that the interfaces are under.
    pub endpoint: String,
    /// The folder of the cache.
    pub cache: PathBuf,
    /// What to identify with.
    pub token: Option<String>,
    /// Whether to use the cache alone.
    pub offline: bool,
}

impl Hub {
    /// Describes the hub as the environment does: `HF_ENDPOINT`, `HF_HUB_CACHE` or `HF_HOME`, `HF_TOKEN` or the
    /// token file, `HF_HUB_OFFLINE`.
    #[must_use]
    pub fn from_env() -> Self {
        Self::from_variables(|name| env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let cache_home = || match variable("XDG_CACHE_HOME") {
            Some(folder) => PathBuf::from(folder),
            None => env::home_dir().unwrap_or_default().join(".cache"),
        };
        let home = variable("HF_HOME").map_or_else(|| cache_home().join("huggingface"), PathBuf::from);
        let token_file = variable("HF_TOKEN_PATH").map_or_else(|| home.join("token"), PathBuf::from);
        let token = variable("HF_TOKEN").or_else(|| fs::read_to_string(token_file).ok());
        let yes = |value: String| matches!(value.to_ascii_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE");
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
        Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            cache: variable("HF_HUB_CACHE").map_or_else(|| home.join("hub"), PathBuf::from),
            token: token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty()),
            offline: variable("HF_HUB_OFFLINE").is_some_and(yes),
        }
    }

    /// Brings what is needed of a repository into the cache, unless it is there, and returns its folder.
    ///
    /// Needed are the weights as safetensors, their index, and every file that isn't the weights once more.
    ///
    /// # Errors
    /// - a repository or a revision that doesn't exist, or that the token gives no access to
    /// - no safetensors among its files, or several with no index
    /// - without the network, a file that isn't in the cache
    pub fn fetch(&self, repository: &str, revision: &str) -> Result<PathBuf, CheckpointError> {
        // Both become parts of paths and addresses.
        let source: Source = format!("hf://{repository}@{revision}").parse().map_err(HubError::from)?;
        if self.offline {
            return self.cached(repository, revision);
        }
        let api = ApiBuilder::from_cache(Cache::new(self.cache.clone()))
            .with_endpoint(self.endpoint.clone())
            .with_token(self.token.clone())
            .with_retries(3)
            .build()
            .map_err(|error| self.failure(error, repository, revision, None))?;
        let at =
            |revision: &str| Repo::with_revision(repository.to_owned(), RepoType::Model, revision.to_owned());
        let info = self
            .guarded("the list of files", || api.repo(at(revision)).info())?
            .map_err(|error| self.failure(error, repository, revision, None))?;
        if !is_name(&info.sha) {
            return Err(self.protocol("the commit").into());
        }
        let names: Vec<PathBuf> =
            info.siblings.into_iter().map(|file| PathBuf::from(file.rfilename)).collect();
        if let Some(file) = names.iter().find(|name| !is_inside(name)) {
            let file = file.display().to_string();
            return Err(HubError::UnsafePath { repository: repository.to_owned(), file }.into());
        }

        let cached = Cache::new(self.cache.clone());
        let snapshot = cached.repo(at(revision)).pointer_path(&info.sha);
        let pinned = api.repo(at(&info.sha));
        let get = |file: &Path| -> Result<(), CheckpointError> {
            let path = snapshot.join(file);
            if path.exists() { Ok(()) } else { self.download(&pinned, repository, file, &path) }
        };
        for file in side_names(&names) {
            get(file)?;
        }
        let top: Vec<PathBuf> = names.iter().filter(|name| name.components().count() == 1).cloned().collect();
        match folder::choose(Path::new(&source.to_string()), &top)? {
            Choice::Files(files) => files.iter().try_for_each(|file| get(file))?,
            Choice::Index(index) => {
                get(&index)?;
                let entries = folder::read_index(&snapshot.join(&index))?;
                let shards: BTreeSet<PathBuf> = entries.into_iter().map(|(_, shard)| shard.into()).collect();
                // A shard that the repository lacks is reported with the rest when the folder is read.
                shards.iter().filter(|shard| names.contains(shard)).try_for_each(|shard| get(shard))?;
            }
        }
        // Only now may the branch be found without the network.
        cached
            .repo(at(revision))
            .create_ref(&info.sha)
            .map_err(|source| HubError::Cache { path: self.cache.clone(), source })?;
        Ok(snapshot)
    }

    /// Finds a repository in the cache, with all its weights.
    fn cached(&self, repository: &str, revision: &str) -> Result<PathBuf, CheckpointError> {
        let missing = |file: &str| HubError::NotCached {
            repository: repository.to_owned(),
            revision: revision.to_owned(),
            file: file.to_owned(),
            cache: self.cache.clone(),
        };
        let repo = Repo::with_revision(repository.to_owned(), RepoType::Model, revision.to_owned());
        let folder = self.cache.join(repo.folder_name());
        let commit = match fs::read_to_string(folder.join("refs").join(revision)) {
            Ok(commit) => commit.trim().to_owned(),
            // A revision may be a commit itself.
            Err(_) => revision.to_owned(),
        };
        let snapshot = folder.join("snapshots").join(&commit);
        if !is_name(&commit) || !snapshot.is_dir() {
            return Err(missing("model.safetensors").into());
        }
        match folder::choose(&snapshot, &folder::files(&snapshot)?) {
            Ok(Choice::Files(_)) => Ok(snapshot),
            Ok(Choice::Index(index)) => {
                let entries = folder::read_index(&index)?;
                match entries.iter().find(|(_, shard)| is_inside(shard) && !snapshot.join(shard).is_file()) {
                    Some((_, shard)) => Err(missing(shard).into()),
                    None => Ok(snapshot),
                }
            }
            Err(CheckpointError::IncompleteShards { missing: shards, .. }) => {
                Err(missing(&shards.first().map(|shard| file_name(shard)).unwrap_or_default()).into())
            }
            Err(CheckpointError::NoWeights { .. }) => Err(missing("model.safetensors").into()),
            Err(error) => Err(error),
        }
    }

    /// Downloads one file of a commit into the cache.
    fn download(
        &self,
        repo: &ApiRepo,
        repository: &str,
        file: &Path,
        path: &Path,
    ) -> Result<(), CheckpointError> {
        // Names of ours have only plain components; the hub separates them as addresses do.
        let name = file.to_string_lossy().replace('\\', "/");
        let done = self.guarded(&format!("`{name}`"), || {
            if is_safetensors(file) {
                repo.download_with_progress(&name, ProgressBar::new(0))
            } else {
                repo.download_with_progress(&name, ())
            }
        })?;
        match done {
            Ok(_) => Ok(()),
            // There is no first byte to ask for in an empty file.
            Err(error) if status(&error) == Some(416) => {
                let written = path.parent().map_or(Ok(()), fs::create_dir_all);
                let written = written.and_then(|()| fs::write(path, []));
                written.map_err(|source| HubError::Cache { path: path.to_owned(), source }.into())
            }
            Err(error) => Err(self.failure(error, repository, "", Some(&name)).into()),
        }
    }

    /// Runs the client, which panics at some malformed answers.
    fn guarded<T>(&self, what: &str, ask: impl FnOnce() -> T) -> Result<T, HubError> {
        catch_unwind(AssertUnwindSafe(ask)).map_err(|_| self.protocol(what))
    }

    fn protocol(&self, what: &str) -> HubError {
        HubError::Protocol { endpoint: self.endpoint.clone(), what: what.to_owned() }
    }

    /// Translates the client's errors.
    fn failure(&self, error: ApiError, repository: &str, revision: &str, file: Option<&str>) -> HubError {
        let (repository, endpoint) = (repository.to_owned(), self.endpoint.clone());
        let what = file.map_or_else(|| format!("the files of `{repository}`"), |file| format!("`{file}`"));
        match (status(&error), file) {
            (Some(401 | 403), _) => {
                HubError::Refused { repository, endpoint, identified: self.token.is_some() }
            }
            (Some(404), Some(file)) => HubError::NoFile { repository, file: file.to_owned() },
            (Some(404), None) => HubError::NotFound { repository, revision: revision.to_owned(), endpoint },
            _ => match error {
                ApiError::IoError(source) => HubError::Cache { path: self.cache.clone(), source },
                ApiError::MissingHeader(_) | ApiError::InvalidHeader(_) | ApiError::ParseIntError(_) => {
                    HubError::Protocol { endpoint, what }
                }
                other => HubError::Transfer { endpoint, what, source: Box::new(other) },
            },
        }
    }
}

/// Lists the files of a repository that aren't its weights and that the output needs.
fn side_names(names: &[PathBuf]) -> Vec<&Path> {
    let top = |name: &str| names.iter().any(|file| file == Path::new(name));
    let modular = MODULE_LISTS.iter().any(|name| top(name));
    let folders: BTreeSet<Option<&Path>> =
        names.iter().filter(|name| is_safetensors(name)).map(|name| name.parent()).collect();
    let mut wanted = Vec::new();
    for name in names {
        let tools = name.components().any(|part| TOOL_FOLDERS.iter().any(|tool| part.as_os_str() == *tool));
        if tools || is_duplicate(name, modular && !folders.contains(&name.parent())) {
            continue;
        }
        // The client puts names into addresses as they are.
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.~/+=,@()!".contains(c);
        if name.to_string_lossy().chars().all(plain) {
            wanted.push(name.as_path());
        } else {
            tracing::warn!("`{}` is left out: its name can't be asked for", name.display());
        }
    }
    wanted
}

/// Returns the status with which a server refused.
fn status(error: &ApiError) -> Option<u16> {
    match error {
        ApiError::RequestError(error) => match error.as_ref() {
            ureq::Error::StatusCode(code) => Some(*code),
            _ => None,
        },
        ApiError::TooManyRetries(error) => status(error),
        _ => None,
    }
}

/// Says whether a commit can be the name of a folder.
fn is_name(commit: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !commit.is_empty() && !commit.starts_with('.') && commit.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn hub(variables: &[(&str, &str)]) -> Hub {
        let variables: Vec<(String, String)> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Hub::from_variables(|name| variables.iter().find(|(known, _)| known == name).map(|(_, v)| v.clone()))
    }

    #[test]
    fn the_environment_decides_where_and_as_whom() -> io::Result<()> {
        let home = tempfile::tempdir()?;
        let text = home.path().display().to_string();
        let plain = hub(&[("HF_HOME", &text)]);
        assert_eq!(plain.endpoint, "https://huggingface.co");
        assert_eq!(plain.cache, home.path().join("hub"));
        assert_eq!((plain.token, plain.offline), (None, false));

        fs::write(home.path().join("token"), "from-file\n")?;
        assert_eq!(hub(&[("HF_HOME", &text)]).token.as_deref(), Some("from-file"));
        let set = hub(&[
            ("HF_HOME", &text),
            ("HF_HUB_CACHE", "/cache"),
            ("HF_TOKEN", "from-variable"),
            ("HF_ENDPOINT", "http://localhost:1/"),
            ("HF_HUB_OFFLINE", "yes"),
        ]);
        assert_eq!(set.cache, Path::new("/cache"));
        assert_eq!(set.token.as_deref(), Some("from-variable"));
        assert_eq!(set.endpoint, "http://localhost:1");
        assert!(set.offline);
        assert!(!hub(&[("HF_HOME", &text), ("HF_HUB_OFFLINE", "0")]).offline);
        Ok(())
    }

    #[test]
    fn of_a_repository_only_what_is_needed_is_wanted() {
        let names = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        let encoder = names(&[
            ".gitattributes",
            "1_Pooling/config.json",
            "2_Dense/config.json",
            "2_Dense/pytorch_model.bin",
            "config.json",
            "model.safetensors",
            "modules.json",
            "onnx/model.onnx",
            "openvino/openvino_model.bin",
            "pytorch_model.bin",
            "rust_model.ot",
            "tf_model.h5",
            "a picture.png",
        ]);
        let wanted: Vec<String> =
            side_names(&encoder).iter().map(|name| name.display().to_string()).collect();
        assert_eq!(
            wanted,
            [
                ".gitattributes",
                "1_Pooling/config.json",
                "2_Dense/config.json",
                "2_Dense/pytorch_model.bin",
                "config.json",
                "modules.json"
            ]
        );
        let llama = names(&["config.json", "model.safetensors", "original/consolidated.00.pth"]);
        assert_eq!(side_names(&llama), [Path::new("config.json")]);
    }
}
