use super::super::machine::{Machine, blocks};
use super::vector::Vector;
use std::array::from_fn;
use std::sync::atomic::{Ordering, compiler_fence};

/// Sums over spots of `source[spot + tap] * gradient[spot]`, for every tap and channel.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Correlation<'a> {
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
pub(in super::super) fn correlate(machine: Machine, lanes: usize, work: &Correlation<'_>, sums: &mut [f32]) {
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
