//! How well translations agree with references.

use regex::Regex;
use serde::Serialize;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

/// Words of the longest run that is looked for.
const ORDER: usize = 4;

/// A corpus's BLEU, and what it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Bleu {
    /// From 0 to 100: the geometric mean of the precisions times the brevity penalty.
    pub score: f64,
    /// Of runs of one to four words, those of the translations that their references have, in percent, smoothed where there
    /// are none.
    pub precisions: [f64; ORDER],
    /// `exp(1 - reference_tokens / hypothesis_tokens)` where translations are shorter, otherwise 1.
    pub brevity_penalty: f64,
    /// Words of the translations.
    pub hypothesis_tokens: usize,
    /// Words of the references.
    pub reference_tokens: usize,
}

/// The BLEU of translations with one reference each, case-sensitive, split into words as the WMT's `mteval-v13a` does.
///
/// For orders without any match the `k`-th such has the precision `100 / (2^k total)`; an order of which translations have no
/// run at all makes the score 0.
///
/// # Panics
///
/// When there are not as many of both.
///
/// # Reference
///
/// Papineni et al., "BLEU", 2002; Post, "A Call for Clarity in Reporting BLEU Scores", 2018, whose tool sacrebleu gives these
/// numbers with its default signature `nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp`.
///
/// # Examples
///
/// ```
/// use fnl::train::bleu;
///
/// let found = bleu(&["The cat sat on the mat."], &["The cat sat on a mat."]);
/// assert_eq!(found.precisions[..2], [100.0 * 6.0 / 7.0, 100.0 * 4.0 / 6.0]);
/// assert!((found.score - 48.892_302).abs() < 1e-6);
/// ```
#[must_use]
pub fn bleu<H: AsRef<str>, R: AsRef<str>>(hypotheses: &[H], references: &[R]) -> Bleu {
    assert_eq!(hypotheses.len(), references.len(), "translations and references");
    let (mut matches, mut totals, mut lengths) = ([0usize; ORDER], [0usize; ORDER], [0usize; 2]);
    for (hypothesis, reference) in hypotheses.iter().zip(references) {
        let (found, expected) = (spaced(hypothesis.as_ref()), spaced(reference.as_ref()));
        let [found, expected] = [&found, &expected].map(|text| words(text));
        lengths[0] += found.len();
        lengths[1] += expected.len();
        for order in 1..=ORDER {
            let known = counts(&expected, order);
            for (run, count) in counts(&found, order) {
                totals[order - 1] += count;
                matches[order - 1] += count.min(known.get(run).copied().unwrap_or(0));
            }
        }
    }
    score(matches, totals, lengths)
}

/// How often each run of so many words comes.
fn counts<'a, 'b>(words: &'b [&'a str], order: usize) -> HashMap<&'b [&'a str], usize> {
    let mut counts = HashMap::new();
    for run in words.windows(order) {
        *counts.entry(run).or_insert(0) += 1;
    }
    counts
}

fn score(matches: [usize; ORDER], totals: [usize; ORDER], [hypothesis, reference]: [usize; 2]) -> Bleu {
    let brevity_penalty = match hypothesis {
        0 if reference > 0 => 0.0,
        length if length < reference => (1.0 - reference as f64 / length as f64).exp(),
        _ => 1.0,
    };
    let mut precisions = [0.0; ORDER];
    if matches.iter().any(|&count| count > 0) {
        let mut smoothing = 1.0;
        for (order, precision) in precisions.iter_mut().enumerate() {
            *precision = match (matches[order], totals[order]) {
                (_, 0) => break,
                (0, total) => {
                    smoothing *= 2.0;
                    100.0 / (smoothing * total as f64)
                }
                (count, total) => 100.0 * count as f64 / total as f64,
            };
        }
    }
    let mean = precisions.iter().map(|precision| precision.ln()).sum::<f64>() / ORDER as f64;
    Bleu {
        score: brevity_penalty * mean.exp(),
        precisions,
        brevity_penalty,
        hypothesis_tokens: hypothesis,
        reference_tokens: reference,
    }
}

/// A pattern and what stands in its place.
type Rule = (Regex, &'static str);

/// Spaces around what are words of their own, for languages of the West.
static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let rules = [
        // symbols, but for apostrophes, points, commas and dashes
        ("([{-~\\[-` -&(-+:-@/])", " $1 "),
        // points and commas that no digit stands before, or behind
        ("([^0-9])([.,])", "$1 $2 "),
        ("([.,])([^0-9])", " $1 $2"),
        // dashes behind digits
        ("([0-9])(-)", "$1 $2 "),
    ];
    rules.into_iter().filter_map(|(pattern, by)| Some((Regex::new(pattern).ok()?, by))).collect()
});

/// A text with spaces between all its words.
fn spaced(text: &str) -> String {
    let text = text.trim_end_matches(is_space);
    let text = text.replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    let text = if text.contains('&') {
        let entities = [("&quot;", "\""), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")];
        entities.iter().fold(text, |text, (entity, by)| text.replace(entity, by))
    } else {
        text
    };
    let text = format!(" {text} ");
    RULES.iter().fold(text, |text, (pattern, by)| match pattern.replace_all(&text, *by) {
        Cow::Borrowed(_) => text,
        Cow::Owned(text) => text,
    })
}

fn words(text: &str) -> Vec<&str> {
    text.split(is_space).filter(|word| !word.is_empty()).collect()
}

/// White space as Python has it, where sacrebleu is written: four separators of old teletypes are among it.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

#[cfg(test)]
mod tests {
    use super::{RULES, spaced, words};

    #[test]
    fn words_are_split_as_the_reference_splits_them() {
        assert_eq!(RULES.len(), 4);
        for (text, expected) in [
            ("It's 3,000.50 (or so)-ish.", "It's 3,000.50 ( or so ) -ish ."),
            ("a 5-year-old, e.g. this", "a 5 - year-old , e . g . this"),
            ("&quot;A&amp;lt; B&gt;", "\" A < B >"),
            ("no- \n", "no-"),
        ] {
            assert_eq!(words(&spaced(text)).join(" "), expected, "{text}");
        }
    }
}
