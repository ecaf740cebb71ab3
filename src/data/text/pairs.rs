use super::error::TextError;
use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

/// The highest score that people give.
const HIGHEST: f64 = 5.0;

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
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(ended(path)?);
    let (mut pairs, mut last, mut closed) = (Vec::new(), 1, false);
    for (index, record) in reader.records().enumerate() {
        let record = record.map_err(|error| failure(path, index as u64 + 1, error))?;
        let line = record.position().map_or(index as u64 + 1, csv::Position::line);
        if is_end(&record) {
            closed = true;
            break;
        }
        last = line;
        let fields: Vec<&str> = record.iter().collect();
        let &[first, second, score] = fields.as_slice() else {
            let problem = format!("expected sentence, sentence, score; found {} fields", fields.len());
            return Err(TextError::Line { path: path.to_owned(), line, problem });
        };
        match score.trim().parse::<f64>() {
            Ok(score) if (0.0..=HIGHEST).contains(&score) => {
                pairs.push(SentencePair { first: first.to_owned(), second: second.to_owned(), score });
            }
            Err(_) if index == 0 => {}
            _ => {
                let problem = format!("expected a score from 0 to {HIGHEST}, found `{score}`");
                return Err(TextError::Line { path: path.to_owned(), line, problem });
            }
        }
    }
    if !closed {
        return Err(unclosed(path, last));
    }
    if pairs.is_empty() {
        return Err(TextError::Empty { path: path.to_owned() });
    }
    Ok(pairs)
}

/// What a table is read with behind it, to see whether a quote was open at its end.
const END: &str = "\0end";

/// A table's bytes, and a line behind them that [`is_end`] knows.
pub(super) fn ended(path: &Path) -> Result<impl Read, TextError> {
    let file = File::open(path).map_err(TextError::read(path))?;
    Ok(file.chain(Cursor::new(format!("\n{END}\n"))))
}

/// Whether that line was reached: a quote that is never closed takes it for its own.
pub(super) fn is_end(record: &csv::StringRecord) -> bool {
    record.len() == 1 && record.get(0) == Some(END)
}

pub(super) fn unclosed(path: &Path, line: u64) -> TextError {
    let problem = "a quote that is opened in this row is never closed".to_owned();
    TextError::Line { path: path.to_owned(), line, problem }
}

pub(super) fn failure(path: &Path, line: u64, error: csv::Error) -> TextError {
    let line = error.position().map_or(line, csv::Position::line);
    let problem = error.to_string();
    match error.into_kind() {
        csv::ErrorKind::Io(source) => TextError::Read { path: path.to_owned(), source },
        _ => TextError::Line { path: path.to_owned(), line, problem },
    }
}
