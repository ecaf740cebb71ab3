//! The factorization record: what was factored, how, and with which error.
//!
//! It lies in each output file's metadata under [`RECORD_KEY`], as one compact JSON object with sorted keys.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

/// The metadata key (and the key in `config.json`) that holds the record.
pub const RECORD_KEY: &str = "factorization";

/// The version of the record that this program writes, and the only one that it reads.
pub const RECORD_VERSION: u32 = 1;

/// The longest that a 64-bit float gets in JSON.
const WIDEST_ERROR: f64 = -2.225_073_858_507_201_4e-308;

/// What was done to a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Record {
    /// The version of this record's form.
    pub version: u32,
    /// The program that wrote it, with its version.
    pub tool: String,
    /// The factored modules by name.
    pub modules: BTreeMap<String, ModuleRecord>,
    /// The dense element types of tensors that were not factored but written in another one.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub converted: BTreeMap<String, String>,
    /// Tensors whose elements are others than the dense checkpoint's: statistics that were re-estimated.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub recalibrated: Vec<String>,
    /// What config.json said of the element type, where another one is written.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, String>,
    /// What was asked for, complete enough to repeat it.
    pub recipe: Value,
}

/// What was done to one module.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ModuleRecord {
    /// What the layer is: `linear`, `conv2d`, ...
    pub kind: String,
    /// How it was factored: `matrix`, `spatial`, ...
    pub scheme: String,
    /// The rank of its factors; where each mode has its own, the largest.
    pub rank: usize,
    /// The rank of each mode, where each has its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranks: Vec<usize>,
    /// How outputs and inputs are taken apart into modes, `[outputs, inputs]` each, where they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pairs: Vec<[usize; 2]>,
    /// The shape of the dense weight.
    pub shape: Vec<usize>,
    /// The element type of the dense weight.
    pub dtype: String,
    /// The Frobenius norm of the difference over that of the dense weight, when the factors were made: training
    /// moves them on.
    pub relative_error: f64,
    /// The full name of the dense weight, where it isn't `MODULE.weight`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
    /// A convolution's stride, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stride: Option<[usize; 2]>,
    /// A convolution's padding, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub padding: Option<[usize; 2]>,
    /// A convolution's dilation, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dilation: Option<[usize; 2]>,
    /// A convolution's groups, where they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<usize>,
    /// Other names of the same dense weight.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tied_with: Vec<String>,
}

/// What is wrong with a record.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RecordError {
    /// It isn't JSON.
    #[error("the factorization record is not JSON: {reason}")]
    Json {
        /// What the parser says, with line and column.
        reason: String,
    },
    /// A field is missing or of the wrong type.
    #[error("the factorization record has no valid `{field}`: {reason}")]
    Field {
        /// The path of the field.
        field: String,
        /// What was expected.
        reason: String,
    },
    /// A program newer than this one wrote it.
    #[error("the factorization record has version {found}, expected {RECORD_VERSION}")]
    Version {
        /// The version found.
        found: String,
    },
}

impl RecordError {
    /// Says what to do about it, where that can be told.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Version { .. } => Some("a newer version of this program wrote it: update".to_owned()),
            _ => None,
        }
    }
}

impl ModuleRecord {
    /// The same, of a module with `prefix.` before its name.
    #[must_use]
    pub fn prefixed(self, prefix: &str) -> Self {
        let named = |name: String| format!("{prefix}.{name}");
        Self {
            parameter: self.parameter.map(named),
            tied_with: self.tied_with.into_iter().map(named).collect(),
            ..self
        }
    }
}

impl Record {
    /// The same, of a checkpoint with `prefix.` before each name.
    #[must_use]
    pub fn prefixed(self, prefix: &str) -> Self {
        let named = |name: String| format!("{prefix}.{name}");
        Self {
            modules: self
                .modules
                .into_iter()
                .map(|(name, module)| (named(name), module.prefixed(prefix)))
                .collect(),
            converted: self.converted.into_iter().map(|(name, dtype)| (named(name), dtype)).collect(),
            recalibrated: self.recalibrated.into_iter().map(named).collect(),
            ..self
        }
    }

