use std::{fs, path::Path};

use super::{
    contents::Contents, error::DataError, files::find_all, format::Format, samples::Samples, source::Split,
};

const IMAGE_BYTES: usize = 3 * 32 * 32;

/// What tells the two data sets apart.
struct Layout {
    format: Format,
    nested: &'static str,
    train: &'static [&'static str],
    test: &'static [&'static str],
    /// How many classes each of a record's leading bytes may name; the last of them is the label.
    label_classes: &'static [usize],
    names: &'static [&'static str],
}

static CIFAR10: Layout = Layout {
    format: Format::Cifar10,
    nested: "cifar-10-batches-bin",
    train: &[
        "data_batch_1.bin",
        "data_batch_2.bin",
        "data_batch_3.bin",
        "data_batch_4.bin",
        "data_batch_5.bin",
    ],
    test: &["test_batch.bin"],
    label_classes: &[10],
    names: &["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
};

static CIFAR100: Layout = Layout {
    format: Format::Cifar100,
    nested: "cifar-100-binary",
    train: &["train.bin"],
    test: &["test.bin"],
    label_classes: &[20, 100],
    names: &CIFAR100_NAMES,
};

/// Reads CIFAR-10's or CIFAR-100's binary version.
pub(super) fn open(format: Format, folder: &Path, split: Split) -> Result<Contents, DataError> {
    let layout = if format == Format::Cifar100 { &CIFAR100 } else { &CIFAR10 };
    let files = match split {
        Split::Train => layout.train,
        Split::Test => layout.test,
    };
    let wanted: Vec<[&str; 1]> = files.iter().map(|&file| [file]).collect();
    let wanted: Vec<&[&str]> = wanted.iter().map(<[&str; 1]>::as_slice).collect();
    let paths = find_all(layout.format, split, folder, &[layout.nested], &wanted)?;

    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for path in paths {
        let bytes = fs::read(&path).map_err(DataError::read(&path))?;
        let record_bytes = layout.label_classes.len() + IMAGE_BYTES;
        if bytes.is_empty() || !bytes.len().is_multiple_of(record_bytes) {
            let expected = format!("a multiple of {record_bytes}");
            return Err(DataError::Size { path, expected, found: bytes.len() as u64 });
        }
        pixels.reserve(bytes.len());
        for (sample, record) in bytes.chunks_exact(record_bytes).enumerate() {
            let (named, image) = record.split_at(layout.label_classes.len());
            for (&label, &classes) in named.iter().zip(layout.label_classes) {
                let label = usize::from(label);
                if label >= classes {
                    return Err(DataError::Label { path, sample, label, classes });
                }
            }
            labels.extend(named.last().map(|&label| u32::from(label)));
            pixels.extend_from_slice(image);
        }
    }
    let class_names = layout.names.iter().map(|&name| name.to_owned()).collect();
    Ok(Contents { samples: Samples::Memory { pixels, shape: [3, 32, 32] }, labels, class_names })
}

/// The fine classes, by number.
const CIFAR100_NAMES: [&str; 100] = [
    "apple",
    "aquarium_fish",
    "baby",
    "bear",
    "beaver",
    "bed",
    "bee",
    "beetle",
    "bicycle",
    "bottle",
    "bowl",
    "boy",
    "bridge",
    "bus",
    "butterfly",
    "camel",
    "can",
    "castle",
    "caterpillar",
    "cattle",
    "chair",
    "chimpanzee",
    "clock",
    "cloud",
    "cockroach",
    "couch",
    "crab",
    "crocodile",
    "cup",
    "dinosaur",
    "dolphin",
    "elephant",
    "flatfish",
    "forest",
    "fox",
    "girl",
    "hamster",
    "house",
    "kangaroo",
    "keyboard",
    "lamp",
    "lawn_mower",
    "leopard",
    "lion",
    "lizard",
    "lobster",
    "man",
    "maple_tree",
    "motorcycle",
    "mountain",
    "mouse",
    "mushroom",
    "oak_tree",
    "orange",
    "orchid",
    "otter",
    "palm_tree",
    "pear",
    "pickup_truck",
    "pine_tree",
    "plain",
    "plate",
    "poppy",
    "porcupine",
    "possum",
    "rabbit",
    "raccoon",
    "ray",
    "road",
    "rocket",
    "rose",
    "sea",
    "seal",
    "shark",
    "shrew",
    "skunk",
    "skyscraper",
    "snail",
    "snake",
    "spider",
    "squirrel",
    "streetcar",
    "sunflower",
    "sweet_pepper",
    "table",
    "tank",
    "telephone",
    "television",
    "tiger",
    "tractor",
    "train",
    "trout",
    "tulip",
    "turtle",
    "wardrobe",
    "whale",
    "willow_tree",
    "wolf",
    "woman",
    "worm",
];
