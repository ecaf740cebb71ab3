use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use candle_core::{Device, Tensor};

use super::{
    augmentation::{Placement, random_frame},
    dataset::ImageDataset,
    error::DataError,
    normalization::Normalization,
    options::LoaderOptions,
    random::{Stream, permutation},
    workers::{Job, Workers},
};

/// Some images and their labels.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The images (b, c, h, w), normalized, as F32 on the CPU.
    pub images: Tensor,
    /// The classes (b), as U32 on the CPU.
    pub labels: Tensor,
    /// The batch's number in its epoch, from 0.
    pub index: usize,
}

/// Makes batches of a data set, epoch by epoch.
///
/// # Determinism
///
/// The order of an epoch depends on the seed and the epoch's number; a sample's augmentation on these and the
/// sample's position in the epoch; nothing on the number of workers. An epoch that starts at a later batch
/// has the same batches from there on.
///
/// # Examples
///
/// See the [room's](super#examples).
#[derive(Clone, Debug)]
pub struct Loader {
    dataset: Arc<ImageDataset>,
    options: LoaderOptions,
    normalization: Normalization,
    tables: Arc<Vec<[f32; 256]>>,
}

impl Loader {
    /// Checks the options against the data set.
    ///
    /// # Errors
    ///
    /// - a data set or a batch without images, or `drop_last` where not one batch is full
    /// - a `size` where images have one, or a `shorter_side` below it
    /// - a `crop_padding` larger than the images
    /// - a normalization for another number of channels, or one that isn't finite or divides by zero
    pub fn new(dataset: Arc<ImageDataset>, options: LoaderOptions) -> Result<Self, DataError> {
        let problems = options.problems(&dataset);
        if !problems.is_empty() {
            return Err(DataError::Options { problems });
        }
        let normalization = options.normalization.clone().unwrap_or_else(|| dataset.default_normalization());
        let tables = Arc::new(normalization.tables());
        Ok(Self { dataset, options, normalization, tables })
    }

    /// The data set.
    #[must_use]
    pub fn dataset(&self) -> &ImageDataset {
        &self.dataset
    }

    /// What it was asked for.
    #[must_use]
    pub fn options(&self) -> &LoaderOptions {
        &self.options
    }

    /// What the images are normalized by.
    #[must_use]
    pub fn normalization(&self) -> &Normalization {
        &self.normalization
    }

    /// Channels, height and width of the images in its batches.
    #[must_use]
    pub fn shape(&self) -> [usize; 3] {
        let [channels, height, width] = self.dataset.shape();
        if !self.dataset.is_files() {
            return [channels, height, width];
        }
        let (side, _) = self.options.sides(&self.dataset);
        [channels, side, side]
    }

    /// How many images its batches hold in an epoch: all, but those that `drop_last` leaves out.
    #[must_use]
    pub fn samples_per_epoch(&self) -> usize {
        let (len, batch_size) = (self.dataset.len(), self.options.batch_size);
        if self.options.drop_last { len - len % batch_size } else { len }
    }

    /// How many batches an epoch has.
    #[must_use]
    pub fn batches_per_epoch(&self) -> usize {
        self.samples_per_epoch().div_ceil(self.options.batch_size)
    }

    /// Makes the batches of an epoch from one of them on: 0, or where a run was interrupted. Threads work
    /// ahead by up to three batches, and end with the iterator.
    ///
    /// An error, such as a file that can't be decoded or a worker that panics, takes the place of its batch;
    /// the next ones can still be had.
    #[must_use]
    pub fn epoch(&self, epoch: usize, first_batch: usize) -> Batches {
        let (count, batch_size) = (self.batches_per_epoch(), self.options.batch_size);
        let range = first_batch.min(count)..count;
        let samples = self.dataset.len();
        let order = self.options.shuffle.then(|| permutation(self.options.seed, epoch, samples));
        let workers = self.options.workers.min(batch_size);
        let maker = Maker { loader: self.clone(), order, epoch };
        Batches { workers: Some(Workers::start(maker, workers, &range)), shape: self.shape(), range }
    }
}

