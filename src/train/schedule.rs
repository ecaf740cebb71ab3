use super::OptionError;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

const NAMES: &[&str] = &["constant", "step", "cosine", "inverse-sqrt", "linear"];

/// How the learning rate falls, as a factor of its base.
///
/// With `s` the step, counted from 0, of `S`, and `w` steps of warmup, the factor is `(s + 1) / w` for `s < w`, and then
///
/// | schedule | factor |
/// | --- | --- |
/// | constant | 1 |
/// | step | `factor^k` where k milestones `p` have been reached, `s >= round(p S)` |
/// | cosine | `floor + (1 - floor) (1 + cos(pi t)) / 2`, with `t = (s - w) / (S - w)` |
/// | inverse-sqrt | `sqrt(max(w, 1) / (s + 1))` |
/// | linear | `floor + (1 - floor) (1 - t)` |
///
/// As text a schedule is its name, and where its numbers are not the usual ones a colon and those: `cosine:0.01` is a
/// floor, `step:0.3,0.6,0.8*0.2` are milestones and a factor.
///
/// # Reference
///
/// Cosine: Loshchilov and Hutter, "SGDR", 2017, eq. 5, without restarts. Inverse square root: Vaswani et al.,
/// "Attention Is All You Need", 2017, eq. 3.
///
/// # Examples
///
/// ```
/// use fnl::train::Schedule;
///
/// let schedule: Schedule = "step".parse()?;
/// assert_eq!(schedule.factor(99, 200, 0), 1.0);
/// assert_eq!(schedule.factor(100, 200, 0), 0.1);
/// assert_eq!("cosine".parse::<Schedule>()?.factor(50, 100, 0), 0.5);
/// assert_eq!("cosine".parse::<Schedule>()?.factor(1, 100, 10), 0.2);
/// # Ok::<(), fnl::train::OptionError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Schedule {
    /// It stays.
    Constant,
    /// It is multiplied at each milestone.
    Step {
        /// Parts of training, between 0 and 1 and ascending; 0.5 and 0.75 by default.
        #[serde(default = "milestones")]
        milestones: Vec<f64>,
        /// What it is multiplied by; 0.1 by default.
        #[serde(default = "factor")]
        factor: f64,
    },
    /// Half a wave.
    Cosine {
        /// Where it ends; 0 by default.
        #[serde(default)]
        floor: f64,
    },
    /// Proportional to one over the square root of the step.
    #[serde(rename = "inverse-sqrt")]
    InverseSquareRoot,
    /// A straight line.
    Linear {
        /// Where it ends; 0 by default.
        #[serde(default)]
        floor: f64,
    },
}

fn milestones() -> Vec<f64> {
    vec![0.5, 0.75]
}

fn factor() -> f64 {
    0.1
}

impl Default for Schedule {
    /// Steps at a half and at three quarters.
    fn default() -> Self {
        Self::Step { milestones: milestones(), factor: factor() }
    }
}

impl Schedule {
    /// The learning rate of a step over its base; steps past the end get what the last one tends to.
    #[must_use]
    pub fn factor(&self, step: u64, total_steps: u64, warmup_steps: u64) -> f64 {
        let done = (step + 1) as f64;
        if step < warmup_steps {
            return done / warmup_steps as f64;
        }
        let rest = total_steps.saturating_sub(warmup_steps);
        let part = if rest == 0 { 1.0 } else { ((step - warmup_steps) as f64 / rest as f64).min(1.0) };
        match self {
            Self::Constant => 1.0,
            Self::Step { milestones, factor } => {
                let reached =
                    milestones.iter().filter(|&part| step as f64 >= (part * total_steps as f64).round());
                factor.powf(reached.count() as f64)
            }
            Self::Cosine { floor } => {
                floor + (1.0 - floor) * f64::midpoint(1.0, (std::f64::consts::PI * part).cos())
            }
            Self::InverseSquareRoot => (warmup_steps.max(1) as f64 / done).sqrt(),
            Self::Linear { floor } => floor + (1.0 - floor) * (1.0 - part),
        }
    }

