use super::checks::CheckResult;
use super::compress::plural;
use super::evaluated::Evaluated;
use crate::train::{ClassEvaluation, PerplexityEvaluation, SimilarityEvaluation, TranslationEvaluation};
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
    /// Of sentences and their translations.
    Translation(TranslationEvaluation),
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

    /// Asks for a BLEU; of what has none nothing is asked.
    pub fn require_bleu(&mut self, least: f64) {
        if let TextMeasure::Translation(found) = self.measured {
            self.checks.push(CheckResult::bleu(found.bleu, least));
        }
    }

    /// Asks for a perplexity; of what has none nothing is asked.
    pub fn require_perplexity(&mut self, most: f64) {
        let perplexity = match self.measured {
            TextMeasure::Perplexity(found) | TextMeasure::Masked(found) => Some(found.perplexity),
            TextMeasure::Translation(found) => Some(found.perplexity),
            _ => None,
        };
        if let Some(found) = perplexity {
            self.checks.push(CheckResult::perplexity(found, most));
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
        "speed          {rate:.1} sentences/s with {}, {:.1} s",
        plural(beams, "beam"),
        found.elapsed_secs
    );
}
