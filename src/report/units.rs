//! Numbers as people read them.

use crate::decompose::Certainty;
use std::borrow::Cow;

/// A size in bytes, KiB, MiB, GiB or TiB.
///
/// ```
/// assert_eq!(fnl::report::size(90_852_760), "86.6 MiB");
/// assert_eq!(fnl::report::size(512), "512 B");
/// ```
#[must_use]
pub fn size(bytes: u64) -> String {
    scaled(bytes as f64, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB"])
}

/// A count in thousands, millions or billions.
///
/// ```
/// assert_eq!(fnl::report::count(22_713_216), "22.7 M");
/// assert_eq!(fnl::report::count(384), "384");
/// ```
#[must_use]
pub fn count(number: u64) -> String {
    scaled(number as f64, 1000.0, &["", "K", "M", "G", "T", "P"])
}

/// An error with three digits after the point.
///
/// ```
/// assert_eq!(fnl::report::error(0.312_74), "0.313");
/// assert_eq!(fnl::report::error(0.000_012), "1.2e-5");
/// ```
#[must_use]
pub fn error(value: f64) -> String {
    if value == 0.0 || value >= 0.0005 { format!("{value:.3}") } else { format!("{value:.1e}") }
}

/// An error, marked where it is only bounded or estimated.
///
/// ```
/// use fnl::decompose::Certainty;
///
/// assert_eq!(fnl::report::foreseen(0.25, Some(Certainty::AtMost)), "<0.250");
/// assert_eq!(fnl::report::foreseen(0.25, None), "0.250");
/// ```
#[must_use]
pub fn foreseen(value: f64, certainty: Option<Certainty>) -> String {
    let mark = match certainty {
        Some(Certainty::AtMost) => "<",
        Some(Certainty::Estimated) => "~",
        Some(Certainty::Exact) | None => "",
    };
    format!("{mark}{}", error(value))
}

/// A text as one line that does nothing to a terminal: what is no character to be seen is written as in source code.
///
/// ```
/// assert_eq!(fnl::report::printable("conv\u{1b}[31m\n"), "conv\\u{1b}[31m\\n");
/// assert_eq!(fnl::report::printable("größe"), "größe");
/// ```
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    Cow::Owned(text.chars().map(shown).collect())
}

/// The same of a text of several lines, whose ends and tabs stay.
pub(crate) fn printable_lines(text: &str) -> Cow<'_, str> {
    if !text.contains(|c: char| c.is_control() && c != '\n' && c != '\t') {
        return Cow::Borrowed(text);
    }
    let keeps = |c: char| !c.is_control() || c == '\n' || c == '\t';
    let shown = |c: char| if keeps(c) { c.to_string() } else { c.escape_default().to_string() };
    Cow::Owned(text.chars().map(shown).collect())
}

/// A duration.
///
/// ```
/// assert_eq!(fnl::report::seconds(0.0123), "12 ms");
/// assert_eq!(fnl::report::seconds(75.0), "1 min 15 s");
/// assert_eq!(fnl::report::seconds(0.0002), "< 1 ms");
/// ```
#[must_use]
pub fn seconds(value: f64) -> String {
    if value < 0.0005 {
        "< 1 ms".to_owned()
    } else if value < 0.9995 {
        format!("{:.0} ms", value * 1000.0)
    } else if value < 59.95 {
        format!("{value:.1} s")
    } else {
        let whole = value.round() as u64;
        format!("{} min {} s", whole / 60, whole % 60)
    }
}

fn scaled(value: f64, step: f64, units: &[&str]) -> String {
    let mut value = value;
    let mut units = units.iter();
    let mut unit = units.next().copied().unwrap_or_default();
    let mut whole = true;
    for next in units {
        if value < step - 0.05 {
            break;
        }
        (value, unit, whole) = (value / step, next, false);
    }
    match (whole, unit) {
        (true, "") => format!("{value:.0}"),
        (true, unit) => format!("{value:.0} {unit}"),
        (false, unit) => format!("{value:.1} {unit}"),
    }
}
