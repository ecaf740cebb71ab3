use std::{fs, sync::Arc};

use fnl::data::{Augmentation, Format, ImageDataset, Loader, LoaderOptions, Normalization, Split};

use crate::made::{batches, cifar10, image, labels, open, save, value};

fn dataset(count: usize) -> ImageDataset {
    open(Format::Cifar10, cifar10(count).path(), Split::Test).unwrap()
}

/// What a batch has, to compare bit for bit.
fn content(loader: &Loader, epoch: usize, first_batch: usize) -> Vec<(usize, Vec<u32>, Vec<u32>)> {
    let batch = |batch: Result<fnl::data::Batch, _>| {
        let batch = batch.unwrap();
        let images = batch.images.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        (batch.index, batch.labels.to_vec1().unwrap(), images.into_iter().map(f32::to_bits).collect())
    };
    loader.epoch(epoch, first_batch).map(batch).collect()
}

/// (p / 255 - mean) / std in single precision, in this order: the bits that torchvision's `ToTensor` and
/// `Normalize` give.
#[test]
fn normalization_bit_for_bit() {
    let batch = &batches(dataset(2), LoaderOptions::new(2), 0)[0];
    let found = batch.images.to_vec3_of(1);
    let Normalization { mean, std } = Normalization::imagenet();
    for channel in 0..3 {
        for (y, x) in [(0, 0), (0, 31), (5, 17), (31, 2)] {
            let expected = (f32::from(value(1, channel, y, x)) / 255.0 - mean[channel]) / std[channel];
            assert_eq!(found[channel][y][x].to_bits(), expected.to_bits(), "{channel} {y} {x}");
        }
    }
}

trait Image {
    fn to_vec3_of(&self, index: usize) -> Vec<Vec<Vec<f32>>>;
}

impl Image for candle_core::Tensor {
    fn to_vec3_of(&self, index: usize) -> Vec<Vec<Vec<f32>>> {
        self.get(index).unwrap().to_vec3().unwrap()
    }
}

#[test]
fn the_last_batch() {
    for (count, batch_size, drop_last, sizes) in
        [(7, 3, false, &[3, 3, 1][..]), (7, 3, true, &[3, 3]), (6, 3, true, &[3, 3]), (2, 3, false, &[2])]
    {
        let mut options = LoaderOptions::new(batch_size);
        options.drop_last = drop_last;
        let loader = Loader::new(Arc::new(dataset(count)), options).unwrap();
        assert_eq!(loader.batches_per_epoch(), sizes.len());
        assert_eq!(loader.samples_per_epoch(), sizes.iter().sum::<usize>());
        let epoch = loader.epoch(0, 0);
        assert_eq!(epoch.len(), sizes.len());
        let found: Vec<_> = epoch.map(|batch| batch.unwrap().labels.dims1().unwrap()).collect();
        assert_eq!(found, sizes);
    }
}

/// Every epoch has each sample once, in an order of its own; the same seed has the same orders.
#[test]
fn orders() {
    let folder = tempfile::tempdir().unwrap();
    let samples = (0..100).map(|sample| (sample, [0, sample as u8]));
    fs::write(folder.path().join("test.bin"), crate::made::records(samples)).unwrap();
    let order = |seed, epoch| {
        let mut options = LoaderOptions::new(7);
        (options.seed, options.shuffle) = (seed, true);
        labels(&batches(open(Format::Cifar100, folder.path(), Split::Test).unwrap(), options, epoch))
    };
    let mut seen = Vec::new();
    for (seed, epoch) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let labels = order(seed, epoch);
        assert_eq!(labels, order(seed, epoch));
        let mut sorted = labels.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
        assert!(!seen.contains(&labels) && labels != sorted, "seed {seed}, epoch {epoch}");
        seen.push(labels);
    }
}

/// Batches don't depend on the number of threads, nor on where an epoch starts.
#[test]
fn threads_and_resuming() {
    let folder = tempfile::tempdir().unwrap();
    for sample in 0..11 {
        let place = folder.path().join(format!("train/{}/{sample}.png", sample % 2));
        save(&image(sample, 20 + sample, 31 - 2 * sample), place);
    }
    let images = open(Format::Images, folder.path(), Split::Train).unwrap();
    for (dataset, size) in [(dataset(23), None), (images, Some(12))] {
        let dataset = Arc::new(dataset);
        let loader = |workers| {
            let mut options = LoaderOptions::new(4);
            (options.seed, options.shuffle, options.workers, options.size) = (3, true, workers, size);
            options.augmentation = Augmentation { crop_padding: 2, flip: true, random_resized_crop: true };
            Loader::new(Arc::clone(&dataset), options).unwrap()
        };
        let full = content(&loader(1), 5, 0);
        assert_eq!(full.len(), dataset.len().div_ceil(4));
        for workers in [0, 2, 3, 9] {
            assert!(content(&loader(workers), 5, 0) == full, "{workers} workers");
        }
        for first in 0..=full.len() + 1 {
            assert!(content(&loader(3), 5, first) == full[first.min(full.len())..], "from batch {first}");
        }
        assert!(content(&loader(1), 6, 0) != full);
    }
}

/// An iterator that is left early leaves no thread that holds the data.
#[test]
fn threads_end_with_the_iterator() {
    let dataset = Arc::new(dataset(60));
    let mut options = LoaderOptions::new(2);
    options.workers = 3;
    let loader = Loader::new(Arc::clone(&dataset), options).unwrap();
    let mut epoch = loader.epoch(0, 0);
    assert_eq!(epoch.next().unwrap().unwrap().index, 0);
    assert!(Arc::strong_count(&dataset) > 2);
    drop(epoch);
    assert_eq!(Arc::strong_count(&dataset), 2);
}

#[test]
fn records_of_a_run() {
    let augmentation = Augmentation::for_format(Format::Images);
    let text = serde_json::to_string(&augmentation).unwrap();
    assert_eq!(text, r#"{"crop_padding":0,"flip":true,"random_resized_crop":true}"#);
    assert_eq!(serde_json::from_str::<Augmentation>(&text).unwrap(), augmentation);
    assert_eq!(serde_json::from_str::<Augmentation>(r#"{"flip":true}"#).unwrap().crop_padding, 0);
    let normalization = Normalization::cifar100();
    let text = serde_json::to_string(&normalization).unwrap();
    assert_eq!(serde_json::from_str::<Normalization>(&text).unwrap(), normalization);
    let source: fnl::data::DataSource = "tiny-imagenet:x".parse().unwrap();
    assert_eq!(serde_json::to_string(&source).unwrap(), r#"{"format":"tiny-imagenet","path":"x"}"#);
}
