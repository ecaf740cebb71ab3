use super::error::TextError;
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Names of the column, or the key, of texts.
const TEXTS: [&str; 4] = ["sentence", "text", "review", "content"];
/// Names of the column, or the key, of labels.
const LABELS: [&str; 6] = ["label", "labels", "class", "target", "sentiment", "category"];

/// A text and the name of its class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelledText {
    /// The text.
    pub text: String,
    /// The class.
    pub label: String,
}

/// Reads texts with classes: columns separated by tabs (`.tsv`) or commas (`.csv`), or an object a line (`.jsonl`,
/// `.json`).
///
/// Columns are told by the titles in the first line, `sentence` or `text` and `label`; without titles there are two, the
/// text and then its label.
///
/// # Errors
///
/// - a file that cannot be read, of another ending, or with a line that lacks a text or a label
pub fn read_labelled(path: &Path) -> Result<Vec<LabelledText>, TextError> {
    let ending = path.extension().and_then(|ending| ending.to_str()).map(str::to_ascii_lowercase);
    let found = match ending.as_deref() {
        Some("tsv") => columns(path, b'\t', false)?,
        Some("csv") => columns(path, b',', true)?,
        Some("jsonl" | "json") => objects(path)?,
        _ => {
            let problem = "expected a file that ends in .tsv, .csv or .jsonl".to_owned();
            return Err(TextError::Line { path: path.to_owned(), line: 1, problem });
        }
    };
    if found.is_empty() { Err(TextError::Empty { path: path.to_owned() }) } else { Ok(found) }
}

fn columns(path: &Path, delimiter: u8, quoting: bool) -> Result<Vec<LabelledText>, TextError> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(delimiter)
        .quoting(quoting)
        .from_reader(super::pairs::ended(path)?);
    let (mut places, mut found, mut last) = (None, Vec::new(), 1);
    for (index, record) in reader.records().enumerate() {
        let record = record.map_err(|error| super::pairs::failure(path, index as u64 + 1, error))?;
        let line = record.position().map_or(index as u64 + 1, csv::Position::line);
        if super::pairs::is_end(&record) {
            return Ok(found);
        }
        last = line;
        let refuse = |problem: String| TextError::Line { path: path.to_owned(), line, problem };
        if places.is_none() {
            let named = |names: &[&str]| {
                record.iter().position(|title| names.contains(&title.trim().to_ascii_lowercase().as_str()))
            };
            let titles = (named(&TEXTS), named(&LABELS));
            if let (Some(text), Some(label)) = titles {
                places = Some((text, label));
                continue;
            }
            // One known title makes it a line of titles, of which the other is not known.
            if record.len() != 2 || titles != (None, None) {
                let expected = "titles with `sentence` or `text` and `label`, or two columns";
                return Err(refuse(format!("expected {expected}, found {} columns", record.len())));
            }
            places = Some((0, 1));
        }
        let (text, label) = places.unwrap_or((0, 1));
        match (record.get(text), record.get(label).map(str::trim)) {
            (Some(text), Some(label)) if !text.trim().is_empty() && !label.is_empty() => {
                found.push(LabelledText { text: text.trim().to_owned(), label: label.to_owned() });
            }
            _ => return Err(refuse(format!("expected a text and a label, found {} columns", record.len()))),
        }
    }
    Err(super::pairs::unclosed(path, last))
}

fn objects(path: &Path) -> Result<Vec<LabelledText>, TextError> {
    let text = fs::read_to_string(path).map_err(TextError::read(path))?;
    let lines =
        text.trim_start_matches('\u{feff}').lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| {
            let refuse =
                |problem: String| TextError::Line { path: path.to_owned(), line: index as u64 + 1, problem };
            let value: Value = serde_json::from_str(line).map_err(|error| refuse(error.to_string()))?;
            let of = |names: &[&str]| names.iter().find_map(|name| value.get(name));
            let text = of(&TEXTS).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty());
            let label = of(&LABELS).and_then(|label| match label {
                Value::String(name) => Some(name.clone()),
                Value::Number(number) => Some(number.to_string()),
                Value::Bool(held) => Some(u8::from(*held).to_string()),
                _ => None,
            });
            match (text, label) {
                (Some(text), Some(label)) => Ok(LabelledText { text: text.to_owned(), label }),
                _ => Err(refuse("expected an object with `text` or `sentence`, and `label`".to_owned())),
            }
        })
        .collect()
}

/// The names of all classes: by number where all are numbers, by name otherwise.
#[must_use]
pub fn class_names(texts: &[LabelledText]) -> Vec<String> {
    let mut names: Vec<&str> = texts.iter().map(|text| text.label.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let numbers: Option<Vec<i64>> = names.iter().map(|name| name.parse().ok()).collect();
    if let Some(numbers) = numbers {
        let mut order: Vec<(i64, &str)> = numbers.into_iter().zip(names).collect();
        order.sort_unstable();
        return order.into_iter().map(|(_, name)| name.to_owned()).collect();
    }
    names.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> Result<Vec<(String, String)>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        let found = read_labelled(&path).map_err(|error| error.to_string())?;
        Ok(found.into_iter().map(|found| (found.text, found.label)).collect())
    }

    #[test]
    fn texts_and_labels_come_from_columns_and_objects() {
        let expected = vec![("it \"works\"".to_owned(), "1".to_owned()), ("no".to_owned(), "0".to_owned())];
        assert_eq!(read("a.tsv", "it \"works\"\t1\nno\t0\n").unwrap(), expected);
        assert_eq!(read("a.tsv", "idx\tlabel\tsentence\n7\t1\tit \"works\"\n8\t0\tno\n").unwrap(), expected);
        assert_eq!(read("a.csv", "Text,Label\n\"it \"\"works\"\"\",1\nno,0\n").unwrap(), expected);
        let lines =
            "{\"text\": \"it \\\"works\\\"\", \"label\": 1}\n\n{\"sentence\": \"no\", \"label\": \"0\"}\n";
        assert_eq!(read("a.jsonl", lines).unwrap(), expected);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        assert!(read("a.tsv", "fine\t1\nonly a text\n").unwrap_err().contains("line 2"));
        assert!(read("a.csv", "a,b,c\n").unwrap_err().contains("found 3 columns"));
        assert!(read("a.jsonl", "{\"text\": \"x\"}\n").unwrap_err().contains("`label`"));
        assert!(read("a.txt", "x").unwrap_err().contains(".tsv"));
        assert!(read("a.csv", "text,label\n").unwrap_err().contains("holds no text"));
    }

    #[test]
    fn titles_are_no_data() {
        assert_eq!(
            read("a.csv", "review,sentiment\nfine,1\n").unwrap(),
            [("fine".to_owned(), "1".to_owned())]
        );
        assert!(read("a.csv", "review,opinion\nfine,1\n").unwrap_err().contains("titles"));
    }

    #[test]
    fn classes_are_in_order() {
        let of = |labels: &[&str]| {
            let text = |label: &&str| LabelledText { text: String::new(), label: (*label).to_owned() };
            class_names(&labels.iter().map(text).collect::<Vec<_>>())
        };
        assert_eq!(of(&["10", "9", "10"]), ["9", "10"]);
        assert_eq!(of(&["good", "bad", "9"]), ["9", "bad", "good"]);
    }
}
