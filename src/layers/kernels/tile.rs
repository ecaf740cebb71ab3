//! Register tiles: sums of products that stay in registers while they grow, at addresses found in tables.
//!
//! Everything `unsafe` of the room is here. The loops have no bounds to check inside; what they may touch is checked
//! against the slices before they start.

#![expect(unsafe_code, reason = "vectors at addresses from tables, bounds checked once before the loops")]
#![expect(
    clippy::inline_always,
    reason = "a loop gets its instructions from the function it is inlined into"
)]
#![expect(
    clippy::needless_range_loop,
    reason = "loops of known length over registers, which iterators would not unroll"
)]

use super::machine::{Machine, blocks};
use rayon::prelude::*;
use std::array::from_fn;
use std::mem::MaybeUninit;
use std::sync::atomic::{Ordering, compiler_fence};

/// As many floats as one register holds.
trait Vector: Copy {
    const LANES: usize;
    fn splat(value: f32) -> Self;
    /// # Safety
    /// `LANES` floats can be read.
    unsafe fn load(from: *const f32) -> Self;
    /// # Safety
    /// `LANES` floats can be written.
    unsafe fn store(self, to: *mut f32);
    fn multiply_add(self, factor: Self, sum: Self) -> Self;
    /// The sum of the lanes.
    fn total(self) -> f32;
}

macro_rules! x86_vector {
    ($type:ident, $lanes:literal, $splat:ident, $load:ident, $store:ident, $multiply_add:ident, $total:expr) => {
        #[cfg(target_arch = "x86_64")]
        impl Vector for std::arch::x86_64::$type {
            const LANES: usize = $lanes;

            #[inline(always)]
            fn splat(value: f32) -> Self {
                // SAFETY: reached only through `Machine`s found on this machine.
                unsafe { std::arch::x86_64::$splat(value) }
            }

            #[inline(always)]
            unsafe fn load(from: *const f32) -> Self {
                // SAFETY: the caller's; instructions as above.
                unsafe { std::arch::x86_64::$load(from) }
            }

            #[inline(always)]
            unsafe fn store(self, to: *mut f32) {
                // SAFETY: the caller's; instructions as above.
                unsafe { std::arch::x86_64::$store(to, self) }
            }

            #[inline(always)]
            fn multiply_add(self, factor: Self, sum: Self) -> Self {
                // SAFETY: reached only through `Machine`s found on this machine.
                unsafe { std::arch::x86_64::$multiply_add(self, factor, sum) }
            }

            #[inline(always)]
            fn total(self) -> f32 {
                // SAFETY: reached only through `Machine`s found on this machine.
                unsafe { $total(self) }
            }
        }
    };
}
x86_vector!(
    __m512,
    16,
    _mm512_set1_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_fmadd_ps,
    std::arch::x86_64::_mm512_reduce_add_ps
);
x86_vector!(__m256, 8, _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_fmadd_ps, total_of_eight);

/// # Safety
/// The machine has AVX.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn total_of_eight(values: std::arch::x86_64::__m256) -> f32 {
    use std::arch::x86_64::{
        _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_movehl_ps, _mm_shuffle_ps, _mm256_castps256_ps128,
        _mm256_extractf128_ps,
    };
    // SAFETY: the caller's.
    unsafe {
        let four = _mm_add_ps(_mm256_castps256_ps128(values), _mm256_extractf128_ps::<1>(values));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
    }
}

impl Vector for [f32; 8] {
    const LANES: usize = 8;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        [value; 8]
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's; an array is aligned as its elements.
        unsafe { from.cast::<Self>().read() }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's; an array is aligned as its elements.
        unsafe { to.cast::<Self>().write(self) }
    }

    #[inline(always)]
    fn multiply_add(self, factor: Self, sum: Self) -> Self {
        // a fused one would be a call where the machine has no such instruction
        from_fn(|l| self[l] * factor[l] + sum[l])
    }

    #[inline(always)]
    fn total(self) -> f32 {
        let four: [f32; 4] = from_fn(|l| self[l] + self[l + 4]);
        (four[0] + four[2]) + (four[1] + four[3])
    }
}

/// A vector of outputs: neighbours in a row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    /// Where its inputs start in the source, taps at zero.
    pub source: u32,
    /// The plane it belongs to, the first of its sample's.
    pub plane: u32,
    /// Where in the plane the first lane goes.
    pub target: u32,
    /// Lanes that are outputs; the others fall away.
    pub count: u32,
}

