use rayon::prelude::*;

/// What [`normalize`] computes.
#[derive(Clone, Debug)]
pub(crate) struct Normalized {
    /// The normalized elements, scaled and shifted.
    pub y: Vec<f32>,
    /// The mean of each channel.
    pub mean: Vec<f32>,
    /// The variance of each channel, over the number of its elements.
    pub variance: Vec<f32>,
}

/// The gradients of [`normalize`].
#[derive(Clone, Debug)]
pub(crate) struct NormalizedBackward {
    /// The gradient of the input.
    pub dx: Vec<f32>,
    /// The gradient of the scale.
    pub dscale: Vec<f32>,
    /// The gradient of the shift.
    pub dshift: Vec<f32>,
    /// The gradient of the residual, if there was one.
    pub dresidual: Option<Vec<f32>>,
}

fn planes<'a>([n, c, hw]: [usize; 3], x: &'a [f32], channel: usize) -> impl Iterator<Item = &'a [f32]> + 'a {
    (0..n).map(move |n| &x[(n * c + channel) * hw..][..hw])
}

/// `y = relu?((x - mean) / sqrt(variance + epsilon) * scale + shift + residual)`, with the statistics of `x`, shape `(n, c, hw)`.
pub(crate) fn normalize(
    shape: [usize; 3],
    x: &[f32],
    scale: &[f32],
    shift: &[f32],
    epsilon: f32,
    residual: Option<&[f32]>,
    relu: bool,
) -> Normalized {
    let [n, c, hw] = shape;
    let count = (n * hw).max(1) as f64;
    let statistics = |channel: usize| {
        let sum: f64 = planes(shape, x, channel).flatten().map(|&x| f64::from(x)).sum();
        let mean = sum / count;
        let squares: f64 = planes(shape, x, channel).flatten().map(|&x| (f64::from(x) - mean).powi(2)).sum();
        (mean as f32, (squares / count) as f32)
    };
    let (mean, variance): (Vec<f32>, Vec<f32>) = (0..c).into_par_iter().map(statistics).unzip();
    let (factor, offset): (Vec<f32>, Vec<f32>) = (0..c)
        .map(|k| {
            let factor = scale[k] / (variance[k] + epsilon).sqrt();
            (factor, shift[k] - mean[k] * factor)
        })
        .unzip();
    let y = scale_shift(shape, x, &factor, &offset, residual, relu);
    Normalized { y, mean, variance }
}

/// `y = relu?(x * scale + shift + residual)` per channel of `x`, shape `(n, c, hw)`.
pub(crate) fn scale_shift(
    [_, c, hw]: [usize; 3],
    x: &[f32],
    scale: &[f32],
    shift: &[f32],
    residual: Option<&[f32]>,
    relu: bool,
) -> Vec<f32> {
    let mut y = vec![0.0; x.len()];
    y.par_chunks_mut(hw.max(1)).enumerate().for_each(|(p, y)| {
        for (j, y) in y.iter_mut().enumerate() {
            let value = x[p * hw + j] * scale[p % c] + shift[p % c] + residual.map_or(0.0, |r| r[p * hw + j]);
            *y = if relu && value < 0.0 { 0.0 } else { value };
        }
    });
    y
}

/// The gradients of [`normalize`]; `y` is its result, and is read only if there was a relu.
#[expect(clippy::too_many_arguments, reason = "the formula has that many terms")]
pub(crate) fn normalize_backward(
    shape: [usize; 3],
    x: &[f32],
    y: &[f32],
    scale: &[f32],
    mean: &[f32],
    variance: &[f32],
    epsilon: f32,
    dy: &[f32],
    relu: bool,
    with_residual: bool,
) -> NormalizedBackward {
    let [n, c, hw] = shape;
    let masked = if relu { super::relu_backward(y, dy) } else { dy.to_vec() };
    let count = (n * hw).max(1) as f64;
    let sums = |k: usize| {
        let rstd = 1.0 / (variance[k] + epsilon).sqrt();
        let pairs = planes(shape, x, k)
            .flatten()
            .zip(planes(shape, &masked, k).flatten())
            .map(|(&x, &dy)| (f64::from((x - mean[k]) * rstd) * f64::from(dy), f64::from(dy)));
        let (dscale, dshift) = pairs.fold((0.0, 0.0), |sum, pair| (sum.0 + pair.0, sum.1 + pair.1));
        (dscale as f32, dshift as f32)
    };
    let (dscale, dshift): (Vec<f32>, Vec<f32>) = (0..c).into_par_iter().map(sums).unzip();
    let mut dx = vec![0.0; x.len()];
    dx.par_chunks_mut(hw.max(1)).enumerate().for_each(|(p, dx)| {
        let k = p % c;
        let rstd = 1.0 / (variance[k] + epsilon).sqrt();
        for (j, dx) in dx.iter_mut().enumerate() {
            let normal = (x[p * hw + j] - mean[k]) * rstd;
            let centred = masked[p * hw + j] - (dshift[k] + normal * dscale[k]) / count as f32;
            *dx = scale[k] * rstd * centred;
        }
    });
    NormalizedBackward { dx, dscale, dshift, dresidual: with_residual.then_some(masked) }
}
