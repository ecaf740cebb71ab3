use std::{
    fs::File,
    io::{BufReader, Read},
    path::{Path, PathBuf},
};

use flate2::read::MultiGzDecoder;

use super::{
    contents::Contents, error::DataError, files::find_all, format::Format, samples::Samples, source::Split,
};

const CLASSES: usize = 10;
const SIDE: usize = 28;

/// Folders that archives and other programs put the files in.
const NESTED: [&str; 3] = ["raw", "MNIST/raw", "FashionMNIST/raw"];

const DIGITS: [&str; CLASSES] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
const CLOTHES: [&str; CLASSES] = [
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
];

/// Reads MNIST, or a data set of the same files.
pub(super) fn open(format: Format, folder: &Path, split: Split) -> Result<Contents, DataError> {
    let start = match split {
        Split::Train => "train",
        Split::Test => "t10k",
    };
    let names = |what: &str, dims: usize| -> [String; 4] {
        [("-", ""), (".", ""), ("-", ".gz"), (".", ".gz")]
            .map(|(separator, end)| format!("{start}-{what}{separator}idx{dims}-ubyte{end}"))
    };
    let (image_names, label_names) = (names("images", 3), names("labels", 1));
    let (image_names, label_names) =
        (image_names.each_ref().map(String::as_str), label_names.each_ref().map(String::as_str));
    let paths = find_all(format, split, folder, &NESTED, &[&image_names, &label_names])?;
    let [image_file, label_file]: [PathBuf; 2] =
        paths.try_into().unwrap_or_else(|_| unreachable!("two were asked for"));

    let (images, pixels) = read(&image_file, "28 x 28 images", [SIDE as u32, SIDE as u32])?;
    let (count, labels) = read(&label_file, "labels", [])?;
    if images != count {
        return Err(DataError::Counts { image_file, images, label_file, labels: count });
    }
    if let Some((sample, label)) =
        labels.iter().enumerate().find(|(_, label)| usize::from(**label) >= CLASSES)
    {
        let label = usize::from(*label);
        return Err(DataError::Label { path: label_file, sample, label, classes: CLASSES });
    }
    let names = if format == Format::FashionMnist { CLOTHES } else { DIGITS };
    Ok(Contents {
        samples: Samples::Memory { pixels, shape: [1, SIDE, SIDE] },
        labels: labels.into_iter().map(u32::from).collect(),
        class_names: names.map(str::to_owned).into(),
    })
}

/// Reads an idx file of bytes: two zeros, the type 8, the number of dimensions, their sizes in big-endian
/// words, values. All dimensions but the first must be these.
fn read<const N: usize>(
    path: &Path,
    what: &'static str,
    dims: [u32; N],
) -> Result<(usize, Vec<u8>), DataError> {
    let file = BufReader::new(File::open(path).map_err(DataError::read(path))?);
    let mut reader: Box<dyn Read> = match path.extension() {
        Some(extension) if extension == "gz" => Box::new(MultiGzDecoder::new(file)),
        _ => Box::new(file),
    };
    let mut header = Vec::new();
    let header_bytes = 8 + 4 * N;
    reader.by_ref().take(header_bytes as u64).read_to_end(&mut header).map_err(DataError::read(path))?;
    if header.len() < header_bytes {
        let expected = format!("at least {header_bytes}");
        return Err(DataError::Size { path: path.to_owned(), expected, found: header.len() as u64 });
    }
    let words: Vec<u32> = header
        .chunks_exact(4)
        .map(|word| word.iter().fold(0, |word, &byte| word << 8 | u32::from(byte)))
        .collect();
    let magic = 0x0800 + 1 + N as u32;
    let [found, count, found_dims @ ..] = words.as_slice() else {
        unreachable!("the header has two words or more")
    };
    if *found != magic || found_dims != dims {
        let describe = |magic: u32, dims: &[u32]| format!("0x{magic:08x} and sizes {dims:?}");
        return Err(DataError::Header {
            path: path.to_owned(),
            what,
            expected: describe(magic, &dims),
            found: describe(*found, found_dims),
        });
    }
    let expected = u64::from(*count) * dims.iter().map(|&dim| u64::from(dim)).product::<u64>();
    let mut values = Vec::new();
    // one byte more than there should be tells a file that is too long
    let read = reader.take(expected + 1).read_to_end(&mut values).map_err(DataError::read(path))? as u64;
    if read == expected {
        return Ok((*count as usize, values));
    }
    let header_bytes = header_bytes as u64;
    let expected = format!("{}", expected + header_bytes);
    Err(DataError::Size { path: path.to_owned(), expected, found: read + header_bytes })
}
