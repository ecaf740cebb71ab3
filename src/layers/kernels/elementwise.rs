use rayon::prelude::*;

/// The sum over samples and positions for each channel of `dy`, shape `(n, c, hw)`: the gradient of a bias.
pub(crate) fn sum_per_channel([n, c, hw]: [usize; 3], dy: &[f32]) -> Vec<f32> {
    let channel = |c_i: usize| {
        (0..n).map(|n| dy[(n * c + c_i) * hw..][..hw].iter().map(|&v| f64::from(v)).sum::<f64>()).sum::<f64>()
            as f32
    };
    (0..c).into_par_iter().map(channel).collect()
}

/// `a + b`.
pub(crate) fn add(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

/// `max(x, 0)`.
pub(crate) fn relu(x: &[f32]) -> Vec<f32> {
    x.iter().map(|&x| if x < 0.0 { 0.0 } else { x }).collect()
}

/// `dy` where [`relu`]'s result `y` is positive, zero elsewhere.
pub(crate) fn relu_backward(y: &[f32], dy: &[f32]) -> Vec<f32> {
    y.iter().zip(dy).map(|(&y, &dy)| if y <= 0.0 { 0.0 } else { dy }).collect()
}
