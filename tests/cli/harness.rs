//! Running the binary in a folder of its own, checkpoints made on the fly, and what a folder holds.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The fixture of this name.
pub(crate) fn fixture(name: &str) -> String {
    format!("{}/fixtures/{name}", env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn silero() -> String {
    fixture("silero_vad_16k.safetensors")
}

/// A finished run, shown whole when an assertion about it fails.
pub(crate) struct Run {
    shown: String,
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    #[track_caller]
    pub(crate) fn fail(&self, why: &str) -> ! {
        panic!(
            "{why}\n$ {}\nexit code: {:?}\n--- stdout\n{}--- stderr\n{}---",
            self.shown, self.code, self.stdout, self.stderr
        );
    }

    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        if self.code != Some(code) {
            self.fail(&format!("expected exit code {code}"));
        }
        self
    }

    /// Exact stderr.
    #[track_caller]
    pub(crate) fn stderr(self, expected: &str) -> Self {
        if self.stderr != expected {
            self.fail(&format!("expected stderr\n{expected}---"));
        }
        self
    }

    #[track_caller]
    pub(crate) fn stderr_has(self, part: &str) -> Self {
        if !self.stderr.contains(part) {
            self.fail(&format!("expected in stderr: {part}"));
        }
        self
    }

    #[track_caller]
    pub(crate) fn stderr_lacks(self, part: &str) -> Self {
        if self.stderr.contains(part) {
            self.fail(&format!("expected not in stderr: {part}"));
        }
        self
    }

    #[track_caller]
    pub(crate) fn stdout_has(self, part: &str) -> Self {
        if !self.stdout.contains(part) {
            self.fail(&format!("expected in stdout: {part}"));
        }
        self
    }

    #[track_caller]
    pub(crate) fn stdout_is_empty(self) -> Self {
        if !self.stdout.is_empty() {
            self.fail("expected nothing on stdout");
        }
        self
    }

    /// The one JSON document that stdout is: anything before or after it fails to parse.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| self.fail(&format!("stdout is not one document: {error}")))
    }
}

/// An empty folder in which commands run.
pub(crate) struct Place {
    folder: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { folder: TempDir::new().expect("a temporary folder") }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(&path, bytes).expect("a file");
        path
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.join(name))
            .unwrap_or_else(|error| panic!("{name}: {error}; there are {:?}", self.names()))
    }

    pub(crate) fn text(&self, name: &str) -> String {
        String::from_utf8(self.read(name)).expect("UTF-8")
    }

    /// The binary, with this folder as its own.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("compress"));
        command.args(arguments).current_dir(self.path()).stdin(Stdio::null());
        for variable in ["NO_COLOR", "CLICOLOR_FORCE", "COLUMNS", "RUST_BACKTRACE"] {
            command.env_remove(variable);
        }
        command
    }

    pub(crate) fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Run {
        run(self.command(arguments))
    }

    /// Runs what must fail: this exit code, an error and nothing else, and no file made, changed or removed.
    #[track_caller]
    pub(crate) fn refuses<S: AsRef<OsStr>>(&self, code: i32, arguments: impl IntoIterator<Item = S>) -> Run {
        let before = snapshot(self.path());
        let run = self.run(arguments).exits(code).stdout_is_empty();
        if !run.stderr.lines().any(|line| line.starts_with("error: ")) || run.stderr.contains("panicked") {
            run.fail("expected an error message");
        }
        if snapshot(self.path()) != before {
            run.fail(&format!("the folder changed: {:?}", self.names()));
        }
        run
    }

    /// How far the run in a folder is, as its last state says.
    pub(crate) fn position(&self, out: &str) -> Option<Value> {
        let bytes = std::fs::read(self.join(&format!("{out}/checkpoints/state.safetensors"))).ok()?;
        let (head, _) = header(&bytes);
        let state: Value = serde_json::from_str(head["__metadata__"]["training"].as_str()?).ok()?;
        Some(state["position"].clone())
    }

    /// Everything in the folder, hidden or not.
    pub(crate) fn names(&self) -> Vec<PathBuf> {
        snapshot(self.path()).into_keys().collect()
    }
}

