use super::{
    cifar,
    contents::Contents,
    error::DataError,
    fingerprint::Fingerprint,
    folder,
    format::Format,
    idx,
    normalization::Normalization,
    picture::Picture,
    samples::Samples,
    source::{DataSource, Split},
    tiny_imagenet,
};

/// The images of one split, with their labels.
///
/// CIFAR and MNIST are read into memory, a byte for each value; of Tiny ImageNet and folders of images only
/// the names are, and files are decoded when a [`Loader`](super::Loader) comes to them.
///
/// # Examples
///
/// See the [room's](super#examples).
pub struct ImageDataset {
    format: Format,
    split: Split,
    samples: Samples,
    labels: Vec<u32>,
    class_names: Vec<String>,
    hash: u64,
}

impl ImageDataset {
    /// Reads a split, or the names in it.
    ///
    /// - CIFAR: the binary version, in the folder itself or as its archive unpacks. Only the split's files
    ///   need be there, and each may hold any number of records.
    /// - MNIST, Fashion-MNIST: idx files, plain or compressed, with `-` or `.` before `idx`.
    /// - Tiny ImageNet: the test split is its validation set. Files need not be 64 x 64.
    /// - Images: the test split is `val`, and `test` where there is no `val`. Classes are in the order of
    ///   their names. Files end in `.jpg`, `.jpeg` or `.png`, in either case; others, and hidden ones, are
    ///   passed over. A rotation noted in a file isn't applied, as torchvision doesn't either.
    ///
    /// # Errors
    ///
    /// - a folder, or files in it, that aren't there or can't be read
    /// - a size, header or label that the format doesn't allow
    /// - images and labels that aren't as many
    /// - a class without images, or classes that differ between the splits
    pub fn open(source: &DataSource, split: Split) -> Result<Self, DataError> {
        let DataSource { format, path } = source;
        let Contents { samples, labels, class_names } = match format {
            Format::Cifar10 | Format::Cifar100 => cifar::open(*format, path, split),
            Format::Mnist | Format::FashionMnist => idx::open(*format, path, split),
            Format::TinyImagenet => tiny_imagenet::open(path, split),
            Format::Images => folder::open(path, split),
        }?;
        let mut fingerprint = Fingerprint::new();
        for name in &class_names {
            fingerprint.add(name.as_bytes());
        }
        for &label in &labels {
            fingerprint.number(u64::from(label));
        }
        samples.fingerprint(&mut fingerprint)?;
        Ok(Self { format: *format, split, samples, labels, class_names, hash: fingerprint.finish() })
    }

    /// Keeps the first samples only, for a trial. Those of a folder of images come class after class.
    #[must_use]
    pub fn limit(mut self, count: usize) -> Self {
        self.samples.limit(count);
        self.labels.truncate(count);
        self
    }

    /// How many images there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The format it was read from.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// Which part of the data set it is.
    #[must_use]
    pub fn split(&self) -> Split {
        self.split
    }

    /// How many classes there are.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.class_names.len()
    }

    /// The classes' names, by label. Tiny ImageNet's are WordNet's identifiers.
    #[must_use]
    pub fn class_names(&self) -> &[String] {
        &self.class_names
    }

    /// Channels, height and width. Images that are files of any size are brought to this one unless a loader
    /// is asked for another: (3, 64, 64) for Tiny ImageNet, (3, 224, 224) for folders.
    #[must_use]
    pub fn shape(&self) -> [usize; 3] {
        self.samples.shape()
    }

    /// The class of one image, `None` past the last.
    #[must_use]
    pub fn label(&self, index: usize) -> Option<u32> {
        self.labels.get(index).copied()
    }

    /// The normalization that the format has unless another is asked for.
    #[must_use]
    pub fn default_normalization(&self) -> Normalization {
        Normalization::for_format(self.format)
    }

    /// Tells these data from others: format, split, count, and a hash.
    ///
    /// The hash covers class names, labels and order, and all pixels where they are in memory; of files their
    /// names, and size and first bytes of at most 64 of them. It doesn't depend on where the data are, or on
    /// whether they are compressed.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        format!("{}-{}-{}-{:016x}", self.format, self.split, self.len(), self.hash)
    }

    /// Whether images are files of any size.
    pub(super) fn is_files(&self) -> bool {
        matches!(self.samples, Samples::Files { .. })
    }

    pub(super) fn labels(&self) -> &[u32] {
        &self.labels
    }

    pub(super) fn picture(&self, index: usize) -> Result<Picture<'_>, DataError> {
        self.samples.picture(index)
    }
}

impl std::fmt::Debug for ImageDataset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ImageDataset").field(&self.fingerprint()).finish()
    }
}
