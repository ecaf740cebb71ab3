use super::compress::plural;
use super::units;
use crate::models::Sampling;
use serde::Serialize;

/// What a language model said.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct GenerateReport {
    /// The version of the schema.
    pub schema_version: u32,
    /// Name and version of the program.
    pub tool: String,
    /// `generate`.
    pub command: &'static str,
    /// The checkpoint.
    pub input: String,
    /// The text that was continued.
    pub prompt: String,
    /// What followed.
    pub text: String,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// The tokens that followed.
    pub tokens: Vec<u32>,
    /// Why no more did.
    pub stop: Stop,
    /// How they were chosen.
    #[serde(flatten)]
    pub sampling: Sampling,
    /// How long it took until the first of them.
    pub prompt_secs: f64,
    /// How many more there were in a second.
    pub tokens_per_second: f64,
    /// How long all took, without reading the checkpoint.
    pub elapsed_secs: f64,
}

/// Why a text ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Stop {
    /// It has as many tokens as were asked for.
    Length,
    /// The model ended it.
    End,
    /// Whoever heard it wanted no more.
    Reader,
}

impl GenerateReport {
    /// One JSON document.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// A line on how fast it was, and why it ended.
    #[must_use]
    pub fn speed_text(&self) -> String {
        let ended = match self.stop {
            Stop::Length => "",
            Stop::End => ", ended by the model",
            Stop::Reader => ", the reader is gone",
        };
        format!(
            "{} of prompt in {}, {} in {}, {:.1} tokens/s{ended}\n",
            plural(self.prompt_tokens, "token"),
            units::seconds(self.prompt_secs),
            plural(self.tokens.len(), "token"),
            units::seconds(self.elapsed_secs - self.prompt_secs),
            self.tokens_per_second
        )
    }
}
