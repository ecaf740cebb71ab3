use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use fnl::data::{Format, Split};

use crate::made::{batches, bytes, idx, labels, open, plain, values};

/// Writes three test samples under the names of a separator and an ending; they are compressed where the
/// ending says so.
pub(crate) fn write(folder: &Path, separator: &str, end: &str) -> [PathBuf; 2] {
    let pixels: Vec<u8> = (0..3).flat_map(|sample| values(sample, [1, 28, 28])).collect();
    let files = [("images", idx(&[3, 28, 28], &pixels)), ("labels", idx(&[3], &[7, 0, 9]))];
    fs::create_dir_all(folder).unwrap();
    files.map(|(what, content)| {
        let path = folder
            .join(format!("t10k-{what}{separator}idx{}-ubyte{end}", if what == "images" { 3 } else { 1 }));
        fs::write(&path, if end == ".gz" { compressed(&content) } else { content }).unwrap();
        path
    })
}

pub(crate) fn compressed(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// The same data come out of every way in which the files are found in the wild, and have one fingerprint.
#[test]
fn names_and_compression() {
    let expected: Vec<_> = (0..3).map(|sample| values(sample, [1, 28, 28])).collect();
    let mut fingerprints = Vec::new();
    for (nested, separator, end) in [
        ("", "-", ""),
        ("", ".", ""),
        ("", "-", ".gz"),
        ("", ".", ".gz"),
        ("MNIST/raw", "-", ""),
        ("raw", "-", ".gz"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join(nested), separator, end);
        let dataset = open(Format::Mnist, folder.path(), Split::Test).unwrap();
        assert_eq!((dataset.shape(), dataset.classes()), ([1, 28, 28], 10));
        fingerprints.push(dataset.fingerprint());
        let batches = batches(dataset, plain(3, 1), 0);
        assert_eq!(bytes(&batches[0]), expected, "{nested} {separator} {end}");
        assert_eq!(labels(&batches), [7, 0, 9]);
    }
    fingerprints.dedup();
    assert_eq!(fingerprints.len(), 1);
}

#[test]
fn clothes_have_names() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "-", "");
    let dataset = open(Format::FashionMnist, folder.path(), Split::Test).unwrap();
    assert_eq!(dataset.class_names()[9], "ankle boot");
    assert!(dataset.fingerprint().starts_with("fashion-mnist-test-3-"));
}
