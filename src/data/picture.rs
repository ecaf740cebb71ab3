use std::{borrow::Cow, path::Path};

use image::ImageReader;

use super::{error::DataError, resample::resample};

/// A rectangle of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) top: usize,
    pub(super) left: usize,
    pub(super) height: usize,
    pub(super) width: usize,
}

impl Frame {
    /// The middle; half pixels are rounded to even ones, as Python's `round` in torchvision does.
    pub(super) fn central(rows: usize, columns: usize, height: usize, width: usize) -> Self {
        let middle = |all: usize, part: usize| ((all - part) as f64 / 2.0).round_ties_even() as usize;
        Self { top: middle(rows, height), left: middle(columns, width), height, width }
    }
}

/// One image, channel after channel, row after row.
#[derive(Clone)]
pub(super) struct Picture<'a> {
    pub(super) pixels: Cow<'a, [u8]>,
    pub(super) channels: usize,
    pub(super) height: usize,
    pub(super) width: usize,
}

impl Picture<'_> {
    /// Reads a JPEG or PNG file, whatever its name ends in, as RGB: gray becomes three equal channels,
    /// transparency is dropped.
    pub(super) fn decode(path: &Path) -> Result<Self, DataError> {
        let reader = ImageReader::open(path).map_err(DataError::read(path))?;
        let reader = reader.with_guessed_format().map_err(DataError::read(path))?;
        let image = reader
            .decode()
            .map_err(|source| DataError::Decode { path: path.to_owned(), source })?
            .into_rgb8();
        let (height, width) = (image.height() as usize, image.width() as usize);
        let interleaved = image.into_raw();
        let mut pixels = vec![0; interleaved.len()];
        // (h, w, c) -> (c, h, w)
        for (channel, plane) in pixels.chunks_exact_mut((height * width).max(1)).enumerate() {
            for (value, pixel) in plane.iter_mut().zip(interleaved.chunks_exact(3)) {
                *value = pixel[channel];
            }
        }
        Ok(Picture { pixels: pixels.into(), channels: 3, height, width })
    }

    /// Resizes the part in a frame.
    pub(super) fn resize(&self, frame: Frame, height: usize, width: usize) -> Picture<'static> {
        self.resample(frame, (height, width), Frame { top: 0, left: 0, height, width })
    }

    /// Resizes so that the shorter side has this length, and cuts the middle square out.
    pub(super) fn fit(&self, shorter_side: usize, side: usize) -> Picture<'static> {
        let short = self.height.min(self.width);
        // the longer side is rounded down, as torchvision's is
        let scaled = |length: usize| shorter_side * length / short;
        let (height, width) = (scaled(self.height), scaled(self.width));
        let whole = Frame { top: 0, left: 0, height: self.height, width: self.width };
        self.resample(whole, (height, width), Frame::central(height, width, side, side))
    }

    fn resample(&self, frame: Frame, size: (usize, usize), cut: Frame) -> Picture<'static> {
        let planes = self.pixels.chunks_exact(self.height * self.width);
        let pixels = planes.flat_map(|plane| resample(plane, self.width, frame, size, cut)).collect();
        Picture { pixels, channels: self.channels, height: cut.height, width: cut.width }
    }
}
