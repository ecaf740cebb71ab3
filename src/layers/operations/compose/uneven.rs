use super::taps::{every, spread};
use crate::layers::Geometry;
use candle_core::{Result, Tensor};

/// A convolution of any geometry by candle's own: a column of each window's elements, times the kernel.
pub(super) fn by_candle(g: &Geometry, xs: &Tensor, kernel: &Tensor) -> Result<Tensor> {
    let [kh, kw] = g.kernel;
    let (mut stride, mut dilation) = (g.stride, g.dilation);
    let (mut xs, mut kernel) = (xs.clone(), kernel.clone());
    // With one tap, a dilation says nothing, and a stride only leaves rows out.
    for (axis, taps) in [kh, kw].into_iter().enumerate() {
        if taps == 1 {
            dilation[axis] = dilation[1 - axis];
        }
    }
    let padding = if g.padding[0] == g.padding[1] {
        g.padding[0]
    } else {
        for axis in 0..2 {
            if g.padding[axis] > 0 {
                xs = xs.pad_with_zeros(2 + axis, g.padding[axis], g.padding[axis])?;
            }
        }
        0
    };
    if dilation[0] != dilation[1] {
        for (axis, step) in dilation.into_iter().enumerate() {
            kernel = spread(&kernel, 2 + axis, step)?;
        }
        dilation = [1; 2];
    }
    if stride[0] != stride[1] {
        if padding == 0 {
            for (axis, taps) in [kh, kw].into_iter().enumerate() {
                if taps == 1 && stride[axis] > 1 {
                    xs = every(&xs, 2 + axis, stride[axis])?;
                    stride[axis] = 1;
                }
            }
        }
        if kh == 1 && stride[0] == 1 && padding == 0 {
            return along_width(&xs, &kernel, stride[1], dilation[1], g.groups);
        }
        if kw == 1 && stride[1] == 1 && padding == 0 {
            let ys = along_width(&xs.t()?, &kernel.t()?, stride[0], dilation[0], g.groups)?;
            return ys.t();
        }
    }
    if stride[0] == stride[1] {
        return even(&xs, &kernel, padding, stride[0], dilation[0], g.groups);
    }
    let ys = even(&xs, &kernel, padding, 1, dilation[0], g.groups)?;
    every(&every(&ys, 2, stride[0])?, 3, stride[1])
}

/// A convolution of one stride, padding and dilation.
///
/// Candle's gradient reads from the height alone how many rows and columns no window reaches, so the input is cut to what
/// windows reach where the two differ.
fn even(
    xs: &Tensor,
    kernel: &Tensor,
    padding: usize,
    stride: usize,
    dilation: usize,
    groups: usize,
) -> Result<Tensor> {
    let mut xs = xs.clone();
    let sizes = [xs.dim(2)?, xs.dim(3)?];
    let mut unreached = [0; 2];
    for axis in 0..2 {
        let span = dilation * (kernel.dim(2 + axis)? - 1) + 1;
        unreached[axis] = (sizes[axis] + 2 * padding - span) % stride;
    }
    let padding = if unreached[0] == unreached[1] && unreached[0] <= sizes[0] {
        padding
    } else {
        for axis in 0..2 {
            let reached = sizes[axis] + 2 * padding - unreached[axis];
            xs = xs.pad_with_zeros(2 + axis, padding, padding)?.narrow(2 + axis, 0, reached)?;
        }
        0
    };
    xs.contiguous()?.conv2d(&kernel.contiguous()?, padding, stride, dilation, groups)
}

/// A `1 x k` convolution of stride 1 down, as one over pictures of a row each, which the stride down leaves alone.
///
/// Candle's own one-dimensional convolutions have wrong gradients on the CPU, so these have two axes.
fn along_width(
    xs: &Tensor,
    kernel: &Tensor,
    stride: usize,
    dilation: usize,
    groups: usize,
) -> Result<Tensor> {
    let (b, c, h, w) = xs.dims4()?;
    // (b, c, h, w) -> (b h, c, 1, w) -> (b h, o, 1, w') -> (b, o, h, w')
    let rows = xs.transpose(1, 2)?.contiguous()?.reshape((b * h, c, 1, w))?;
    let ys = even(&rows, kernel, 0, stride, dilation, groups)?;
    let (_, o, _, width) = ys.dims4()?;
    ys.reshape((b, h, o, width))?.transpose(1, 2)?.contiguous()
}
