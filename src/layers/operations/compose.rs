//! What candle's operations need around them: its rectifier has a gradient at zero, its sums read columns, and its
//! convolutions take one stride, one padding and one dilation for both axes.
//!
//! | file | what |
//! | --- | --- |
//! | `convolution` | convolutions and their gradients: as products of what the taps read, or candle's own |
//! | `depthwise` | those whose channels are groups of their own |
//! | `uneven` | candle's convolutions, for strides, paddings and dilations that differ by axis |
//! | `taps` | what each element of a kernel reads of an input, and the way back |

mod convolution;
mod depthwise;
mod taps;
mod uneven;

pub(super) use convolution::{convolution, convolution_backward_input, convolution_backward_kernel};
pub(super) use taps::{put_back, taps};

use candle_core::{DType, Result, Tensor};

/// `max(x, 0)`, whose gradient at zero is zero; what is no number stays none.
pub(super) fn rectified(xs: &Tensor) -> Result<Tensor> {
    let zeros = xs.zeros_like()?;
    xs.le(&zeros)?.where_cond(&zeros, xs)
}

/// A gradient where a rectifier's result is more than zero.
pub(super) fn rectified_gradient(ys: &Tensor, dy: &Tensor) -> Result<Tensor> {
    ys.gt(&ys.zeros_like()?)?.where_cond(dy, &dy.zeros_like()?)
}

/// The sum over all axes but the second, in f32 at least.
pub(super) fn sum_per_channel(xs: &Tensor) -> Result<Tensor> {
    let (b, c) = (xs.dim(0)?, xs.dim(1)?);
    let xs = wide(xs)?;
    let is_flat = xs.elem_count() == b * c;
    let sums = if is_flat { xs.reshape((b, c))? } else { xs.reshape((b, c, ()))?.sum(2)? };
    // A product reads its rows as they lie; candle's sum would read each column.
    Tensor::ones((1, b), sums.dtype(), sums.device())?.matmul(&sums)?.squeeze(0)
}

/// The inner products of rows over samples and positions, `(b, m, p)` and `(b, n, p)` -> `(m, n)`, in f32 at least.
fn inner_products(one: &Tensor, other: &Tensor) -> Result<Tensor> {
    let ((b, m, p), n) = (one.dims3()?, other.dim(1)?);
    if m * n <= p * (m + n) {
        // each sample's, and their sum
        let products = wide(&one.matmul(&other.t()?)?)?.reshape((b, m * n))?;
        return Tensor::ones((1, b), products.dtype(), products.device())?.matmul(&products)?.reshape((m, n));
    }
    // (b, m, p) -> (m, b p): there are fewer elements to bring together than products to add up
    let [one, other] =
        [(one, m), (other, n)].map(|(rows, count)| rows.transpose(0, 1)?.reshape((count, b * p)));
    wide(&one?.matmul(&other?.t()?)?)
}

/// In f32 where there would be fewer bits.
pub(super) fn wide(xs: &Tensor) -> Result<Tensor> {
    if xs.dtype() == DType::F64 { Ok(xs.clone()) } else { xs.to_dtype(DType::F32) }
}
