//! What lies beside the weights of a Hugging Face folder, on its way from input to output.

use super::{CommandError, model_card};
use crate::checkpoint::{Checkpoint, OutputOptions, RECORD_KEY, Record, Staging};
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
) -> OutputOptions {
    let slash = target.as_os_str().to_string_lossy().ends_with(std::path::MAIN_SEPARATOR);
    let mut metadata: BTreeMap<String, String> = checkpoint.metadata().clone();
    metadata.entry("format".to_owned()).or_insert_with(|| "pt".to_owned());
    OutputOptions {
        target: target.to_path_buf(),
        as_directory: checkpoint.is_directory() || slash,
        max_shard_bytes,
        overwrite,
        reserve: 0,
        metadata,
    }
}

/// Copies the side files; config.json gets the record, or loses it, and the model card its section.
/// Returns the files that are left out: pickled duplicates of the weights.
pub(super) fn copy(
    checkpoint: &Checkpoint,
    staging: &Staging,
    record: Option<&Record>,
    dtype: OutputDtype,
    card: Option<&str>,
) -> Result<Vec<String>, CommandError> {
    if !checkpoint.is_directory() {
        return Ok(Vec::new());
    }
    let files = checkpoint.side_files()?;
    for relative in &files.copied {
        let from = checkpoint.root().join(relative);
        let read = || {
            std::fs::read_to_string(&from).map_err(|source| CommandError::SideFile {
                what: "can't read",
                path: from.clone(),
                source,
            })
        };
        match relative.to_str() {
            Some("config.json") => {
                staging.add_file(relative, config(&read()?, record, dtype).as_bytes())?;
            }
            Some("README.md") => {
                let text = model_card::with_section(&read()?, card);
                staging.add_file(relative, text.as_bytes())?;
            }
            // The report of the run that made the input says nothing about the output.
            Some("report.json") => {}
            _ => staging.copy_file(relative, &from)?,
        }
    }
    Ok(files.skipped.iter().map(|path| path.display().to_string()).collect())
}

/// config.json with the record as its last key, or without one, otherwise letter for letter as it was.
fn config(text: &str, record: Option<&Record>, dtype: OutputDtype) -> String {
    let text = with_dtype(text, dtype);
    let text = without_record(&text);
    let Some(record) = record else { return text };
    let body = text.trim_end();
    let Some(inside) = body.strip_suffix('}') else { return text };
    let rest = &text[body.len()..];
    let inside = inside.trim_end();
    let comma = if inside.ends_with('{') { "" } else { "," };
    format!("{inside}{comma}\n  \"{RECORD_KEY}\": {}\n}}{rest}", record.to_json())
}

/// Takes the record out of a config.json: by its place where it is as written here, else by its key.
fn without_record(text: &str) -> String {
    let Ok(Value::Object(mut fields)) = serde_json::from_str::<Value>(text) else { return text.to_owned() };
    if fields.shift_remove(RECORD_KEY).is_none() {
        return text.to_owned();
    }
    let mark = format!("\n  \"{RECORD_KEY}\": ");
    if let Some(at) = text.rfind(&mark) {
        let body = text.trim_end();
        let without = format!("{}\n}}{}", text[..at].trim_end_matches(','), &text[body.len()..]);
        if serde_json::from_str::<Value>(&without).is_ok_and(|value| value == Value::Object(fields.clone())) {
            return without;
        }
    }
    serde_json::to_string_pretty(&Value::Object(fields)).unwrap_or_default() + "\n"
}

/// Says the new element type where config.json says one.
fn with_dtype(text: &str, dtype: OutputDtype) -> String {
    let name = match dtype {
        OutputDtype::Keep => return text.to_owned(),
        OutputDtype::F32 => "float32",
        OutputDtype::F16 => "float16",
        OutputDtype::Bf16 => "bfloat16",
    };
    let Ok(Value::Object(fields)) = serde_json::from_str::<Value>(text) else { return text.to_owned() };
    let mut text = text.to_owned();
    for key in ["torch_dtype", "dtype"] {
        if let Some(Value::String(old)) = fields.get(key) {
            for colon in [": ", ":"] {
                text = text
                    .replace(&format!("\"{key}\"{colon}\"{old}\""), &format!("\"{key}\"{colon}\"{name}\""));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let (modules, converted) = (BTreeMap::new(), BTreeMap::new());
        Record { version: 1, tool: "fnl".to_owned(), modules, converted, recipe: Value::Null }
    }

    #[test]
    fn a_config_comes_back_letter_for_letter() {
        for text in ["{\n  \"a\": 1e-05,\n  \"b\": [1, 2]\n}\n", "{\"z\":1,\"a\":{}}", "{}", "{\n}\n"] {
            let with = config(text, Some(&record()), OutputDtype::Keep);
            let value: Value = serde_json::from_str(&with).unwrap();
            assert_eq!(value[RECORD_KEY]["version"], 1, "{with}");
            let without: Value = serde_json::from_str(&config(&with, None, OutputDtype::Keep)).unwrap();
            assert_eq!(without, serde_json::from_str::<Value>(text).unwrap());
        }
        let pretty = "{\n  \"a\": 1e-05,\n  \"b\": [1, 2]\n}\n";
        assert_eq!(
            config(&config(pretty, Some(&record()), OutputDtype::Keep), None, OutputDtype::Keep),
            pretty
        );
    }

    #[test]
    fn the_element_type_is_said() {
        let text = "{\n  \"torch_dtype\": \"float32\"\n}";
        assert_eq!(config(text, None, OutputDtype::Bf16), "{\n  \"torch_dtype\": \"bfloat16\"\n}");
    }
}
