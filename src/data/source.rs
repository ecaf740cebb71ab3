use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::format::Format;

/// A data set's format and folder, written `FORMAT:DIR`.
///
/// # Examples
///
/// ```
/// use fnl::data::{DataSource, Format};
/// let source: DataSource = "cifar10:data/cifar".parse()?;
/// assert_eq!(source, DataSource { format: Format::Cifar10, path: "data/cifar".into() });
/// assert_eq!(source.to_string(), "cifar10:data/cifar");
///
/// let error = "cifar:data".parse::<DataSource>().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "`cifar` is not a format of data sets, expected cifar10, cifar100, mnist, fashion-mnist, tiny-imagenet or images"
/// );
/// assert_eq!(error.hint().unwrap(), "did you mean `cifar10`?");
/// # Ok::<(), fnl::data::DataSourceError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSource {
    /// How the data lie there.
    pub format: Format,
    /// The folder.
    pub path: PathBuf,
}

impl fmt::Display for DataSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.format, self.path.display())
    }
}

impl FromStr for DataSource {
    type Err = DataSourceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some((format, path)) = text.split_once(':') else {
            return Err(DataSourceError::NoFormat { text: text.to_owned() });
        };
        let format = format.parse()?;
        if path.is_empty() {
            return Err(DataSourceError::NoFolder { format });
        }
        Ok(Self { format, path: path.into() })
    }
}

/// Why a text doesn't name a data set.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DataSourceError {
    /// There is no colon.
    #[error("`{text}` does not say its format, expected FORMAT:DIR with the format {}", Formats)]
    NoFormat {
        /// What was given.
        text: String,
    },
    /// Nothing follows the colon.
    #[error("`{format}:` does not say its folder, expected {format}:DIR")]
    NoFolder {
        /// The format.
        format: Format,
    },
    /// No format has this name.
    #[error("`{name}` is not a format of data sets, expected {}", Formats)]
    UnknownFormat {
        /// What was given.
        name: String,
    },
}

impl DataSourceError {
    /// Says what to do about it, where that can be told.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoFormat { text } if Path::new(text).is_file() => {
                Some(format!("write it like text:{text}"))
            }
            Self::NoFormat { text } => {
                let format = text.parse::<Format>().unwrap_or(Format::Images);
                let folder = if text == format.name() { "DIR" } else { text };
                Some(format!("write it like {format}:{folder}"))
            }
            Self::UnknownFormat { name } => {
                let distance =
                    |format: &Format| strsim::damerau_levenshtein(&name.to_lowercase(), format.name());
                let nearest = Format::ALL.into_iter().min_by_key(distance)?;
                (distance(&nearest) <= 3).then(|| format!("did you mean `{nearest}`?"))
            }
            Self::NoFolder { .. } => None,
        }
    }
}

/// Lists the formats' names.
struct Formats;

impl fmt::Display for Formats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, format) in Format::ALL.into_iter().enumerate() {
            let separator = match index {
                0 => "",
                _ if index + 1 == Format::ALL.len() => " or ",
                _ => ", ",
            };
            write!(f, "{separator}{format}")?;
        }
        Ok(())
    }
}

/// Which part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// What a network learns from.
    Train,
    /// What it is judged by: the test set, or the validation set of formats whose test set has no labels.
    Test,
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Train => "train",
            Self::Test => "test",
        })
    }
}
