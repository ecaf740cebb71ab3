use super::checks::CheckResult;
use super::evaluated::Evaluated;
use crate::train::{ClassEvaluation, PerplexityEvaluation, SimilarityEvaluation};
use serde::Serialize;
use std::fmt::Write as _;

/// How good a network for text is, how large, and how fast.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct EvaluateTextReport {
    /// Of what.
    #[serde(flatten)]
    pub network: Evaluated,
    /// What was measured.
    pub measured: TextMeasure,
    /// What must hold, and whether it does.
    pub checks: Vec<CheckResult>,
}

/// What was measured of a network for text.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TextMeasure {
    /// Of pairs of sentences.
    Similarity(SimilarityEvaluation),
    /// Of texts with classes.
    Classes(ClassEvaluation),
    /// Of a text, token by token.
    Perplexity(PerplexityEvaluation),
    /// Of a text's hidden tokens.
    Masked(PerplexityEvaluation),
}

impl EvaluateTextReport {
    pub(crate) fn new(network: Evaluated, measured: TextMeasure) -> Self {
        Self { network, measured, checks: Vec::new() }
    }

    /// Asks for an accuracy; of what has none nothing is asked.
    pub fn require_accuracy(&mut self, least: f64) {
        if let TextMeasure::Classes(found) = self.measured {
            self.checks.push(CheckResult::accuracy(found.accuracy, least));
        }
    }

    /// Asks for a correlation; of what has none nothing is asked.
    pub fn require_spearman(&mut self, least: f64) {
        if let TextMeasure::Similarity(found) = self.measured {
            self.checks.push(CheckResult::spearman(found.spearman, least));
        }
    }

    /// Asks for a perplexity; of what has none nothing is asked.
    pub fn require_perplexity(&mut self, most: f64) {
        if let TextMeasure::Perplexity(found) | TextMeasure::Masked(found) = self.measured {
            self.checks.push(CheckResult::perplexity(found.perplexity, most));
        }
    }

    /// Whether all that must hold does.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.passed)
    }

    /// One JSON document.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// A few lines for people.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = self.network.to_text("a token");
        match self.measured {
            TextMeasure::Similarity(found) => {
                let SimilarityEvaluation { spearman, pearson, sentences, tokens, elapsed_secs, .. } = found;
                let _ = writeln!(
                    text,
                    "data           {}, {sentences} sentences, {tokens} tokens",
                    self.network.data
                );
                let _ = writeln!(text, "Spearman       {spearman:.4}");
                let _ = writeln!(text, "Pearson        {pearson:.4}");
                let rate = sentences as f64 / elapsed_secs;
                let _ = writeln!(text, "speed          {rate:.0} sentences/s, {elapsed_secs:.1} s");
            }
            TextMeasure::Classes(found) => {
                let ClassEvaluation { accuracy, loss, sentences, tokens, elapsed_secs, .. } = found;
                let data = &self.network.data;
                let _ = writeln!(text, "data           {data}, {sentences} sentences, {tokens} tokens");
                let _ = writeln!(text, "accuracy       {:.2} %", 100.0 * accuracy);
                let _ = writeln!(text, "loss           {loss:.4}");
                let rate = sentences as f64 / elapsed_secs;
                let _ = writeln!(text, "speed          {rate:.0} sentences/s, {elapsed_secs:.1} s");
            }
            TextMeasure::Perplexity(found) | TextMeasure::Masked(found) => {
                let PerplexityEvaluation { perplexity, loss, accuracy, window, tokens, elapsed_secs, .. } =
                    found;
                let _ = writeln!(
                    text,
                    "data           {}, {tokens} tokens in windows of {window}",
                    self.network.data
                );
                let _ = writeln!(text, "perplexity     {perplexity:.3}");
                let _ = writeln!(text, "loss           {loss:.4}");
                let what = if matches!(self.measured, TextMeasure::Masked(_)) {
                    "hidden tokens "
                } else {
                    "next token    "
                };
                let _ = writeln!(text, "{what} {:.2} % foretold", 100.0 * accuracy);
                let rate = tokens as f64 / elapsed_secs;
                let _ = writeln!(text, "speed          {rate:.0} tokens/s, {elapsed_secs:.1} s");
            }
        }
        text
    }
}
