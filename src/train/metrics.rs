use indexmap::IndexMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

/// What was measured over some steps of training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepMetrics {
    /// The epoch, counted from 1.
    pub epoch: u64,
    /// Steps taken since training began.
    pub step: u64,
    /// The mean loss since the record before.
    #[serde(with = "finite")]
    pub loss: f64,
    /// The part of samples since then whose label had the largest logit.
    #[serde(with = "finite")]
    pub accuracy: f64,
    /// The learning rate of the last step.
    #[serde(with = "finite")]
    pub learning_rate: f64,
    /// The norm of the last step's gradients, before clipping, where it was computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gradient_norm: Option<f64>,
    /// Samples a second since the record before.
    #[serde(with = "finite")]
    pub samples_per_sec: f64,
}

/// What was measured over an epoch, and on the test set after it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochMetrics {
    /// The epoch, counted from 1; 0 is before training.
    pub epoch: u64,
    /// Steps taken since training began.
    pub step: u64,
    /// The mean loss over the epoch.
    #[serde(with = "finite")]
    pub train_loss: f64,
    /// The part of training samples that were right, in the course of the epoch.
    #[serde(with = "finite")]
    pub train_accuracy: f64,
    /// The mean loss on the test set.
    #[serde(with = "finite")]
    pub test_loss: f64,
    /// The part of the test set that is right, where a sample can be.
    #[serde(with = "finite")]
    pub test_accuracy: f64,
    /// What else was measured on the test set, by name.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub scores: IndexMap<String, f64>,
    /// The learning rate of the epoch's last step.
    #[serde(with = "finite")]
    pub learning_rate: f64,
    /// Seconds of training until then, over all its sessions.
    #[serde(with = "finite")]
    pub elapsed_secs: f64,
    /// The factored layers, in order.
    #[serde(default)]
    pub layers: Vec<LayerDiagnostics>,
}

impl EpochMetrics {
    /// Whether it is better than an epoch of this merit and test loss: of scores that are equal the less loss counts, of
    /// accuracies the first.
    #[must_use]
    pub fn is_better_than(&self, merit: f64, test_loss: f64) -> bool {
        let tie = self.merit() == merit && !self.scores.is_empty();
        self.merit() > merit || (tie && self.test_loss < test_loss)
    }

    /// What the best epoch is told by, more is better: the first of the scores, or the accuracy, or else the loss.
    #[must_use]
    pub fn merit(&self) -> f64 {
        match self.scores.first() {
            Some((name, &score)) if name == PERPLEXITY => -score,
            Some((_, &score)) => score,
            None if self.test_accuracy.is_finite() => self.test_accuracy,
            None => -self.test_loss,
        }
    }
}

/// The name of the score that is better the less it is.
pub(super) const PERPLEXITY: &str = "perplexity";

/// What a factored layer `W = A B` looks like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerDiagnostics {
    /// Its name.
    pub layer: String,
    /// `|A B|`.
    #[serde(with = "finite")]
    pub norm: f64,
    /// The sum of singular values of `A B`.
    #[serde(with = "finite")]
    pub nuclear_norm: f64,
    /// `(|A|^2 + |B|^2) / 2`, which the nuclear norm cannot exceed.
    #[serde(with = "finite")]
    pub nuclear_bound: f64,
    /// The learning rate over `|A B|^2`.
    #[serde(with = "finite")]
    pub effective_step_size: f64,
    /// How far the factors are from orthogonal.
    #[serde(with = "finite")]
    pub non_orthogonality: f64,
    /// `|A B|^2 / s_1^2`.
    #[serde(with = "finite")]
    pub stable_rank: f64,
}

impl LayerDiagnostics {
    /// Every number under its name.
    #[must_use]
    pub fn values(&self) -> [(&'static str, f64); 6] {
        [
            ("norm", self.norm),
            ("nuclear_norm", self.nuclear_norm),
            ("nuclear_bound", self.nuclear_bound),
            ("effective_step_size", self.effective_step_size),
            ("non_orthogonality", self.non_orthogonality),
            ("stable_rank", self.stable_rank),
        ]
    }
}

/// A number that is null where it is not finite: JSON knows no other.
mod finite {
    use super::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde calls")]
    pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        if value.is_finite() { serializer.serialize_f64(*value) } else { serializer.serialize_none() }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
    }
}

/// One line of a metrics file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum MetricsRecord {
    /// After some steps.
    Step(StepMetrics),
    /// After an epoch.
    Epoch(EpochMetrics),
}

