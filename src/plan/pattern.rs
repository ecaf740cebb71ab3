use regex::Regex;
use std::fmt;

/// A pattern over layer names.
///
/// | written | matches |
/// | --- | --- |
/// | `encoder.layer.0.output.dense` | that layer; the name of its weight does as well |
/// | `encoder.layer.*.output.dense` | `*` stands for one segment between dots, or a part of one |
/// | `encoder.**` | `**` stands for any number of segments |
/// | `re:layer\.[0-5]\.` | what the regular expression finds anywhere in the name |
///
/// # Examples
///
/// ```
/// use fnl::plan::Pattern;
///
/// let pattern = Pattern::parse("encoder.layer.*.attention.**")?;
/// assert!(pattern.matches("encoder.layer.11.attention.self.query"));
/// assert!(!pattern.matches("encoder.layer.11.output.dense"));
/// assert!(Pattern::parse("re:(query|key)$")?.matches("encoder.layer.0.attention.self.key"));
/// # Ok::<(), fnl::plan::PatternError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    matcher: Matcher,
}

#[derive(Clone, Debug)]
enum Matcher {
    Exact,
    Regex(Regex),
}

/// A pattern that cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// Nothing is written.
    #[error("a pattern is empty")]
    Empty,
    /// The regular expression is not one.
    #[error("pattern `{text}` is not a regular expression: {reason}")]
    Regex {
        /// The pattern as written.
        text: String,
        /// The last line of what is wrong with it.
        reason: String,
    },
}

impl Pattern {
    /// Reads a pattern as it is written on the command line or in a recipe.
    ///
    /// # Errors
    ///
    /// - [`PatternError::Empty`];
    /// - [`PatternError::Regex`] when what follows `re:` is not a regular expression.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        let compile = |expression: &str| {
            Regex::new(expression).map_err(|error| {
                let message = error.to_string();
                let reason = message.lines().last().unwrap_or_default().trim_start_matches("error: ");
                PatternError::Regex { text: text.to_owned(), reason: reason.to_owned() }
            })
        };
        let matcher = if let Some(expression) = text.strip_prefix("re:") {
            Matcher::Regex(compile(expression)?)
        } else if text.contains('*') {
            Matcher::Regex(compile(&glob_expression(text))?)
        } else {
            Matcher::Exact
        };
        Ok(Self { text: text.to_owned(), matcher })
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the pattern is one exact name.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        matches!(self.matcher, Matcher::Exact)
    }

    /// Whether a name matches.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        match &self.matcher {
            Matcher::Exact => self.text == name,
            Matcher::Regex(regex) => regex.is_match(name),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The anchored regular expression of a glob over dotted segments.
fn glob_expression(glob: &str) -> String {
    let mut expression = String::from("^");
    for (index, segment) in glob.split('.').enumerate() {
        let first = index == 0;
        if segment == "**" {
            // Any number of segments, none included, with the dot that joins them to what stands before.
            expression.push_str(if first { r"(?:[^.]+(?:\.[^.]+)*)?" } else { r"(?:\.[^.]+)*" });
            continue;
        }
        if !first {
            // After a leading `**` that stands for nothing there is no dot to match.
            expression.push_str(if expression.ends_with(")?") { r"(?:^|\.)" } else { r"\." });
        }
        let parts: Vec<String> = segment.split('*').map(regex::escape).collect();
        if segment == "*" {
            expression.push_str("[^.]+");
        } else {
            expression.push_str(&parts.join("[^.]*"));
        }
    }
    expression.push('$');
    expression
}

/// What may have been meant by a pattern that matched none of these names: the glob that finds it inside of them, or the name
/// most like it.
pub(crate) fn suggestion<'a>(text: &str, names: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let wanted = text.strip_prefix("re:").unwrap_or(text);
    let inner = format!("**.{wanted}.**");
    let inside = Pattern::parse(&inner).ok().filter(|_| wanted == text && !wanted.starts_with("**"));
    let lower = wanted.to_lowercase();
    let mut best: Option<(f64, &str)> = None;
    for name in names {
        if inside.as_ref().is_some_and(|inside| inside.matches(name)) {
            let ends = name.ends_with(&format!(".{wanted}"));
            let glob = if ends { format!("**.{wanted}") } else { inner };
            return Some(format!("`{glob}` matches `{name}`"));
        }
        let likeness = strsim::normalized_damerau_levenshtein(&lower, &name.to_lowercase());
        if best.is_none_or(|(most, _)| likeness > most) {
            best = Some((likeness, name));
        }
    }
    best.map(|(_, name)| format!("the nearest is `{name}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant_is_found_inside_of_names_or_near_them() {
        let names = ["encoder.0.self.query", "encoder.0.dense", "head"];
        let meant = |text: &str| suggestion(text, names).unwrap();
        assert_eq!(meant("query"), "`**.query` matches `encoder.0.self.query`");
        assert_eq!(meant("self"), "`**.self.**` matches `encoder.0.self.query`");
        assert_eq!(meant("HEAD"), "the nearest is `head`");
        assert_eq!(meant("encoder.1.dense"), "the nearest is `encoder.0.dense`");
        assert_eq!(suggestion("query", []), None);
    }

    #[test]
    fn globs_stop_at_dots_unless_doubled() {
        let cases = [
            ("a.*.c", "a.b.c", true),
            ("a.*.c", "a.b.b.c", false),
            ("a.**.c", "a.b.b.c", true),
            ("a.**.c", "a.c", true),
            ("a.**", "a", true),
            ("a.**", "ab", false),
            ("**.c", "a.b.c", true),
            ("**.c", "c", true),
            ("**.c", "a.bc", false),
            ("**", "a.b.c", true),
            ("layer*.conv?", "layer1.conv?", true),
            ("layer*.conv1", "layer12.conv1", true),
            ("layer*.conv1", "layer1.0.conv1", false),
            ("a+b.*", "a+b.c", true),
            ("a+b.*", "aab.c", false),
            ("a.b", "a.b", true),
            ("a.b", "axb", false),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(Pattern::parse(pattern).unwrap().matches(name), expected, "{pattern} on {name}");
        }
    }

    #[test]
    fn a_broken_regular_expression_says_what_is_wrong() {
        let message = Pattern::parse("re:layer.(").unwrap_err().to_string();
        assert!(message.starts_with("pattern `re:layer.(` is not a regular expression: "), "{message}");
    }
}
