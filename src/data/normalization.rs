use serde::{Deserialize, Serialize};

use super::format::Format;

/// What brings a channel's values `p` in 0..=255 near zero: `(p / 255 - mean) / std`.
///
/// A network must see the normalization that it was trained with: it belongs to the record of a run.
///
/// # Examples
///
/// ```
/// use fnl::data::{Format, Normalization};
/// let normalization = Normalization::for_format(Format::Mnist);
/// assert_eq!(normalization, Normalization { mean: vec![0.1307], std: vec![0.3081] });
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalization {
    /// What is subtracted, for each channel.
    pub mean: Vec<f32>,
    /// What the difference is divided by, for each channel.
    pub std: Vec<f32>,
}

impl Normalization {
    /// ImageNet's, which most published networks for color images were trained with.
    #[must_use]
    pub fn imagenet() -> Self {
        Self { mean: vec![0.485, 0.456, 0.406], std: vec![0.229, 0.224, 0.225] }
    }

    /// CIFAR-10's own mean and standard deviation.
    #[must_use]
    pub fn cifar10() -> Self {
        Self { mean: vec![0.4914, 0.4822, 0.4465], std: vec![0.2470, 0.2435, 0.2616] }
    }

    /// CIFAR-100's own mean and standard deviation.
    #[must_use]
    pub fn cifar100() -> Self {
        Self { mean: vec![0.5071, 0.4865, 0.4409], std: vec![0.2673, 0.2564, 0.2762] }
    }

    /// None but the division by 255.
    #[must_use]
    pub fn identity(channels: usize) -> Self {
        Self { mean: vec![0.0; channels], std: vec![1.0; channels] }
    }

    /// The one that a format has unless another is asked for: the data's own for MNIST and Fashion-MNIST,
    /// ImageNet's for all others, CIFAR included, since the published checkpoints for it use that.
    #[must_use]
    pub fn for_format(format: Format) -> Self {
        match format {
            Format::Mnist => Self { mean: vec![0.1307], std: vec![0.3081] },
            Format::FashionMnist => Self { mean: vec![0.2860], std: vec![0.3530] },
            Format::Cifar10 | Format::Cifar100 | Format::TinyImagenet | Format::Images => Self::imagenet(),
        }
    }

    /// Says what keeps it from being applied to images of so many channels.
    pub(super) fn problem(&self, channels: usize) -> Option<String> {
        let Self { mean, std } = self;
        if mean.len() != channels || std.len() != channels {
            let found = format!("{} means and {} standard deviations", mean.len(), std.len());
            return Some(format!("the normalization has {found}, expected {channels} of each"));
        }
        let bad_mean = mean.iter().find(|mean| !mean.is_finite());
        let bad_std = std.iter().find(|std| !(std.is_finite() && **std > 0.0));
        bad_mean.map(|mean| format!("the normalization's mean is {mean}, expected a finite number")).or_else(
            || {
                bad_std.map(|std| {
                    format!("the normalization's standard deviation is {std}, expected a positive number")
                })
            },
        )
    }

    /// What each of the 256 values becomes, for each channel, in the operations and the order of
    /// torchvision's.
    pub(super) fn tables(&self) -> Vec<[f32; 256]> {
        let table =
            |(mean, std): (&f32, &f32)| std::array::from_fn(|value| (value as f32 / 255.0 - mean) / std);
        self.mean.iter().zip(&self.std).map(table).collect()
    }
}
