//! What lies beside the weights of a Hugging Face folder, on its way from input to output.

use super::CommandError;
use super::model_card::{Section, with_section};
use crate::checkpoint::{Checkpoint, OutputOptions, RECORD_KEY, Record, Staging, with_nulls};
use crate::plan::OutputDtype;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Every place that the output must not be.
pub(super) fn inputs(checkpoint: &Checkpoint) -> Vec<PathBuf> {
    let root = checkpoint.is_directory().then(|| checkpoint.root().to_path_buf());
    root.into_iter().chain(checkpoint.files().iter().cloned()).collect()
}

/// A folder for a folder, a file for a file, or a folder where the target ends in a slash.
pub(super) fn output_options(
    checkpoint: &Checkpoint,
    target: &Path,
    max_shard_bytes: u64,
    overwrite: bool,
) -> Result<OutputOptions, CommandError> {
    let slash = target.as_os_str().to_string_lossy().ends_with(std::path::MAIN_SEPARATOR);
    let mut metadata: BTreeMap<String, String> = checkpoint.metadata().clone();
    metadata.entry("format".to_owned()).or_insert_with(|| "pt".to_owned());
    let side_files = if checkpoint.is_directory() { checkpoint.side_files()?.copied } else { Vec::new() };
    Ok(OutputOptions {
        target: target.to_path_buf(),
        as_directory: checkpoint.is_directory() || slash,
        max_shard_bytes,
        overwrite,
        side_files,
        reserve: 0,
        metadata,
    })
}

/// The names of what lies beside the weights of a directory, in order.
pub(super) fn names(output: &OutputOptions) -> Vec<String> {
    let mut names: Vec<String> = output.side_files.iter().map(|file| file.display().to_string()).collect();
    names.sort();
    names
}

/// Copies the side files; config.json gets the record, or loses it, and the model card its section.
/// Returns the files that are left out: pickled duplicates of the weights.
pub(super) fn copy(
    checkpoint: &Checkpoint,
    staging: &Staging,
    record: Option<&Record>,
    dtypes: &BTreeMap<String, String>,
    card: &Section,
) -> Result<Vec<String>, CommandError> {
    if !checkpoint.is_directory() {
        return Ok(Vec::new());
    }
    let files = checkpoint.side_files()?;
    for relative in &files.copied {
        let from = checkpoint.root().join(relative);
        match relative.to_str() {
            Some("config.json") => {
                let text = String::from_utf8_lossy(&bytes(&from)?).into_owned();
                staging.add_file(relative, config(&text, record, dtypes).as_bytes())?;
            }
            Some("README.md") => match String::from_utf8(bytes(&from)?) {
                Ok(text) => staging.add_file(relative, with_section(&text, card).as_bytes())?,
                // In an encoding in which there is nothing to be added.
                Err(_) => staging.copy_file(relative, &from)?,
            },
            // The report of the run that made the input says nothing about the output.
            Some("report.json") => {}
            _ => staging.copy_file(relative, &from)?,
        }
    }
    Ok(files.skipped.iter().map(|path| path.display().to_string()).collect())
}

fn bytes(path: &Path) -> Result<Vec<u8>, CommandError> {
    std::fs::read(path).map_err(|source| CommandError::SideFile {
        what: "can't read",
        path: path.to_owned(),
        source,
    })
}

/// What config.json says of the element type, at its top, where another one will be written.
pub(super) fn named_dtypes(config: Option<&Value>, dtype: OutputDtype) -> BTreeMap<String, String> {
    if dtype == OutputDtype::Keep {
        return BTreeMap::new();
    }
    ["torch_dtype", "dtype"]
        .into_iter()
        .filter_map(|key| Some((key.to_owned(), config?.get(key)?.as_str()?.to_owned())))
        .collect()
}

/// What config.json is to say of the element type instead.
pub(super) fn new_dtypes(config: Option<&Value>, dtype: OutputDtype) -> BTreeMap<String, String> {
    let name = match dtype {
        OutputDtype::Keep => return BTreeMap::new(),
        OutputDtype::F32 => "float32",
        OutputDtype::F16 => "float16",
        OutputDtype::Bf16 => "bfloat16",
    };
    named_dtypes(config, dtype).into_keys().map(|key| (key, name.to_owned())).collect()
}

