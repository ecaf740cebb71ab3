use std::fs;

use fnl::data::{Format, Split};

use crate::made::{batches, bytes, cifar10, labels, open, plain, records, values};

/// The five files are read in the order of their numbers, whatever their sizes; each sample keeps label and
/// pixels.
#[test]
fn train_files_are_read_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = 0;
    for (file, count) in [(1, 2), (2, 1), (3, 3), (4, 1), (5, 2)] {
        let samples = (first..first + count).map(|sample| (sample, [9 - sample as u8]));
        fs::write(folder.path().join(format!("data_batch_{file}.bin")), records(samples)).unwrap();
        first += count;
    }
    let dataset = open(Format::Cifar10, folder.path(), Split::Train).unwrap();
    assert_eq!((dataset.len(), dataset.classes(), dataset.shape()), (9, 10, [3, 32, 32]));
    assert_eq!((dataset.label(8), dataset.label(9)), (Some(1), None));
    assert_eq!(dataset.class_names()[..3], ["airplane", "automobile", "bird"]);
    let batches = batches(dataset, plain(4, 3), 0);
    assert_eq!(batches.iter().map(|batch| batch.index).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(labels(&batches), [9, 8, 7, 6, 5, 4, 3, 2, 1]);
    let images: Vec<_> = batches.iter().flat_map(bytes).collect();
    assert_eq!(images, (0..9).map(|sample| values(sample, [3, 32, 32])).collect::<Vec<_>>());
}

/// Evaluation needs the test file only, also where the archive has its folder.
#[test]
fn a_test_file_alone_is_enough() {
    let folder = cifar10(3);
    assert_eq!(open(Format::Cifar10, folder.path(), Split::Test).unwrap().len(), 3);

    let outer = tempfile::tempdir().unwrap();
    fs::rename(folder.path(), outer.path().join("cifar-10-batches-bin")).unwrap();
    let dataset = open(Format::Cifar10, outer.path(), Split::Test).unwrap();
    assert_eq!(labels(&batches(dataset, plain(3, 3), 0)), [0, 1, 2]);
}

/// CIFAR-100's records have the coarse label first; the fine one is the label.
#[test]
fn fine_labels_of_cifar100() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("test.bin"), records([(4, [19, 0]), (5, [0, 99])])).unwrap();
    let dataset = open(Format::Cifar100, folder.path(), Split::Test).unwrap();
    assert_eq!((dataset.classes(), dataset.label(0), dataset.label(1)), (100, Some(0), Some(99)));
    assert_eq!((dataset.class_names()[0].as_str(), dataset.class_names()[99].as_str()), ("apple", "worm"));
    // the names are in alphabetical order, each once
    assert!(dataset.class_names().is_sorted_by(|a, b| a < b));
    let batches = batches(dataset, plain(2, 3), 0);
    assert_eq!(bytes(&batches[0]), [values(4, [3, 32, 32]), values(5, [3, 32, 32])]);
}

#[test]
fn the_first_samples_for_a_trial() {
    let folder = cifar10(5);
    let dataset = open(Format::Cifar10, folder.path(), Split::Test).unwrap().limit(2);
    assert_eq!(dataset.len(), 2);
    let batches = batches(dataset, plain(8, 3), 0);
    assert_eq!(bytes(&batches[0]), [values(0, [3, 32, 32]), values(1, [3, 32, 32])]);
    assert_eq!(open(Format::Cifar10, folder.path(), Split::Test).unwrap().limit(9).len(), 5);
}
