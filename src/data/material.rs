use super::{DataSource, DataSourceError, ParallelSource, ParallelSourceError, TextSource};
use std::fmt;
use std::str::FromStr;

/// What a network learns from or is measured on, as it is typed: pictures, `cifar10:DIR`, or texts, `stsb:FILE`.
///
/// # Examples
///
/// ```
/// use fnl::data::Material;
///
/// assert!(matches!("cifar10:cifar".parse()?, Material::Images(_)));
/// assert!(matches!("text:notes.txt".parse()?, Material::Text(_)));
/// assert!("pages:notes".parse::<Material>().is_err());
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Material {
    /// Pictures and their classes.
    Images(DataSource),
    /// Texts, with labels or without.
    Text(TextSource),
    /// Sentences and their translations.
    Parallel(ParallelSource),
}

impl fmt::Display for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Images(source) => source.fmt(f),
            Self::Text(source) => source.fmt(f),
            Self::Parallel(source) => source.fmt(f),
        }
    }
}

impl From<DataSource> for Material {
    fn from(source: DataSource) -> Self {
        Self::Images(source)
    }
}

impl From<TextSource> for Material {
    fn from(source: TextSource) -> Self {
        Self::Text(source)
    }
}

impl From<ParallelSource> for Material {
    fn from(source: ParallelSource) -> Self {
        Self::Parallel(source)
    }
}

impl FromStr for Material {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if ParallelSource::is_named_by(text) {
            return text.parse().map(Self::Parallel).map_err(|error: ParallelSourceError| error.to_string());
        }
        if let Ok(source) = text.parse::<TextSource>() {
            return Ok(Self::Text(source));
        }
        let other = |error: DataSourceError| {
            let hint = error.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
            format!("{error}; or stsb:FILE, sst2:DIR, classes:FILE, text:FILE, parallel:SOURCE,TARGET{hint}")
        };
        text.parse::<DataSource>().map(Self::Images).map_err(other)
    }
}
