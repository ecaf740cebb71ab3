use std::fs;

use fnl::data::{Format, Split};

use crate::made::{cifar10, image, open, save};

/// One changed pixel or label, another count, split or file is other data; another place isn't.
#[test]
fn tell_data_apart() {
    let folder = cifar10(4);
    let fingerprint = || open(Format::Cifar10, folder.path(), Split::Test).unwrap().fingerprint();
    let original = fingerprint();
    assert!(
        original.starts_with("cifar10-test-4-") && original.len() == "cifar10-test-4-".len() + 16,
        "{original}"
    );
    assert_eq!(original, open(Format::Cifar10, cifar10(4).path(), Split::Test).unwrap().fingerprint());

    let limited = open(Format::Cifar10, folder.path(), Split::Test).unwrap().limit(3);
    assert_ne!(limited.fingerprint(), original);
    let file = folder.path().join("test_batch.bin");
    let bytes = fs::read(&file).unwrap();
    for (position, change) in [(3 * 3073, "label"), (3 * 3073 + 2000, "pixel")] {
        let mut changed = bytes.clone();
        changed[position] ^= 1;
        fs::write(&file, changed).unwrap();
        assert_ne!(fingerprint(), original, "{change}");
    }
    fs::write(&file, bytes).unwrap();
    assert_eq!(fingerprint(), original);
}

/// Of files, names and first bytes count, and that the classes' names are others.
#[test]
fn tell_folders_apart() {
    let make = |sample, class: &str, name: &str| {
        let folder = tempfile::tempdir().unwrap();
        save(&image(sample, 6, 6), folder.path().join("train").join(class).join(name));
        open(Format::Images, folder.path(), Split::Train).unwrap().fingerprint()
    };
    let original = make(0, "one", "x.png");
    assert_eq!(make(0, "one", "x.png"), original);
    for other in [make(1, "one", "x.png"), make(0, "two", "x.png"), make(0, "one", "y.png")] {
        assert_ne!(other, original);
    }
}
