use super::memory::Memory;
use super::options::check_moments;
use super::{Optimizer, Part, Update, parts};
use crate::layers::Parameters;
use crate::train::OptionError;
use crate::train::slices::{Slices, is_looped, lend};
use candle_core::{Result, Tensor};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

/// The averages of an Adam-like optimizer in a saved state.
pub(super) const KINDS: &[&str] = &["first_moment", "second_moment"];

/// The numbers of [`AdamW`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamWOptions {
    /// The part of the mean of gradients that is kept.
    pub beta1: f64,
    /// The part of the mean of their squares that is kept.
    pub beta2: f64,
    /// What is added to the root of the latter.
    pub epsilon: f64,
}

impl Default for AdamWOptions {
    /// 0.9, 0.999 and 1e-8.
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }
    }
}

/// Adam, with decay decoupled from the gradient.
///
/// ```text
/// p <- p - lr lambda p             or with Frobenius decay  p - lr lambda grad(|A B|^2 / 2)
/// m <- beta1 m + (1 - beta1) g
/// v <- beta2 v + (1 - beta2) g^2
/// p <- p - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon)
/// ```
///
/// These are the steps of `torch.optim.AdamW`. `t` counts the steps of all parameters together.
///
/// # Reference
///
/// Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019, algorithm 2.
#[derive(Debug)]
pub struct AdamW {
    options: AdamWOptions,
    memory: Memory,
}

impl AdamW {
    /// One that has taken no step.
    ///
    /// # Errors
    ///
    /// - betas that are not in [0, 1), or an epsilon that is not above 0
    pub fn new(options: AdamWOptions) -> std::result::Result<Self, OptionError> {
        check_moments(options.beta1, options.beta2, options.epsilon)?;
        Ok(Self { options, memory: Memory::new(KINDS) })
    }

    fn looped(&self, part: &Part<'_>, learning_rate: f64, corrections: [f64; 2]) -> Result<()> {
        let AdamWOptions { beta1, beta2, epsilon } = self.options;
        let rest = [(1.0 - beta1) as f32, (1.0 - beta2) as f32];
        let (beta2, epsilon) = (beta2 as f32, epsilon as f32);
        let rate = (learning_rate / corrections[0]) as f32;
        let root = corrections[1].sqrt() as f32;
        let shrink = (1.0 - learning_rate * part.weight) as f32;
        let (lambda, penalty) = part.penalty();
        let pull = (learning_rate * f64::from(lambda)) as f32;
        let act = |slices: Slices<'_>| {
            let Slices { p, m, v, g, f } = slices;
            for (p, &f) in p.iter_mut().zip(f) {
                *p -= pull * f;
            }
            for ((p, m), (v, &g)) in p.iter_mut().zip(m).zip(v.iter_mut().zip(g)) {
                *m += rest[0] * (g - *m);
                *v = beta2 * *v + rest[1] * g * g;
                *p = shrink * *p - rate * *m / (v.sqrt() / root + epsilon);
            }
            0.0
        };
        let [m, v] = self.memory.get(part.name)?;
        lend(part.var, [Some(&m), Some(&v)], [Some(part.gradient), penalty], |slices| {
            slices.pieces(&act);
            Ok(())
        })
    }

    fn composed(&mut self, part: &Part<'_>, learning_rate: f64, corrections: [f64; 2]) -> Result<()> {
        let AdamWOptions { beta1, beta2, epsilon } = self.options;
        let (p, g) = part.wide()?;
        let (m, v) = moments(&mut self.memory, part, &g, [beta1, beta2])?;
        let denominator = ((v.sqrt()? / corrections[1].sqrt())? + epsilon)?;
        let decayed = part.add_decay(p.zeros_like()?, &p)?;
        let p = (p - (decayed * learning_rate)?)?;
        part.set(&(p - ((m * (learning_rate / corrections[0]))? / denominator)?)?)
    }
}

/// Moves both averages towards a gradient and its square.
pub(super) fn moments(
    memory: &mut Memory,
    part: &Part<'_>,
    g: &Tensor,
    betas: [f64; 2],
) -> Result<(Tensor, Tensor)> {
    let [m, v] = memory.get(part.name)?;
    let m = ((m * betas[0])? + (g * (1.0 - betas[0]))?)?;
    let v = ((v * betas[1])? + (g.sqr()? * (1.0 - betas[1]))?)?;
    memory.set(part.name, [m.clone(), v.clone()]);
    Ok((m, v))
}

/// `1 - beta^t`: what averages that started at zero lack.
pub(super) fn corrections(betas: [f64; 2], steps: u64) -> [f64; 2] {
    betas.map(|beta| 1.0 - beta.powf(steps as f64))
}

impl Optimizer for AdamW {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn step(&mut self, parameters: &Parameters, update: &Update<'_>) -> Result<()> {
        let parts = parts(parameters, update)?;
        let steps = self.memory.begin(parameters)?;
        let corrections = corrections([self.options.beta1, self.options.beta2], steps);
        for part in &parts {
            if is_looped(part.var) {
                self.looped(part, update.learning_rate, corrections)?;
            } else {
                self.composed(part, update.learning_rate, corrections)?;
            }
        }
        Ok(())
    }

    fn state(&self) -> Result<IndexMap<String, Tensor>> {
        self.memory.state()
    }

    fn load(&mut self, parameters: &Parameters, state: &IndexMap<String, Tensor>) -> Result<()> {
        self.memory.load(parameters, state)
    }

    fn mask(&mut self, name: &str, mask: &Tensor) -> Result<()> {
        self.memory.mask(name, mask)
    }
}
