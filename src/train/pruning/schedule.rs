use crate::train::OptionError;
use serde::{Deserialize, Serialize};

/// When weights are left out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum PruningSchedule {
    /// All at once.
    OneShot {
        /// After this part of training; 0 is before the first step.
        at: f64,
    },
    /// More and more of them, quickly at first.
    Gradual {
        /// The part of training after which it begins.
        begin: f64,
        /// The part of training after which it is done.
        end: f64,
        /// Steps from one time to the next.
        every_steps: u64,
    },
}

/// How many weights are left out, and when.
///
/// With `S` steps, a gradual schedule has begun at `b = round(begin S)` and is done at `e = round(end S)`; between, at the steps
/// `s = b, b + every_steps, ...`, the part that is left out is
///
/// ```text
/// 1 - keep_at(s) = (1 - keep) (1 - (1 - (s - b) / (e - b))^3)
/// ```
///
/// # Reference
///
/// Zhu and Gupta, "To prune, or not to prune", 2017, eq. 1.
///
/// # Examples
///
/// ```
/// use fnl::train::{Pruning, PruningSchedule};
///
/// let schedule = PruningSchedule::Gradual { begin: 0.0, end: 0.5, every_steps: 10 };
/// let pruning = Pruning { keep: 0.2, schedule };
/// assert_eq!(pruning.keep_at(0, 200), 1.0);
/// assert!((pruning.keep_at(59, 200) - 0.3).abs() < 1e-15); // as at 50: 1 - 0.8 (1 - 0.5^3)
/// assert_eq!(pruning.keep_at(100, 200), 0.2);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pruning {
    /// The part of the chosen weights that is left in the end.
    pub keep: f64,
    /// When.
    pub schedule: PruningSchedule,
}

impl Pruning {
    /// The part that is kept from a step on, counted from 0.
    #[must_use]
    pub fn keep_at(&self, step: u64, total_steps: u64) -> f64 {
        let at = |part: f64| (part * total_steps as f64).round() as u64;
        match self.schedule {
            PruningSchedule::OneShot { at: part } if step < at(part) => 1.0,
            PruningSchedule::Gradual { begin, .. } if step < at(begin) => 1.0,
            PruningSchedule::Gradual { begin, end, every_steps } if step < at(end) => {
                let since = step - at(begin);
                let since = since - since % every_steps.max(1);
                let rest = 1.0 - since as f64 / (at(end) - at(begin)) as f64;
                1.0 - (1.0 - self.keep) * (1.0 - rest.powi(3))
            }
            _ => self.keep,
        }
    }

    /// Whether more weights are left out before this step than before the last.
    #[must_use]
    pub fn is_due(&self, step: u64, total_steps: u64) -> bool {
        let before = if step == 0 { 1.0 } else { self.keep_at(step - 1, total_steps) };
        self.keep_at(step, total_steps) < before
    }

    /// Checks the numbers.
    ///
    /// # Errors
    ///
    /// - parts outside [0, 1], an end that is not after its beginning, or no step from one time to the next
    pub fn validate(&self) -> Result<(), OptionError> {
        let unit = |option, value: f64| {
            OptionError::check(option, value, "between 0 and 1", (0.0..=1.0).contains(&value))
        };
        unit("keep", self.keep)?;
        match self.schedule {
            PruningSchedule::OneShot { at } => unit("at", at),
            PruningSchedule::Gradual { begin, end, every_steps } => {
                unit("begin", begin)?;
                unit("end", end)?;
                OptionError::check("end", end, "after the beginning", end > begin)?;
                OptionError::check("every_steps", every_steps as f64, "a number from 1", every_steps > 0)
            }
        }
    }
}
