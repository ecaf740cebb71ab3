//! What was typed.

use super::checkpoint_arguments::{CollapseArguments, HeadsArguments, InspectArguments, VerifyArguments};
use super::language::{GenerateArguments, ImportArguments, TranslateArguments};
use super::training_arguments::{EvaluateArguments, FinetuneArguments, TrainArguments};
use super::values::{
    AllocateValue, DtypeValue, InputsValue, MethodValue, ObjectiveValue, SaveValue, SchemeValue, Size,
    SvdValue, limit, pairs, part, positive, ranks,
};
use crate::checkpoint::Source;
use crate::data::{DataSource, Material};
use crate::decompose::{Pairs, Ranks};
use crate::models::Architecture;
use crate::plan::Limits;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Make a trained neural network smaller by factoring its layers.
///
/// Reads a dense checkpoint (safetensors), replaces each chosen layer by low-rank factors from its
/// truncated SVD, and writes a factored checkpoint, or a collapsed one with the original names and shapes.
#[derive(Debug, Parser)]
#[command(
    name = "compress",
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    max_term_width = 100,
    after_help = "Exit codes: 0 done; 1 failed; 2 wrong usage; 3 done, but a check does not hold.\n\
                  Patterns: an exact layer name; a glob over dotted segments, `*` one and `**` any number; `re:` and a regex."
)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    #[command(flatten)]
    pub(super) compress: CompressArguments,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Multiply the factors of a factored checkpoint out
    Collapse(CollapseArguments),
    /// Make the heads of attention narrower, or balance them: factor what they compute with
    ///
    /// For networks for text whose folder has config.json. Each head's product of queries and keys, and of outputs and
    /// values, is replaced by the nearest one of a lower rank; 1 keeps all of the width and balances the weights.
    Heads(HeadsArguments),
    /// Recompute every layer's error and compare it with the record
    Verify(VerifyArguments),
    /// Train a checkpoint on, its layers factored first or already
    Finetune(Box<FinetuneArguments>),
    /// Train a network from scratch: dense, factored or overcomplete
    Train(Box<TrainArguments>),
    /// Measure a network's accuracy, size and speed
    Evaluate(Box<EvaluateArguments>),
    /// Say what a checkpoint holds and what factoring its layers would cost and lose
    Inspect(InspectArguments),
    /// Make a Hugging Face folder of a GGUF file, for all that is done here
    Import(ImportArguments),
    /// Continue a text with a language model
    Generate(GenerateArguments),
    /// Translate sentences with a network that translates
    Translate(TranslateArguments),
    /// Print a shell's completions
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the man page
    Man {
        /// Write the pages of all commands to this folder instead
        #[arg(long, value_name = "DIR")]
        directory: Option<PathBuf>,
    },
}

#[derive(Args, Debug)]
#[command(mut_arg("save_statistics", |arg| arg.conflicts_with("dry_run")))]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(super) struct CompressArguments {
    /// A .safetensors file, a Hugging Face folder, or `hf://org/name[@revision]`
    #[arg(value_name = "CHECKPOINT", required = true, help_heading = "Input")]
    pub(super) checkpoint: Option<Source>,

    /// The architecture, where names and shapes do not tell; for --calibrate and --recalibrate with pictures
    #[arg(long, value_name = "NAME", help_heading = "Input")]
    pub(super) arch: Option<Architecture>,

    #[command(flatten)]
    pub(super) selection: SelectionArguments,

    #[command(flatten)]
    pub(super) machine: MachineArguments,

    /// Where the result goes: a folder for a folder, a file for a file
    ///
    /// A file's result goes to a folder when the name ends in a slash.
    #[arg(long, short, value_name = "PATH", required_unless_present = "dry_run", help_heading = "Output")]
    pub(super) out: Option<PathBuf>,

    /// Save the factors, or multiply them out [default: factored]
    #[arg(long, value_name = "FORM", value_enum, help_heading = "Output")]
    pub(super) save: Option<SaveValue>,

    /// Element type of the parameters written [default: keep]
    #[arg(long, value_name = "DTYPE", value_enum, help_heading = "Output")]
    pub(super) dtype: Option<DtypeValue>,

    /// Bytes of tensors in a file of a folder, at most unless one is larger [default: 5GB]
    #[arg(long, value_name = "SIZE", help_heading = "Output")]
    pub(super) max_shard_size: Option<Size>,

    #[command(flatten)]
    pub(super) calibration: CalibrationArguments,

    /// Re-estimate batch normalization on training pictures: cifar10:DIR, images:DIR, ...
    ///
    /// For convolutional networks that `compress evaluate` knows; needs neither labels nor training.
    #[arg(long, value_name = "DATA", conflicts_with = "dry_run", help_heading = "Output")]
    pub(super) recalibrate: Option<DataSource>,

    /// Replace an existing output, at the end and at once
    #[arg(long, help_heading = "Output")]
    pub(super) overwrite: bool,

    /// Print what would happen to every tensor, and write nothing
    ///
    /// No SVD is computed unless the rank rule needs spectra.
    #[arg(long, help_heading = "Output")]
    pub(super) dry_run: bool,

    /// Print one JSON document instead of tables
    #[arg(long, help_heading = "Report")]
    pub(super) json: bool,

    /// Write a page with tables, spectra and charts
    #[arg(long, value_name = "FILE.html", help_heading = "Report")]
    pub(super) report: Option<PathBuf>,

    /// Show no progress
    #[arg(long, short, help_heading = "Report")]
    pub(super) quiet: bool,

    /// Exit with 3 if a layer's relative error is larger
    #[arg(long, value_name = "F", value_parser = limit, allow_negative_numbers = true, help_heading = "Checks")]
    pub(super) max_error: Option<f64>,

    /// Exit with 3 if more of all parameters is kept
    #[arg(long, value_name = "F", value_parser = limit, allow_negative_numbers = true, help_heading = "Checks")]
    pub(super) max_keep: Option<f64>,

    /// Exit with 3 if no layer was factored
    #[arg(long, help_heading = "Checks")]
    pub(super) fail_if_unchanged: bool,
}

