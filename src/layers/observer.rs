use super::geometry::Geometry;
use candle_core::{Result, Tensor, TensorId};
use std::fmt;

/// Sees what goes into dense layers while a computation runs, and the gradients of what comes out of them while it runs
/// backwards. A layer is told by its weight.
pub trait Observer: fmt::Debug {
    /// What a layer is applied to; the geometry is a convolution's.
    ///
    /// # Errors
    ///
    /// - a device that fails
    fn input(&self, weight: TensorId, input: &Tensor, geometry: Option<&Geometry>) -> Result<()>;

    /// The gradient of what a layer gave.
    ///
    /// # Errors
    ///
    /// - a device that fails
    fn gradient(&self, weight: TensorId, gradient: &Tensor) -> Result<()>;
}