/// Sums over taps of `weight * source[spot + tap]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taps<'a> {
    /// Padded planes.
    pub source: &'a [f32],
    /// How far each tap is from the spot, in the source.
    pub offsets: &'a [u32],
    /// The vectors of outputs.
    pub spots: &'a [Spot],
    /// Steps between a spot's outputs in their plane.
    pub step: usize,
    /// The channels of outputs.
    pub blocks: &'a [Block],
    /// What each channel's sums start from; zeros if empty.
    pub start: &'a [f32],
}

/// Channels whose sums grow in one tile.
#[derive(Clone, Debug)]
pub(super) struct Block {
    /// The first of them.
    pub first: usize,
    /// How many there are.
    pub size: usize,
    /// A weight of each for the first tap, then for the second.
    pub weights: Vec<f32>,
}

/// Writes every output of `taps` into the planes, which start with the first block's first channel of the first sample.
pub(super) fn convolve(machine: Machine, lanes: usize, taps: &Taps<'_>, planes: &mut [&mut [f32]]) {
    let Taps { source, offsets, spots, step, blocks, .. } = *taps;
    let (Some(base), Some(last)) = (blocks.first(), blocks.last()) else { return };
    for block in blocks {
        assert!(base.first <= block.first && block.first + block.size <= last.first + last.size);
        assert!((1..=8).contains(&block.size));
        assert_eq!(block.weights.len(), offsets.len() * block.size);
    }
    let channels = last.first + last.size - base.first;
    assert!(u32::try_from(source.len()).is_ok(), "places in a source of {} elements", source.len());
    let farthest = offsets.iter().max().map_or(0, |&offset| offset as usize);
    let size = planes.iter().map(|plane| plane.len()).min().unwrap_or(0);
    for spot in spots {
        assert!(offsets.is_empty() || spot.source as usize + farthest + lanes <= source.len());
        assert!((1..=lanes).contains(&(spot.count as usize)));
        assert!(spot.target as usize + (spot.count as usize - 1) * step < size);
        assert!(spot.plane as usize + channels <= planes.len());
    }
    // SAFETY: what the loops read and write was checked above; the machine runs what `available` found.
    unsafe {
        match (machine, lanes) {
            #[cfg(target_arch = "x86_64")]
            (Machine::Avx512, 16) => convolve_avx512_16(taps, planes),
            #[cfg(target_arch = "x86_64")]
            (Machine::Avx512, 8) => convolve_avx512_8(taps, planes),
            #[cfg(target_arch = "x86_64")]
            (Machine::Avx2, 8) => convolve_avx2(taps, planes),
            (_, 8) => convolve_all::<[f32; 8]>(machine, taps, planes),
            _ => unreachable!("vectors have 8 lanes, or 16 with AVX-512"),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx2,fma")]
unsafe fn convolve_avx512_16(taps: &Taps<'_>, planes: &mut [&mut [f32]]) {
    // SAFETY: the caller's.
    unsafe { convolve_all::<std::arch::x86_64::__m512>(Machine::Avx512, taps, planes) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx2,fma")]
unsafe fn convolve_avx512_8(taps: &Taps<'_>, planes: &mut [&mut [f32]]) {
    // SAFETY: the caller's.
    unsafe { convolve_all::<std::arch::x86_64::__m256>(Machine::Avx512, taps, planes) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn convolve_avx2(taps: &Taps<'_>, planes: &mut [&mut [f32]]) {
    // SAFETY: the caller's.
    unsafe { convolve_all::<std::arch::x86_64::__m256>(Machine::Avx2, taps, planes) }
}

/// # Safety
/// As [`convolve`] checks; inlined into a function with the instructions of `V`.
#[inline(always)]
unsafe fn convolve_all<V: Vector>(machine: Machine, taps: &Taps<'_>, planes: &mut [&mut [f32]]) {
    for block in taps.blocks {
        // SAFETY: the caller's.
        unsafe {
            match block.size {
                1 => convolve_block::<V, 1, 8>(taps, block, planes),
                2 => convolve_block::<V, 2, 5>(taps, block, planes),
                3 => convolve_block::<V, 3, 4>(taps, block, planes),
                4 if !machine.is_large() => convolve_block::<V, 4, 3>(taps, block, planes),
                4 => convolve_block::<V, 4, 6>(taps, block, planes),
                5 => convolve_block::<V, 5, 5>(taps, block, planes),
                6 => convolve_block::<V, 6, 4>(taps, block, planes),
                7 => convolve_block::<V, 7, 3>(taps, block, planes),
                _ => convolve_block::<V, 8, 3>(taps, block, planes),
            }
        }
    }
}

/// # Safety
/// As [`convolve`] checks; inlined into a function with the instructions of `V`.
#[inline(always)]
unsafe fn convolve_block<V: Vector, const M: usize, const N: usize>(
    taps: &Taps<'_>,
    block: &Block,
    planes: &mut [&mut [f32]],
) {
    let weights = block.weights.as_ptr();
    let start: [f32; M] = from_fn(|m| taps.start.get(block.first + m).copied().unwrap_or(0.0));
    let first = block.first - taps.blocks[0].first;
    let source = taps.source.as_ptr();
    for chunk in taps.spots.chunks(N) {
        // the last ones are computed twice where the chunk is short
        let spots: [Spot; N] = from_fn(|n| chunk[n.min(chunk.len() - 1)]);
        let mut sums = [[V::splat(0.0); N]; M];
        for m in 0..M {
            for n in 0..N {
                sums[m][n] = V::splat(start[m]);
            }
        }
        // SAFETY: spots and offsets end inside the source; there are `M` weights for each offset.
        unsafe {
            let bases: [*const f32; N] = from_fn(|n| source.wrapping_add(spots[n].source as usize));
            let mut weight = weights;
            for &offset in taps.offsets {
                let mut values = [V::splat(0.0); N];
                for n in 0..N {
                    values[n] = V::load(bases[n].add(offset as usize));
                }
                for m in 0..M {
                    let factor = V::splat(*weight.add(m));
                    for n in 0..N {
                        sums[m][n] = values[n].multiply_add(factor, sums[m][n]);
                    }
                }
                weight = weight.add(M);
            }
        }
        let whole = taps.step == 1 && spots.iter().all(|spot| spot.count as usize == V::LANES);
        // SAFETY: the planes hold the spots' outputs.
        unsafe {
            if whole {
                for m in 0..M {
                    for n in 0..N {
                        let plane = planes.get_unchecked_mut(spots[n].plane as usize + first + m);
                        sums[m][n].store(plane.as_mut_ptr().add(spots[n].target as usize));
                    }
                }
            } else {
                let mut lanes = [[[0.0f32; 16]; N]; M];
                for m in 0..M {
                    for n in 0..N {
                        sums[m][n].store(lanes[m][n].as_mut_ptr());
                    }
                }
                for (m, lanes) in lanes.iter().enumerate() {
                    for (spot, lanes) in spots.iter().zip(lanes) {
                        let plane = planes.get_unchecked_mut(spot.plane as usize + first + m);
                        let to = plane.as_mut_ptr().add(spot.target as usize);
                        for (l, &lane) in lanes.iter().take(spot.count as usize).enumerate() {
                            *to.add(l * taps.step) = lane;
                        }
                    }
                }
            }
        }
    }
}

/// Sums over spots of `source[spot + tap] * gradient[spot]`, for every tap and channel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Correlation<'a> {
    /// Padded planes.
    pub source: &'a [f32],
    /// How far each tap is from the spot, in the source.
    pub offsets: &'a [u32],
    /// Planes of the gradient; lanes behind the end of a row hold zeros.
    pub gradient: &'a [f32],
    /// Elements from one channel of the gradient to the next.
    pub plane: usize,
    /// Where vectors start: in the source, and in the first channel of the gradient.
    pub spots: &'a [(u32, u32)],
    /// The channels of the gradient.
    pub channels: usize,
}

/// Taps and channels whose sums grow in one tile.
const TAPS: usize = 6;
const CHANNELS: usize = 4;

/// Adds the sums to `sums`, shape `(channels, taps)`.
pub(super) fn correlate(machine: Machine, lanes: usize, work: &Correlation<'_>, sums: &mut [f32]) {
    let Correlation { source, offsets, gradient, plane, spots, channels } = *work;
    if spots.is_empty() || channels == 0 || offsets.is_empty() {
        return;
    }
    assert_eq!(sums.len(), channels * offsets.len());
    assert!(u32::try_from(source.len().max(gradient.len())).is_ok(), "places in {} elements", source.len());
    let farthest = offsets.iter().max().map_or(0, |&offset| offset as usize);
    for &(from, to) in spots {
        assert!(from as usize + farthest + lanes <= source.len());
        assert!(to as usize + (channels - 1) * plane + lanes <= gradient.len());
    }
    // SAFETY: what the loops read was checked above; the machine runs what `available` found.
    unsafe {
        match (machine, lanes) {
            #[cfg(target_arch = "x86_64")]
            (Machine::Avx512, 16) => correlate_avx512_16(work, sums),
            #[cfg(target_arch = "x86_64")]
            (Machine::Avx512, 8) => correlate_avx512_8(work, sums),
            #[cfg(target_arch = "x86_64")]
            (Machine::Avx2, 8) => correlate_avx2(work, sums),
            (_, 8) => correlate_all::<[f32; 8], 3>(work, sums),
            _ => unreachable!("vectors have 8 lanes, or 16 with AVX-512"),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx2,fma")]
unsafe fn correlate_avx512_16(work: &Correlation<'_>, sums: &mut [f32]) {
    // SAFETY: the caller's.
    unsafe { correlate_all::<std::arch::x86_64::__m512, TAPS>(work, sums) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx2,fma")]
unsafe fn correlate_avx512_8(work: &Correlation<'_>, sums: &mut [f32]) {
    // SAFETY: the caller's.
    unsafe { correlate_all::<std::arch::x86_64::__m256, TAPS>(work, sums) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn correlate_avx2(work: &Correlation<'_>, sums: &mut [f32]) {
    // SAFETY: the caller's.
    unsafe { correlate_all::<std::arch::x86_64::__m256, 3>(work, sums) }
}

/// # Safety
/// As [`correlate`] checks; inlined into a function with the instructions of `V`.
#[inline(always)]
unsafe fn correlate_all<V: Vector, const K: usize>(work: &Correlation<'_>, sums: &mut [f32]) {
    for tap in (0..work.offsets.len()).step_by(K) {
        for (first, size) in blocks(work.channels, CHANNELS) {
            // SAFETY: the caller's.
            unsafe {
                match size {
                    1 => correlate_block::<V, 1, K>(work, first, tap, sums),
                    2 => correlate_block::<V, 2, K>(work, first, tap, sums),
                    3 => correlate_block::<V, 3, K>(work, first, tap, sums),
                    _ => correlate_block::<V, CHANNELS, K>(work, first, tap, sums),
                }
            }
        }
    }
}

/// # Safety
/// As [`correlate`] checks; inlined into a function with the instructions of `V`.
#[inline(always)]
unsafe fn correlate_block<V: Vector, const M: usize, const K: usize>(
    work: &Correlation<'_>,
    first: usize,
    tap: usize,
    sums: &mut [f32],
) {
    let offsets = &work.offsets[tap..];
    let taps = offsets.len().min(K);
    let mut totals = [[V::splat(0.0); K]; M];
    // SAFETY: spots with every offset and every channel end inside the slices.
    unsafe {
        // the last tap is computed more than once where few are left
        let sources: [*const f32; K] =
            from_fn(|k| work.source.as_ptr().add(offsets[k.min(taps - 1)] as usize));
        let gradients: [*const f32; M] = from_fn(|m| work.gradient.as_ptr().add((first + m) * work.plane));
        for &(from, to) in work.spots {
            let mut slopes = [V::splat(0.0); M];
            for m in 0..M {
                slopes[m] = V::load(gradients[m].add(to as usize));
            }
            for k in 0..K {
                let value = V::load(sources[k].add(from as usize));
                // one after the other: loaded together, they would take the registers of the sums
                compiler_fence(Ordering::SeqCst);
                for m in 0..M {
                    totals[m][k] = value.multiply_add(slopes[m], totals[m][k]);
                }
            }
        }
    }
    let mut finished = [[0.0; K]; M];
    for m in 0..M {
        for k in 0..K {
            finished[m][k] = totals[m][k].total();
        }
    }
    for m in 0..M {
        for k in 0..taps {
            sums[(first + m) * work.offsets.len() + tap + k] += finished[m][k];
        }
    }
}

/// A new vector whose chunks are written by tasks: each finds zeros, fresh in its cache.
///
/// Zeros for the whole at once would go through memory twice.
pub(super) fn build<T: Copy + Default + Send>(
    size: usize,
    chunk: usize,
    write: impl Fn(usize, &mut [T]) + Sync,
) -> Vec<T> {
    let mut values = Vec::with_capacity(size);
    values.spare_capacity_mut()[..size].par_chunks_mut(chunk.max(1)).enumerate().for_each(
        |(index, chunk)| {
            chunk.fill(MaybeUninit::new(T::default()));
            // SAFETY: every element was just written, and `MaybeUninit` has its element's layout.
            let chunk = unsafe { &mut *(std::ptr::from_mut(chunk) as *mut [T]) };
            write(index, chunk);
        },
    );
    // SAFETY: the chunks cover `size` elements of the capacity, and all were written.
    unsafe { values.set_len(size) };
    values
}

/// Two new vectors of one size, written as [`build`] does.
pub(super) fn build_two<T: Copy + Default + Send>(
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
