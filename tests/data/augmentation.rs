use std::{collections::BTreeMap, fs};

use fnl::data::{Augmentation, Format, LoaderOptions, Normalization, Split};

use crate::made::{batches, bytes, open, plain, records, value};

const SIDE: i32 = 32;

/// What the definition says of a sample: shifted by (top - padding, left - padding) in black surroundings,
/// then reflected.
fn shifted(sample: usize, top: i32, left: i32, padding: i32, flipped: bool) -> Vec<u8> {
    let pixel = |channel: usize, y: i32, x: i32| {
        let x = if flipped { SIDE - 1 - x } else { x };
        let (y, x) = (y + top - padding, x + left - padding);
        let inside = (0..SIDE).contains(&y) && (0..SIDE).contains(&x);
        if inside { value(sample, channel, y as usize, x as usize) } else { 0 }
    };
    let all = |channel| (0..SIDE).flat_map(move |y| (0..SIDE).map(move |x| pixel(channel, y, x)));
    (0..3).flat_map(all).collect()
}

/// Samples 0..count under one epoch's variations, each explained by its position and reflection.
fn explained(count: usize, epoch: usize, padding: i32) -> Vec<(i32, i32, bool)> {
    let folder = tempfile::tempdir().unwrap();
    let samples = (0..count).map(|sample| (sample, [0u8]));
    fs::write(folder.path().join("test_batch.bin"), records(samples)).unwrap();
    let dataset = open(Format::Cifar10, folder.path(), Split::Test).unwrap();
    let mut options = plain(count, 3);
    options.augmentation =
        Augmentation { crop_padding: padding as usize, flip: true, random_resized_crop: false };
    let batches = batches(dataset, options, epoch);
    let explain = |(sample, found): (usize, Vec<u8>)| {
        let places = (0..=2 * padding).flat_map(|top| (0..=2 * padding).map(move |left| (top, left)));
        let mut placements = places.flat_map(|(top, left)| [(top, left, false), (top, left, true)]);
        let placement =
            placements.find(|&(top, left, flipped)| shifted(sample, top, left, padding, flipped) == found);
        placement.unwrap_or_else(|| panic!("sample {sample} is no shift of itself"))
    };
    bytes(&batches[0]).into_iter().enumerate().map(explain).collect()
}

/// Every image is one of the 9 x 9 x 2 that the definition allows; rows, columns and reflections come equally
/// often.
#[test]
fn shifts_and_reflections() {
    let found = explained(900, 0, 4);
    let mut counts: [BTreeMap<i32, f64>; 3] = Default::default();
    for (top, left, flipped) in found {
        for (counts, value) in counts.iter_mut().zip([top, left, i32::from(flipped)]) {
            *counts.entry(value).or_default() += 1.0;
        }
    }
    // chi-square below its 99.9th percentile, of 8, 8 and 1 degrees of freedom
    for (counts, (values, limit)) in counts.iter().zip([(9, 26.1), (9, 26.1), (2, 10.8)]) {
        let expected = 900.0 / f64::from(values);
        let chi_square: f64 = (0..values)
            .map(|value| (counts.get(&value).copied().unwrap_or(0.0) - expected).powi(2) / expected)
            .sum();
        assert!(chi_square < limit, "{chi_square}: {counts:?}");
    }
}

/// Another epoch has other variations, and those of an epoch stay what they are: a run that is resumed by a
/// later version continues as it began. `streams.py` computes them from ChaCha's definition.
#[test]
fn variations_stay_the_same() {
    assert_eq!(
        explained(5, 0, 4),
        [(4, 8, false), (3, 5, false), (1, 5, false), (5, 2, false), (5, 8, true)]
    );
    assert_eq!(explained(5, 1, 4), [(0, 8, true), (6, 7, false), (1, 1, true), (7, 1, false), (1, 6, true)]);
    // the image can be shifted out of sight entirely
    explained(8, 0, 32);
}

