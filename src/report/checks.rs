use serde::Serialize;

/// Something that must hold for the result, asked for by the user.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Check {
    /// No layer's relative error is larger.
    MaxError(f64),
    /// All parameters after / before are no more.
    MaxKeep(f64),
    /// At least one layer was factored.
    FailIfUnchanged,
}

/// Whether a [`Check`] holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CheckResult {
    /// The check's name, that of its flag.
    pub check: &'static str,
    /// The number asked for, if the check has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
    /// What was found in its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<f64>,
    /// Whether it holds.
    pub passed: bool,
    /// The layer that breaks it, or comes nearest to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer: Option<String>,
    /// A sentence for people.
    pub message: String,
}
