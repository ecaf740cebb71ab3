use super::sum_per_channel;
use super::taps::{padded, put_back, sum, taps};
use crate::layers::Geometry;
use candle_core::{Result, Tensor};

/// A convolution whose channels are groups of their own: the sum of what its taps read, each times its weights. Candle would
/// run one convolution for each group.
pub(super) fn forward(g: &Geometry, xs: &Tensor, kernel: &Tensor) -> Result<Tensor> {
    let taps = taps(g, &padded(g, xs)?)?;
    let terms = taps.iter().enumerate().map(|(tap, xs)| xs.broadcast_mul(&tap_weights(kernel, tap)?));
    sum(terms)
}

/// The gradient of the input of a depthwise convolution.
pub(super) fn backward_input(g: &Geometry, dy: &Tensor, kernel: &Tensor) -> Result<Tensor> {
    let taps = 0..g.kernel[0] * g.kernel[1];
    put_back(g, taps.map(|tap| dy.broadcast_mul(&tap_weights(kernel, tap)?)))
}

/// The gradient of the kernel of a depthwise convolution.
pub(super) fn backward_kernel(g: &Geometry, xs: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let taps = taps(g, &padded(g, xs)?)?;
    let of_tap = |xs: &Tensor| sum_per_channel(&(xs * dy)?);
    let found: Vec<Tensor> = taps.iter().map(of_tap).collect::<Result<_>>()?;
    Tensor::stack(&found, 1)?.reshape(&g.kernel_shape())
}

/// The weights of one tap of a depthwise kernel, `(1, c, 1, 1)`.
fn tap_weights(kernel: &Tensor, tap: usize) -> Result<Tensor> {
    let c = kernel.dim(0)?;
    kernel.reshape((c, ()))?.narrow(1, tap, 1)?.reshape((1, c, 1, 1))
}
