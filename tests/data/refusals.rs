use std::{fs, sync::Arc};

use fnl::data::{
    DataError, DataSource, DataSourceError, Format, Loader, LoaderOptions, Normalization, Split,
};

use crate::{
    idx::{compressed, write},
    made::{cifar10, idx, image, open, plain, records, save},
};

#[test]
fn sources() {
    let refused = |text: &str| text.parse::<DataSource>().unwrap_err();
    let all = "cifar10, cifar100, mnist, fashion-mnist, tiny-imagenet or images";
    let no_format = refused("data/cifar");
    assert_eq!(
        no_format.to_string(),
        format!("`data/cifar` does not say its format, expected FORMAT:DIR with the format {all}")
    );
    assert_eq!(no_format.hint().unwrap(), "write it like images:data/cifar");
    assert_eq!(refused("mnist").hint().unwrap(), "write it like mnist:DIR");
    assert_eq!(refused("mnist:"), DataSourceError::NoFolder { format: Format::Mnist });
    assert_eq!(refused("mnist:").to_string(), "`mnist:` does not say its folder, expected mnist:DIR");
    assert_eq!(refused("webdataset:x").hint(), None);
    assert_eq!(refused("Cifar-100:x").hint().unwrap(), "did you mean `cifar100`?");
    for format in Format::ALL {
        let source = DataSource { format, path: "a:b/c".into() };
        assert_eq!(source.to_string().parse(), Ok(source));
    }
}

#[test]
fn missing_files() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().display();
    let gone = folder.path().join("gone");
    let error = open(Format::Mnist, &gone, Split::Test).unwrap_err();
    assert_eq!(error.to_string(), format!("the folder `{}` of the data set does not exist", gone.display()));

    for file in [1, 2, 4] {
        let path = folder.path().join(format!("data_batch_{file}.bin"));
        fs::write(path, records([(0, [0])])).unwrap();
    }
    let error = open(Format::Cifar10, folder.path(), Split::Train).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "the train split of cifar10 lacks `data_batch_3.bin`, `data_batch_5.bin` (looked in `{place}`, \
             `{place}/cifar-10-batches-bin`)"
        )
    );
    assert!(error.hint().unwrap().starts_with("cifar10 is the binary version of CIFAR-10"));
    let error = open(Format::Mnist, folder.path(), Split::Train).unwrap_err().to_string();
    assert!(error.starts_with(
        "the train split of mnist lacks `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` (looked in "
    ));
}

#[test]
fn wrong_cifar_files() {
    let folder = cifar10(2);
    let file = folder.path().join("test_batch.bin");
    let place = file.display();
    let error = || open(Format::Cifar10, folder.path(), Split::Test).unwrap_err();
    fs::write(&file, vec![0; 2 * 3073 - 1]).unwrap();
    assert_eq!(
        error().to_string(),
        format!("`{place}` has the wrong size: expected a multiple of 3073, found 6145 bytes")
    );
    assert_eq!(
        error().hint().unwrap(),
        "the file is incomplete or of another format: copy or download it again"
    );
    fs::write(&file, "").unwrap();
    assert!(error().to_string().ends_with("expected a multiple of 3073, found 0 bytes"));
    fs::write(&file, records([(0, [3]), (1, [10])])).unwrap();
    assert_eq!(error().to_string(), format!("sample 1 of `{place}` has the label 10, expected less than 10"));

    for labels in [[20, 0], [0, 100]] {
        fs::write(folder.path().join("test.bin"), records([(0, labels)])).unwrap();
        let error = open(Format::Cifar100, folder.path(), Split::Test).unwrap_err();
        let DataError::Label { sample: 0, label, classes, .. } = error else { panic!("{error}") };
        assert_eq!(label, classes);
    }
}

#[test]
fn wrong_idx_files() {
    let folder = tempfile::tempdir().unwrap();
    let [images, labels] = write(folder.path(), "-", "");
    let (image_place, label_place) = (images.display(), labels.display());
    let error = || open(Format::Mnist, folder.path(), Split::Test).unwrap_err().to_string();
    let good = fs::read(&images).unwrap();

    fs::write(&labels, idx(&[3], &[7, 10, 9])).unwrap();
    assert_eq!(error(), format!("sample 1 of `{label_place}` has the label 10, expected less than 10"));
    fs::write(&labels, idx(&[2], &[7, 0])).unwrap();
    assert_eq!(error(), format!("`{image_place}` has 3 images and `{label_place}` 2 labels"));
    for wrong in [&good[..good.len() - 1], &[&good[..], &[0]].concat()] {
        fs::write(&images, wrong).unwrap();
        let found = wrong.len();
        assert_eq!(
            error(),
            format!("`{image_place}` has the wrong size: expected 2368, found {found} bytes")
        );
    }
    fs::write(&images, &good[..9]).unwrap();
    assert_eq!(error(), format!("`{image_place}` has the wrong size: expected at least 16, found 9 bytes"));
    fs::write(&images, idx(&[3, 32, 32], &[0; 3 * 1024])).unwrap();
    assert_eq!(
        error(),
        format!(
            "`{image_place}` is not an idx file of 28 x 28 images: expected 0x00000803 and sizes [28, 28], found \
             0x00000803 and sizes [32, 32]"
        )
    );
    // labels where images should be
    fs::write(&images, idx(&[3], &[0; 20])).unwrap();
    assert!(error().contains("expected 0x00000803 and sizes [28, 28], found 0x00000801 and sizes"));
    // a count far beyond the file costs no memory
    fs::write(&images, idx(&[u32::MAX, 28, 28], &[0; 784])).unwrap();
    assert!(error().ends_with("expected 3367254359296, found 800 bytes"), "{}", error());

    fs::remove_file(&images).unwrap();
    let packed = compressed(&good);
    let [images, _] = write(folder.path(), "-", ".gz");
    fs::write(&images, &packed[..packed.len() / 2]).unwrap();
    let error = open(Format::Mnist, folder.path(), Split::Test).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot read `{}`", images.display()));
}

