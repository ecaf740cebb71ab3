use std::fs;

use fnl::data::{Format, Split};
use image::{DynamicImage, GrayAlphaImage, GrayImage, ImageBuffer, LumaA, Rgb, RgbImage, Rgba};

use crate::made::{batches, bytes, image, labels, open, plain, save, value, values};

const SIDE: usize = 6;

/// Options under which images of six by six stay as they are.
fn unresized(batch_size: usize) -> fnl::data::LoaderOptions {
    let mut options = plain(batch_size, 3);
    (options.size, options.shorter_side) = (Some(SIDE), Some(SIDE));
    options
}

/// Classes and files come in the order of their names; endings in either case count, other files and hidden
/// ones don't.
#[test]
fn order_and_endings() {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join("train").join(path);
    save(&image(0, SIDE, SIDE), at("zebra/b.PNG"));
    save(&image(1, SIDE, SIDE), at("zebra/a.Png"));
    save(&image(2, SIDE, SIDE), at("ant/only.png"));
    save(&image(3, SIDE, SIDE), at("ant/.hidden.png"));
    save(&image(4, SIDE, SIDE), at(".cache/x.png"));
    // a PNG under JPEG's name, as ImageNet has one
    fs::copy(at("ant/only.png"), at("Bear.jpeg")).unwrap();
    fs::create_dir(at("Bear")).unwrap();
    fs::rename(at("Bear.jpeg"), at("Bear/1.JPEG")).unwrap();
    fs::write(at("ant/notes.txt"), "not an image").unwrap();

    let dataset = open(Format::Images, folder.path(), Split::Train).unwrap();
    assert_eq!(dataset.class_names(), ["Bear", "ant", "zebra"]);
    assert_eq!(dataset.shape(), [3, 224, 224]);
    let batches = batches(dataset, unresized(4), 0);
    assert_eq!(labels(&batches), [0, 1, 2, 2]);
    assert_eq!(bytes(&batches[0]), [2, 2, 1, 0].map(|sample| values(sample, [3, SIDE, SIDE])));
}

/// Gray, transparent and 16-bit images become RGB: repeated, without transparency, and of the upper 8 bits.
#[test]
fn every_kind_of_image_becomes_rgb() {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join("train/all").join(path);
    let side = SIDE as u32;
    let pixel = |channel: usize, x: u32, y: u32| value(0, channel, y as usize, x as usize);
    let gray = GrayImage::from_fn(side, side, |x, y| image::Luma([pixel(0, x, y)]));
    let gray_alpha = GrayAlphaImage::from_fn(side, side, |x, y| LumaA([pixel(0, x, y), pixel(1, x, y)]));
    let rgba: ImageBuffer<Rgba<u8>, Vec<u8>> =
        ImageBuffer::from_fn(side, side, |x, y| Rgba([0, 1, 2, 3].map(|channel| pixel(channel, x, y))));
    let deep: ImageBuffer<Rgb<u16>, Vec<u16>> = ImageBuffer::from_fn(side, side, |x, y| {
        Rgb([0, 1, 2].map(|channel| u16::from(pixel(channel, x, y)) * 257))
    });
    save(&gray.into(), at("1.png"));
    save(&gray_alpha.into(), at("2.png"));
    save(&rgba.into(), at("3.png"));
    save(&deep.into(), at("4.png"));

    let dataset = open(Format::Images, folder.path(), Split::Train).unwrap();
    let batches = batches(dataset, unresized(4), 0);
    let repeated = values(0, [1, SIDE, SIDE]).repeat(3);
    let color = values(0, [3, SIDE, SIDE]);
    assert_eq!(bytes(&batches[0]), [repeated.clone(), repeated, color.clone(), color]);
}

/// A JPEG of one color decodes to it, within the two units that its conversions round.
#[test]
fn jpeg() {
    let folder = tempfile::tempdir().unwrap();
    let color = [200, 60, 120];
    let picture: DynamicImage = RgbImage::from_pixel(40, 24, Rgb(color)).into();
    save(&picture, folder.path().join("val/one/x.JPG"));
    let dataset = open(Format::Images, folder.path(), Split::Test).unwrap();
    let batches = batches(dataset, plain(1, 3), 0);
    assert_eq!(batches[0].images.dims(), [1, 3, 224, 224]);
    for (plane, expected) in bytes(&batches[0])[0].chunks_exact(224 * 224).zip(color) {
        assert!(plane.iter().all(|&found| found.abs_diff(expected) <= 2), "{} for {expected}", plane[0]);
    }
}

/// The test split is `val`, which has labels where `test` may have none, and else `test`.
#[test]
fn test_split() {
    let folder = tempfile::tempdir().unwrap();
    save(&image(0, SIDE, SIDE), folder.path().join("test/one/x.png"));
    let tested = open(Format::Images, folder.path(), Split::Test).unwrap();
    assert_eq!(bytes(&batches(tested, unresized(1), 0)[0]), [values(0, [3, SIDE, SIDE])]);
    save(&image(1, SIDE, SIDE), folder.path().join("val/one/x.png"));
    let validated = open(Format::Images, folder.path(), Split::Test).unwrap();
    assert_eq!(bytes(&batches(validated, unresized(1), 0)[0]), [values(1, [3, SIDE, SIDE])]);
}

#[test]
fn refusals() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let error = |split| open(Format::Images, root, split).unwrap_err().to_string();
    assert_eq!(
        error(Split::Test),
        format!("the test split of images lacks `val/`, `test/` (looked in `{}`)", root.display())
    );
    let train = root.join("train");
    fs::create_dir(&train).unwrap();
    assert_eq!(error(Split::Train), format!("`{}` has no class folder", train.display()));
    save(&image(0, SIDE, SIDE), train.join("b/x.png"));
    fs::create_dir(train.join("a")).unwrap();
    fs::create_dir(train.join("c")).unwrap();
    fs::write(train.join("c/x.gif"), "").unwrap();
    assert_eq!(
        error(Split::Train),
        format!("no image (.jpg, .jpeg, .png) in the classes `a`, `c` of `{}`", train.display())
    );
    save(&image(0, SIDE, SIDE), root.join("val/b/x.png"));
    save(&image(0, SIDE, SIDE), root.join("val/d/x.png"));
    let val = root.join("val");
    assert_eq!(
        error(Split::Test),
        format!(
            "`{}` and `{}` have different classes: the second lacks `a`, `c`, the first `d`",
            train.display(),
            val.display()
        )
    );
    fs::remove_dir_all(val.join("d")).unwrap();
    assert!(error(Split::Test).ends_with("have different classes: the second lacks `a`, `c`"));
    fs::remove_dir_all(train.join("a")).unwrap();
    fs::remove_dir_all(train.join("c")).unwrap();
    assert_eq!(open(Format::Images, root, Split::Test).unwrap().len(), 1);
}
