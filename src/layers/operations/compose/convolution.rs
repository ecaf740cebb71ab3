use super::taps::{inner, padded, placed, read_tap, spread, sum, tap_columns};
use super::{depthwise, inner_products, uneven};
use crate::layers::Geometry;
use candle_core::{Result, Tensor};

/// A convolution of any geometry, differentiable by candle on any device.
pub(in super::super) fn convolution(g: &Geometry, xs: &Tensor, kernel: &Tensor) -> Result<Tensor> {
    match Way::of(g) {
        Way::Depthwise => depthwise::forward(g, xs, kernel),
        Way::Before => taps_before_product(g, xs, kernel),
        Way::After => taps_after_product(g, xs, kernel),
        Way::Candle => uneven::by_candle(g, xs, kernel),
    }
}

/// The gradient of the input of a convolution, of one group or by channel: the convolution of the output's gradient, zeros between its
/// elements where there is a stride, with the kernel turned around.
pub(in super::super) fn convolution_backward_input(
    g: &Geometry,
    dy: &Tensor,
    kernel: &Tensor,
) -> Result<Tensor> {
    if g.is_depthwise() {
        return depthwise::backward_input(g, dy, kernel);
    }
    let turned = kernel.transpose(0, 1)?.contiguous()?;
    // One tap sees no zeros between elements: they are put between the fewer elements of what it makes.
    let is_tap = g.kernel == [1; 2];
    let turned = if is_tap { turned } else { turned.flip(&[2, 3])?.contiguous()? };
    let span = [0, 1].map(|axis| g.dilation[axis] * (g.kernel[axis] - 1));
    // As many rows as windows reach, and those that none reaches.
    let spread = |xs: Tensor| -> Result<Tensor> {
        let mut xs = xs;
        for (axis, span) in span.into_iter().enumerate() {
            let reached = (g.output[axis] - 1) * g.stride[axis] + 1;
            let unreached = g.input[axis] + 2 * g.padding[axis] - span - reached;
            xs = spread(&xs, 2 + axis, g.stride[axis])?.pad_with_zeros(2 + axis, 0, unreached)?;
        }
        Ok(xs)
    };
    let mut dy = if is_tap { dy.clone() } else { spread(dy.clone())? };
    let mut padding = [0; 2];
    for axis in 0..2 {
        padding[axis] = span[axis].saturating_sub(g.padding[axis]);
        let beyond = g.padding[axis].saturating_sub(span[axis]);
        if beyond > 0 && !is_tap {
            dy = dy.narrow(2 + axis, beyond, dy.dim(2 + axis)? - 2 * beyond)?;
        }
    }
    let back = Geometry::new(dy.dims(), turned.dims(), [1; 2], padding, g.dilation, 1)?;
    let dx = convolution(&back, &dy.contiguous()?, &turned)?;
    if !is_tap {
        return Ok(dx);
    }
    let dx = spread(dx)?;
    dx.narrow(2, g.padding[0], g.input[0])?.narrow(3, g.padding[1], g.input[1])?.contiguous()
}

/// The gradient of the kernel of a convolution, of one group or by channel.
pub(in super::super) fn convolution_backward_kernel(
    g: &Geometry,
    xs: &Tensor,
    dy: &Tensor,
) -> Result<Tensor> {
    let ([o, c, kh, kw], taps) = (g.kernel_shape(), g.kernel[0] * g.kernel[1]);
    match Way::of(g) {
        Way::Before => {
            // (b, o, p) (b, taps c, p) -> (o, taps, c)
            inner_products(&dy.flatten_from(2)?, &tap_columns(g, xs)?)?
                .reshape((o, taps, c))?
                .transpose(1, 2)?
                .contiguous()?
                .reshape((o, c, kh, kw))
        }
        Way::After => {
            // (b, taps o, h w) (b, c, h w) -> (taps, o, c)
            let parts: Vec<Tensor> =
                (0..taps).map(|tap| inner(g, &placed(g, dy, tap)?)).collect::<Result<_>>()?;
            let parts = Tensor::cat(&parts, 1)?.flatten_from(2)?;
            inner_products(&parts, &xs.contiguous()?.flatten_from(2)?)?
                .reshape((taps, o, c))?
                .permute((1, 2, 0))?
                .contiguous()?
                .reshape((o, c, kh, kw))
        }
        Way::Depthwise => depthwise::backward_kernel(g, xs, dy),
        // The convolution of the input with the output's gradient, where channels are samples, and stride and dilation each
        // other.
        Way::Candle => {
            let (xs, dy) = (xs.transpose(0, 1)?.contiguous()?, dy.transpose(0, 1)?.contiguous()?);
            let turned = Geometry::new(xs.dims(), dy.dims(), g.dilation, g.padding, g.stride, 1)?;
            let found = uneven::by_candle(&turned, &xs, &dy)?;
            found.narrow(2, 0, kh)?.narrow(3, 0, kw)?.transpose(0, 1)?.contiguous()
        }
    }
}

/// Taps that are read one by one: each takes a few operations of its own.
const MOST_TAPS: usize = 9;

/// How a convolution is composed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Candle's own: a column of each window's elements, times the kernel.
    Candle,
    /// What the taps read, times the kernel: where the output has many channels for the input's, as the last factor's.
    Before,
    /// The input times all taps' weights, and then what the taps read of that: where the output has few channels, as the
    /// first factor's.
    After,
    /// Each tap times its weights.
    Depthwise,
}

impl Way {
    fn of(g: &Geometry) -> Self {
        let taps = g.kernel[0] * g.kernel[1];
        if g.is_depthwise() {
            Self::Depthwise
        } else if g.groups > 1 {
            Self::Candle
        } else if taps == 1 || taps <= MOST_TAPS && g.in_channels * taps <= 2 * g.out_channels {
            Self::Before
        } else if taps <= MOST_TAPS && g.out_channels * taps <= g.in_channels {
            Self::After
        } else {
            Self::Candle
        }
    }
}

fn taps_before_product(g: &Geometry, xs: &Tensor, kernel: &Tensor) -> Result<Tensor> {
    let [o, c, ..] = g.kernel_shape();
    // (o, taps c) (b, taps c, p) -> (b, o, p)
    let kernel = kernel.reshape((o, c, ()))?.transpose(1, 2)?.contiguous()?.reshape((1, o, ()))?;
    let columns = tap_columns(g, xs)?;
    let kernel = kernel.broadcast_as((g.batch, o, columns.dim(1)?))?;
    kernel.matmul(&columns)?.reshape(&g.output_shape())
}

fn taps_after_product(g: &Geometry, xs: &Tensor, kernel: &Tensor) -> Result<Tensor> {
    let ([o, c, ..], taps) = (g.kernel_shape(), g.kernel[0] * g.kernel[1]);
    // (taps o, c) (b, c, h w) -> (b, taps o, h w)
    let kernel = kernel.reshape((o, c, taps))?.permute((2, 0, 1))?.contiguous()?.reshape((1, taps * o, c))?;
    let products = kernel.broadcast_as((g.batch, taps * o, c))?.matmul(&xs.contiguous()?.flatten_from(2)?)?;
    let products = products.reshape((g.batch, taps * o, g.input[0], g.input[1]))?;
    let read = |tap: usize| read_tap(g, &padded(g, &products.narrow(1, tap * o, o)?)?, tap);
    sum((0..taps).map(read))
}
