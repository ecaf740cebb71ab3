use crate::layers::Geometry;
use rayon::prelude::*;

/// For each tap and output position of one image, the input position: `act(group, o, i, tap, output, input)`.
fn visit(g: &Geometry, mut act: impl FnMut(usize, usize, usize, usize)) {
    let ([h, w], [oh, ow], [kh, kw]) = (g.input, g.output, g.kernel);
    for ky in 0..kh {
        for kx in 0..kw {
            for y in 0..oh {
                for x in 0..ow {
                    let (iy, ix) =
                        (y * g.stride[0] + ky * g.dilation[0], x * g.stride[1] + kx * g.dilation[1]);
                    if iy < g.padding[0] || ix < g.padding[1] {
                        continue;
                    }
                    let (iy, ix) = (iy - g.padding[0], ix - g.padding[1]);
                    if iy < h && ix < w {
                        act(ky, kx, y * ow + x, iy * w + ix);
                    }
                }
            }
        }
    }
}

/// The convolution of `x` with the kernel `w`.
pub(crate) fn convolve(g: &Geometry, x: &[f32], w: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    let (ip, op) = (g.input[0] * g.input[1], g.output[0] * g.output[1]);
    let (ig, og) = (g.in_channels / g.groups, g.out_channels / g.groups);
    let mut y = vec![0.0; g.batch * g.out_channels * op];
    y.par_chunks_mut((g.out_channels * op).max(1)).zip(x.par_chunks((g.in_channels * ip).max(1))).for_each(
        |(y, x)| {
            for (o, y) in y.chunks_mut(op).enumerate() {
                if let Some(bias) = bias {
                    y.fill(bias[o]);
                }
                for i in 0..ig {
                    let x = &x[(o / og * ig + i) * ip..][..ip];
                    let w = &w[(o * ig + i) * g.kernel[0] * g.kernel[1]..];
                    visit(g, |ky, kx, to, from| y[to] += w[ky * g.kernel[1] + kx] * x[from]);
                }
            }
        },
    );
    y
}

/// The gradient of [`convolve`]'s input.
pub(crate) fn convolve_backward_input(g: &Geometry, dy: &[f32], w: &[f32]) -> Vec<f32> {
    let (ip, op) = (g.input[0] * g.input[1], g.output[0] * g.output[1]);
    let (ig, og) = (g.in_channels / g.groups, g.out_channels / g.groups);
    let mut dx = vec![0.0; g.batch * g.in_channels * ip];
    dx.par_chunks_mut((g.in_channels * ip).max(1)).zip(dy.par_chunks((g.out_channels * op).max(1))).for_each(
        |(dx, dy)| {
            for (o, dy) in dy.chunks(op).enumerate() {
                for i in 0..ig {
                    let dx = &mut dx[(o / og * ig + i) * ip..][..ip];
                    let w = &w[(o * ig + i) * g.kernel[0] * g.kernel[1]..];
                    visit(g, |ky, kx, to, from| dx[from] += w[ky * g.kernel[1] + kx] * dy[to]);
                }
            }
        },
    );
    dx
}

/// The gradient of [`convolve`]'s kernel.
pub(crate) fn convolve_backward_kernel(g: &Geometry, x: &[f32], dy: &[f32]) -> Vec<f32> {
    let (ip, op) = (g.input[0] * g.input[1], g.output[0] * g.output[1]);
    let (ig, og) = (g.in_channels / g.groups, g.out_channels / g.groups);
    let taps = g.kernel[0] * g.kernel[1];
    let mut dw = vec![0.0; g.out_channels * ig * taps];
    dw.par_chunks_mut(ig * taps).enumerate().for_each(|(o, dw)| {
        for n in 0..g.batch {
            let dy = &dy[(n * g.out_channels + o) * op..][..op];
            for (i, dw) in dw.chunks_mut(taps).enumerate() {
                let x = &x[(n * g.in_channels + o / og * ig + i) * ip..][..ip];
                visit(g, |ky, kx, to, from| dw[ky * g.kernel[1] + kx] += dy[to] * x[from]);
            }
        }
    });
    dw
}
