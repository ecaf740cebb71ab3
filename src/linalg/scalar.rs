//! The two number types that a weight may have here.

use faer::traits::RealField;

use super::kernels::FourColumns;

mod sealed {
    pub trait Sealed: super::FourColumns {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// A real number type that a matrix of this module holds: `f32` or `f64`.
///
/// Half-precision weights are widened to `f32` before they come here. The trait is sealed.
///
/// # Examples
/// ```
/// use fnl::linalg::Scalar;
/// assert_eq!(f32::from_f64(0.5).to_f64(), 0.5);
/// assert!(f32::PRECISION > f64::PRECISION);
/// ```
pub trait Scalar: RealField + Copy + Send + Sync + sealed::Sealed + 'static {
    /// The distance from 1 to the next larger number.
    const PRECISION: f64;
    /// Products of magnitudes up to this, summed over any matrix that fits in memory, stay finite; those of
    /// magnitudes down to its reciprocal stay normal.
    const SAFE_MAGNITUDE: f64;

    /// Widens to `f64`, exactly.
    fn to_f64(self) -> f64;
    /// Rounds from `f64`, to nearest.
    fn from_f64(value: f64) -> Self;
    /// `self * factor + term`, rounded once.
    #[must_use]
    fn fused(self, factor: Self, term: Self) -> Self;
}

#[expect(clippy::inline_always, reason = "instructions are chosen by the caller")]
impl Scalar for f32 {
    const PRECISION: f64 = f32::EPSILON as f64;
    const SAFE_MAGNITUDE: f64 = 1e6;

    #[inline]
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
    #[inline]
    fn from_f64(value: f64) -> Self {
        value as f32
    }
    #[inline(always)]
    fn fused(self, factor: Self, term: Self) -> Self {
        self.mul_add(factor, term)
    }
}

#[expect(clippy::inline_always, reason = "instructions are chosen by the caller")]
impl Scalar for f64 {
    const PRECISION: f64 = f64::EPSILON;
    const SAFE_MAGNITUDE: f64 = 1e60;

    #[inline]
    fn to_f64(self) -> f64 {
        self
    }
    #[inline]
    fn from_f64(value: f64) -> Self {
        value
    }
    #[inline(always)]
    fn fused(self, factor: Self, term: Self) -> Self {
        self.mul_add(factor, term)
    }
}