pub(crate) fn run(mut command: Command) -> Run {
    let shown = format!("{command:?}");
    let output = command.output().expect("the binary starts");
    Run {
        shown,
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("stdout is UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("stderr is UTF-8"),
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Folder,
    File(Vec<u8>),
    Link(PathBuf),
}

/// Every name below a folder with its content.
pub(crate) fn snapshot(root: &Path) -> BTreeMap<PathBuf, Content> {
    let mut found = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(&folder).expect("a readable folder").flatten() {
            let path = entry.path();
            let kind = fs::symlink_metadata(&path).expect("metadata");
            let content = if kind.is_symlink() {
                Content::Link(fs::read_link(&path).expect("a link"))
            } else if kind.is_dir() {
                pending.push(path.clone());
                Content::Folder
            } else {
                Content::File(fs::read(&path).expect("a readable file"))
            };
            found.insert(path.strip_prefix(root).expect("inside").to_owned(), content);
        }
    }
    found
}

/// A safetensors file with this header, valid or not.
pub(crate) fn raw(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

/// Gaussian elements with a decaying spectrum on top: reproducible, and no two tensors alike.
pub(crate) fn elements(seed: u64, rows: usize, columns: usize) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let left: Vec<f32> = (0..rows).map(|_| random.random_range(-1.0..1.0)).collect();
    let right: Vec<f32> = (0..columns).map(|_| random.random_range(-1.0..1.0)).collect();
    let mut elements = Vec::with_capacity(rows * columns);
    for &l in &left {
        for &r in &right {
            elements.push(3.0 * l * r + random.random_range(-1.0..1.0f32));
        }
    }
    elements
}

/// A safetensors file of F32 tensors.
pub(crate) fn checkpoint(tensors: &[(&str, &[usize], Vec<f32>)]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    for (name, shape, elements) in tensors {
        let start = data.len();
        data.extend(elements.iter().flat_map(|element| element.to_le_bytes()));
        header.insert(
            (*name).to_owned(),
            json!({"dtype": "F32", "shape": shape, "data_offsets": [start, data.len()]}),
        );
    }
    raw(&Value::Object(header).to_string(), &data)
}

/// Linear layers `blocks.N.linear`, each `size x size`.
pub(crate) fn linears(count: usize, size: usize) -> Vec<u8> {
    let names: Vec<String> = (0..count).map(|number| format!("blocks.{number}.linear.weight")).collect();
    let shape = [size, size];
    let tensors: Vec<(&str, &[usize], Vec<f32>)> = names
        .iter()
        .enumerate()
        .map(|(number, name)| (name.as_str(), &shape[..], elements(number as u64, size, size)))
        .collect();
    checkpoint(&tensors)
}

/// The header of a safetensors file, and where its data start.
pub(crate) fn header(bytes: &[u8]) -> (Value, usize) {
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
    (serde_json::from_slice(&bytes[8..8 + length]).expect("a header"), 8 + length)
}

/// Names and shapes of a file's tensors.
pub(crate) fn shapes(bytes: &[u8]) -> BTreeMap<String, Vec<usize>> {
    let (header, _) = header(bytes);
    let tensors = header.as_object().expect("an object").iter().filter(|(name, _)| *name != "__metadata__");
    tensors
        .map(|(name, tensor)| {
            (name.clone(), serde_json::from_value(tensor["shape"].clone()).expect("a shape"))
        })
        .collect()
}

/// The bytes of one tensor in a file.
pub(crate) fn range_of(bytes: &[u8], tensor: &str) -> std::ops::Range<usize> {
    let (header, start) = header(bytes);
    let offsets: [usize; 2] =
        serde_json::from_value(header[tensor]["data_offsets"].clone()).expect("offsets");
    start + offsets[0]..start + offsets[1]
}

/// Copies a folder.
pub(crate) fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a copy");
        }
    }
}
