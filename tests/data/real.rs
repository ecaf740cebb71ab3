//! The published data, where they are at hand.

use std::{env, path::PathBuf};

use fnl::data::{Format, LoaderOptions, Normalization, Split};

use crate::made::{batches, labels, open};

#[test]
#[ignore = "needs FNL_CIFAR10, a folder with the CIFAR-10 binaries"]
fn cifar10() {
    let folder = PathBuf::from(env::var_os("FNL_CIFAR10").expect("FNL_CIFAR10 names the folder"));
    // mean and standard deviation of each channel, as published for the two splits
    let figures = [
        (Split::Train, 50_000, [0.491_400, 0.482_158, 0.446_531], [0.247_032, 0.243_485, 0.261_588]),
        (Split::Test, 10_000, [0.494_214, 0.485_131, 0.450_409], [0.246_653, 0.242_892, 0.261_592]),
    ];
    for (split, count, means, deviations) in figures {
        let dataset = open(Format::Cifar10, &folder, split).unwrap();
        let mut options = LoaderOptions::new(500);
        options.normalization = Some(Normalization::identity(3));
        let batches = batches(dataset, options, 0);
        let mut of_class = [0; 10];
        for label in labels(&batches) {
            of_class[label as usize] += 1;
        }
        assert_eq!(of_class, [count / 10; 10]);

        let (mut sums, mut squares) = ([0.0; 3], [0.0; 3]);
        for batch in &batches {
            for channel in 0..3 {
                let plane = batch.images.narrow(1, channel, 1).unwrap().flatten_all().unwrap();
                for value in plane.to_vec1::<f32>().unwrap().into_iter().map(f64::from) {
                    sums[channel] += value;
                    squares[channel] += value * value;
                }
            }
        }
        let pixels = f64::from(count) * 1024.0;
        for channel in 0..3 {
            let mean = sums[channel] / pixels;
            let deviation = (squares[channel] / pixels - mean * mean).sqrt();
            // figures have six digits; values are rounded to single precision
            assert!((mean - means[channel]).abs() < 2e-6, "{split} {channel}: {mean}");
            assert!((deviation - deviations[channel]).abs() < 2e-6, "{split} {channel}: {deviation}");
        }
    }
}

#[test]
#[ignore = "needs FNL_FASHION_MNIST, a folder with the idx files of Fashion-MNIST"]
fn fashion_mnist() {
    let folder = PathBuf::from(env::var_os("FNL_FASHION_MNIST").expect("FNL_FASHION_MNIST names the folder"));
    for (split, count) in [(Split::Train, 60_000), (Split::Test, 10_000)] {
        let dataset = open(Format::FashionMnist, &folder, split).unwrap();
        let mut of_class = [0; 10];
        for label in (0..dataset.len()).filter_map(|index| dataset.label(index)) {
            of_class[label as usize] += 1;
        }
        assert_eq!(of_class, [count / 10; 10]);
        // the default normalization is this data set's: it leaves mean 0 and deviation 1, to its four digits
        if split == Split::Train {
            let batches = batches(dataset, LoaderOptions::new(1000), 0);
            let mean = |square: bool| -> f64 {
                let of_batch = |batch: &fnl::data::Batch| {
                    let images = if square { batch.images.sqr() } else { Ok(batch.images.clone()) };
                    f64::from(images.unwrap().mean_all().unwrap().to_scalar::<f32>().unwrap())
                };
                batches.iter().map(of_batch).sum::<f64>() / batches.len() as f64
            };
            assert!(mean(false).abs() < 5e-4, "{}", mean(false));
            assert!((mean(true) - 1.0).abs() < 1e-3, "{}", mean(true));
        }
    }
}
