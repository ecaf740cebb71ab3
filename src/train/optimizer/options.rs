use super::{AdamW, AdamWOptions, Lamb, LambOptions, Optimizer, Sgd, SgdOptions};
use crate::train::OptionError;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

const NAMES: &[&str] = &["sgd", "adamw", "lamb"];

/// Which optimizer, with its numbers.
///
/// # Examples
///
/// ```
/// use fnl::train::OptimizerOptions;
///
/// let options: OptimizerOptions = "adamw".parse()?;
/// assert_eq!(serde_json::to_string(&options)?, r#"{"kind":"adamw","beta1":0.9,"beta2":0.999,"epsilon":1e-8}"#);
/// assert_eq!("adamv".parse::<OptimizerOptions>().unwrap_err().hint().unwrap(), "did you mean `adamw`?");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
#[non_exhaustive]
pub enum OptimizerOptions {
    /// Stochastic gradient descent with momentum.
    Sgd(SgdOptions),
    /// Adam with decoupled weight decay.
    AdamW(AdamWOptions),
    /// Adam's direction, with a step as long as the layer's weights make it.
    Lamb(LambOptions),
}

impl Default for OptimizerOptions {
    /// Stochastic gradient descent with Nesterov's momentum.
    fn default() -> Self {
        Self::Sgd(SgdOptions::default())
    }
}

impl OptimizerOptions {
    /// The name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sgd(_) => "sgd",
            Self::AdamW(_) => "adamw",
            Self::Lamb(_) => "lamb",
        }
    }

    /// An optimizer that has taken no step.
    ///
    /// # Errors
    ///
    /// - numbers outside their range
    pub fn build(&self) -> Result<Box<dyn Optimizer>, OptionError> {
        Ok(match self {
            Self::Sgd(options) => Box::new(Sgd::new(*options)?),
            Self::AdamW(options) => Box::new(AdamW::new(*options)?),
            Self::Lamb(options) => Box::new(Lamb::new(*options)?),
        })
    }
}

impl fmt::Display for OptimizerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for OptimizerOptions {
    type Err = OptionError;

    fn from_str(name: &str) -> Result<Self, OptionError> {
        match name {
            "sgd" => Ok(Self::Sgd(SgdOptions::default())),
            "adamw" => Ok(Self::AdamW(AdamWOptions::default())),
            "lamb" => Ok(Self::Lamb(LambOptions::default())),
            _ => Err(OptionError::Unknown { option: "optimizer", name: name.to_owned(), known: NAMES }),
        }
    }
}

/// Refuses averages that would not be ones.
pub(super) fn check_moments(beta1: f64, beta2: f64, epsilon: f64) -> Result<(), OptionError> {
    for (option, beta) in [("beta1", beta1), ("beta2", beta2)] {
        OptionError::check(option, beta, "from 0 to below 1", (0.0..1.0).contains(&beta))?;
    }
    OptionError::check("epsilon", epsilon, "a number above 0", epsilon > 0.0 && epsilon.is_finite())
}
