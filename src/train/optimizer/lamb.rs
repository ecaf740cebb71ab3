use super::adamw::{KINDS, corrections, moments};
use super::memory::Memory;
use super::options::check_moments;
use super::{Optimizer, Part, Update, parts};
use crate::layers::Parameters;
use crate::train::OptionError;
use crate::train::slices::{Slices, is_looped, lend, sum_of_squares};
use candle_core::{Result, Tensor};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

/// The numbers of [`Lamb`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LambOptions {
    /// The part of the mean of gradients that is kept.
    pub beta1: f64,
    /// The part of the mean of their squares that is kept.
    pub beta2: f64,
    /// What is added to the root of the latter.
    pub epsilon: f64,
}

impl Default for LambOptions {
    /// 0.9, 0.999 and 1e-6.
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-6 }
    }
}

/// Adam's direction, with a step as long, for each parameter, as the parameter is large.
///
/// ```text
/// m <- beta1 m + (1 - beta1) g
/// v <- beta2 v + (1 - beta2) g^2
/// u  = (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon) + lambda p
/// p <- p - lr (|p| / |u|) u
/// ```
///
/// With Frobenius decay `lambda grad(|A B|^2 / 2)` stands in place of `lambda p`. Where `|p|` or `|u|` is zero, their
/// ratio is taken as 1. `t` counts the steps of all parameters together.
///
/// # Reference
///
/// You et al., "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes", 2020, algorithm 2, with the
/// identity for phi.
#[derive(Debug)]
pub struct Lamb {
    options: LambOptions,
    memory: Memory,
}

/// Sums of squares: of the parameter and of its update.
#[derive(Clone, Copy)]
struct Squares {
    p: f64,
    u: f64,
}

impl std::ops::Add for Squares {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { p: self.p + other.p, u: self.u + other.u }
    }
}

impl Lamb {
    /// One that has taken no step.
    ///
    /// # Errors
    ///
    /// - betas that are not in [0, 1), or an epsilon that is not above 0
    pub fn new(options: LambOptions) -> std::result::Result<Self, OptionError> {
        check_moments(options.beta1, options.beta2, options.epsilon)?;
        Ok(Self { options, memory: Memory::new(KINDS) })
    }

    fn looped(&self, part: &Part<'_>, learning_rate: f64, corrections: [f64; 2]) -> Result<()> {
        let LambOptions { beta1, beta2, epsilon } = self.options;
        let rest = [(1.0 - beta1) as f32, (1.0 - beta2) as f32];
        let (beta2, epsilon, weight) = (beta2 as f32, epsilon as f32, part.weight as f32);
        let (first, root) = (corrections[0] as f32, corrections[1].sqrt() as f32);
        let (lambda, penalty) = part.penalty();
        let [m, v] = self.memory.get(part.name)?;
        // The update is written over the gradient's copy, since its length is known only when all of it is.
        let update = part.gradient.to_dtype(candle_core::DType::F32)?.copy()?;
        let mut squares = Squares { p: 0.0, u: 0.0 };
        let act = |slices: Slices<'_>| {
            let Slices { p: u, m, v, g: p, f } = slices;
            for ((u, m), (v, &p)) in u.iter_mut().zip(m).zip(v.iter_mut().zip(p)) {
                let g = *u;
                *m += rest[0] * (g - *m);
                *v = beta2 * *v + rest[1] * g * g;
                *u = (*m / first) / (v.sqrt() / root + epsilon) + weight * p;
            }
            for (u, &f) in u.iter_mut().zip(f) {
                *u += lambda * f;
            }
            Squares { p: sum_of_squares(p), u: sum_of_squares(u) }
        };
        lend(&update, [Some(&m), Some(&v)], [Some(part.var), penalty], |slices| {
            squares = slices.pieces(&act);
            Ok(())
        })?;
        let rate = (learning_rate * ratio(squares)) as f32;
        lend(part.var, [None, None], [Some(&update), None], |slices| {
            slices.pieces(&|slices: Slices<'_>| {
                for (p, &u) in slices.p.iter_mut().zip(slices.g) {
                    *p -= rate * u;
                }
                0.0
            });
            Ok(())
        })
    }

    fn composed(&mut self, part: &Part<'_>, learning_rate: f64, corrections: [f64; 2]) -> Result<()> {
        let LambOptions { beta1, beta2, epsilon } = self.options;
        let (p, g) = part.wide()?;
        let (m, v) = moments(&mut self.memory, part, &g, [beta1, beta2])?;
        let denominator = ((v.sqrt()? / corrections[1].sqrt())? + epsilon)?;
        let u = part.add_decay(((m / corrections[0])? / denominator)?, &p)?;
        // The ratio stays on the device: reading it would wait for all that came before.
        let norm = |tensor: &Tensor| tensor.sqr()?.sum_all()?.sqrt();
        let (of_p, of_u) = (norm(&p)?, norm(&u)?);
        let ratio = of_p.mul(&of_u)?.gt(0.0)?.where_cond(&of_p.div(&of_u)?, &of_p.ones_like()?)?;
        part.set(&(p - (u * learning_rate)?.broadcast_mul(&ratio)?)?)
    }
}

fn ratio(squares: Squares) -> f64 {
    if squares.p > 0.0 && squares.u > 0.0 { (squares.p / squares.u).sqrt() } else { 1.0 }
}

impl Optimizer for Lamb {
    fn name(&self) -> &'static str {
        "lamb"
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