    /// Writes the record as compact JSON with sorted keys on every level: equal records, equal bytes.
    ///
    /// ```
    /// use fnl::checkpoint::{ModuleRecord, Record};
    /// let module = ModuleRecord { kind: "linear".into(), rank: 2, shape: vec![4, 4], ..Default::default() };
    /// let record = Record {
    ///     version: 1,
    ///     tool: "fnl".into(),
    ///     modules: [("fc".into(), module)].into(),
    ///     converted: [].into(),
    ///     recalibrated: vec![],
    ///     config: [].into(),
    ///     recipe: serde_json::json!({"rank": 2, "dtype": "keep"}),
    /// };
    /// assert_eq!(
    ///     record.to_json(),
    ///     r#"{"modules":{"fc":{"dtype":"","kind":"linear","rank":2,"relative_error":0.0,"scheme":"","shape":[4,4]}},"recipe":{"dtype":"keep","rank":2},"tool":"fnl","version":1}"#
    /// );
    /// assert_eq!(Record::parse(&record.to_json())?, record);
    /// # Ok::<(), fnl::checkpoint::RecordError>(())
    /// ```
    #[must_use]
    pub fn to_json(&self) -> String {
        self.to_value().to_string()
    }

    /// Builds the record as a JSON value with sorted keys, as `config.json` holds it.
    #[must_use]
    pub fn to_value(&self) -> Value {
        // Maps with string keys, numbers and strings always serialize.
        sorted(serde_json::to_value(self).unwrap_or(Value::Null))
    }

    /// Reads a record.
    ///
    /// # Errors
    /// - text that isn't JSON, or isn't an object
    /// - a version other than [`RECORD_VERSION`]
    /// - a field that is missing or of the wrong type, with its path
    pub fn parse(text: &str) -> Result<Self, RecordError> {
        let value =
            serde_json::from_str(text).map_err(|error| RecordError::Json { reason: error.to_string() })?;
        Self::from_value(value)
    }

    /// Reads a record from a JSON value; errors as in [`Record::parse`].
    pub fn from_value(value: Value) -> Result<Self, RecordError> {
        let field = |field: &str, reason: &str| RecordError::Field {
            field: field.to_owned(),
            reason: reason.to_owned(),
        };
        let Value::Object(mut fields) = value else {
            return Err(RecordError::Json { reason: "expected an object".to_owned() });
        };
        let version = fields.remove("version").ok_or_else(|| field("version", "missing"))?;
        if version.as_u64() != Some(u64::from(RECORD_VERSION)) {
            return Err(RecordError::Version { found: version.to_string() });
        }
        let Some(Value::String(tool)) = fields.remove("tool") else {
            return Err(field("tool", "expected a string"));
        };
        let Some(Value::Object(entries)) = fields.remove("modules") else {
            return Err(field("modules", "expected an object"));
        };
        let mut modules = BTreeMap::new();
        for (name, entry) in entries {
            let module = serde_json::from_value(entry)
                .map_err(|error| field(&format!("modules.{name}"), &error.to_string()))?;
            modules.insert(name, module);
        }
        let mut texts = |name: &str| match fields.remove(name) {
            Some(value) => serde_json::from_value(value).map_err(|error| field(name, &error.to_string())),
            None => Ok(BTreeMap::new()),
        };
        let (converted, config) = (texts("converted")?, texts("config")?);
        let recalibrated = match fields.remove("recalibrated") {
            Some(value) => {
                serde_json::from_value(value).map_err(|error| field("recalibrated", &error.to_string()))?
            }
            None => Vec::new(),
        };
        let recipe = fields.remove("recipe").ok_or_else(|| field("recipe", "missing"))?;
        Ok(Self { version: RECORD_VERSION, tool, modules, converted, recalibrated, config, recipe })
    }

    /// Counts the bytes that a file's header needs for this record whatever its relative errors turn out to
    /// be: what to reserve for it before they are known.
    #[must_use]
    pub fn reserve(&self) -> usize {
        let mut widest = self.clone();
        for module in widest.modules.values_mut() {
            module.relative_error = WIDEST_ERROR;
        }
        // A comma, the key in quotes and a colon; the record as a string, quotes inside it escaped.
        let escaped = Value::String(widest.to_json()).to_string().len();
        1 + RECORD_KEY.len() + 2 + 1 + escaped
    }
}

/// Sorts the keys of every object in a value.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let ordered: BTreeMap<String, Value> =
                fields.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            Value::Object(ordered.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}
