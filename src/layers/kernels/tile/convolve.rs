use super::super::machine::Machine;
use super::vector::Vector;
use std::array::from_fn;

/// A vector of outputs: neighbours in a row.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Spot {
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
pub(in super::super) struct Taps<'a> {
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
pub(in super::super) struct Block {
    /// The first of them.
    pub first: usize,
    /// How many there are.
    pub size: usize,
    /// A weight of each for the first tap, then for the second.
    pub weights: Vec<f32>,
}

/// Writes every output of `taps` into the planes, which start with the first block's first channel of the first sample.
pub(in super::super) fn convolve(machine: Machine, lanes: usize, taps: &Taps<'_>, planes: &mut [&mut [f32]]) {
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
