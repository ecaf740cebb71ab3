use serde::{Deserialize, Serialize};

use super::{format::Format, picture::Frame, random::Stream};

/// How training images are varied, in this order: a random frame, a shift, a reflection.
///
/// Each sample's variation depends on the loader's seed, the epoch and the sample's position in it alone.
///
/// # Examples
///
/// ```
/// use fnl::data::{Augmentation, Format};
/// let augmentation = Augmentation::for_format(Format::Cifar10);
/// assert_eq!(augmentation, Augmentation { crop_padding: 4, flip: true, random_resized_crop: false });
/// assert_eq!(Augmentation::default(), Augmentation { crop_padding: 0, flip: false, random_resized_crop: false });
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augmentation {
    /// The image is surrounded by that many black pixels, and one of the `(2 crop_padding + 1)^2` frames of
    /// its size is cut out.
    pub crop_padding: usize,
    /// Left and right are exchanged half of the time.
    pub flip: bool,
    /// A frame of 8 % to 100 % of the area and of proportions from 3:4 to 4:3 is cut out and resized.
    pub random_resized_crop: bool,
}

impl Augmentation {
    /// The usual one for training on a format.
    #[must_use]
    pub fn for_format(format: Format) -> Self {
        let shifted = |crop_padding, flip| Self { crop_padding, flip, random_resized_crop: false };
        match format {
            Format::Cifar10 | Format::Cifar100 => shifted(4, true),
            // digits have a left and a right
            Format::Mnist => shifted(2, false),
            Format::FashionMnist => shifted(2, true),
            Format::TinyImagenet => shifted(8, true),
            Format::Images => Self { crop_padding: 0, flip: true, random_resized_crop: true },
        }
    }
}

/// Where a shifted frame lies in the padded image, and whether it is reflected.
#[derive(Clone, Copy)]
pub(super) struct Placement {
    pub(super) top: usize,
    pub(super) left: usize,
    pub(super) flipped: bool,
}

impl Placement {
    pub(super) fn draw(augmentation: Augmentation, stream: &mut Stream) -> Self {
        let Augmentation { crop_padding, flip, .. } = augmentation;
        let (top, left) = match crop_padding {
            0 => (0, 0),
            padding => (stream.below(2 * padding + 1), stream.below(2 * padding + 1)),
        };
        Self { top, left, flipped: flip && stream.coin() }
    }

    /// Writes one channel of an image as seen from here; `table` turns values into normalized ones, black
    /// included.
    pub(super) fn write(
        self,
        plane: &[u8],
        width: usize,
        padding: usize,
        table: &[f32; 256],
        out: &mut [f32],
    ) {
        let Self { top, left, flipped } = self;
        let height = plane.len() / width;
        // columns start..end of the output lie in the image, the others in the padding
        let start = padding.saturating_sub(left).min(width);
        let end = (width + padding).saturating_sub(left).clamp(start, width);
        let first = (start + left).saturating_sub(padding);
        for (y, row) in out.chunks_exact_mut(width).enumerate() {
            let Some(source) = (y + top).checked_sub(padding).filter(|&source| source < height) else {
                row.fill(table[0]);
                continue;
            };
            let source = &plane[source * width..][first..first + (end - start)];
            row[..start].fill(table[0]);
            row[end..].fill(table[0]);
            for (value, &pixel) in row[start..end].iter_mut().zip(source) {
                *value = table[usize::from(pixel)];
            }
            if flipped {
                row.reverse();
            }
        }
    }
}

/// Draws a frame of random area and proportions, as Szegedy et al. (2015, "Going deeper with convolutions",
/// section 6) train with; the whole image, cut to these proportions, when none of ten fits.
pub(super) fn random_frame(height: usize, width: usize, stream: &mut Stream) -> Frame {
    const PROPORTIONS: (f64, f64) = (3.0 / 4.0, 4.0 / 3.0);
    let (rows, columns) = (height as f64, width as f64);
    let (low, high) = (PROPORTIONS.0.ln(), PROPORTIONS.1.ln());
    for _ in 0..10 {
        let area = rows * columns * (0.08 + 0.92 * stream.unit());
        let proportions = (low + (high - low) * stream.unit()).exp();
        let w = (area * proportions).sqrt().round() as usize;
        let h = (area / proportions).sqrt().round() as usize;
        if (1..=width).contains(&w) && (1..=height).contains(&h) {
            let top = stream.below(height - h + 1);
            return Frame { top, left: stream.below(width - w + 1), height: h, width: w };
        }
    }
    let proportions = columns / rows;
    let w = if proportions > PROPORTIONS.1 { (rows * PROPORTIONS.1).round() as usize } else { width };
    let h = if proportions < PROPORTIONS.0 { (columns / PROPORTIONS.0).round() as usize } else { height };
    Frame::central(height, width, h.clamp(1, height), w.clamp(1, width))
}
