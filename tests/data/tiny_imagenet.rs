use std::fs;

use fnl::data::{Format, Split};

use crate::made::{batches, bytes, image, labels, open, plain, save, values};

const SHAPE: [usize; 3] = [3, 64, 64];

/// Two classes with two and one training images, and three annotated ones. PNG files with JPEG's name keep
/// pixels exact.
fn make() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let as_jpeg = |sample, path: &str| {
        let png = folder.path().join(path).with_extension("png");
        save(&image(sample, 64, 64), &png);
        fs::rename(png, folder.path().join(path)).unwrap();
    };
    as_jpeg(0, "train/n02/images/n02_0.JPEG");
    as_jpeg(1, "train/n01/images/n01_1.JPEG");
    as_jpeg(2, "train/n01/images/n01_0.JPEG");
    fs::write(folder.path().join("train/n01/n01_boxes.txt"), "n01_0.JPEG\t0\t0\t63\t63\n").unwrap();
    for sample in 3..6 {
        as_jpeg(sample, &format!("val/images/val_{sample}.JPEG"));
    }
    let lines =
        "val_4.JPEG\tn02\t0\t32\t44\t62\nval_3.JPEG\tn01\t52\t55\t57\t59\nval_5.JPEG\tn02\t4\t0\t60\t55\n";
    fs::write(folder.path().join("val/val_annotations.txt"), lines).unwrap();
    folder
}

#[test]
fn train_and_validation() {
    let folder = make();
    for (split, samples, expected) in
        [(Split::Train, [2, 1, 0], [0, 0, 1]), (Split::Test, [4, 3, 5], [1, 0, 1])]
    {
        let dataset = open(Format::TinyImagenet, folder.path(), split).unwrap();
        assert_eq!(
            (dataset.shape(), dataset.class_names()),
            (SHAPE, &["n01".to_owned(), "n02".to_owned()][..])
        );
        let batches = batches(dataset, plain(3, 3), 0);
        assert_eq!(labels(&batches), expected);
        assert_eq!(bytes(&batches[0]), samples.map(|sample| values(sample, SHAPE)), "{split}");
    }
}

/// Where only the validation set is at hand, the list of classes says what labels mean.
#[test]
fn validation_alone() {
    let folder = make();
    fs::remove_dir_all(folder.path().join("train")).unwrap();
    fs::write(folder.path().join("wnids.txt"), "n02\nn00\nn01\n").unwrap();
    let dataset = open(Format::TinyImagenet, folder.path(), Split::Test).unwrap();
    assert_eq!(labels(&batches(dataset, plain(3, 3), 0)), [2, 1, 2]);
}

#[test]
fn refusals() {
    let folder = make();
    let error = |split| open(Format::TinyImagenet, folder.path(), split).unwrap_err().to_string();
    let annotations = folder.path().join("val/val_annotations.txt");
    let place = annotations.display();

    fs::write(&annotations, "val_3.JPEG\tn01\nval_4.JPEG\tn07\t1\n").unwrap();
    assert_eq!(
        error(Split::Test),
        format!("line 2 of `{place}`: expected a file and one of the 2 classes, found `val_4.JPEG\tn07\t1`")
    );
    // a name that leaves the folder
    fs::write(&annotations, "../../x.JPEG\tn01\n").unwrap();
    assert!(error(Split::Test).starts_with(&format!("line 1 of `{place}`")));
    fs::write(&annotations, "\n").unwrap();
    assert_eq!(error(Split::Test), format!("`{place}` has no annotation"));
    fs::remove_file(&annotations).unwrap();
    assert_eq!(
        error(Split::Test),
        format!(
            "the test split of tiny-imagenet lacks `val/val_annotations.txt` (looked in `{}`)",
            folder.path().display()
        )
    );
    fs::remove_dir_all(folder.path().join("train/n02/images")).unwrap();
    let train = folder.path().join("train");
    assert_eq!(
        error(Split::Train),
        format!("no image (.jpg, .jpeg, .png) in the classes `n02` of `{}`", train.display())
    );
    fs::remove_dir_all(&train).unwrap();
    assert!(error(Split::Train).starts_with("the train split of tiny-imagenet lacks `train/`"));
}
