use crate::layers::Geometry;
use rayon::prelude::*;

/// The positions within the plane that a window covers, padding left out.
fn window(g: &Geometry, y: usize, x: usize) -> impl Iterator<Item = usize> {
    let ([h, w], [kh, kw]) = (g.input, g.kernel);
    let (stride, padding, dilation) = (g.stride, g.padding, g.dilation);
    (0..kh * kw).filter_map(move |tap| {
        let iy = (y * stride[0] + tap / kw * dilation[0]).checked_sub(padding[0])?;
        let ix = (x * stride[1] + tap % kw * dilation[1]).checked_sub(padding[1])?;
        (iy < h && ix < w).then_some(iy * w + ix)
    })
}

/// The largest element of each window, and where in its plane it lies.
pub(crate) fn max_pool(g: &Geometry, x: &[f32]) -> (Vec<f32>, Vec<u32>) {
    let (ip, op, ow) = (g.input[0] * g.input[1], g.output[0] * g.output[1], g.output[1]);
    let planes = g.batch * g.in_channels;
    let (mut y, mut positions) = (vec![0.0; planes * op], vec![0; planes * op]);
    y.par_chunks_mut(op.max(1))
        .zip(positions.par_chunks_mut(op.max(1)))
        .zip(x.par_chunks(ip.max(1)))
        .for_each(|((y, positions), x)| {
            for (to, (y, position)) in y.iter_mut().zip(positions).enumerate() {
                let mut largest = f32::NEG_INFINITY;
                let mut found = None;
                for from in window(g, to / ow, to % ow) {
                    // a NaN stays the largest
                    if found.is_none() || x[from] > largest || x[from].is_nan() {
                        largest = x[from];
                        found = Some(from);
                    }
                }
                (*y, *position) = (largest, found.unwrap_or(0) as u32);
            }
        });
    (y, positions)
}

/// The gradient of [`max_pool`]'s input: each window's goes to where its largest element lies.
pub(crate) fn max_pool_backward(g: &Geometry, positions: &[u32], dy: &[f32]) -> Vec<f32> {
    let (ip, op) = (g.input[0] * g.input[1], g.output[0] * g.output[1]);
    let mut dx = vec![0.0; g.batch * g.in_channels * ip];
    dx.par_chunks_mut(ip.max(1)).zip(dy.par_chunks(op.max(1))).zip(positions.par_chunks(op.max(1))).for_each(
        |((dx, dy), positions)| {
            for (&dy, &position) in dy.iter().zip(positions) {
                dx[position as usize] += dy;
            }
        },
    );
    dx
}

/// The mean of each window; padding counts as zeros.
pub(crate) fn average_pool(g: &Geometry, x: &[f32]) -> Vec<f32> {
    let (ip, op, ow) = (g.input[0] * g.input[1], g.output[0] * g.output[1], g.output[1]);
    let share = 1.0 / (g.kernel[0] * g.kernel[1]) as f32;
    let mut y = vec![0.0; g.batch * g.in_channels * op];
    y.par_chunks_mut(op.max(1)).zip(x.par_chunks(ip.max(1))).for_each(|(y, x)| {
        for (to, y) in y.iter_mut().enumerate() {
            *y = window(g, to / ow, to % ow).map(|from| x[from]).sum::<f32>() * share;
        }
    });
    y
}

/// The gradient of [`average_pool`]'s input.
pub(crate) fn average_pool_backward(g: &Geometry, dy: &[f32]) -> Vec<f32> {
    let (ip, op, ow) = (g.input[0] * g.input[1], g.output[0] * g.output[1], g.output[1]);
    let share = 1.0 / (g.kernel[0] * g.kernel[1]) as f32;
    let mut dx = vec![0.0; g.batch * g.in_channels * ip];
    dx.par_chunks_mut(ip.max(1)).zip(dy.par_chunks(op.max(1))).for_each(|(dx, dy)| {
        for (to, &dy) in dy.iter().enumerate() {
            for from in window(g, to / ow, to % ow) {
                dx[from] += dy * share;
            }
        }
    });
    dx
}

/// The mean of each plane of `x`, shape `(n, c, hw)`.
pub(crate) fn global_average([_, _, hw]: [usize; 3], x: &[f32]) -> Vec<f32> {
    let share = 1.0 / hw.max(1) as f32;
    x.par_chunks(hw.max(1)).map(|x| x.iter().sum::<f32>() * share).collect()
}

/// The gradient of [`global_average`]'s input, shape `(n, c, hw)`.
pub(crate) fn global_average_backward([n, c, hw]: [usize; 3], dy: &[f32]) -> Vec<f32> {
    let share = 1.0 / hw.max(1) as f32;
    let mut dx = vec![0.0; n * c * hw];
    dx.par_chunks_mut(hw.max(1)).zip(dy).for_each(|(dx, dy)| dx.fill(dy * share));
    dx
}