/// The batches of an epoch, in order; from [`Loader::epoch`].
pub struct Batches {
    workers: Option<Result<Workers<Maker>, DataError>>,
    shape: [usize; 3],
    range: Range<usize>,
}

impl Iterator for Batches {
    type Item = Result<Batch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let workers = match self.workers.take()? {
            Ok(workers) => workers,
            // nothing more can come
            Err(error) => {
                self.range = 0..0;
                return Some(Err(error));
            }
        };
        let index = self.range.next()?;
        let parts = workers.next(index);
        self.workers = Some(Ok(workers));
        Some(parts.and_then(|parts| {
            Part::join(parts)
                .into_batch(index, self.shape)
                .map_err(|source| DataError::Tensor { batch: index, source })
        }))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match self.workers {
            Some(Err(_)) => (1, Some(1)),
            _ => (self.range.len(), Some(self.range.len())),
        }
    }
}

impl ExactSizeIterator for Batches {}

/// Some of a batch's images, (b, c, h, w), and their labels.
struct Part {
    images: Vec<f32>,
    labels: Vec<u32>,
}

impl Part {
    fn join(mut parts: Vec<Self>) -> Self {
        if parts.len() == 1 {
            return parts.remove(0);
        }
        let mut images = Vec::with_capacity(parts.iter().map(|part| part.images.len()).sum());
        let mut labels = Vec::with_capacity(parts.iter().map(|part| part.labels.len()).sum());
        for part in &parts {
            images.extend_from_slice(&part.images);
            labels.extend_from_slice(&part.labels);
        }
        Self { images, labels }
    }

    fn into_batch(self, index: usize, [channels, height, width]: [usize; 3]) -> candle_core::Result<Batch> {
        let count = self.labels.len();
        let images = Tensor::from_vec(self.images, (count, channels, height, width), &Device::Cpu)?;
        Ok(Batch { images, labels: Tensor::from_vec(self.labels, count, &Device::Cpu)?, index })
    }
}

/// Makes the parts of an epoch's batches.
struct Maker {
    loader: Loader,
    /// Samples by position; the data set's own order if there is none.
    order: Option<Vec<usize>>,
    epoch: usize,
}

impl Job for Maker {
    type Part = Part;

    fn make(&self, batch: usize, part: usize, parts: usize, stop: &AtomicBool) -> Result<Part, DataError> {
        let batch_size = self.loader.options.batch_size;
        let first = batch * batch_size;
        let len = batch_size.min(self.loader.samples_per_epoch() - first);
        let positions = first + len * part / parts..first + len * (part + 1) / parts;
        let image_len: usize = self.loader.shape().iter().product();
        let mut images = vec![0.0; positions.len() * image_len];
        let mut labels = Vec::with_capacity(positions.len());
        for (position, out) in positions.zip(images.chunks_exact_mut(image_len)) {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let sample = self.order.as_ref().map_or(position, |order| order[position]);
            self.write(sample, position, out)?;
            labels.push(self.loader.dataset.labels()[sample]);
        }
        Ok(Part { images, labels })
    }
}

impl Maker {
    /// Writes one image, (c, h, w).
    fn write(&self, sample: usize, position: usize, out: &mut [f32]) -> Result<(), DataError> {
        let Loader { dataset, options, tables, .. } = &self.loader;
        let mut stream = Stream::augmentation(options.seed, self.epoch, position);
        let mut picture = dataset.picture(sample)?;
        let [_, height, width] = self.loader.shape();
        if options.augmentation.random_resized_crop {
            let frame = random_frame(picture.height, picture.width, &mut stream);
            picture = picture.resize(frame, height, width);
        } else if dataset.is_files() {
            let (side, shorter_side) = options.sides(dataset);
            picture = picture.fit(shorter_side, side);
        }
        let placement = Placement::draw(options.augmentation, &mut stream);
        let plane_len = height * width;
        let planes = picture.pixels.chunks_exact(plane_len).zip(out.chunks_exact_mut(plane_len));
        for ((plane, out), table) in planes.zip(tables.iter()) {
            placement.write(plane, width, options.augmentation.crop_padding, table, out);
        }
        Ok(())
    }
}