/// Which layers are factored, and their ranks.
#[derive(Args, Debug)]
pub(super) struct SelectionArguments {
    /// Read rules from a recipe
    ///
    /// A TOML file; or what an earlier run wrote (a folder, a .safetensors file, report.json), whose recipe
    /// is then repeated. Flags that select layers or ranks add a first rule; the others override.
    #[arg(long, value_name = "FILE", help_heading = "Input")]
    pub(super) recipe: Option<PathBuf>,

    /// Factor the layers that a pattern matches [repeatable]
    ///
    /// Without targets: every linear and convolution weight but embeddings, the output head, tied
    /// weights, the first convolution, and what would not shrink. Targets and ignores are tried in the order
    /// in which they are written; the first that matches a layer decides.
    #[arg(long, value_name = "PATTERN", help_heading = "Selection")]
    pub(super) target: Vec<String>,

    /// Leave the layers dense that a pattern matches [repeatable]
    #[arg(long, value_name = "PATTERN", help_heading = "Selection")]
    pub(super) ignore: Vec<String>,

    /// The same rank everywhere, at most the layer's; for tensors also one for each mode: 16,32
    #[arg(long, value_name = "N", value_parser = ranks, allow_negative_numbers = true, group = "rank_rule", help_heading = "Rank")]
    pub(super) rank: Option<Ranks>,

    /// Rank over min(rows, columns), in (0, 1]
    #[arg(long, value_name = "F", value_parser = part, allow_negative_numbers = true, group = "rank_rule", help_heading = "Rank")]
    pub(super) rank_ratio: Option<f64>,

    /// The least rank that keeps this part of the squared norm, of a tensor in every mode, in (0, 1]
    #[arg(long, value_name = "F", value_parser = part, allow_negative_numbers = true, group = "rank_rule", help_heading = "Rank")]
    pub(super) energy: Option<f64>,

    /// All parameters of the checkpoint after / before, in (0, 1]
    #[arg(long, value_name = "F", value_parser = part, allow_negative_numbers = true, group = "rank_rule", help_heading = "Rank")]
    pub(super) keep: Option<f64>,

    /// Parameters of the selected layers after / before, in (0, 1]
    #[arg(long, value_name = "F", value_parser = part, allow_negative_numbers = true, group = "rank_rule", help_heading = "Rank")]
    pub(super) layer_keep: Option<f64>,

    /// How weights are split [default: spatial for convolutions, matrix for others]
    ///
    /// `tucker`, `cp` and `tensor-train` are tensors; `auto` takes, for each layer, the format that loses least at the same
    /// number of parameters. `cp` leaves linear layers to matrices. `deep` is for training: three factors of full rank,
    /// collapsed at the end.
    #[arg(long, alias = "conv-scheme", value_name = "SCHEME", value_enum, help_heading = "Rank")]
    pub(super) scheme: Option<SchemeValue>,

    /// What formats are compared by [default: parameters]
    #[arg(long, value_name = "WHAT", value_enum, help_heading = "Rank")]
    pub(super) objective: Option<ObjectiveValue>,

