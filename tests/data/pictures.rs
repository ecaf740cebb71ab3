use fnl::data::{Format, Split};

use crate::made::{batches, bytes, image, open, plain, save};

/// An image's height and width, what its shorter side is resized to, and the red, green and blue of the
/// middle.
struct Case {
    size: (usize, usize),
    shorter_side: usize,
    side: usize,
    expected: [&'static [u8]; 3],
}

/// Printed by `pillow.py` with Pillow 13.0.0.
fn cases() -> [Case; 6] {
    [
        Case {
            size: (9, 13),
            shorter_side: 5,
            side: 4,
            expected: [
                &[64, 92, 121, 148, 94, 131, 168, 190, 130, 178, 183, 117, 166, 183, 51, 84],
                &[114, 142, 171, 195, 144, 181, 202, 156, 180, 214, 107, 68, 202, 110, 77, 134],
                &[164, 192, 208, 161, 194, 212, 98, 66, 213, 100, 70, 116, 104, 69, 127, 176],
            ],
        },
        Case {
            size: (9, 13),
            shorter_side: 11,
            side: 5,
            expected: [
                &[
                    102, 120, 137, 154, 172, 119, 138, 158, 177, 196, 135, 156, 178, 200, 221, 151, 175, 198,
                    222, 93, 167, 193, 219, 104, 40,
                ],
                &[
                    152, 170, 187, 204, 222, 169, 188, 208, 227, 212, 185, 206, 228, 250, 84, 201, 225, 248,
                    90, 53, 217, 221, 106, 51, 65,
                ],
                &[
                    202, 220, 237, 173, 59, 219, 232, 211, 49, 40, 235, 222, 22, 44, 65, 195, 59, 42, 66, 90,
                    79, 37, 63, 89, 115,
                ],
            ],
        },
        Case {
            size: (17, 5),
            shorter_side: 4,
            side: 4,
            expected: [
                &[45, 80, 113, 148, 55, 93, 131, 170, 65, 108, 152, 195, 76, 124, 172, 220],
                &[95, 130, 163, 198, 105, 143, 181, 220, 115, 158, 202, 214, 126, 174, 222, 78],
                &[145, 180, 213, 165, 155, 193, 231, 78, 165, 208, 126, 49, 176, 183, 82, 64],
            ],
        },
        Case {
            size: (61, 97),
            shorter_side: 4,
            side: 3,
            expected: [
                &[127, 128, 126, 130, 131, 129, 134, 129, 128],
                &[126, 127, 129, 128, 127, 127, 122, 127, 131],
                &[127, 128, 127, 128, 131, 130, 129, 129, 128],
            ],
        },
        Case {
            size: (8, 11),
            shorter_side: 8,
            side: 4,
            expected: [
                &[90, 109, 128, 147, 109, 131, 153, 175, 128, 153, 178, 203, 147, 175, 203, 231],
                &[140, 159, 178, 197, 159, 181, 203, 225, 178, 203, 228, 253, 197, 225, 253, 25],
                &[190, 209, 228, 247, 209, 231, 253, 19, 228, 253, 22, 47, 247, 19, 47, 75],
            ],
        },
        Case {
            size: (5, 5),
            shorter_side: 9,
            side: 4,
            expected: [
                &[20, 29, 38, 46, 25, 35, 45, 55, 31, 41, 52, 63, 37, 48, 59, 71],
                &[70, 79, 88, 96, 75, 85, 95, 105, 81, 91, 102, 113, 87, 98, 109, 121],
                &[120, 129, 138, 146, 125, 135, 145, 155, 131, 141, 152, 163, 137, 148, 159, 171],
            ],
        },
    ]
}

/// Evaluation sees the bytes that Pillow and torchvision give: shrunk, enlarged, upright, with odd margins.
#[test]
fn resizing_is_pillows() {
    for Case { size: (height, width), shorter_side, side, expected } in cases() {
        let folder = tempfile::tempdir().unwrap();
        save(&image(0, height, width), folder.path().join("val/one/x.png"));
        let dataset = open(Format::Images, folder.path(), Split::Test).unwrap();
        let mut options = plain(1, 3);
        (options.size, options.shorter_side) = (Some(side), Some(shorter_side));
        let batches = batches(dataset, options, 0);
        assert_eq!(batches[0].images.dims(), [1, 3, side, side]);
        assert_eq!(bytes(&batches[0])[0], expected.concat(), "{height} x {width}");
    }
}

/// The usual shorter side is 8/7 of the size for folders, 256 for 224.
#[test]
fn usual_shorter_side() {
    let folder = tempfile::tempdir().unwrap();
    save(&image(3, 60, 70), folder.path().join("val/one/x.png"));
    let pixels = |size, shorter_side| {
        let dataset = open(Format::Images, folder.path(), Split::Test).unwrap();
        let mut options = plain(1, 3);
        (options.size, options.shorter_side) = (size, shorter_side);
        bytes(&batches(dataset, options, 0)[0])
    };
    assert_eq!(pixels(None, None), pixels(Some(224), Some(256)));
    assert_eq!(pixels(Some(28), None), pixels(Some(28), Some(32)));
    assert_ne!(pixels(Some(28), None), pixels(Some(28), Some(28)));
}
