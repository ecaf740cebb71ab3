use std::{fs::File, io::Read, path::PathBuf};

use super::{error::DataError, fingerprint::Fingerprint, picture::Picture};

/// Where a data set's images are.
pub(super) enum Samples {
    /// All of them, image after image, (c, h, w) each.
    Memory { pixels: Vec<u8>, shape: [usize; 3] },
    /// A file for each, of any size, decoded when its turn comes.
    Files { paths: Vec<PathBuf>, side: usize },
}

impl Samples {
    /// The shape that the images have, or are brought to unless another is asked for.
    pub(super) fn shape(&self) -> [usize; 3] {
        match self {
            Self::Memory { shape, .. } => *shape,
            Self::Files { side, .. } => [3, *side, *side],
        }
    }

    /// One image, in its own size.
    pub(super) fn picture(&self, index: usize) -> Result<Picture<'_>, DataError> {
        match self {
            Self::Memory { pixels, shape: [channels, height, width] } => {
                let bytes = channels * height * width;
                let pixels = &pixels[index * bytes..][..bytes];
                Ok(Picture { pixels: pixels.into(), channels: *channels, height: *height, width: *width })
            }
            Self::Files { paths, .. } => Picture::decode(&paths[index]),
        }
    }

    /// Drops all but the first.
    pub(super) fn limit(&mut self, count: usize) {
        match self {
            Self::Memory { pixels, shape } => {
                pixels.truncate(count.saturating_mul(shape.iter().product()));
                pixels.shrink_to_fit();
            }
            Self::Files { paths, .. } => paths.truncate(count),
        }
    }

    /// Adds all pixels held in memory; of files the names, and of a few of them size and first bytes.
    pub(super) fn fingerprint(&self, fingerprint: &mut Fingerprint) -> Result<(), DataError> {
        /// How many files are looked into, and how far.
        const LOOKED_INTO: usize = 64;
        const FIRST_BYTES: u64 = 4096;
        match self {
            Self::Memory { pixels, .. } => fingerprint.bulk(pixels),
            Self::Files { paths, .. } => {
                let step = paths.len().div_ceil(LOOKED_INTO).max(1);
                for (index, path) in paths.iter().enumerate() {
                    fingerprint.add(path.file_name().unwrap_or_default().as_encoded_bytes());
                    if index % step == 0 {
                        let file = File::open(path).map_err(DataError::read(path))?;
                        fingerprint.number(file.metadata().map_err(DataError::read(path))?.len());
                        let mut first = Vec::new();
                        file.take(FIRST_BYTES).read_to_end(&mut first).map_err(DataError::read(path))?;
                        fingerprint.bulk(&first);
                    }
                }
            }
        }
        Ok(())
    }
}
