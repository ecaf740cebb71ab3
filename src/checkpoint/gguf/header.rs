use super::error::GgufError;
use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};

/// Bytes of the longest text that is read: of chat templates, with room.
const LONGEST_TEXT: u64 = 1 << 24;

/// A place in a header, which never reads past the end of the file.
pub(super) struct Cursor {
    path: PathBuf,
    reader: BufReader<File>,
    position: u64,
    size: u64,
}

impl Cursor {
    pub(super) fn new(path: &Path, file: File, size: u64) -> Self {
        Self { path: path.to_owned(), reader: BufReader::with_capacity(1 << 16, file), position: 0, size }
    }

    /// Bytes before this place.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn malformed(
        &self,
        what: &str,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> GgufError {
        let (path, what) = (self.path.clone(), format!("`{what}`"));
        GgufError::Malformed { path, what, found: found.into(), expected: expected.into() }
    }

    /// The next bytes; `what` they belong to is said where they are missing.
    pub(super) fn bytes<const N: usize>(&mut self, what: &str) -> Result<[u8; N], GgufError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes, what)?;
        Ok(bytes)
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32, GgufError> {
        Ok(u32::from_le_bytes(self.bytes(what)?))
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64, GgufError> {
        Ok(u64::from_le_bytes(self.bytes(what)?))
    }

    /// A text with its length before it.
    pub(super) fn text(&mut self, what: &str) -> Result<String, GgufError> {
        let length = self.u64(what)?;
        if length > LONGEST_TEXT {
            let expected = format!("at most {LONGEST_TEXT}");
            return Err(self.malformed(what, format!("a text of {length} bytes"), expected));
        }
        self.demand(length, what)?;
        let mut bytes = vec![0; length as usize];
        self.fill(&mut bytes, what)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Refuses what the file is too short for.
    fn demand(&self, count: u64, what: &str) -> Result<(), GgufError> {
        let expected = self.position.saturating_add(count);
        if expected <= self.size {
            return Ok(());
        }
        let (path, what) = (self.path.clone(), format!("`{what}`"));
        Err(GgufError::Truncated { path, what, expected, found: self.size })
    }

    fn fill(&mut self, bytes: &mut [u8], what: &str) -> Result<(), GgufError> {
        self.demand(bytes.len() as u64, what)?;
        self.reader.read_exact(bytes).map_err(GgufError::read(&self.path))?;
        self.position += bytes.len() as u64;
        Ok(())
    }
}
