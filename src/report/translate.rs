use super::compress::plural;
use super::units;
use serde::Serialize;

/// What a network that translates said.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct TranslateReport {
    /// The version of the schema.
    pub schema_version: u32,
    /// Name and version of the program.
    pub tool: String,
    /// `translate`.
    pub command: &'static str,
    /// The checkpoint.
    pub input: String,
    /// Hypotheses of each sentence.
    pub beams: usize,
    /// How much longer translations were preferred.
    pub length_penalty: f64,
    /// Each sentence and its translation, in order.
    pub translations: Vec<Translated>,
    /// How long it took, without reading the checkpoint.
    pub elapsed_secs: f64,
}

/// A sentence and its translation.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Translated {
    /// The sentence.
    pub source: String,
    /// Its translation.
    pub text: String,
    /// Tokens that were read, the end among them.
    pub source_tokens: usize,
    /// Whether the sentence had more, which were left out.
    pub cut: bool,
    /// The translation's tokens.
    pub tokens: Vec<u32>,
}

impl TranslateReport {
    /// One JSON document.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// A line on how fast it was.
    #[must_use]
    pub fn speed_text(&self) -> String {
        let count = self.translations.len();
        format!(
            "{} in {}, {:.1} a second\n",
            plural(count, "sentence"),
            units::seconds(self.elapsed_secs),
            count as f64 / self.elapsed_secs.max(1e-9)
        )
    }

    /// A line on sentences that were cut, where there are any.
    #[must_use]
    pub fn cut_text(&self) -> Option<String> {
        let cut = self.translations.iter().filter(|translated| translated.cut).count();
        (cut > 0).then(|| format!("{} longer than the network takes: cut", plural(cut, "sentence")))
    }
}
