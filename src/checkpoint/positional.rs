//! Reading and writing at an offset, without a shared position: several threads use one file.

use std::{fs::File, io};

/// Bytes copied at a time where the kernel doesn't do it.
pub(crate) const CHUNK: usize = 1 << 20;

/// Which side of a copy failed.
#[derive(Debug)]
pub(crate) enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

/// Gives a file its size, with its blocks where the system can, so that a full disk shows at once.
pub(crate) fn reserve(file: &File, size: u64) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    {
        use rustix::{
            fs::{FallocateFlags, fallocate},
            io::Errno,
        };
        loop {
            match fallocate(file, FallocateFlags::empty(), 0, size) {
                Ok(()) => return Ok(()),
                Err(Errno::INTR) => {}
                // This file system has no such thing.
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => break,
                Err(error) => return Err(error.into()),
            }
        }
    }
    file.set_len(size)
}

/// Writes all bytes at an offset.
#[cfg(unix)]
pub(crate) fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

/// Writes all bytes at an offset.
#[cfg(windows)]
pub(crate) fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_write(file, bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                bytes = bytes.get(count..).unwrap_or_default();
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Fills a buffer from an offset.
#[cfg(unix)]
fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

/// Fills a buffer from an offset.
#[cfg(windows)]
fn read_exact_at(file: &File, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, buffer, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                buffer = buffer.get_mut(count..).unwrap_or_default();
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Copies a range of one file into another: in the kernel, or in chunks.
pub(crate) fn copy(
    from: &File,
    from_offset: u64,
    to: &File,
    to_offset: u64,
    len: u64,
) -> Result<(), CopyError> {
    let mut done = copy_in_kernel(from, from_offset, to, to_offset, len);
    let mut buffer = vec![0u8; CHUNK.min((len - done) as usize)];
    while done < len {
        let count = (len - done).min(buffer.len() as u64) as usize;
        let chunk = buffer.get_mut(..count).unwrap_or_default();
        read_exact_at(from, chunk, from_offset + done).map_err(CopyError::Read)?;
        write_all_at(to, chunk, to_offset + done).map_err(CopyError::Write)?;
        done += count as u64;
    }
    Ok(())
}

/// Lets the kernel copy as much as it will; returns how far it came. Chunks do the rest, and meet its errors.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn copy_in_kernel(from: &File, from_offset: u64, to: &File, to_offset: u64, len: u64) -> u64 {
    /// The kernel's own limit for one call is slightly below 2 GiB.
    const MOST: u64 = 1 << 30;
    let (mut source, mut target) = (from_offset, to_offset);
    let mut done = 0;
    while done < len {
        let count = (len - done).min(MOST) as usize;
        match rustix::fs::copy_file_range(from, Some(&mut source), to, Some(&mut target), count) {
            Ok(0) => break,
            Ok(count) => done += count as u64,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => break,
        }
    }
    done
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn copy_in_kernel(_: &File, _: u64, _: &File, _: u64, _: u64) -> u64 {
    0
}
