use super::checks::CheckResult;
use super::evaluated::Evaluated;
use crate::train::{PerplexityEvaluation, SimilarityEvaluation};
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
    /// Of a text.
    Perplexity(PerplexityEvaluation),
}

impl EvaluateTextReport {
    pub(crate) fn new(network: Evaluated, measured: TextMeasure) -> Self {
        Self { network, measured, checks: Vec::new() }
    }

    /// Asks for a correlation.
    pub fn require_spearman(&mut self, least: f64) {
        if let TextMeasure::Similarity(found) = self.measured {
            let passed = found.spearman >= least;
            let comparison = if passed { "at least" } else { "less than" };
            let message = format!("Spearman's correlation is {:.4}, {comparison} {least}", found.spearman);
            let (limit, found) = (Some(least), Some(found.spearman));
            self.checks.push(CheckResult {
                check: "min_spearman",
                limit,
                found,
                passed,
                layer: None,
                message,
            });
        }
    }

    /// Asks for a perplexity.
    pub fn require_perplexity(&mut self, most: f64) {
        if let TextMeasure::Perplexity(found) = self.measured {
            let passed = found.perplexity <= most;
            let comparison = if passed { "at most" } else { "more than" };
            let message = format!("the perplexity is {:.3}, {comparison} {most}", found.perplexity);
            let (limit, found) = (Some(most), Some(found.perplexity));
            self.checks.push(CheckResult {
                check: "max_perplexity",
                limit,
                found,
                passed,
                layer: None,
                message,
            });
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
            TextMeasure::Perplexity(found) => {
                let PerplexityEvaluation { perplexity, loss, accuracy, window, tokens, elapsed_secs, .. } =
                    found;
                let _ = writeln!(
                    text,
                    "data           {}, {tokens} tokens in windows of {window}",
                    self.network.data
                );
                let _ = writeln!(text, "perplexity     {perplexity:.3}");
                let _ = writeln!(text, "loss           {loss:.4}");
                let _ = writeln!(text, "next token     {:.2} % foretold", 100.0 * accuracy);
                let rate = tokens as f64 / elapsed_secs;
                let _ = writeln!(text, "speed          {rate:.0} tokens/s, {elapsed_secs:.1} s");
            }
        }
        text
    }
}
