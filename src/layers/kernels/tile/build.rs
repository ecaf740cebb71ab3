use rayon::prelude::*;
use std::mem::MaybeUninit;

/// A new vector whose chunks are written by tasks: each finds zeros, fresh in its cache.
///
/// Zeros for the whole at once would go through memory twice.
pub(in super::super) fn build<T: Copy + Default + Send>(
    size: usize,
    chunk: usize,
    write: impl Fn(usize, &mut [T]) + Sync,
) -> Vec<T> {
    // SAFETY: every element is written before `write` sees it.
    unsafe {
        build_unset(size, chunk, |index, chunk| {
            chunk.fill(MaybeUninit::new(T::default()));
            write(index, &mut *(std::ptr::from_mut(chunk) as *mut [T]));
        })
    }
}

/// Memory that is written from its start on, and was perhaps never written before.
pub(in super::super) struct Fresh<'a> {
    to: &'a mut [MaybeUninit<f32>],
    filled: usize,
}

impl<'a> Fresh<'a> {
    /// Writes over what was there.
    pub(in super::super) fn over(old: &'a mut [f32]) -> Self {
        // SAFETY: the layout is that of the elements, and only elements are ever written.
        let to = unsafe { &mut *(std::ptr::from_mut(old) as *mut [MaybeUninit<f32>]) };
        Self { to, filled: 0 }
    }

    /// How many elements it has, written or not.
    pub(in super::super) fn len(&self) -> usize {
        self.to.len()
    }

    /// Whether every element was written.
    pub(in super::super) fn is_full(&self) -> bool {
        self.filled == self.to.len()
    }

    /// Writes what comes next, as far as there is room.
    #[inline(always)]
    pub(in super::super) fn extend(&mut self, values: impl Iterator<Item = f32>) {
        let mut count = 0;
        for (to, value) in self.to[self.filled..].iter_mut().zip(values) {
            to.write(value);
            count += 1;
        }
        self.filled += count;
    }
}

/// A new vector whose chunks are written by tasks, each from its start to its end; nothing clears them before.
///
/// # Panics
///
/// Panics when a task leaves a part of its chunk as it was.
pub(in super::super) fn build_fresh(
    size: usize,
    chunk: usize,
    write: impl Fn(usize, &mut Fresh<'_>) + Sync,
) -> Vec<f32> {
    // SAFETY: that every element was written, and of this chunk, is asserted.
    unsafe {
        build_unset(size, chunk, |index, chunk| {
            let start = chunk.as_ptr();
            let mut fresh = Fresh { to: chunk, filled: 0 };
            write(index, &mut fresh);
            assert!(
                fresh.is_full() && std::ptr::eq(fresh.to.as_ptr(), start),
                "a task wrote a part of its chunk"
            );
        })
    }
}

/// A new vector whose chunks are written by tasks, which find them as they happen to be.
///
/// # Safety
///
/// `write` writes every element of each chunk.
pub(super) unsafe fn build_unset<T: Send>(
    size: usize,
    chunk: usize,
    write: impl Fn(usize, &mut [MaybeUninit<T>]) + Sync,
) -> Vec<T> {
    let mut values = Vec::with_capacity(size);
    let chunks = values.spare_capacity_mut()[..size].par_chunks_mut(chunk.max(1));
    chunks.enumerate().for_each(|(index, chunk)| {
        // What is left as it was shows in tests: every bit set is no number.
        #[cfg(test)]
        // SAFETY: any bytes may be written to what is not yet initialized.
        unsafe {
            chunk.as_mut_ptr().write_bytes(0xff, chunk.len());
        }
        write(index, chunk);
    });
    // SAFETY: the chunks cover `size` elements of the capacity, and all were written.
    unsafe { values.set_len(size) };
    values
}

/// Two new vectors of one size, written as [`build`] does.
pub(in super::super) fn build_two<T: Copy + Default + Send>(
    size: usize,
    chunk: usize,
    write: impl Fn(usize, &mut [T], &mut [T]) + Sync,
) -> (Vec<T>, Vec<T>) {
    let (mut first, mut second) = (Vec::with_capacity(size), Vec::with_capacity(size));
    first.spare_capacity_mut()[..size]
        .par_chunks_mut(chunk.max(1))
        .zip(second.spare_capacity_mut()[..size].par_chunks_mut(chunk.max(1)))
        .enumerate()
        .for_each(|(index, (first, second))| {
            first.fill(MaybeUninit::new(T::default()));
            second.fill(MaybeUninit::new(T::default()));
            // SAFETY: every element was just written, and `MaybeUninit` has its element's layout.
            let (first, second) = unsafe {
                (
                    &mut *(std::ptr::from_mut(first) as *mut [T]),
                    &mut *(std::ptr::from_mut(second) as *mut [T]),
                )
            };
            write(index, first, second);
        });
    // SAFETY: the chunks cover `size` elements of each capacity, and all were written.
    unsafe {
        first.set_len(size);
        second.set_len(size);
    }
    (first, second)
}

/// Tells the allocator to keep freed memory for the next tensors.
///
/// glibc gives large blocks back to the system and asks for them again, and the system clears every page of theirs: more
/// work than most of a small network's layers. Of use where tensors of the same sizes come and go, as in training; the
/// process does not shrink afterwards. Does nothing with other allocators.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `mallopt` changes parameters of the allocator, from any thread.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 30);
        libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
        libc::mallopt(libc::M_TOP_PAD, 64 << 20);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_written_to_their_ends() {
        let squares = |index: usize, to: &mut Fresh<'_>| {
            let first = index * 5;
            to.extend((first..first + 2).map(|i| (i * i) as f32));
            // More than there is room for is not written.
            to.extend((first + 2..first + 9).map(|i| (i * i) as f32));
        };
        let expected: Vec<f32> = (0..13).map(|i| (i * i) as f32).collect();
        assert_eq!(build_fresh(13, 5, squares), expected);
        assert!(build_fresh(0, 5, squares).is_empty());
    }

    #[test]
    #[should_panic = "a task wrote a part of its chunk"]
    fn a_chunk_that_is_left_as_it_was_is_refused() {
        build_fresh(4, 4, |_, to| to.extend([1.0; 3].into_iter()));
    }

    #[test]
    #[should_panic = "a task wrote a part of its chunk"]
    fn another_chunk_in_its_place_is_refused() {
        build_fresh(2, 2, |_, to| {
            *to = Fresh::over(Box::leak(Box::new([0.0; 2])));
            to.extend([1.0; 2].into_iter());
        });
    }
}
