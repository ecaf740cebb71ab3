use super::checks::CheckResult;
use super::evaluated::Evaluated;
use crate::train::{PerplexityEvaluation, SimilarityEvaluation, TranslationEvaluation};
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
    /// Of sentences and their translations.
    Translation(TranslationEvaluation),
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

    /// Asks for a BLEU.
    pub fn require_bleu(&mut self, least: f64) {
        if let TextMeasure::Translation(found) = self.measured {
            let passed = found.bleu >= least;
            let comparison = if passed { "at least" } else { "less than" };
            let message = format!("BLEU is {:.2}, {comparison} {least}", found.bleu);
            let (limit, found) = (Some(least), Some(found.bleu));
            self.checks.push(CheckResult { check: "min_bleu", limit, found, passed, layer: None, message });
        }
    }

    /// Asks for a perplexity.
    pub fn require_perplexity(&mut self, most: f64) {
        let perplexity = match self.measured {
            TextMeasure::Perplexity(found) => Some(found.perplexity),
            TextMeasure::Translation(found) => Some(found.perplexity),
            TextMeasure::Similarity(_) => None,
        };
        if let Some(perplexity) = perplexity {
            let passed = perplexity <= most;
            let comparison = if passed { "at most" } else { "more than" };
            let message = format!("the perplexity is {perplexity:.3}, {comparison} {most}");
            let (limit, found) = (Some(most), Some(perplexity));
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
            TextMeasure::Translation(found) => translation(&mut text, &self.network.data, &found),
        }
        text
    }
}

/// The lines on translations.
fn translation(text: &mut String, data: &str, found: &TranslationEvaluation) {
    let TranslationEvaluation { bleu, precisions: [one, two, three, four], brevity_penalty, .. } = *found;
    let TranslationEvaluation { perplexity, loss, accuracy, beams, sentences, tokens, .. } = *found;
    let rate = sentences as f64 / found.elapsed_secs;
    let _ = writeln!(text, "data           {data}, {sentences} sentences, {tokens} tokens of references");
    let _ = writeln!(
        text,
        "BLEU           {bleu:.2}, {one:.1}/{two:.1}/{three:.1}/{four:.1}, brevity penalty {brevity_penalty:.3}"
    );
    let _ = writeln!(text, "perplexity     {perplexity:.3}");
    let _ = writeln!(text, "loss           {loss:.4}");
    let _ = writeln!(text, "next token     {:.2} % foretold", 100.0 * accuracy);
    let _ = writeln!(
        text,
        "speed          {rate:.1} sentences/s with {beams} beams, {:.1} s",
        found.elapsed_secs
    );
}
