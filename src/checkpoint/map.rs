//! The bytes of one tensor as a memory map: the only unsafe code of the crate.

use std::{fs::File, io, ops::Deref};

use memmap2::{Mmap, MmapOptions};

/// The bytes of one tensor, mapped while this lives. Their alignment is not guaranteed.
///
/// Only the tensor's own pages are mapped, and they are given back on drop: resident memory is bounded by the
/// tensors held, not by the checkpoint.
#[derive(Debug)]
pub struct TensorBytes(Option<Mmap>);

impl TensorBytes {
    /// Maps `len` bytes from `start` on; the caller has checked that the file has them.
    pub(crate) fn map(file: &File, start: u64, len: usize) -> io::Result<Self> {
        if len == 0 {
            // Systems refuse a map of nothing.
            return Ok(Self(None));
        }
        #[expect(unsafe_code, reason = "a memory map is the one way to read a tensor without a copy")]
        // SAFETY: the map is read-only and private to this process, and is read as plain bytes, for which every
        // value is valid. What remains is another process that changes or truncates the file meanwhile: bytes
        // then change under a reader, or the process is stopped by the system, as with every program that maps
        // checkpoints. This program itself never opens an input for writing, and its own outputs come into
        // being under other names.
        let map = unsafe { MmapOptions::new().offset(start).len(len).map(file)? };
        #[cfg(unix)]
        {
            // Advice only: a refusal changes nothing.
            let _ = map.advise(memmap2::Advice::Sequential);
        }
        Ok(Self(Some(map)))
    }
}

impl Deref for TensorBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or(&[])
    }
}
