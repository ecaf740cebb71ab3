use super::error::TextError;
use super::source::read_text;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use thiserror::Error;

/// Two files of text, each line of one a translation of the other's, written `parallel:SOURCE,TARGET`.
///
/// `{split}` in a path stands for `train` in training, and otherwise for `val`, `valid`, `dev` or `test`, the first that there is.
///
/// # Examples
///
/// ```
/// use fnl::data::ParallelSource;
///
/// let source: ParallelSource = "parallel:news-{split}.de,news-{split}.en".parse()?;
/// assert_eq!(source.source.to_str(), Some("news-{split}.de"));
/// assert_eq!(source.to_string(), "parallel:news-{split}.de,news-{split}.en");
/// assert!("parallel:news.de".parse::<ParallelSource>().is_err());
/// # Ok::<(), fnl::data::ParallelSourceError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParallelSource {
    /// The file that is translated from.
    pub source: PathBuf,
    /// The file that is translated into.
    pub target: PathBuf,
}

/// Why a text names no parallel texts.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` names no parallel texts, expected parallel:SOURCE,TARGET, two files with as many lines")]
pub struct ParallelSourceError(String);

const PREFIX: &str = "parallel:";
const PLACE: &str = "{split}";

impl fmt::Display for ParallelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{},{}", self.source.display(), self.target.display())
    }
}

impl FromStr for ParallelSource {
    type Err = ParallelSourceError;

    fn from_str(text: &str) -> Result<Self, ParallelSourceError> {
        let paths = text.strip_prefix(PREFIX).and_then(|paths| paths.split_once(','));
        match paths {
            Some((source, target)) if !source.is_empty() && !target.is_empty() && !target.contains(',') => {
                Ok(Self { source: source.into(), target: target.into() })
            }
            _ => Err(ParallelSourceError(text.to_owned())),
        }
    }
}

impl ParallelSource {
    /// Whether a text is meant to name parallel texts.
    #[must_use]
    pub fn is_named_by(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    /// The files of source and target for a split.
    #[must_use]
    pub fn files(&self, train: bool) -> [PathBuf; 2] {
        let splits: &[&str] = if train { &["train"] } else { &["val", "valid", "dev", "test"] };
        let named = |path: &Path, split: &str| PathBuf::from(path.to_string_lossy().replace(PLACE, split));
        let files = |split: &&str| [&self.source, &self.target].map(|path| named(path, split));
        splits.iter().map(files).find(|files| files.iter().all(|path| path.is_file())).unwrap_or_else(|| {
            // the first is told as missing
            files(&splits[0])
        })
    }

    /// The pairs of lines of a split.
    ///
    /// # Errors
    ///
    /// - files that cannot be read, hold no text or not as many lines as each other; an empty line
    pub fn pairs(&self, train: bool) -> Result<Vec<[String; 2]>, TextError> {
        let [source, target] = self.files(train);
        let (sources, targets) = (lines(&source)?, lines(&target)?);
        if sources.len() != targets.len() {
            let lines = [sources.len(), targets.len()];
            return Err(TextError::Unpaired { source_path: source, target, lines });
        }
        Ok(sources.into_iter().zip(targets).map(|(source, target)| [source, target]).collect())
    }
}

/// The lines of a file, none of which is empty.
fn lines(path: &Path) -> Result<Vec<String>, TextError> {
    let text = read_text(path)?;
    let lines: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
    if lines.iter().all(String::is_empty) {
        return Err(TextError::Empty { path: path.to_owned() });
    }
    match lines.iter().position(String::is_empty) {
        Some(index) => Err(TextError::Line {
            path: path.to_owned(),
            line: index as u64 + 1,
            problem: "it is empty, expected a sentence on every line".to_owned(),
        }),
        None => Ok(lines),
    }
}
