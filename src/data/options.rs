use std::thread;

use super::{
    augmentation::Augmentation, dataset::ImageDataset, format::Format, normalization::Normalization,
};

/// How a [`Loader`](super::Loader) makes batches.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LoaderOptions {
    /// Images in a batch; the last of an epoch may have fewer.
    pub batch_size: usize,
    /// What order and augmentation are drawn from.
    pub seed: u64,
    /// Whether each epoch has another order; otherwise all have the data set's.
    pub shuffle: bool,
    /// How images are varied.
    pub augmentation: Augmentation,
    /// What brings values near zero; the data set's own if there is none.
    pub normalization: Option<Normalization>,
    /// Threads that make batches; 0 makes each when it is asked for.
    pub workers: usize,
    /// The side that images are brought to, where they are files of any size; the data set's own if there is
    /// none.
    pub size: Option<usize>,
    /// The length that the shorter side is resized to before the middle is cut out, where images are files of
    /// any size. If there is none: `size` for Tiny ImageNet, and 8/7 of it for folders (256 for 224).
    pub shorter_side: Option<usize>,
    /// Whether a last batch of fewer images is left out.
    pub drop_last: bool,
}

impl LoaderOptions {
    /// Batches in the data set's order, without augmentation, made by as many threads as the machine has, at
    /// most four.
    #[must_use]
    pub fn new(batch_size: usize) -> Self {
        Self {
            batch_size,
            seed: 0,
            shuffle: false,
            augmentation: Augmentation::default(),
            normalization: None,
            workers: thread::available_parallelism().map_or(1, usize::from).min(4),
            size: None,
            shorter_side: None,
            drop_last: false,
        }
    }

    /// The side that images are brought to, and the length of the shorter side before the cut.
    pub(super) fn sides(&self, dataset: &ImageDataset) -> (usize, usize) {
        let [_, height, _] = dataset.shape();
        let side = self.size.unwrap_or(height);
        let usual = if dataset.format() == Format::Images { side.saturating_mul(8) / 7 } else { side };
        (side, self.shorter_side.unwrap_or(usual))
    }

    /// Everything that keeps them from being used with a data set.
    pub(super) fn problems(&self, dataset: &ImageDataset) -> Vec<String> {
        /// Beyond any network's, and far below what overflows.
        const LARGEST_SIDE: usize = 1 << 14;
        let mut problems = Vec::new();
        if dataset.is_empty() {
            problems.push("the data set has no images, expected at least 1".to_owned());
        }
        if self.batch_size == 0 {
            problems.push("`batch_size` is 0, expected at least 1".to_owned());
        } else if self.drop_last && self.batch_size > dataset.len() && !dataset.is_empty() {
            let (batch_size, len) = (self.batch_size, dataset.len());
            problems.push(format!(
                "`batch_size` {batch_size} with `drop_last` exceeds the {len} images there are"
            ));
        }
        let [channels, height, width] = dataset.shape();
        let (side, shorter_side) = self.sides(dataset);
        if dataset.is_files() {
            if side == 0 || side > LARGEST_SIDE {
                problems.push(format!("`size` is {side}, expected 1 to {LARGEST_SIDE}"));
            } else if shorter_side < side || shorter_side > LARGEST_SIDE {
                problems.push(format!(
                    "`shorter_side` is {shorter_side}, expected {side} (`size`) to {LARGEST_SIDE}"
                ));
            }
        } else {
            let format = dataset.format();
            for (option, found) in [("size", self.size), ("shorter_side", self.shorter_side)] {
                if let Some(found) = found.filter(|&found| found != height) {
                    problems.push(format!(
                        "`{option}` is {found}, expected {height}: images of {format} are {height} x {width}"
                    ));
                }
            }
        }
        if self.augmentation.crop_padding > side {
            let padding = self.augmentation.crop_padding;
            problems.push(format!("`crop_padding` {padding} exceeds the images' side {side}"));
        }
        problems
            .extend(self.normalization.as_ref().and_then(|normalization| normalization.problem(channels)));
        problems
    }
}
