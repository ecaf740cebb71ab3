use super::elementwise::planes_together;
use super::stream::{Map, Sums};
use super::tile::{Fresh, build_fresh, build_two};

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

/// Two sums for each channel of `(n, c, hw)`, over what each plane's are.
fn sums_per_channel<'a>([n, c, hw]: [usize; 3], plane: impl Fn(usize) -> Sums<'a> + Sync) -> Vec<(f64, f64)> {
    let planes = Sums::of_planes(n * c, hw, plane);
    let mut sums = vec![(0.0, 0.0); c];
    for planes in planes.chunks(c.max(1)) {
        for (sum, &[first, second]) in sums.iter_mut().zip(planes) {
            sum.0 += f64::from(first);
            sum.1 += f64::from(second);
        }
    }
    sums
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
    // squares of distances from a value that is near the mean lose nothing when the mean's is taken off
    let near: Vec<f32> = Sums::of_planes(c.min(n * c), hw, |p| Sums::Moments(&x[p * hw..][..hw], 0.0))
        .iter()
        .map(|&[sum, _]| sum / hw.max(1) as f32)
        .collect();
    let sums = sums_per_channel(shape, |p| Sums::Moments(&x[p * hw..][..hw], near[p % c]));
    let statistics = sums.iter().zip(&near).map(|(&(sum, squares), &near)| {
        let distance = sum / count;
        let variance = (squares / count - distance * distance).max(0.0);
        ((f64::from(near) + distance) as f32, variance as f32)
    });
    let (mean, variance): (Vec<f32>, Vec<f32>) = statistics.unzip();
    let factor: Vec<f32> =
        scale.iter().zip(&variance).map(|(scale, variance)| scale / (variance + epsilon).sqrt()).collect();
    let y = affine(shape, x, &mean, &factor, shift, residual, relu);
    Normalized { y, mean, variance }
}

/// `y = relu?(x * scale + shift + residual)` per channel of `x`, shape `(n, c, hw)`.
pub(crate) fn scale_shift(
    shape: [usize; 3],
    x: &[f32],
    scale: &[f32],
    shift: &[f32],
    residual: Option<&[f32]>,
    relu: bool,
) -> Vec<f32> {
    affine(shape, x, &vec![0.0; shape[1]], scale, shift, residual, relu)
}

/// `y = relu?((x - center) * scale + shift + residual)`.
fn affine(
    [_, c, hw]: [usize; 3],
    x: &[f32],
    center: &[f32],
    scale: &[f32],
    shift: &[f32],
    residual: Option<&[f32]>,
    relu: bool,
) -> Vec<f32> {
    let together = planes_together(hw);
    let plane = |p: usize| {
        let (x, terms) = (&x[p * hw..][..hw], [center[p % c], scale[p % c], shift[p % c]]);
        match (residual.map(|residual| &residual[p * hw..][..hw]), relu) {
            (None, false) => Map::Affine(x, terms),
            (None, true) => Map::AffineRelu(x, terms),
            (Some(residual), false) => Map::AffineSum(x, residual, terms),
            (Some(residual), true) => Map::AffineSumRelu(x, residual, terms),
        }
    };
    planes(x.len(), hw, together, plane)
}

/// A new vector of planes, each written as `plane(index)` says.
fn planes<'a>(size: usize, hw: usize, together: usize, plane: impl Fn(usize) -> Map<'a> + Sync) -> Vec<f32> {
    build_fresh(size, together * hw, |index, to| Map::write(to, hw, index * together, &plane))
}

