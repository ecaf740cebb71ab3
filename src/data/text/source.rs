use super::error::TextError;
use super::labelled::read_labelled;
use super::pairs::read_pairs;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use thiserror::Error;

/// What files of text hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum TextFormat {
    /// Plain text, a sample a line.
    Text,
    /// Sentence, sentence, score from 0 to 5, as comma-separated values: STS-B.
    Stsb,
    /// Movie reviews, good and bad: SST-2, as [`TextFormat::Classes`].
    Sst2,
    /// Texts and the names of their classes: tab- or comma-separated values, or an object a line.
    Classes,
}

impl TextFormat {
    const ALL: [Self; 4] = [Self::Text, Self::Stsb, Self::Sst2, Self::Classes];

    /// The format's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Stsb => "stsb",
            Self::Sst2 => "sst2",
            Self::Classes => "classes",
        }
    }
}

/// A format and a file, or a folder that holds the format's files, written `FORMAT:PATH`.
///
/// # Examples
///
/// ```
/// use fnl::data::{TextFormat, TextSource};
/// let source: TextSource = "text:notes.txt".parse()?;
/// assert_eq!(source.format, TextFormat::Text);
/// assert_eq!(source.to_string(), "text:notes.txt");
/// assert!("pages:notes.txt".parse::<TextSource>().is_err());
/// # Ok::<(), fnl::data::TextSourceError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextSource {
    /// What it holds.
    pub format: TextFormat,
    /// The file or folder.
    pub path: PathBuf,
}

/// Why a text names no texts.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` names no texts, expected text:FILE, a sample a line, stsb:FILE, sst2:FILE or classes:FILE")]
pub struct TextSourceError(String);

impl fmt::Display for TextSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.format.name(), self.path.display())
    }
}

impl FromStr for TextSource {
    type Err = TextSourceError;

    fn from_str(text: &str) -> Result<Self, TextSourceError> {
        let refuse = || TextSourceError(text.to_owned());
        let (format, path) = text.split_once(':').filter(|(_, path)| !path.is_empty()).ok_or_else(refuse)?;
        let format = TextFormat::ALL.into_iter().find(|known| known.name() == format).ok_or_else(refuse)?;
        Ok(Self { format, path: path.into() })
    }
}

impl TextSource {
    /// The file that holds a split: the one that was named, or the format's in a folder that was.
    ///
    /// # Errors
    ///
    /// - [`TextError::Read`] when nothing is there;
    /// - [`TextError::Missing`] when a folder does not hold it
    pub fn file(&self, train: bool) -> Result<PathBuf, TextError> {
        let found = fs::metadata(&self.path).map_err(TextError::read(&self.path))?;
        if !found.is_dir() {
            return Ok(self.path.clone());
        }
        let names: &[&str] = match (self.format, train) {
            (TextFormat::Text, true) => &["train.txt"],
            (TextFormat::Text, false) => &["valid.txt", "validation.txt", "dev.txt", "test.txt"],
            (TextFormat::Sst2, true) => &["sst2-train.tsv", "train.tsv"],
            (TextFormat::Sst2, false) => &["sst2-dev.tsv", "dev.tsv", "validation.tsv"],
            (TextFormat::Classes, true) => &["train.tsv", "train.csv", "train.jsonl"],
            (TextFormat::Classes, false) => &[
                "dev.tsv",
                "dev.csv",
                "dev.jsonl",
                "validation.tsv",
                "validation.csv",
                "validation.jsonl",
                "test.tsv",
                "test.csv",
                "test.jsonl",
            ],
            (TextFormat::Stsb, true) => &["stsb-en-train.csv", "train.csv"],
            (TextFormat::Stsb, false) => &["stsb-en-dev.csv", "dev.csv", "validation.csv"],
        };
        let found = names.iter().map(|name| self.path.join(name)).find(|path| path.is_file());
        found.ok_or_else(|| TextError::Missing { path: self.path.clone(), file: names.join(" or ") })
    }

    /// The texts of the training split, each once, in order: what is calibrated on.
    ///
    /// # Errors
    ///
    /// - files that cannot be read, are of another format, or hold no text
    pub fn texts(&self) -> Result<Vec<String>, TextError> {
        let path = self.file(true)?;
        let texts: Vec<String> = match self.format {
            TextFormat::Sst2 | TextFormat::Classes => {
                read_labelled(&path)?.into_iter().map(|text| text.text).collect()
            }
            TextFormat::Text => read_text(&path)?
                .lines()
                .map(str::trim)
                .filter(|line| !line.is_empty())
                .map(str::to_owned)
                .collect(),
            TextFormat::Stsb => {
                read_pairs(&path)?.into_iter().flat_map(|pair| [pair.first, pair.second]).collect()
            }
        };
        let mut seen = std::collections::HashSet::new();
        let texts: Vec<String> = texts.into_iter().filter(|text| seen.insert(text.clone())).collect();
        if texts.is_empty() {
            return Err(TextError::Empty { path });
        }
        Ok(texts)
    }

    /// The whole text of the training split, as language models read it.
    ///
    /// # Errors
    ///
    /// - as [`TextSource::texts`]
    pub fn whole(&self) -> Result<String, TextError> {
        match self.format {
            TextFormat::Text => {
                let path = self.file(true)?;
                let text = read_text(&path)?;
                if text.trim().is_empty() { Err(TextError::Empty { path }) } else { Ok(text) }
            }
            _ => Ok(self.texts()?.join("\n")),
        }
    }
}

/// A file of UTF-8.
pub(super) fn read_text(path: &Path) -> Result<String, TextError> {
    let bytes = fs::read(path).map_err(TextError::read(path))?;
    String::from_utf8(bytes).map_err(|error| {
        let valid =
            String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]).into_owned();
        let line = valid.split('\n').count() as u64;
        TextError::Line { path: path.to_owned(), line, problem: "it is not UTF-8".to_owned() }
    })
}