/// config.json with the record as its last key, or without one, and with these texts under these keys,
/// otherwise letter for letter as it was.
pub(super) fn config(text: &str, record: Option<&Record>, texts: &BTreeMap<String, String>) -> String {
    let mut text = without_record(text);
    for (key, value) in texts {
        text = with_text(&text, key, value);
    }
    let Some(record) = record else { return text };
    let Some(inside) = text.trim_end().strip_suffix('}').map(str::trim_end) else { return text };
    let comma = if inside.ends_with('{') { "" } else { "," };
    let rest = &text[inside.len()..];
    format!("{inside}{comma}\n  \"{RECORD_KEY}\": {}{rest}", record.to_json())
}

/// Takes the record out of a config.json: by its place where it is as written here, else by its key.
fn without_record(text: &str) -> String {
    let Ok(Value::Object(mut fields)) = serde_json::from_str::<Value>(&with_nulls(text)) else {
        return text.to_owned();
    };
    if fields.shift_remove(RECORD_KEY).is_none() {
        return text.to_owned();
    }
    if let Some(at) = text.rfind(&format!("\n  \"{RECORD_KEY}\": ")) {
        // The record itself ends in a brace; what follows it is the text that was there before.
        let record = text[at..].find('{').map(|start| at + start);
        let mut values = record.map(|start| {
            serde_json::Deserializer::from_str(&text[start..]).into_iter::<serde::de::IgnoredAny>()
        });
        let end = values.as_mut().and_then(|values| {
            values.next()?.ok()?;
            Some(record? + values.byte_offset())
        });
        if let Some(end) = end {
            let before = text[..at].strip_suffix(',').unwrap_or(&text[..at]);
            return format!("{before}{}", &text[end..]);
        }
    }
    serde_json::to_string_pretty(&Value::Object(fields)).unwrap_or_default() + "\n"
}

/// An object's text with another text under one of its own keys; keys of objects inside it are left alone.
fn with_text(text: &str, key: &str, value: &str) -> String {
    let quoted = |text: &str| Value::String(text.to_owned()).to_string();
    let (mut depth, mut at) = (0usize, 0);
    let mut found = false;
    while let Some(character) = text[at..].chars().next() {
        match character {
            '{' | '[' => depth += 1,
            '}' | ']' => depth = depth.saturating_sub(1),
            '"' => {
                let mut strings = serde_json::Deserializer::from_str(&text[at..]).into_iter::<String>();
                let Some(Ok(string)) = strings.next() else { break };
                let end = at + strings.byte_offset();
                if found {
                    return format!("{}{}{}", &text[..at], quoted(value), &text[end..]);
                }
                let is_key = text[end..].trim_start().starts_with(':');
                found = depth == 1 && is_key && string == key;
                at = end;
                continue;
            }
            // A value that is no text is left alone.
            ',' => found = false,
            _ => {}
        }
        at += character.len_utf8();
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let (modules, converted, config) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (tool, recalibrated, recipe) = ("fnl".to_owned(), Vec::new(), Value::Null);
        Record { version: 1, tool, modules, converted, recalibrated, config, recipe }
    }

    #[test]
    fn a_config_comes_back_letter_for_letter() {
        let none = BTreeMap::new();
        for text in [
            "{\n  \"a\": 1e-05,\n  \"b\": [1, 2]\n}\n",
            "{\"z\":1,\"a\":{}}",
            "{}",
            "{\n}\n",
            "{\"a\": 1 }",
            "{\r\n  \"a\": 1\r\n}\r\n",
            "{\n  \"limit\": [0.0, Infinity]\n}\n",
        ] {
            let with = config(text, Some(&record()), &none);
            let value: Value = serde_json::from_str(&with_nulls(&with)).unwrap();
            assert_eq!(value[RECORD_KEY]["version"], 1, "{with}");
            assert_eq!(config(&with, None, &none), text);
        }
    }

    #[test]
    fn the_element_type_is_said_at_the_top_only() {
        let text = "{\n  \"q\": {\"dtype\": \"float32\"}, \"dtype\": \"float32\"\n}";
        let texts = [("dtype".to_owned(), "bfloat16".to_owned())].into();
        assert_eq!(
            config(text, None, &texts),
            "{\n  \"q\": {\"dtype\": \"float32\"}, \"dtype\": \"bfloat16\"\n}"
        );
    }
}
