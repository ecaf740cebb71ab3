/// An option of training that is not usable.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionError {
    /// A number outside its range.
    #[error("{option} {value} is not {expected}")]
    Number {
        /// The option.
        option: &'static str,
        /// What it was set to.
        value: f64,
        /// What it should be.
        expected: &'static str,
    },
    /// A name that stands for nothing.
    #[error("unknown {option} `{name}`, expected one of {}", known.join(", "))]
    Unknown {
        /// The option.
        option: &'static str,
        /// What it was set to.
        name: String,
        /// The names that exist.
        known: &'static [&'static str],
    },
    /// A name followed by numbers that are none.
    #[error("`{text}` is not of the form `{expected}`")]
    Form {
        /// What was written.
        text: String,
        /// How it is written.
        expected: &'static str,
    },
    /// Nesterov's step without a momentum to look ahead along.
    #[error("nesterov needs a momentum above 0")]
    Nesterov,
}

impl OptionError {
    /// What to do about it, where that can be said.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let Self::Unknown { name, known, .. } = self else { return None };
        let near = |known: &&&str| strsim::jaro_winkler(name, known);
        let nearest = known.iter().max_by(|a, b| near(a).total_cmp(&near(b)))?;
        (near(&nearest) > 0.8).then(|| format!("did you mean `{nearest}`?"))
    }

    /// Refuses a number unless it holds.
    pub(super) fn check(
        option: &'static str,
        value: f64,
        expected: &'static str,
        holds: bool,
    ) -> Result<(), Self> {
        if holds { Ok(()) } else { Err(Self::Number { option, value, expected }) }
    }
}
