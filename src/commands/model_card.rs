//! The sections of a model card that say what was done.

use crate::report::{CompressReport, NarrowedProduct, error};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A section of a card: what it tells of, and its text, none to take it out.
#[derive(Clone, Debug)]
pub(super) enum Section {
    /// Factored layers.
    Factoring(Option<String>),
    /// Narrower heads, which stay so whatever is done later.
    Heads(String),
}

impl Section {
    /// What stands before it, and after it.
    fn marks(&self) -> [&'static str; 2] {
        match self {
            Self::Factoring(_) => ["<!-- fnl: begin -->", "<!-- fnl: end -->"],
            Self::Heads(_) => ["<!-- fnl heads: begin -->", "<!-- fnl heads: end -->"],
        }
    }

    fn text(&self) -> Option<&str> {
        match self {
            Self::Factoring(text) => text.as_deref(),
            Self::Heads(text) => Some(text),
        }
    }
}

/// The text for heads that were narrowed.
pub(super) fn of_heads(products: &[NarrowedProduct]) -> Section {
    let mut text = "## Narrower heads\n\n".to_owned();
    for product in products {
        let NarrowedProduct { attention, product, heads, width, rank, relative_error } = product;
        let _ = writeln!(
            text,
            "- `{attention}`: {product} of {heads} heads, {width} to {rank} elements, relative error {}",
            error(*relative_error)
        );
    }
    let _ = write!(
        text,
        "\nMade with {}. Libraries that take the width of heads from config.json cannot run them as they are.",
        crate::TOOL
    );
    Section::Heads(text)
}

/// The text for a compression.
pub(super) fn of_factoring(report: &CompressReport) -> Section {
    let totals = &report.totals;
    let mut text = "## Factored layers\n\n".to_owned();
    let mut schemes: BTreeMap<&str, usize> = BTreeMap::new();
    report.layers.iter().for_each(|layer| *schemes.entry(layer.scheme).or_default() += 1);
    let schemes: Vec<String> = schemes.iter().map(|(scheme, count)| format!("{count} {scheme}")).collect();
    let (factored, tool) = (totals.totals.layers_factored, &report.tool);
    let collapsed = report.layers.iter().all(|layer| layer.parameters_after == layer.parameters_before);
    let _ = if collapsed {
        writeln!(
            text,
            "{factored} layers of this checkpoint ({}) were factored with {tool} and multiplied out again: shapes are as they were.",
            schemes.join(", ")
        )
    } else {
        writeln!(
            text,
            "{factored} layers of this checkpoint were replaced by factors ({}) with {tool}: {:.1} % of the parameters are kept.",
            schemes.join(", "),
            100.0 * totals.keep
        )
    };
    if let (Some(mean), Some(worst)) = (totals.mean_error, &totals.worst_error) {
        let _ = writeln!(
            text,
            "Relative error of the weights: mean {}, worst {} (`{}`).",
            error(mean),
            error(worst.relative_error),
            worst.layer
        );
    }
    text.push_str("\nEvery layer, its rank and its error are in `report.json`.");
    Section::Factoring(Some(text))
}

/// A model card with its front matter and text, an old section taken out and a new one appended.
pub(super) fn with_section(card: &str, section: &Section) -> String {
    let [before, after] = section.marks();
    let mut text = match (card.find(before), card.find(after)) {
        (Some(begin), Some(end)) if begin < end => {
            let rest = &card[end + after.len()..];
            format!("{}{}", card[..begin].trim_end_matches('\n'), rest)
        }
        _ => card.to_owned(),
    };
    if let Some(section) = section.text() {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        if !text.is_empty() {
            text.push('\n');
        }
        let _ = write!(text, "{before}\n\n{section}\n\n{after}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_replaced_and_taken_out() {
        let card = "---\nlicense: mit\n---\n# Model\n";
        let factoring = |text: &str| Section::Factoring(Some(text.to_owned()));
        let one = with_section(card, &factoring("one"));
        assert!(one.starts_with(card));
        let two = with_section(&one, &factoring("two"));
        assert!(two.contains("two") && !two.contains("one"));
        let narrow = with_section(&two, &Section::Heads("heads".to_owned()));
        assert!(narrow.contains("two") && narrow.contains("heads"));
        assert!(with_section(&narrow, &Section::Factoring(None)).contains("heads"));
        assert_eq!(with_section(&two, &Section::Factoring(None)), card);
    }
}
