use super::memory::Memory;
use super::{Optimizer, Part, Update, parts};
use crate::layers::Parameters;
use crate::train::OptionError;
use crate::train::slices::{Slices, is_looped, lend};
use candle_core::{Result, Tensor};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

const KINDS: &[&str] = &["momentum"];

/// The numbers of [`Sgd`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SgdOptions {
    /// The part of the last direction that is kept.
    pub momentum: f64,
    /// Whether the step looks ahead along the direction.
    pub nesterov: bool,
}

impl Default for SgdOptions {
    /// Nesterov's momentum of 0.9.
    fn default() -> Self {
        Self { momentum: 0.9, nesterov: true }
    }
}

/// Stochastic gradient descent with momentum.
///
/// With `d` the gradient plus the decay's, `lambda p` or `lambda` times the gradient of `|A B|^2 / 2`:
///
/// ```text
/// m <- momentum m + d
/// p <- p - lr m                    or with Nesterov's step  p - lr (d + momentum m)
/// ```
///
/// These are the steps of `torch.optim.SGD` without dampening.
///
/// # Reference
///
/// Sutskever, Martens, Dahl, Hinton, "On the importance of initialization and momentum in deep learning", 2013.
#[derive(Debug)]
pub struct Sgd {
    options: SgdOptions,
    memory: Memory,
}

impl Sgd {
    /// One that has taken no step.
    ///
    /// # Errors
    ///
    /// - a momentum that is not in [0, 1), or Nesterov's step without momentum
    pub fn new(options: SgdOptions) -> std::result::Result<Self, OptionError> {
        let momentum = options.momentum;
        OptionError::check("momentum", momentum, "from 0 to below 1", (0.0..1.0).contains(&momentum))?;
        if options.nesterov && momentum == 0.0 {
            return Err(OptionError::Nesterov);
        }
        Ok(Self { options, memory: Memory::new(if momentum > 0.0 { KINDS } else { &[] }) })
    }

    fn looped(&self, part: &Part<'_>, learning_rate: f64) -> Result<()> {
        let SgdOptions { momentum, nesterov } = self.options;
        let (momentum, rate, weight) = (momentum as f32, learning_rate as f32, part.weight as f32);
        let (lambda, penalty) = part.penalty();
        let act = |slices: Slices<'_>| {
            let Slices { p, m, g, f, .. } = slices;
            let one = |p: &mut f32, m: &mut f32, d: f32| {
                let d = d + weight * *p;
                *m = momentum * *m + d;
                *p -= rate * if nesterov { d + momentum * *m } else { *m };
            };
            match (m.is_empty(), f.is_empty()) {
                (true, true) => p.iter_mut().zip(g).for_each(|(p, &g)| one(p, &mut 0.0, g)),
                (true, false) => {
                    p.iter_mut().zip(g).zip(f).for_each(|((p, &g), &f)| one(p, &mut 0.0, g + lambda * f));
                }
                (false, true) => p.iter_mut().zip(m).zip(g).for_each(|((p, m), &g)| one(p, m, g)),
                (false, false) => {
                    let all = p.iter_mut().zip(m).zip(g.iter().zip(f));
                    all.for_each(|((p, m), (&g, &f))| one(p, m, g + lambda * f));
                }
            }
            0.0
        };
        let momentum =
            if self.options.momentum > 0.0 { Some(self.memory.get::<1>(part.name)?) } else { None };
        let m = momentum.as_ref().map(|[m]| m);
        lend(part.var, [m, None], [Some(part.gradient), penalty], |slices| {
            slices.pieces(&act);
            Ok(())
        })
    }

    fn composed(&mut self, part: &Part<'_>, learning_rate: f64) -> Result<()> {
        let SgdOptions { momentum, nesterov } = self.options;
        let (p, g) = part.wide()?;
        let d = part.add_decay(g, &p)?;
        let direction = if momentum > 0.0 {
            let [m] = self.memory.get(part.name)?;
            let m = ((m * momentum)? + &d)?;
            let direction = if nesterov { (d + (&m * momentum)?)? } else { m.clone() };
            self.memory.set(part.name, [m]);
            direction
        } else {
            d
        };
        part.set(&(p - (direction * learning_rate)?)?)
    }
}

impl Optimizer for Sgd {
    fn name(&self) -> &'static str {
        "sgd"
    }

    fn step(&mut self, parameters: &Parameters, update: &Update<'_>) -> Result<()> {
        let parts = parts(parameters, update)?;
        self.memory.begin(parameters)?;
        for part in &parts {
            if is_looped(part.var) {
                self.looped(part, update.learning_rate)?;
            } else {
                self.composed(part, update.learning_rate)?;
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