impl MetricsRecord {
    /// Steps taken when it was written.
    #[must_use]
    pub fn step(&self) -> u64 {
        match self {
            Self::Step(metrics) => metrics.step,
            Self::Epoch(metrics) => metrics.step,
        }
    }
}

/// Why metrics are not written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetricsError {
    /// The file cannot be made, read or written.
    #[error("can't {action} `{}`", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A line is not a record.
    #[error("line {line} of `{}` is not a record of training", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Its line, counted from 1.
        line: usize,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
}

/// A file of records, one JSON document a line, each written at once.
///
/// # Examples
///
/// ```
/// use fnl::train::{MetricsRecord, MetricsWriter, StepMetrics, read_metrics};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("metrics.jsonl");
/// let record = |step| {
///     MetricsRecord::Step(StepMetrics {
///         epoch: 1, step, loss: f64::NAN, accuracy: 0.5, learning_rate: 0.1, gradient_norm: None, samples_per_sec: 800.0,
///     })
/// };
/// let mut writer = MetricsWriter::create(&path)?;
/// writer.write(&record(10))?;
/// writer.write(&record(20))?;
/// assert_eq!(
///     std::fs::read_to_string(&path)?.lines().next().unwrap(),
///     r#"{"kind":"step","epoch":1,"step":10,"loss":null,"accuracy":0.5,"learning_rate":0.1,"samples_per_sec":800.0}"#,
/// );
/// MetricsWriter::resume(&path, 15)?; // from a state that was saved after step 15
/// assert_eq!(read_metrics(&path)?.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct MetricsWriter {
    path: PathBuf,
    file: File,
}

impl MetricsWriter {
    /// A new file, in place of one that is there.
    ///
    /// # Errors
    ///
    /// - a place that cannot be written
    pub fn create(path: &Path) -> Result<Self, MetricsError> {
        let file = File::create(path).map_err(failed("create", path))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Goes on with a file whose run is resumed after `step` steps: what was recorded beyond is cut off, and so is a last
    /// line that was not finished. Without a file it begins one.
    ///
    /// # Errors
    ///
    /// - a file that cannot be read and written, or a finished line that is no record; the file is left as it is then
    pub fn resume(path: &Path, step: u64) -> Result<Self, MetricsError> {
        let file = OpenOptions::new().read(true).append(true).create(true).open(path);
        let file = file.map_err(failed("open", path))?;
        let mut kept = 0;
        each_line(&file, path, |record, end| {
            let keep = record.step() <= step;
            kept = if keep { end } else { kept };
            keep
        })?;
        file.set_len(kept).map_err(failed("truncate", path))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Appends a record.
    ///
    /// # Errors
    ///
    /// - a file that cannot be written
    pub fn write(&mut self, record: &MetricsRecord) -> Result<(), MetricsError> {
        let written = serde_json::to_string(record).map_err(io::Error::from);
        // One call for the whole line, so that an interrupt leaves either all of it or what `resume` recognizes.
        let written = written.and_then(|line| self.file.write_all((line + "\n").as_bytes()));
        written.map_err(failed("write to", &self.path))
    }
}

/// Reads all records of a file; a last line that was not finished is left out.
///
/// # Errors
///
/// - a file that cannot be read, or a finished line that is no record
pub fn read_metrics(path: &Path) -> Result<Vec<MetricsRecord>, MetricsError> {
    let file = File::open(path).map_err(failed("open", path))?;
    let mut records = Vec::new();
    each_line(&file, path, |record, _| {
        records.push(record);
        true
    })?;
    Ok(records)
}

/// Gives the record of each finished line and where the line ends, until it is told to stop.
fn each_line(
    file: &File,
    path: &Path,
    mut act: impl FnMut(MetricsRecord, u64) -> bool,
) -> Result<(), MetricsError> {
    let mut reader = BufReader::new(file);
    let (mut text, mut end, mut line) = (Vec::new(), 0, 0);
    loop {
        text.clear();
        let read = reader.read_until(b'\n', &mut text).map_err(failed("read", path))?;
        if text.last() != Some(&b'\n') {
            return Ok(());
        }
        (end, line) = (end + read as u64, line + 1);
        let record = serde_json::from_slice(&text);
        let record = record.map_err(|source| MetricsError::Line { path: path.to_owned(), line, source })?;
        if !act(record, end) {
            return Ok(());
        }
    }
}

pub(super) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> MetricsError {
    move |source| MetricsError::File { action, path: path.to_owned(), source }
}
