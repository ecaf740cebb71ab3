use super::error::TextError;
use std::path::Path;

/// Two sentences, and how near in meaning people found them, from 0 to 5.
#[derive(Clone, Debug, PartialEq)]
pub struct SentencePair {
    /// One.
    pub first: String,
    /// The other.
    pub second: String,
    /// The score.
    pub score: f64,
}

/// Reads comma-separated pairs of sentences with scores; a first line of titles is passed over.
///
/// # Errors
///
/// - a file that cannot be read, or a line without two texts and a number
pub fn read_pairs(path: &Path) -> Result<Vec<SentencePair>, TextError> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_path(path)
        .map_err(|error| failure(path, 0, error))?;
    let mut pairs = Vec::new();
    for (index, record) in reader.records().enumerate() {
        let record = record.map_err(|error| failure(path, index as u64 + 1, error))?;
        let line = record.position().map_or(index as u64 + 1, csv::Position::line);
        let fields: Vec<&str> = record.iter().collect();
        let &[first, second, score] = fields.as_slice() else {
            let problem = format!("expected sentence, sentence, score; found {} fields", fields.len());
            return Err(TextError::Line { path: path.to_owned(), line, problem });
        };
        match score.trim().parse::<f64>() {
            Ok(score) if score.is_finite() => {
                pairs.push(SentencePair { first: first.to_owned(), second: second.to_owned(), score });
            }
            _ if index == 0 => {}
            _ => {
                let problem = format!("expected a score, found `{score}`");
                return Err(TextError::Line { path: path.to_owned(), line, problem });
            }
        }
    }
    if pairs.is_empty() {
        return Err(TextError::Empty { path: path.to_owned() });
    }
    Ok(pairs)
}

pub(super) fn failure(path: &Path, line: u64, error: csv::Error) -> TextError {
    let line = error.position().map_or(line, csv::Position::line);
    let problem = error.to_string();
    match error.into_kind() {
        csv::ErrorKind::Io(source) => TextError::Read { path: path.to_owned(), source },
        _ => TextError::Line { path: path.to_owned(), line, problem },
    }
}