/// A damaged image takes the place of its batch, names its file, and is the first one in order; other batches
/// are whole.
#[test]
fn damaged_images() {
    let folder = tempfile::tempdir().unwrap();
    for sample in 0..8 {
        save(&image(sample, 20, 20), folder.path().join(format!("train/one/{sample}.jpg")));
    }
    let broken = folder.path().join("train/one/4.jpg");
    fs::write(&broken, "no image at all").unwrap();
    let cut = folder.path().join("train/one/5.jpg");
    let bytes = fs::read(&cut).unwrap();
    fs::write(&cut, &bytes[..40]).unwrap();
    let dataset = Arc::new(open(Format::Images, folder.path(), Split::Train).unwrap());
    for workers in [0, 1, 3] {
        let mut options = plain(3, 3);
        options.workers = workers;
        let loader = Loader::new(Arc::clone(&dataset), options).unwrap();
        let results: Vec<_> = loader.epoch(0, 0).collect();
        let counts: Vec<_> =
            results.iter().map(|result| result.as_ref().ok().map(|batch| batch.index)).collect();
        assert_eq!(counts, [Some(0), None, Some(2)]);
        let error = results.into_iter().find_map(Result::err).unwrap();
        assert_eq!(error.to_string(), format!("cannot decode the image `{}`", broken.display()));
        assert!(std::error::Error::source(&error).is_some());
    }
    fs::remove_file(&broken).unwrap();
    let loader = Loader::new(dataset, plain(8, 3)).unwrap();
    let error = loader.epoch(0, 0).find_map(Result::err).unwrap();
    assert_eq!(error.to_string(), format!("cannot read `{}`", broken.display()));
}

/// Everything that is wrong with options is said at once.
#[test]
fn options() {
    let folder = cifar10(5);
    let dataset = || open(Format::Cifar10, folder.path(), Split::Test).unwrap();
    let refused = |change: &dyn Fn(&mut LoaderOptions)| {
        let mut options = LoaderOptions::new(2);
        change(&mut options);
        Loader::new(Arc::new(dataset()), options).unwrap_err().to_string()
    };
    assert_eq!(
        refused(&|options| {
            options.batch_size = 0;
            options.size = Some(224);
            options.augmentation.crop_padding = 300;
            options.normalization = Some(Normalization::identity(1));
        }),
        "`batch_size` is 0, expected at least 1; `size` is 224, expected 32: images of cifar10 are 32 x 32; \
         `crop_padding` 300 exceeds the images' side 224; the normalization has 1 means and 1 standard deviations, \
         expected 3 of each"
    );
    assert_eq!(
        refused(&|options| (options.batch_size, options.drop_last) = (6, true)),
        "`batch_size` 6 with `drop_last` exceeds the 5 images there are"
    );
    let with =
        |mean: f32, std: f32| Some(Normalization { mean: vec![0.0, mean, 0.0], std: vec![1.0, std, 1.0] });
    assert_eq!(
        refused(&|options| options.normalization = with(0.0, 0.0)),
        "the normalization's standard deviation is 0, expected a positive number"
    );
    assert_eq!(
        refused(&|options| options.normalization = with(f32::NAN, 1.0)),
        "the normalization's mean is NaN, expected a finite number"
    );
    let empty = Loader::new(Arc::new(dataset().limit(0)), LoaderOptions::new(2)).unwrap_err();
    assert_eq!(empty.to_string(), "the data set has no images, expected at least 1");

    save(&image(0, 6, 6), folder.path().join("train/one/x.png"));
    let images = Arc::new(open(Format::Images, folder.path(), Split::Train).unwrap());
    for (size, shorter_side, expected) in [
        (0, None, "`size` is 0, expected 1 to 16384"),
        (8, Some(7), "`shorter_side` is 7, expected 8 (`size`) to 16384"),
    ] {
        let mut options = LoaderOptions::new(1);
        (options.size, options.shorter_side) = (Some(size), shorter_side);
        assert_eq!(Loader::new(Arc::clone(&images), options).unwrap_err().to_string(), expected);
    }
}