/// The gradients of [`normalize`]; `y` is its result, and is read only if there was a relu.
///
/// With `x' = (x - mean) / sqrt(variance + epsilon)` and means over a channel's elements,
/// `dx = scale / sqrt(variance + epsilon) * (dy - mean(dy) - x' mean(x' dy))`.
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
    let count = (n * hw).max(1) as f64;
    let sums = sums_per_channel(shape, |p| {
        let (x, dy, mean) = (&x[p * hw..][..hw], &dy[p * hw..][..hw], mean[p % c]);
        if relu {
            let y = &y[p * hw..][..hw];
            Sums::PassedSlopes(x, y, dy, mean)
        } else {
            Sums::Slopes(x, dy, mean)
        }
    });
    let deviation: Vec<f64> = variance.iter().map(|&variance| f64::from(variance + epsilon).sqrt()).collect();
    // dx = (x - mean) * slope + offset + factor * dy
    let terms: Vec<[f32; 4]> = (0..c)
        .map(|k| {
            let factor = f64::from(scale[k]) / deviation[k];
            let slope = -factor * sums[k].1 / (count * deviation[k] * deviation[k]);
            [mean[k], slope as f32, (-factor * sums[k].0 / count) as f32, factor as f32]
        })
        .collect();
    let together = planes_together(hw);
    let plane = |p: usize| p * hw..(p + 1) * hw;
    let (dx, dresidual) = if relu && with_residual {
        let (dx, dresidual) = build_two(x.len(), together * hw, |index, dx: &mut [f32], passed| {
            let first = index * together;
            Map::write(&mut Fresh::over(passed), hw, first, |p| Map::Passed(&y[plane(p)], &dy[plane(p)]));
            Map::write(&mut Fresh::over(dx), hw, first, |p| {
                Map::Slope(&x[plane(p)], &passed[(p - first) * hw..][..hw], terms[p % c])
            });
        });
        (dx, Some(dresidual))
    } else {
        let dx = planes(x.len(), hw, together, |p| {
            if relu {
                Map::PassedSlope(&x[plane(p)], &y[plane(p)], &dy[plane(p)], terms[p % c])
            } else {
                Map::Slope(&x[plane(p)], &dy[plane(p)], terms[p % c])
            }
        });
        (dx, with_residual.then(|| dy.to_vec()))
    };
    NormalizedBackward {
        dx,
        dscale: sums.iter().zip(&deviation).map(|(sums, deviation)| (sums.1 / deviation) as f32).collect(),
        dshift: sums.iter().map(|sums| sums.0 as f32).collect(),
        dresidual,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    /// The loss `sum(weights * y)` in f64.
    fn loss(
        [n, c, hw]: [usize; 3],
        x: &[f64],
        scale: &[f64],
        shift: &[f64],
        residual: &[f64],
        relu: bool,
        weights: &[f32],
    ) -> f64 {
        let mut loss = 0.0;
        for k in 0..c {
            let places: Vec<usize> =
                (0..n).flat_map(|s| (0..hw).map(move |j| (s * c + k) * hw + j)).collect();
            let count = places.len() as f64;
            let mean = places.iter().map(|&p| x[p]).sum::<f64>() / count;
            let variance = places.iter().map(|&p| (x[p] - mean).powi(2)).sum::<f64>() / count;
            for p in places {
                let y = (x[p] - mean) / (variance + 1e-3).sqrt() * scale[k] + shift[k] + residual[p];
                loss += f64::from(weights[p]) * if relu { y.max(0.0) } else { y };
            }
        }
        loss
    }

    #[test]
    fn gradients_are_finite_differences() {
        let mut rng = StdRng::seed_from_u64(3);
        for (shape, relu, residual) in [
            ([3, 2, 35], false, false),
            ([2, 3, 64], true, false),
            ([4, 2, 9], true, true),
            ([5, 3, 1], false, true),
            ([1, 2, 70], true, true),
        ] {
            let [n, c, hw] = shape;
            let mut random =
                |size: usize| -> Vec<f32> { (0..size).map(|_| rng.random_range(-1.0..1.0)).collect() };
            let (x, weights, added) = (random(n * c * hw), random(n * c * hw), random(n * c * hw));
            let (scale, shift) = (random(c), random(c));
            let added = if residual { added } else { vec![0.0; added.len()] };
            let forward = normalize(shape, &x, &scale, &shift, 1e-3, residual.then_some(&added[..]), relu);
            let y = if relu { &forward.y[..] } else { &[] };
            let found = normalize_backward(
                shape,
                &x,
                y,
                &scale,
                &forward.mean,
                &forward.variance,
                1e-3,
                &weights,
                relu,
                residual,
            );
            let wide = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
            let inputs = [wide(&x), wide(&scale), wide(&shift), wide(&added)];
            let at = |inputs: &[Vec<f64>; 4]| {
                loss(shape, &inputs[0], &inputs[1], &inputs[2], &inputs[3], relu, &weights)
            };
            let total: f64 = forward.y.iter().zip(&weights).map(|(&y, &w)| f64::from(y * w)).sum();
            assert!((total - at(&inputs)).abs() < 1e-4, "{total} for {} of {shape:?}", at(&inputs));
            let gradients = [Some(found.dx), Some(found.dscale), Some(found.dshift), found.dresidual];
            assert_eq!(gradients[3].is_some(), residual);
            for (input, gradient) in gradients.iter().enumerate() {
                for (i, &gradient) in gradient.iter().flatten().enumerate() {
                    let mut moved = inputs.clone();
                    moved[input][i] += 1e-6;
                    let ahead = at(&moved);
                    moved[input][i] -= 2e-6;
                    let difference = (ahead - at(&moved)) / 2e-6;
                    // an elements' relu may bend within the step, by chance never here; f32 leaves five digits of sums of tens
                    assert!(
                        (f64::from(gradient) - difference).abs() < 1e-3,
                        "{input} {i} of {shape:?}: {gradient} for {difference}"
                    );
                }
            }
        }
    }

    #[test]
    fn variance_survives_a_large_mean() {
        // 1000 +- 0.5: the mean of squares alone would have lost it
        let x: Vec<f32> = (0..4096).map(|i| 1000.0 + if i % 2 == 0 { 0.5 } else { -0.5 }).collect();
        let found = normalize([4, 1, 1024], &x, &[1.0], &[0.0], 0.0, None, false);
        assert!((found.mean[0] - 1000.0).abs() < 1e-4);
        assert!((found.variance[0] - 0.25).abs() < 1e-6);
        assert!((found.y[0] - 1.0).abs() < 1e-4);
    }
}
