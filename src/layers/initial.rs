//! Initial weights.

use super::parameters::Role;
use candle_core::{Device, Result, Tensor};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// Normal numbers of this deviation, from a stream of their own for each name.
pub(crate) fn normal(seed: u64, name: &str, count: usize, deviation: f64) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(stream(name));
    let mut values = Vec::with_capacity(count + 1);
    while values.len() < count {
        // Box and Muller's pairs; 1 - u is never zero.
        let radius = (-2.0 * (1.0 - random.random::<f64>()).ln()).sqrt() * deviation;
        let angle = std::f64::consts::TAU * random.random::<f64>();
        values.push((radius * angle.cos()) as f32);
        values.push((radius * angle.sin()) as f32);
    }
    values.truncate(count);
    values
}

/// Numbers uniform between minus and plus this bound, from a stream of their own for each name.
fn uniform(seed: u64, name: &str, count: usize, bound: f64) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(stream(name));
    (0..count).map(|_| ((2.0 * random.random::<f64>() - 1.0) * bound) as f32).collect()
}

/// How weights start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Start {
    /// Normal with variance `2 / fan_in`, for rectifiers.
    Rectified,
    /// Normal with this deviation.
    Normal(f64),
    /// Uniform with variance `2 gain^2 / (fan_in + fan_out)`, for this gain.
    Balanced(f64),
}

/// A number for a name: FNV-1a.
fn stream(name: &str) -> u64 {
    name.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The value that a tensor starts with.
pub(super) fn tensor(name: &str, shape: &[usize], role: Role, seed: u64, start: Start) -> Result<Tensor> {
    let count: usize = shape.iter().product();
    let constant = |value: f32| Tensor::from_vec(vec![value; count], shape, &Device::Cpu);
    match role {
        Role::Bias => constant(0.0),
        Role::Normalization | Role::Statistic => {
            // Scales and variances start at one, shifts and means at zero.
            let one =
                (name.ends_with("weight") && role == Role::Normalization) || name.ends_with("running_var");
            constant(if one { 1.0 } else { 0.0 })
        }
        Role::Weight | Role::Factor => {
            let fan_in: usize = shape.iter().skip(1).product();
            let values = match start {
                Start::Rectified => normal(seed, name, count, (2.0 / fan_in.max(1) as f64).sqrt()),
                Start::Normal(deviation) => normal(seed, name, count, deviation),
                Start::Balanced(gain) => {
                    let fan_out = count / fan_in.max(1);
                    // the variance of numbers uniform in +-bound is bound^2 / 3
                    let bound = gain * (6.0 / (fan_in + fan_out).max(1) as f64).sqrt();
                    uniform(seed, name, count, bound)
                }
            };
            Tensor::from_vec(values, shape, &Device::Cpu)
        }
    }
}
