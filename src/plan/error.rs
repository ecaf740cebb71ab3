use super::exclusion::Exclusion;
use super::recipe::RecipeError;
use crate::checkpoint::{Bytes, CheckpointError};
use crate::decompose::DecomposeError;
use serde::Serialize;
use std::fmt;

/// Why a weight that has factors stays dense.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Reason {
    /// The catalog excludes it.
    Excluded(Exclusion),
    /// A pattern leaves it dense.
    Ignored {
        /// That pattern.
        pattern: String,
    },
    /// No rule takes it.
    NoRule,
    /// The factors would not be smaller than the weight.
    NotSmaller {
        /// The rank that the rule gives.
        rank: usize,
        /// The largest rank at which they would be.
        break_even_rank: usize,
    },
    /// The budget is best spent by leaving it dense.
    Allocated,
}

impl Reason {
    /// A word for machines.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Excluded(exclusion) => match exclusion {
                Exclusion::NotAWeight => "not_a_weight",
                Exclusion::Quantized => "quantized",
                Exclusion::TransposedConvolution => "transposed_convolution",
                Exclusion::ManyAxes => "many_axes",
                Exclusion::Embedding => "embedding",
                Exclusion::OutputHead => "output_head",
                Exclusion::Tied => "tied",
                Exclusion::FirstConvolution => "first_convolution",
                Exclusion::Depthwise => "depthwise",
                Exclusion::UnknownGroups { .. } => "unknown_groups",
                Exclusion::OnlyCollapsed => "only_collapsed",
                Exclusion::MoreParameters { .. } => "more_parameters",
                Exclusion::NamesTaken { .. } => "names_taken",
                Exclusion::Empty => "empty",
            },
            Self::Ignored { .. } => "ignored",
            Self::NoRule => "no_rule",
            Self::NotSmaller { .. } => "not_smaller",
            Self::Allocated => "allocated_dense",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Excluded(exclusion) => exclusion.fmt(f),
            Self::Ignored { pattern } => write!(f, "ignored by `{pattern}`"),
            Self::NoRule => f.write_str("no rule takes it"),
            Self::NotSmaller { break_even_rank: 0, .. } => f.write_str("no rank would make it smaller"),
            Self::NotSmaller { rank, break_even_rank } => {
                write!(f, "rank {rank} would not make it smaller, only up to {break_even_rank}")
            }
            Self::Allocated => f.write_str("dense is the best use of the budget"),
        }
    }
}

/// A shape as `(64, 512)`.
pub(crate) fn tuple(shape: &[usize]) -> String {
    let axes: Vec<String> = shape.iter().map(ToString::to_string).collect();
    format!("({})", axes.join(", "))
}

/// Rounded up to four digits, so that what is printed is reached.
fn up(part: f64) -> f64 {
    (part * 1e4).ceil() / 1e4
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// Patterns that match nothing, are never reached or contradict each other.
    #[error("{}", .0.join("; "))]
    Patterns(Vec<String>),
    /// The recipe is not one.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// A rank is beyond the layers that it is asked for.
    #[error("rank {rank} exceeds the largest possible rank {max_rank} of `{tensor}`, shape {}", tuple(shape))]
    RankBeyondLayer {
        /// The rank asked for.
        rank: usize,
        /// The largest possible.
        max_rank: usize,
        /// The weight with it.
        tensor: String,
        /// That weight's shape.
        shape: Vec<usize>,
    },
    /// Ranks of several modes are beyond the layers that they are asked for.
    #[error(
        "ranks {} exceed the largest possible ranks {} of `{tensor}`, shape {}",
        tuple(ranks),
        tuple(max_ranks),
        tuple(shape)
    )]
    RanksBeyondLayer {
        /// The ranks asked for.
        ranks: Vec<usize>,
        /// The largest possible.
        max_ranks: Vec<usize>,
        /// The weight with them.
        tensor: String,
        /// That weight's shape.
        shape: Vec<usize>,
    },
    /// A layer was named whose factors cannot be saved.
    #[error("`{tensor}` is a {kind} weight that no runtime runs factored")]
    OnlyCollapsed {
        /// The weight.
        tensor: String,
        /// What it is.
        kind: &'static str,
    },
    /// The checkpoint is factored already.
    #[error("`{checkpoint}` is factored already: its record lists {modules} modules")]
    AlreadyFactored {
        /// The checkpoint.
        checkpoint: String,
        /// How many modules its record lists.
        modules: usize,
    },
    /// A budget is smaller than what stays dense and rank 1 everywhere take.
    #[error("{rule} {asked} can't be reached: at rank 1 everywhere it is {:.4}", up(*.least))]
    Budget {
        /// `keep` or `layer_keep`.
        rule: &'static str,
        /// The part asked for.
        asked: f64,
        /// The least part possible.
        least: f64,
    },
    /// Factors that are larger than what they stand for, where a smaller checkpoint is asked for.
    #[error("the recipe asks for overcomplete factors, by {asked}, which make a checkpoint larger")]
    Overcomplete {
        /// `scheme deep` or `rank_ratio` above 1.
        asked: String,
    },
    /// One layer needs more memory than is allowed.
    #[error("`{tensor}` needs {} of memory to be factored, the limit is {}", Bytes(*.needed), Bytes(*.limit))]
    Memory {
        /// The weight.
        tensor: String,
        /// Bytes needed.
        needed: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// A weight cannot be decomposed.
    #[error("`{tensor}` can't be factored")]
    Decompose {
        /// The weight.
        tensor: String,
        /// Why.
        #[source]
        source: DecomposeError,
    },
    /// A method that knows the data, and no data.
    #[error("method `{method}` needs calibration")]
    NotCalibrated {
        /// The method.
        method: &'static str,
    },
    /// The checkpoint cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The work was interrupted.
    #[error("interrupted")]
    Interrupted,
}

impl PlanError {
    /// What to do about it, where that can be said.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Patterns(problems) if problems.iter().any(|problem| problem.contains("never reached")) => {
                Some("the first pattern that matches a layer decides: put the narrower one first".to_owned())
            }
            Self::Patterns(_) => Some("`compress inspect` lists the layers of a checkpoint".to_owned()),
            Self::OnlyCollapsed { .. } => Some("`--save collapsed` multiplies the factors out".to_owned()),
            Self::AlreadyFactored { .. } => {
                Some("`compress collapse` restores a dense checkpoint".to_owned())
            }
            Self::Budget { least, .. } if *least < 1.0 => {
                Some(format!("target more layers, or ask for at least {:.4}", up(*least)))
            }
            Self::Overcomplete { .. } => Some(
                "they are for training, and collapsed after it: `compress finetune`, `compress train`"
                    .to_owned(),
            ),
            Self::NotCalibrated { .. } => Some(
                "--calibrate text:FILE runs the model over texts, --calibrate cifar10:DIR over pictures; --statistics FILE takes what \
                 an earlier run saw"
                    .to_owned(),
            ),
            Self::Memory { .. } => Some("raise `--memory-limit` or ignore the layer".to_owned()),
            Self::Checkpoint(error) => error.hint(),
            _ => None,
        }
    }
}
