/// The instructions that tiles are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Machine {
    /// 32 registers of 16 or 8 lanes.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// 16 registers of 8 lanes.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// What the compiler makes of arrays.
    Portable,
}

impl Machine {
    /// Those that this machine can run, the fastest first.
    pub(super) fn available() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let wide = {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let avx512 = avx2 && is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl");
            [avx512.then_some(Self::Avx512), avx2.then_some(Self::Avx2)]
        };
        #[cfg(not(target_arch = "x86_64"))]
        let wide: [Option<Self>; 0] = [];
        wide.into_iter().flatten().chain([Self::Portable])
    }

    /// The fastest.
    pub(super) fn best() -> Self {
        Self::available().next().unwrap_or(Self::Portable)
    }

    /// Lanes of the vectors that waste the fewest of them on rows of this width.
    pub(super) fn lanes(self, width: usize) -> usize {
        let waste = |lanes: usize| width.div_ceil(lanes) * lanes;
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 if waste(16) * 19 <= waste(8) * 20 => 16,
            _ => 8,
        }
    }

    /// Channels whose sums grow in one tile, at most, where there are so many vectors of outputs.
    pub(super) fn block(self, vectors: usize) -> usize {
        match self {
            // tiles of 6 by 4, where those of 8 by 3 would be left unfilled
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 if vectors.next_multiple_of(3) * 15 > vectors.next_multiple_of(4) * 16 => 6,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => 8,
            _ => 4,
        }
    }

    /// Whether tiles have twice as many sums as 16 registers hold.
    pub(super) fn is_large(self) -> bool {
        self.block(usize::MAX / 32) > 4
    }
}

/// Splits channels into blocks of nearly equal size: first channel and size of each.
pub(super) fn blocks(channels: usize, largest: usize) -> impl Iterator<Item = (usize, usize)> {
    let count = channels.div_ceil(largest).max(1);
    let (size, more) = (channels / count, channels % count);
    (0..count).map(move |b| (b * size + b.min(more), size + usize::from(b < more)))
}
