//! What lies beside the weights of a run's result, so that its folder is a checkpoint by itself.

use super::networks::normalization_in;
use super::{CommandError, side_files};
use crate::checkpoint::{Checkpoint, Record};
use crate::data::{Loader, Normalization};
use crate::models::{Architecture, Family};
use crate::plan::Save;
use crate::train::MODEL_FILES;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The files of a checkpoint's folder that its network is opened with, config.json as it is or as this one is, with the record
/// of what is saved factored.
pub(super) fn of_checkpoint(
    checkpoint: &Checkpoint,
    config: Option<&Value>,
    record: Option<&Record>,
    save: Save,
) -> Result<Vec<(String, Vec<u8>)>, CommandError> {
    let mut found = Vec::new();
    if !checkpoint.is_directory() {
        return Ok(found);
    }
    for name in MODEL_FILES {
        let path = checkpoint.root().join(name);
        let failed = |source| CommandError::SideFile { what: "can't read", path: path.clone(), source };
        if !path.is_file() {
            continue;
        }
        let mut bytes = std::fs::read(&path).map_err(failed)?;
        if name == "config.json" {
            let changed = config.filter(|config| checkpoint.config() != Some(config)).map(pretty);
            let text = changed.unwrap_or_else(|| String::from_utf8_lossy(&bytes).into_owned());
            bytes = with_record(&text, record, save);
        }
        found.push((name.to_owned(), bytes));
    }
    Ok(found)
}

/// Adds what a network for pictures is opened with where its checkpoint did not have it: the sizes that tensors don't show, and
/// what brings pictures near zero where it is not what the data's own are brought by.
pub(super) fn complete_for_pictures(
    files: &mut Vec<(String, Vec<u8>)>,
    architecture: &Architecture,
    data: &Loader,
    given: Option<&Normalization>,
    record: Option<&Record>,
    save: Save,
) {
    let at = |files: &[(String, Vec<u8>)], name: &str| files.iter().position(|(file, _)| file == name);
    if let (Family::Vit(config), None) = (architecture.family, at(files, "config.json")) {
        let json = config.to_json(architecture.channels, data.dataset().class_names());
        files.push(("config.json".to_owned(), with_record(&pretty(&json), record, save)));
    }
    let Some(given) = given else { return };
    let name = "preprocessor_config.json";
    if at(files, name).and_then(|index| normalization_in(&files[index].1)).as_ref() == Some(given) {
        return;
    }
    let kept = at(files, name).map(|index| files.remove(index).1);
    let mut json: Value =
        kept.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_else(|| json!({}));
    if let Some(json) = json.as_object_mut() {
        // As they are written: an f32 has more digits as f64 than it needs.
        for (key, values) in [("image_mean", &given.mean), ("image_std", &given.std)] {
            json.insert(key.to_owned(), values.iter().copied().map(shortest).collect());
        }
    }
    files.push((name.to_owned(), pretty(&json).into_bytes()));
}

/// A number with no more digits than tell it from others.
fn shortest(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}

fn pretty(json: &Value) -> String {
    serde_json::to_string_pretty(json).unwrap_or_default() + "\n"
}

fn with_record(config: &str, record: Option<&Record>, save: Save) -> Vec<u8> {
    let record = record.filter(|_| save == Save::Factored);
    side_files::config(config, record, &BTreeMap::new()).into_bytes()
}
