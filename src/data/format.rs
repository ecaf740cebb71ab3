use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::source::DataSourceError;

/// How a data set lies on disk.
///
/// ```
/// use fnl::data::Format;
/// assert_eq!("fashion-mnist".parse::<Format>()?, Format::FashionMnist);
/// assert_eq!(Format::TinyImagenet.to_string(), "tiny-imagenet");
/// # Ok::<(), fnl::data::DataSourceError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Format {
    /// CIFAR-10's binary version: `data_batch_1.bin` to `data_batch_5.bin`, and `test_batch.bin`.
    Cifar10,
    /// CIFAR-100's binary version, with its fine labels: `train.bin` and `test.bin`.
    Cifar100,
    /// MNIST's four idx files, compressed or not.
    Mnist,
    /// Fashion-MNIST's four idx files, compressed or not.
    FashionMnist,
    /// Tiny ImageNet: `train/<class>/images`, and `val` with its annotations.
    TinyImagenet,
    /// JPEG and PNG files in `train/<class>` and `val/<class>` (or `test/<class>`).
    Images,
}

impl Format {
    /// All formats, in the order in which messages list them.
    pub const ALL: [Self; 6] =
        [Self::Cifar10, Self::Cifar100, Self::Mnist, Self::FashionMnist, Self::TinyImagenet, Self::Images];

    /// Names the format as sources do.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cifar10 => "cifar10",
            Self::Cifar100 => "cifar100",
            Self::Mnist => "mnist",
            Self::FashionMnist => "fashion-mnist",
            Self::TinyImagenet => "tiny-imagenet",
            Self::Images => "images",
        }
    }

    /// Says which files the format consists of.
    pub(super) fn layout(self) -> &'static str {
        match self {
            Self::Cifar10 => {
                "cifar10 is the binary version of CIFAR-10: data_batch_1.bin to data_batch_5.bin and test_batch.bin"
            }
            Self::Cifar100 => "cifar100 is the binary version of CIFAR-100: train.bin and test.bin",
            Self::Mnist | Self::FashionMnist => {
                "the files are train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and \
                 t10k-labels-idx1-ubyte, or the same with .gz"
            }
            Self::TinyImagenet => {
                "tiny-imagenet is train/<class>/images/*.JPEG, val/images/*.JPEG and val/val_annotations.txt"
            }
            Self::Images => "images is train/<class>/* and val/<class>/* (or test/<class>/*), JPEG or PNG",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Format {
    type Err = DataSourceError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|format| format.name() == name)
            .ok_or_else(|| DataSourceError::UnknownFormat { name: name.to_owned() })
    }
}
