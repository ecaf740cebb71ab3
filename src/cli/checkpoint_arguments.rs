//! What was typed to commands that look at a checkpoint, or rewrite it as it is.

use super::arguments::{CalibrationArguments, MachineArguments, OutputArguments, SayArguments};
use super::values::{ConvSchemeValue, pairs, part, positive};
use crate::checkpoint::Source;
use crate::decompose::Pairs;
use clap::Args;
use std::path::PathBuf;

#[derive(Args, Debug)]
#[command(mut_arg("calibration_inputs", |arg| arg.hide(true)))]
pub(super) struct HeadsArguments {
    /// A checkpoint's folder
    #[arg(value_name = "CHECKPOINT")]
    pub(super) checkpoint: Source,
    /// The part of the width of queries and keys that is kept [default: they stay as they are]
    #[arg(long, value_name = "F", value_parser = part)]
    pub(super) query_key: Option<f64>,
    /// The part of the width of values that is kept [default: they stay as they are]
    #[arg(long, value_name = "F", value_parser = part)]
    pub(super) output_value: Option<f64>,
    #[command(flatten)]
    pub(super) calibration: CalibrationArguments,
    #[command(flatten)]
    pub(super) output: OutputArguments,
    #[command(flatten)]
    pub(super) machine: MachineArguments,
    #[command(flatten)]
    pub(super) say: SayArguments,
}

#[derive(Args, Debug)]
pub(super) struct CollapseArguments {
    /// A factored checkpoint
    #[arg(value_name = "FACTORED")]
    pub(super) checkpoint: Source,
    #[command(flatten)]
    pub(super) output: OutputArguments,
    #[command(flatten)]
    pub(super) machine: MachineArguments,
    #[command(flatten)]
    pub(super) say: SayArguments,
}

#[derive(Args, Debug)]
pub(super) struct VerifyArguments {
    /// A factored checkpoint
    #[arg(value_name = "FACTORED")]
    pub(super) factored: Source,
    /// The dense checkpoint that it was made from
    #[arg(long, value_name = "DENSE")]
    pub(super) against: Source,
    #[command(flatten)]
    pub(super) machine: MachineArguments,
    #[command(flatten)]
    pub(super) say: SayArguments,
}

#[derive(Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(super) struct InspectArguments {
    /// A dense or a factored checkpoint
    #[arg(value_name = "CHECKPOINT")]
    pub(super) checkpoint: Source,
    /// Only the layers that a pattern matches [repeatable]
    #[arg(long, value_name = "PATTERN")]
    pub(super) target: Vec<String>,
    /// Show what this rank would cost and lose
    #[arg(long, value_name = "N", value_parser = positive, allow_negative_numbers = true)]
    pub(super) rank: Option<usize>,
    /// How convolutions are seen as matrices [default: spatial]
    #[arg(long, value_name = "SCHEME", value_enum)]
    pub(super) conv_scheme: Option<ConvSchemeValue>,
    /// Show what each layer would lose in every format: matrices, tucker, cp, tensor-train
    #[arg(long, conflicts_with = "no_spectra")]
    pub(super) formats: bool,
    /// How tensors take outputs and inputs apart: in how many [default: 2, of Tucker 3], or 8x4,8x16 for outputs x inputs of each
    #[arg(long, value_name = "PAIRS", value_parser = pairs, requires = "formats")]
    pub(super) pairs: Option<Pairs>,
    /// Write a page with a chart of each layer's formats
    #[arg(long, value_name = "FILE", requires = "formats")]
    pub(super) report: Option<PathBuf>,
    /// Read headers only, and compute no singular values
    #[arg(long)]
    pub(super) no_spectra: bool,
    /// List every tensor as well
    #[arg(long)]
    pub(super) tensors: bool,
    /// Print the recipe of a factored checkpoint, as TOML, and nothing else
    #[arg(long, conflicts_with_all = ["json", "tensors"])]
    pub(super) recipe: bool,
    #[command(flatten)]
    pub(super) machine: MachineArguments,
    #[command(flatten)]
    pub(super) say: SayArguments,
}