/// The padding is black before the normalization, as torchvision's: its value is -mean / std.
#[test]
fn padding_is_black() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("test_batch.bin"), vec![1; 16 * 3073]).unwrap();
    let dataset = open(Format::Cifar10, folder.path(), Split::Test).unwrap();
    let mut options = LoaderOptions::new(16);
    options.normalization = Some(Normalization { mean: vec![0.5, 0.25, 0.75], std: vec![0.25, 0.5, 0.125] });
    options.augmentation.crop_padding = 4;
    let images = &batches(dataset, options, 0)[0].images;
    for (channel, expected) in [-2.0, -0.5, -6.0].into_iter().enumerate() {
        let plane = images.narrow(1, channel, 1).unwrap();
        assert_eq!(plane.min_all().unwrap().to_scalar::<f32>().unwrap(), expected);
    }
}

/// Red is the column and green the row, so that resized frames show where they come from.
#[test]
fn random_frames() {
    let (height, width, size) = (160.0, 240.0, 20.0);
    let folder = tempfile::tempdir().unwrap();
    let ramp = image::RgbImage::from_fn(240, 160, |x, y| image::Rgb([x as u8, y as u8, 0]));
    crate::made::save(&ramp.into(), folder.path().join("train/one/ramp.png"));
    let mut shares = Vec::new();
    let (mut reflected, mut proportions) = (0, Vec::new());
    for epoch in 0..200 {
        let dataset = open(Format::Images, folder.path(), Split::Train).unwrap();
        let mut options = plain(1, 3);
        options.size = Some(20);
        options.augmentation = Augmentation::for_format(Format::Images);
        let image = &bytes(&batches(dataset, options, epoch)[0])[0];
        let at = |channel: usize, y: usize, x: usize| f64::from(image[(channel * 20 + y) * 20 + x]);
        // away from the edges a ramp stays one: its slope is frame / size, its middle the frame's
        let slope =
            |channel, (y, x): (usize, usize)| (at(channel, y, x) - at(channel, 20 - y, 20 - x)) / 16.0;
        let (across, down) = (slope(0, (10, 18)), slope(1, (18, 10)));
        reflected += usize::from(across < 0.0);
        let (w, h) = (across.abs() * size, down * size);
        let (x, y) =
            (f64::midpoint(at(0, 9, 9), at(0, 9, 10)) + 0.5, f64::midpoint(at(1, 9, 9), at(1, 10, 9)) + 0.5);
        // values are rounded to 8 bits: slopes are known to 1/16, lengths to 20/16
        assert!(x - w / 2.0 > -2.0 && x + w / 2.0 < width + 2.0, "columns {x} +- {}", w / 2.0);
        assert!(y - h / 2.0 > -2.0 && y + h / 2.0 < height + 2.0, "rows {y} +- {}", h / 2.0);
        shares.push(w * h / (height * width));
        proportions.push(w / h);
    }
    let range = |values: &[f64]| {
        (values.iter().copied().fold(f64::MAX, f64::min), values.iter().copied().fold(f64::MIN, f64::max))
    };
    let (smallest, largest) = range(&shares);
    // frames of the whole area don't fit these proportions: 3:4 to 4:3 allow 8/9 of it at most
    assert!((0.07..0.15).contains(&smallest) && (0.75..0.92).contains(&largest), "{smallest} to {largest}");
    let (tallest, widest) = range(&proportions);
    assert!((0.70..0.85).contains(&tallest) && (1.2..1.42).contains(&widest), "{tallest} to {widest}");
    // binomial: 100 expected, standard deviation 7.1
    assert!((76..=124).contains(&reflected), "{reflected}");
}

/// No frame of a strip fits: its middle is taken, cut to 4:3.
#[test]
fn frames_of_a_strip() {
    let folder = tempfile::tempdir().unwrap();
    let strip = image::RgbImage::from_fn(250, 3, |x, _| image::Rgb([x as u8, 0, 0]));
    crate::made::save(&strip.into(), folder.path().join("train/one/strip.png"));
    let dataset = open(Format::Images, folder.path(), Split::Train).unwrap();
    let mut options = plain(1, 3);
    options.size = Some(4);
    options.augmentation.random_resized_crop = true;
    let image = &bytes(&batches(dataset, options, 0)[0])[0];
    // 4 x 3 pixels from column (250 - 4) / 2 on
    assert_eq!(image[..16], [123, 124, 125, 126].repeat(4));
}
