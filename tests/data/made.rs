//! Small data sets made on the fly.

use std::{fs, path::Path, sync::Arc};

use fnl::data::{
    Batch, DataError, DataSource, Format, ImageDataset, Loader, LoaderOptions, Normalization, Split,
};
use image::{DynamicImage, Rgb, RgbImage};

/// The value of a pixel in all data sets made here: differs between samples, channels, rows and columns.
pub(crate) fn value(sample: usize, channel: usize, y: usize, x: usize) -> u8 {
    ((sample * 89 + channel * 50 + y * 7 + x * 13 + x * y * 3) % 256) as u8
}

/// The values of a sample, (c, h, w).
pub(crate) fn values(sample: usize, [channels, height, width]: [usize; 3]) -> Vec<u8> {
    let pixel = |index: usize| value(sample, index / (height * width), index / width % height, index % width);
    (0..channels * height * width).map(pixel).collect()
}

/// Records of CIFAR for these samples; `labels` are the bytes in front of each.
pub(crate) fn records<const N: usize>(samples: impl IntoIterator<Item = (usize, [u8; N])>) -> Vec<u8> {
    samples
        .into_iter()
        .flat_map(|(sample, labels)| [&labels[..], &values(sample, [3, 32, 32])].concat())
        .collect()
}

/// A folder whose `test_batch.bin` has that many samples; the label of sample `i` is `i % 10`.
pub(crate) fn cifar10(count: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let bytes = records((0..count).map(|sample| (sample, [(sample % 10) as u8])));
    fs::write(folder.path().join("test_batch.bin"), bytes).unwrap();
    folder
}

/// An idx file of bytes.
pub(crate) fn idx(dims: &[u32], values: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, dims.len() as u8];
    bytes.extend(dims.iter().flat_map(|dim| dim.to_be_bytes()));
    bytes.extend(values);
    bytes
}

/// The sample as an RGB image.
pub(crate) fn image(sample: usize, height: usize, width: usize) -> DynamicImage {
    let pixel = |x: u32, y: u32| Rgb([0, 1, 2].map(|channel| value(sample, channel, y as usize, x as usize)));
    RgbImage::from_fn(width as u32, height as u32, pixel).into()
}

/// Saves an image, folders included.
pub(crate) fn save(image: &DynamicImage, path: impl AsRef<Path>) {
    fs::create_dir_all(path.as_ref().parent().unwrap()).unwrap();
    image.save(path).unwrap();
}

pub(crate) fn open(format: Format, folder: &Path, split: Split) -> Result<ImageDataset, DataError> {
    ImageDataset::open(&DataSource { format, path: folder.to_owned() }, split)
}

/// Options under which a batch has the images' bytes.
pub(crate) fn plain(batch_size: usize, channels: usize) -> LoaderOptions {
    let mut options = LoaderOptions::new(batch_size);
    options.normalization = Some(Normalization::identity(channels));
    options
}

/// All batches of an epoch.
pub(crate) fn batches(dataset: ImageDataset, options: LoaderOptions, epoch: usize) -> Vec<Batch> {
    let loader = Loader::new(Arc::new(dataset), options).unwrap();
    loader.epoch(epoch, 0).collect::<Result<_, _>>().unwrap()
}

/// The bytes of a batch that isn't normalized, image by image.
pub(crate) fn bytes(batch: &Batch) -> Vec<Vec<u8>> {
    let images = batch.images.flatten_from(1).unwrap().to_vec2::<f32>().unwrap();
    let byte = |value: f32| {
        let scaled = value * 255.0;
        // p / 255 * 255 in single precision is within one unit in the last place of 255
        assert!((scaled - scaled.round()).abs() < 3e-5, "{value} is not a byte");
        scaled.round() as u8
    };
    images.into_iter().map(|image| image.into_iter().map(byte).collect()).collect()
}

pub(crate) fn labels(batches: &[Batch]) -> Vec<u32> {
    batches.iter().flat_map(|batch| batch.labels.to_vec1::<u32>().unwrap()).collect()
}
