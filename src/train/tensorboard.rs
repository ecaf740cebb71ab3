use super::metrics::{EpochMetrics, MetricsError, MetricsRecord, StepMetrics, failed};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// A file of events, which TensorBoard shows as curves.
///
/// The file is a sequence of records, each a length of eight bytes, the length's checksum, the message and its checksum, the numbers
/// with their least byte first. A checksum is `((c >> 15) | (c << 17)) + 0xa282ead8` of the CRC-32C `c`. A message is
/// an `Event` of Protocol Buffers:
///
/// | field | |
/// | --- | --- |
/// | 1 | `double wall_time`, seconds since 1970 |
/// | 2 | `int64 step` |
/// | 3 | `string file_version`, in the first event: `brain.Event:2` |
/// | 5 | `Summary summary`, with field 1, repeated: `Value` with 1, `string tag`, and 2, `float simple_value` |
/// | 7 | `SessionLog session_log`, with field 1, `status`, 1 for a start |
///
/// # Examples
///
/// ```
/// use fnl::train::EventWriter;
///
/// let folder = tempfile::tempdir()?;
/// let mut writer = EventWriter::create(folder.path())?;
/// writer.scalars(100, &[("loss/train", 1.5), ("loss/test", 1.75)])?;
/// // 24 bytes of version, 50 of summary, and 16 around each
/// assert_eq!(std::fs::metadata(writer.path())?.len(), 24 + 50 + 2 * 16);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct EventWriter {
    path: PathBuf,
    file: File,
}

impl EventWriter {
    /// A new file in a folder, which is made where it is missing.
    ///
    /// # Errors
    ///
    /// - a folder or file that cannot be made or written
    pub fn create(folder: &Path) -> Result<Self, MetricsError> {
        fs::create_dir_all(folder).map_err(failed("create", folder))?;
        let (path, file) = new_file(folder)?;
        let mut writer = Self { path, file };
        let mut event = Message::event(None);
        event.bytes(3, b"brain.Event:2");
        writer.write(&event)?;
        Ok(writer)
    }

    /// A new file in a folder that has others, for a run that is resumed after `step` steps: TensorBoard forgets what the others
    /// say about later ones.
    ///
    /// # Errors
    ///
    /// - a folder or file that cannot be made or written
    pub fn resume(folder: &Path, step: u64) -> Result<Self, MetricsError> {
        let mut writer = Self::create(folder)?;
        let mut start = Message::default();
        start.varint(1, 1);
        let mut event = Message::event(Some(step + 1));
        event.bytes(7, &start.0);
        writer.write(&event)?;
        Ok(writer)
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes one point of each of these curves.
    ///
    /// # Errors
    ///
    /// - a file that cannot be written
    pub fn scalars<S: AsRef<str>>(&mut self, step: u64, values: &[(S, f64)]) -> Result<(), MetricsError> {
        let mut summary = Message::default();
        for (tag, value) in values {
            let mut one = Message::default();
            one.bytes(1, tag.as_ref().as_bytes());
            one.float(2, *value as f32);
            summary.bytes(1, &one.0);
        }
        let mut event = Message::event(Some(step));
        event.bytes(5, &summary.0);
        self.write(&event)
    }

    /// Writes a record of metrics: curves are named by what is measured, then by where, `loss/test`, `stable_rank/conv1`.
    ///
    /// # Errors
    ///
    /// - a file that cannot be written
    pub fn record(&mut self, record: &MetricsRecord) -> Result<(), MetricsError> {
        match record {
            MetricsRecord::Step(metrics) => self.scalars(metrics.step, &of_steps(metrics)),
            MetricsRecord::Epoch(metrics) => self.scalars(metrics.step, &of_epoch(metrics)),
        }
    }

    fn write(&mut self, event: &Message) -> Result<(), MetricsError> {
        // One call for the whole record, so that an interrupt rarely leaves a part of it.
        self.file.write_all(&event.record()).map_err(failed("write to", &self.path))
    }
}

/// A file with a name that no other has.
fn new_file(folder: &Path) -> Result<(PathBuf, File), MetricsError> {
    let seconds = since_1970().floor();
    let mut number = 0;
    loop {
        let path = folder.join(format!("events.out.tfevents.{seconds:010}.fnl.{number}"));
        match File::create_new(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(failed("create", &path)(error)),
        }
    }
}

fn since_1970() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |elapsed| elapsed.as_secs_f64())
}

fn of_steps(metrics: &StepMetrics) -> Vec<(String, f64)> {
    let mut values = vec![
        ("steps/loss".to_owned(), metrics.loss),
        ("steps/accuracy".to_owned(), metrics.accuracy),
        ("steps/learning_rate".to_owned(), metrics.learning_rate),
        ("steps/samples_per_sec".to_owned(), metrics.samples_per_sec),
    ];
    values.extend(metrics.gradient_norm.map(|norm| ("steps/gradient_norm".to_owned(), norm)));
    values.retain(|(_, value)| value.is_finite());
    values
}

fn of_epoch(metrics: &EpochMetrics) -> Vec<(String, f64)> {
    let mut values = vec![
        ("loss/train".to_owned(), metrics.train_loss),
        ("loss/test".to_owned(), metrics.test_loss),
        ("accuracy/train".to_owned(), metrics.train_accuracy),
        ("accuracy/test".to_owned(), metrics.test_accuracy),
    ];
    values.retain(|(_, value)| value.is_finite() || !value.is_nan());
    values.extend(metrics.scores.iter().map(|(name, &score)| (format!("{name}/test"), score)));
    for layer in &metrics.layers {
        let named = |(what, value): (&str, f64)| (format!("{what}/{}", layer.layer), value);
        values.extend(layer.values().map(named));
    }
    values
}

/// A message of Protocol Buffers: fields, each after its number and kind.
#[derive(Debug, Default)]
struct Message(Vec<u8>);

impl Message {
    fn event(step: Option<u64>) -> Self {
        let mut event = Self::default();
        event.key(1, 1);
        event.0.extend(since_1970().to_le_bytes());
        if let Some(step) = step {
            event.varint(2, step);
        }
        event
    }

    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn key(&mut self, field: u64, kind: u64) {
        self.raw_varint(field << 3 | kind);
    }

    fn varint(&mut self, field: u64, value: u64) {
        self.key(field, 0);
        self.raw_varint(value);
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.key(field, 2);
        self.raw_varint(bytes.len() as u64);
        self.0.extend(bytes);
    }

    fn float(&mut self, field: u64, value: f32) {
        self.key(field, 5);
        self.0.extend(value.to_le_bytes());
    }

    /// The message between its length and checksums.
    fn record(&self) -> Vec<u8> {
        let checksum =
            |bytes: &[u8]| crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes();
        let length = (self.0.len() as u64).to_le_bytes();
        let mut record = Vec::with_capacity(self.0.len() + 16);
        record.extend(length);
        record.extend(checksum(&length));
        record.extend(&self.0);
        record.extend(checksum(&self.0));
        record
    }
}