    /// How tensors take outputs and inputs apart: in how many [default: 2, of Tucker 3], or 8x4,8x16 for outputs x inputs of each
    #[arg(long, value_name = "PAIRS", value_parser = pairs, help_heading = "Rank")]
    pub(super) pairs: Option<Pairs>,

    /// How a budget is spread over layers [default: spectral]
    #[arg(long, value_name = "HOW", value_enum, help_heading = "Rank")]
    pub(super) allocate: Option<AllocateValue>,

    /// Round ranks to multiples of N
    ///
    /// Up for --energy, which promises an error; down otherwise, and at least N.
    #[arg(long, value_name = "N", value_parser = positive, allow_negative_numbers = true, help_heading = "Rank")]
    pub(super) round_to: Option<usize>,

    /// How the truncated SVD is computed [default: auto]
    #[arg(long, value_name = "METHOD", value_enum, help_heading = "Numerics")]
    pub(super) svd: Option<SvdValue>,
}

/// Where a checkpoint is written.
#[derive(Args, Debug)]
pub(super) struct OutputArguments {
    /// Where the result goes
    #[arg(long, short, value_name = "PATH")]
    pub(super) out: PathBuf,
    /// Bytes of tensors in a file of a folder, at most unless one is larger [default: 5GB]
    #[arg(long, value_name = "SIZE")]
    pub(super) max_shard_size: Option<Size>,
    /// Replace an existing output, at the end and at once
    #[arg(long)]
    pub(super) overwrite: bool,
}

/// How a command says what it did.
#[derive(Args, Debug)]
pub(super) struct SayArguments {
    /// Print one JSON document
    #[arg(long)]
    pub(super) json: bool,
    /// Show no progress
    #[arg(long, short)]
    pub(super) quiet: bool,
}

#[derive(Args, Debug)]
pub(super) struct MachineArguments {
    /// Layers at once, each on one thread [default: all cores]
    ///
    /// The bytes written do not depend on it.
    #[arg(long, value_name = "N", value_parser = positive, allow_negative_numbers = true, help_heading = "Numerics")]
    pub(super) threads: Option<usize>,

    /// Working memory of all layers at once: 500MB, 4GiB [default: unlimited]
    #[arg(long, value_name = "SIZE", help_heading = "Numerics")]
    pub(super) memory_limit: Option<Size>,
}

impl MachineArguments {
    pub(super) fn limits(&self) -> Limits {
        let threads = self.threads.unwrap_or(Limits::default().threads);
        Limits::new(threads, self.memory_limit.map(|size| size.0))
    }
}

/// What a model does with data, where factors are made for it.
#[derive(Args, Debug)]
pub(super) struct CalibrationArguments {
    /// Run the model over data first, and factor for what its layers do with them: text:FILE, cifar10:DIR, ...
    ///
    /// text:FILE or stsb:FILE for networks for text whose folder has config.json and tokenizer.json; training pictures
    /// (cifar10:DIR, images:DIR, ...) for convolutional networks that `compress evaluate` knows. Needs neither labels nor
    /// training.
    #[arg(long, value_name = "DATA", help_heading = "Calibration")]
    pub(super) calibrate: Option<Material>,

    /// What factors are made to be near in [default: fisher with calibration, plain without]
    #[arg(long, value_name = "METHOD", value_enum, help_heading = "Calibration")]
    pub(super) method: Option<MethodValue>,

    /// How many tokens the model is run over [default: 32768]
    #[arg(long, value_name = "N", value_parser = positive, allow_negative_numbers = true, help_heading = "Calibration")]
    pub(super) calibration_tokens: Option<usize>,

    /// How many pictures the model is run over [default: 2048]
    #[arg(long, value_name = "N", value_parser = positive, allow_negative_numbers = true, conflicts_with = "calibration_tokens", help_heading = "Calibration")]
    pub(super) calibration_images: Option<usize>,

    /// Whose inputs a layer's factors are made for [default: dense]
    ///
    /// `compressed` are those that it has once the blocks before its own are factored: the model runs once more for each block,
    /// at most a dozen times.
    #[arg(long, value_name = "WHOSE", value_enum, help_heading = "Calibration")]
    pub(super) calibration_inputs: Option<InputsValue>,

    /// What the samples are drawn from [default: 0]
    #[arg(long, value_name = "N", help_heading = "Calibration")]
    pub(super) calibration_seed: Option<u64>,

    /// Take what the model does from this file, which --save-statistics wrote
    #[arg(long, value_name = "FILE", help_heading = "Calibration")]
    pub(super) statistics: Option<PathBuf>,

    /// Write what the model does with the data to this file, for further compressions
    #[arg(long, value_name = "FILE", help_heading = "Calibration")]
    pub(super) save_statistics: Option<PathBuf>,
}