    /// Checks the numbers.
    ///
    /// # Errors
    ///
    /// - milestones that do not ascend between 0 and 1; a factor or floor that is not in [0, 1]
    pub fn validate(&self) -> Result<(), OptionError> {
        let unit = |option, value: f64| {
            OptionError::check(option, value, "between 0 and 1", (0.0..=1.0).contains(&value))
        };
        match self {
            Self::Step { milestones, factor } => {
                let mut last = 0.0;
                for &milestone in milestones {
                    let holds = milestone > last && milestone < 1.0;
                    OptionError::check("milestone", milestone, "above the one before and below 1", holds)?;
                    last = milestone;
                }
                unit("factor", *factor)
            }
            Self::Cosine { floor } | Self::Linear { floor } => unit("floor", *floor),
            Self::Constant | Self::InverseSquareRoot => Ok(()),
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant => f.write_str("constant"),
            Self::InverseSquareRoot => f.write_str("inverse-sqrt"),
            Self::Cosine { floor: 0.0 } => f.write_str("cosine"),
            Self::Cosine { floor } => write!(f, "cosine:{floor}"),
            Self::Linear { floor: 0.0 } => f.write_str("linear"),
            Self::Linear { floor } => write!(f, "linear:{floor}"),
            usual if *usual == Self::default() => f.write_str("step"),
            Self::Step { milestones, factor } => {
                let milestones: Vec<String> = milestones.iter().map(ToString::to_string).collect();
                write!(f, "step:{}*{factor}", milestones.join(","))
            }
        }
    }
}

impl FromStr for Schedule {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<Self, OptionError> {
        let (name, numbers) = match text.split_once(':') {
            Some((name, numbers)) => (name, Some(numbers)),
            None => (text, None),
        };
        let form = |expected| OptionError::Form { text: text.to_owned(), expected };
        let floor = |expected| match numbers {
            None => Ok(0.0),
            Some(floor) => floor.parse().map_err(|_| form(expected)),
        };
        let schedule = match (name, numbers) {
            ("constant", None) => Self::Constant,
            ("constant", Some(_)) => return Err(form("constant")),
            ("inverse-sqrt", None) => Self::InverseSquareRoot,
            ("inverse-sqrt", Some(_)) => return Err(form("inverse-sqrt")),
            ("cosine", _) => Self::Cosine { floor: floor("cosine:FLOOR")? },
            ("linear", _) => Self::Linear { floor: floor("linear:FLOOR")? },
            ("step", None) => Self::default(),
            ("step", Some(numbers)) => {
                let wrong = |_| form("step:PART,PART*FACTOR");
                let (parts, factor) = match numbers.split_once('*') {
                    Some((parts, factor)) => (parts, factor.parse().map_err(wrong)?),
                    None => (numbers, factor()),
                };
                let milestones = parts.split(',').map(str::parse).collect::<Result<_, _>>().map_err(wrong)?;
                Self::Step { milestones, factor }
            }
            _ => {
                return Err(OptionError::Unknown { option: "schedule", name: name.to_owned(), known: NAMES });
            }
        };
        schedule.validate()?;
        Ok(schedule)
    }
}

/// The learning rate of every step of a run.
///
/// # Examples
///
/// ```
/// use fnl::train::{LearningRate, Schedule};
///
/// let rate = LearningRate { base: 0.4, schedule: Schedule::Linear { floor: 0.0 }, warmup_steps: 4 };
/// assert_eq!(rate.at(0, 12), 0.1);
/// assert_eq!(rate.at(8, 12), 0.2);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LearningRate {
    /// The highest.
    pub base: f64,
    /// How it falls.
    pub schedule: Schedule,
    /// Steps over which it first rises.
    #[serde(default)]
    pub warmup_steps: u64,
}

impl LearningRate {
    /// The learning rate of a step, counted from 0.
    #[must_use]
    pub fn at(&self, step: u64, total_steps: u64) -> f64 {
        self.base * self.schedule.factor(step, total_steps, self.warmup_steps)
    }

    /// Checks the numbers.
    ///
    /// # Errors
    ///
    /// - a base that is negative or not finite, and what [`Schedule::validate`] refuses
    pub fn validate(&self) -> Result<(), OptionError> {
        let holds = self.base.is_finite() && self.base >= 0.0;
        OptionError::check("learning rate", self.base, "a number from 0", holds)?;
        self.schedule.validate()
    }
}
