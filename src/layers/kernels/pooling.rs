use crate::layers::Geometry;
use rayon::prelude::*;
use std::ops::Range;

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

/// The first output and the one behind the last whose windows lie inside the plane, on one axis.
fn inside(g: &Geometry, axis: usize) -> Range<usize> {
    let first = g.padding[axis].div_ceil(g.stride[axis]).min(g.output[axis]);
    let span = g.dilation[axis] * (g.kernel[axis] - 1) + 1;
    let last =
        (g.input[axis] + g.padding[axis]).checked_sub(span).map_or(0, |last| last / g.stride[axis] + 1);
    first..last.clamp(first, g.output[axis])
}

/// The largest element of each window, and where in its plane it lies.
pub(crate) fn max_pool(g: &Geometry, x: &[f32]) -> (Vec<f32>, Vec<u32>) {
    let (ip, [oh, ow], w) = (g.input[0] * g.input[1], g.output, g.input[1]);
    let planes = g.batch * g.in_channels;
    let (mut y, mut positions) = (vec![0.0; planes * oh * ow], vec![0; planes * oh * ow]);
    let (rows, columns) = (inside(g, 0), inside(g, 1));
    let taps = |y: usize, x: usize| {
        let corner =
            (y * g.stride[0]).wrapping_sub(g.padding[0]) * w + (x * g.stride[1]).wrapping_sub(g.padding[1]);
        (0..g.kernel[0]).flat_map(move |ky| {
            (0..g.kernel[1]).map(move |kx| corner + ky * g.dilation[0] * w + kx * g.dilation[1])
        })
    };
    let plane = |(y, positions): (&mut [f32], &mut [u32]), x: &[f32]| {
        for (row, (y, positions)) in y.chunks_mut(ow).zip(positions.chunks_mut(ow)).enumerate() {
            for (column, (y, position)) in y.iter_mut().zip(positions).enumerate() {
                let found = if rows.contains(&row) && columns.contains(&column) {
                    largest(x, taps(row, column))
                } else {
                    largest(x, window(g, row, column))
                };
                (*y, *position) = found;
            }
        }
    };
    y.par_chunks_mut((oh * ow).max(1))
        .zip(positions.par_chunks_mut((oh * ow).max(1)))
        .zip(x.par_chunks(ip.max(1)))
        .for_each(|(to, x)| plane(to, x));
    (y, positions)
}

/// The first of the largest elements at these places; a NaN counts as the largest.
#[expect(clippy::inline_always, reason = "without its iterator inlined it is a call for each tap")]
#[inline(always)]
fn largest(x: &[f32], places: impl Iterator<Item = usize>) -> (f32, u32) {
    let mut found = (f32::NEG_INFINITY, u32::MAX);
    for place in places {
        let value = x[place];
        if value > found.0 || value.is_nan() || found.1 == u32::MAX {
            found = (value, place as u32);
        }
    }
    found
}

/// The gradient of [`max_pool`]'s input: each window's goes to where its largest element lies.
pub(crate) fn max_pool_backward(g: &Geometry, positions: &[u32], dy: &[f32]) -> Vec<f32> {
    let (ip, op) = (g.input[0] * g.input[1], g.output[0] * g.output[1]);
    let mut dx = vec![0.0; g.batch * g.in_channels * ip];
    dx.par_chunks_mut(ip.max(1)).zip(dy.par_chunks(op.max(1))).zip(positions.par_chunks(op.max(1))).for_each(
        |((dx, dy), positions)| {
            for (&dy, &position) in dy.iter().zip(positions) {
                // a window that lies in the padding alone has no largest element
                if let Some(dx) = dx.get_mut(position as usize) {
                    *dx += dy;
                }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry(input: [usize; 4], kernel: [usize; 2], stride: [usize; 2], padding: [usize; 2]) -> Geometry {
        let [_, c, ..] = input;
        Geometry::new(&input, &[c, 1, kernel[0], kernel[1]], stride, padding, [1, 1], c).unwrap()
    }

    #[test]
    fn windows_give_their_largest_and_get_its_gradient() {
        let x: Vec<f32> = (0..2 * 3 * 5 * 7).map(|i| (i * 37 % 101) as f32 - 50.0).collect();
        for (kernel, stride, padding) in
            [([2, 2], [2, 2], [0, 0]), ([3, 3], [2, 1], [1, 1]), ([2, 3], [1, 2], [1, 0])]
        {
            let g = geometry([2, 3, 5, 7], kernel, stride, padding);
            let (y, positions) = max_pool(&g, &x);
            let (mean, plane) = (average_pool(&g, &x), g.output[0] * g.output[1]);
            for (i, (&y, &position)) in y.iter().zip(&positions).enumerate() {
                let (row, column) = (i % plane / g.output[1], i % g.output[1]);
                let values: Vec<f32> =
                    window(&g, row, column).map(|place| x[i / plane * 35 + place]).collect();
                assert_eq!(y, values.iter().copied().fold(f32::NEG_INFINITY, f32::max));
                assert_eq!(y, x[i / plane * 35 + position as usize]);
                let total = values.iter().sum::<f32>();
                assert!((mean[i] * (kernel[0] * kernel[1]) as f32 - total).abs() < 1e-3);
            }
            // transposes: <pool(x), dy> = <x, backward(dy)>
            let dy: Vec<f32> = (0..y.len()).map(|i| (i * 13 % 29) as f32 - 14.0).collect();
            let inner = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a * b)).sum::<f64>();
            assert_eq!(inner(&y, &dy), inner(&x, &max_pool_backward(&g, &positions, &dy)));
            let difference = inner(&mean, &dy) - inner(&x, &average_pool_backward(&g, &dy));
            assert!(difference.abs() < 1e-2, "{difference}");
        }
    }

    #[test]
    fn planes_have_means() {
        let x: Vec<f32> = (0..24).map(|i| i as f32).collect();
        assert_eq!(global_average([2, 3, 4], &x), [1.5, 5.5, 9.5, 13.5, 17.5, 21.5]);
        assert_eq!(global_average_backward([1, 2, 2], &[4.0, 6.0]), [2.0, 2.0, 3.0, 3.0]);
    }
}
