use std::array::from_fn;

/// As many floats as one register holds.
pub(super) trait Vector: Copy {
    const LANES: usize;
    fn splat(value: f32) -> Self;
    /// # Safety
    /// `LANES` floats can be read.
    unsafe fn load(from: *const f32) -> Self;
    /// # Safety
    /// `LANES` floats can be written.
    unsafe fn store(self, to: *mut f32);
    fn multiply_add(self, factor: Self, sum: Self) -> Self;
    fn add(self, other: Self) -> Self;
    fn subtract(self, other: Self) -> Self;
    /// The sum of the lanes.
    fn total(self) -> f32;
}

/// A register of eight floats.
pub(super) trait Eight: Vector {
    /// Lane `i` of vector `j` becomes lane `j` of vector `i`.
    fn transpose(rows: [Self; 8]) -> [Self; 8];
}

macro_rules! x86_vector {
    ($type:ident, $lanes:literal, $splat:ident, $load:ident, $store:ident, $multiply_add:ident, $add:ident, $subtract:ident, $total:expr) => {
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
            fn add(self, other: Self) -> Self {
                // SAFETY: reached only through `Machine`s found on this machine.
                unsafe { std::arch::x86_64::$add(self, other) }
            }

            #[inline(always)]
            fn subtract(self, other: Self) -> Self {
                // SAFETY: reached only through `Machine`s found on this machine.
                unsafe { std::arch::x86_64::$subtract(self, other) }
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
    _mm512_add_ps,
    _mm512_sub_ps,
    std::arch::x86_64::_mm512_reduce_add_ps
);
x86_vector!(
    __m256,
    8,
    _mm256_set1_ps,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_fmadd_ps,
    _mm256_add_ps,
    _mm256_sub_ps,
    total_of_eight
);

#[cfg(target_arch = "x86_64")]
impl Eight for std::arch::x86_64::__m256 {
    #[inline(always)]
    fn transpose(rows: [Self; 8]) -> [Self; 8] {
        use std::arch::x86_64::{
            _mm256_permute2f128_ps, _mm256_shuffle_ps, _mm256_unpackhi_ps, _mm256_unpacklo_ps,
        };
        // SAFETY: reached only through `Machine`s found on this machine.
        unsafe {
            // pairs of rows, then of pairs, then of halves
            let mut pairs = rows;
            for i in 0..4 {
                let (a, b) = (rows[2 * i], rows[2 * i + 1]);
                (pairs[2 * i], pairs[2 * i + 1]) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
            }
            let mut fours = pairs;
            for i in 0..4 {
                let (a, b) = (pairs[i / 2 * 4 + i % 2], pairs[i / 2 * 4 + i % 2 + 2]);
                let first = i / 2 * 4 + i % 2 * 2;
                fours[first] = _mm256_shuffle_ps::<0x44>(a, b);
                fours[first + 1] = _mm256_shuffle_ps::<0xee>(a, b);
            }
            let mut columns = fours;
            for i in 0..4 {
                let (a, b) = (fours[i], fours[i + 4]);
                columns[i] = _mm256_permute2f128_ps::<0x20>(a, b);
                columns[i + 4] = _mm256_permute2f128_ps::<0x31>(a, b);
            }
            columns
        }
    }
}

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
    fn add(self, other: Self) -> Self {
        from_fn(|l| self[l] + other[l])
    }

    #[inline(always)]
    fn subtract(self, other: Self) -> Self {
        from_fn(|l| self[l] - other[l])
    }

    #[inline(always)]
    fn total(self) -> f32 {
        let four: [f32; 4] = from_fn(|l| self[l] + self[l + 4]);
        (four[0] + four[2]) + (four[1] + four[3])
    }
}

impl Eight for [f32; 8] {
    #[inline(always)]
    fn transpose(rows: [Self; 8]) -> [Self; 8] {
        from_fn(|i| from_fn(|j| rows[j][i]))
    }
}
