//! The section of a model card that says what was done.

use crate::report::{CompressReport, error};
use std::fmt::Write as _;

const BEGIN: &str = "<!-- fnl: begin -->";
const END: &str = "<!-- fnl: end -->";

/// The section for a compression.
pub(super) fn section(report: &CompressReport) -> String {
    let totals = &report.totals;
    let mut text = format!("{BEGIN}\n\n## Factored layers\n\n");
    let _ = writeln!(
        text,
        "{} layers of this checkpoint were replaced by low-rank factors from their truncated SVD with {}: {:.1} % of the parameters are kept.",
        totals.totals.layers_factored,
        report.tool,
        100.0 * totals.keep
    );
    if let (Some(mean), Some(worst)) = (totals.mean_error, &totals.worst_error) {
        let _ = writeln!(
            text,
            "Relative error of the weights: mean {}, worst {} (`{}`).",
            error(mean),
            error(worst.relative_error),
            worst.layer
        );
    }
    let _ = write!(text, "\nEvery layer, its rank and its error are in `report.json`.\n\n{END}\n");
    text
}

/// A model card with its front matter and text, an old section taken out and a new one appended.
pub(super) fn with_section(card: &str, section: Option<&str>) -> String {
    let mut text = match (card.find(BEGIN), card.find(END)) {
        (Some(begin), Some(end)) if begin < end => {
            let rest = &card[end + END.len()..];
            format!("{}{}", card[..begin].trim_end_matches('\n'), rest)
        }
        _ => card.to_owned(),
    };
    if let Some(section) = section {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(section);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_replaced_and_taken_out() {
        let card = "---\nlicense: mit\n---\n# Model\n";
        let one = with_section(card, Some(&format!("{BEGIN}\none\n{END}\n")));
        assert!(one.starts_with(card));
        let two = with_section(&one, Some(&format!("{BEGIN}\ntwo\n{END}\n")));
        assert!(two.contains("two") && !two.contains("one"));
        assert_eq!(with_section(&two, None), card);
    }
}
