//! What was typed for networks that are trained or measured.

use super::arguments::{CalibrationArguments, MachineArguments, SayArguments, SelectionArguments};
use super::values::{SaveValue, above_zero, limit, part, positive};
use crate::checkpoint::Source;
use crate::commands::DeviceName;
use crate::data::Material;
use crate::models::Architecture;
use crate::train::Schedule;
use clap::{Arg, Args, ValueEnum};
use std::path::PathBuf;

/// What the ratio of ranks is where networks are trained.
fn overcomplete(arg: Arg) -> Arg {
    let help = "Rank over min(rows, columns); above 1 the factors are overcomplete (wide)";
    arg.value_parser(above_zero).help(help)
}

/// Takes a negative number for a value, which is then refused as one, not for a flag.
fn negative(arg: Arg) -> Arg {
    let takes_values = arg.get_action().takes_values();
    arg.allow_negative_numbers(takes_values)
}

#[derive(Args, Debug)]
#[command(mut_arg("rank_ratio", overcomplete), mut_args(negative))]
pub(super) struct FinetuneArguments {
    /// A dense or a factored checkpoint
    #[arg(value_name = "CHECKPOINT", required_unless_present = "options", help_heading = "Input")]
    pub(super) checkpoint: Option<Source>,
    #[command(flatten)]
    pub(super) selection: SelectionArguments,
    #[command(flatten)]
    pub(super) calibration: CalibrationArguments,
    #[command(flatten)]
    pub(super) run: RunArguments,
}

#[derive(Args, Debug)]
#[command(mut_arg("rank_ratio", overcomplete), mut_args(negative))]
pub(super) struct TrainArguments {
    /// How factors start [default: spectral]
    #[arg(long, value_name = "HOW", value_enum, help_heading = "Input")]
    pub(super) init: Option<InitValue>,
    /// A config.json that says what is trained on texts [default with translations: a small Marian]
    #[arg(long, value_name = "PATH", help_heading = "Input")]
    pub(super) config: Option<PathBuf>,
    /// A tokenizer.json for it [default: one is learned from the training texts]
    #[arg(long, value_name = "PATH", help_heading = "Input")]
    pub(super) tokenizer: Option<PathBuf>,
    /// Tokens of a tokenizer that is learned [default: 8000]
    #[arg(long, value_name = "N", value_parser = positive, help_heading = "Input")]
    pub(super) vocabulary: Option<usize>,
    #[command(flatten)]
    pub(super) selection: SelectionArguments,
    #[command(flatten)]
    pub(super) run: RunArguments,
}

/// A run.
#[derive(Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(super) struct RunArguments {
    /// cifar10:DIR, cifar100:DIR, mnist:DIR, fashion-mnist:DIR, tiny-imagenet:DIR, images:DIR, stsb:DIR, sst2:DIR, classes:DIR, text:FILE or parallel:SOURCE,TARGET
    ///
    /// Texts are for networks with config.json and tokenizer.json: stsb: holds pairs of sentences with scores, sst2: and
    /// classes: texts with labels, text: nothing but text, parallel: two files with as many lines, of which {split} in a path
    /// stands for train, and for val, valid, dev or test.
    #[arg(long, value_name = "DATA", required_unless_present = "options", help_heading = "Input")]
    pub(super) data: Option<Material>,
    /// Texts that the result is measured on, where --data is one file
    #[arg(long, value_name = "DATA", help_heading = "Input")]
    pub(super) test_data: Option<Material>,
    /// Tokens of a window of text that a language model learns from at once [default: 256, or as many as it takes]
    #[arg(long, value_name = "N", value_parser = positive, help_heading = "Input")]
    pub(super) window: Option<usize>,
    /// resnet20 to resnet110, resnet32x2, wrn-28-10, vgg11 to vgg19, resnet18, resnet34, resnet50
    ///
    /// For a checkpoint whose names and shapes do not tell.
    #[arg(long, value_name = "NAME", help_heading = "Input")]
    pub(super) arch: Option<Architecture>,
    /// Read options from a TOML file, such as the options.toml of an earlier run; flags override it
    #[arg(long, value_name = "FILE", help_heading = "Input")]
    pub(super) options: Option<PathBuf>,
    /// The first so many training samples only
    #[arg(long, value_name = "N", value_parser = positive, help_heading = "Input")]
    pub(super) train_limit: Option<usize>,
    /// The first so many test samples only
    #[arg(long, value_name = "N", value_parser = positive, help_heading = "Input")]
    pub(super) test_limit: Option<usize>,
    /// Show training pictures as they are, without crops and flips
    #[arg(long, help_heading = "Input")]
    pub(super) no_augment: bool,

    /// Re-estimate batch normalization before the first epoch
    #[arg(long, help_heading = "Rank")]
    pub(super) recalibrate: bool,

    /// How often all training data is seen [default: 5 in finetune, 3 with texts, 10 with translations, 200 in train]
    #[arg(long, value_name = "N", help_heading = "Training")]
    pub(super) epochs: Option<usize>,
    /// Samples in a batch, tokens of translations [default: 128 pictures, 32 texts, 8 windows of a text, 2048 tokens of translations]
    #[arg(long, value_name = "N", value_parser = positive, help_heading = "Training")]
    pub(super) batch_size: Option<usize>,
    /// Batches whose gradients make one step [default: 1]
    #[arg(long, value_name = "N", value_parser = positive, help_heading = "Training")]
    pub(super) accumulate: Option<usize>,
    /// What shuffling, augmentation and initial weights are drawn from [default: 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..1 << 63), help_heading = "Training")]
    pub(super) seed: Option<u64>,
    /// sgd, adamw or lamb [default: sgd, adamw with texts]
    #[arg(long, value_name = "NAME", value_enum, help_heading = "Training")]
    pub(super) optimizer: Option<OptimizerValue>,
    /// The learning rate at its highest [default: 0.02 in finetune, 1e-4 with texts, 1e-3 with translations, 0.1 in train]
    #[arg(long, alias = "lr", value_name = "F", value_parser = limit, help_heading = "Training")]
    pub(super) learning_rate: Option<f64>,
    /// constant, step, cosine, inverse-sqrt or linear [default: cosine in finetune, linear with texts, inverse-sqrt with translations, step in train]
    #[arg(long, value_name = "NAME", help_heading = "Training")]
    pub(super) schedule: Option<Schedule>,
    /// Steps over which the learning rate rises first [default: 0, 500 with translations]
    #[arg(long, value_name = "N", help_heading = "Training")]
    pub(super) warmup_steps: Option<u64>,
    /// Momentum of sgd [default: 0.9]
    #[arg(long, value_name = "F", value_parser = limit, help_heading = "Training")]
    pub(super) momentum: Option<f64>,
    /// Nesterov's momentum for sgd
    #[arg(long, help_heading = "Training")]
    pub(super) nesterov: bool,
    /// The largest norm of a step's gradients [default: none, 1 with texts]
    #[arg(long, value_name = "F", value_parser = above_zero, help_heading = "Training")]
    pub(super) clip: Option<f64>,
    /// The part of the target that is spread over all classes [default: 0, 0.1 with translations]
    #[arg(long, value_name = "F", value_parser = limit, help_heading = "Training")]
    pub(super) label_smoothing: Option<f64>,
    /// Evaluate and save a moving average of the weights with this decay, such as 0.999 [default: none]
    #[arg(long, value_name = "F", value_parser = part, help_heading = "Training")]
    pub(super) average: Option<f64>,
    /// The part of hidden elements that is left out at random, of networks that translate [default: 0]
    #[arg(long, value_name = "F", value_parser = limit, help_heading = "Training")]
    pub(super) dropout: Option<f64>,
    /// Compute matrix products and convolutions on a GPU in bf16
    #[arg(long, help_heading = "Training")]
    pub(super) bf16: bool,
    /// How factors are run [default: auto, whichever takes less]
    #[arg(long, value_name = "HOW", value_enum, help_heading = "Training")]
    pub(super) execution: Option<ExecutionValue>,

    /// Lambda for dense weights [default: 1e-4, 0.01 with texts]
    #[arg(long, value_name = "F", value_parser = limit, help_heading = "Decay")]
    pub(super) weight_decay: Option<f64>,
    /// What is punished in factored layers [default: frobenius]
    #[arg(long, value_name = "WHAT", value_enum, help_heading = "Decay")]
    pub(super) factor_decay: Option<FactorDecayValue>,
    /// Lambda for factored layers [default: that for dense weights]
    #[arg(long, value_name = "F", value_parser = limit, help_heading = "Decay")]
    pub(super) frobenius_decay: Option<f64>,
    /// What is punished in dense queries and keys: each head's product, or the weights [default: weight]
    #[arg(long, value_name = "WHAT", value_enum, help_heading = "Decay")]
    pub(super) query_key_decay: Option<FactorDecayValue>,
    /// What is punished in dense outputs and values of attention [default: weight]
    #[arg(long, value_name = "WHAT", value_enum, help_heading = "Decay")]
    pub(super) output_value_decay: Option<FactorDecayValue>,
    /// Give biases and normalizations weight decay too
    #[arg(long, help_heading = "Decay")]
    pub(super) decay_all: bool,

    /// A dense checkpoint whose logits are learned, or its vectors of sentences
    #[arg(long, value_name = "CHECKPOINT", help_heading = "Teacher")]
    pub(super) teacher: Option<Source>,
    /// The teacher's architecture, where its names do not tell
    #[arg(long, value_name = "NAME", help_heading = "Teacher")]
    pub(super) teacher_arch: Option<Architecture>,
    /// What both networks' logits are divided by [default: 4]
    #[arg(long, value_name = "F", value_parser = above_zero, help_heading = "Teacher")]
    pub(super) temperature: Option<f64>,
    /// The teacher's part of the loss, from 0 to 1 [default: 0.9]
    #[arg(long, value_name = "F", value_parser = limit, help_heading = "Teacher")]
    pub(super) teacher_weight: Option<f64>,
    /// What hidden states after each layer are to the loss, of networks for text [default: 0]
    #[arg(long, value_name = "F", value_parser = limit, help_heading = "Teacher")]
    pub(super) teacher_hidden: Option<f64>,

    /// Leave weights out by magnitude until this part of all parameters is kept
    #[arg(long, value_name = "F", value_parser = part, help_heading = "Pruning")]
    pub(super) prune_keep: Option<f64>,
    /// Leave them out gradually, over this part of training [default: 0, all at once]
    #[arg(long, value_name = "F", value_parser = limit, help_heading = "Pruning")]
    pub(super) prune_until: Option<f64>,

    #[command(flatten)]
    pub(super) machine: MachineArguments,
    /// cpu, cuda or cuda:N [default: cpu]
    #[arg(long, value_name = "NAME", help_heading = "Numerics")]
    pub(super) device: Option<DeviceName>,
    /// Threads that read and augment [default: as the machine has, at most 4]
    #[arg(long, value_name = "N", help_heading = "Numerics")]
    pub(super) workers: Option<usize>,

    /// The run's folder
    #[arg(long, short, value_name = "DIR", required_unless_present = "options", help_heading = "Output")]
    pub(super) out: Option<PathBuf>,
    /// Save the factors, or multiply them out [default: factored]
    #[arg(long, value_name = "FORM", value_enum, help_heading = "Output")]
    pub(super) save: Option<SaveValue>,
    /// Which network is the result [default: last]
    #[arg(long, value_name = "WHICH", value_enum, help_heading = "Output")]
    pub(super) result: Option<ResultValue>,
    /// Save a state every N steps, beside the one after each epoch
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), help_heading = "Output")]
    pub(super) save_every: Option<u64>,
    /// Continue the run in the folder, from its last state
    #[arg(long, conflicts_with = "overwrite", help_heading = "Output")]
    pub(super) resume: bool,
    /// Replace an earlier run in the folder
    #[arg(long, help_heading = "Output")]
    pub(super) overwrite: bool,

    /// Print one JSON document
    #[arg(long, help_heading = "Report")]
    pub(super) json: bool,
    /// Show no progress
    #[arg(long, short, help_heading = "Report")]
    pub(super) quiet: bool,
    /// Exit with 3 if the result's accuracy is less, from 0 to 1
    #[arg(long, value_name = "F", value_parser = part, help_heading = "Checks")]
    pub(super) min_accuracy: Option<f64>,
    /// Exit with 3 if the result's Spearman's correlation is less
    #[arg(long, value_name = "F", value_parser = part, help_heading = "Checks")]
    pub(super) min_spearman: Option<f64>,
    /// Exit with 3 if the result's BLEU is less, from 0 to 100: of greedy translations, not of `evaluate`'s beams
    #[arg(long, value_name = "F", value_parser = limit, help_heading = "Checks")]
    pub(super) min_bleu: Option<f64>,
    /// Exit with 3 if the result's perplexity is more
    #[arg(long, value_name = "F", value_parser = above_zero, help_heading = "Checks")]
    pub(super) max_perplexity: Option<f64>,
}

#[derive(Args, Debug)]
#[command(mut_args(negative))]
pub(super) struct EvaluateArguments {
    /// A dense, factored or collapsed checkpoint
    #[arg(value_name = "CHECKPOINT")]
    pub(super) checkpoint: Source,
    /// cifar10:DIR, cifar100:DIR, mnist:DIR, fashion-mnist:DIR, tiny-imagenet:DIR, images:DIR, stsb:FILE, sst2:FILE, classes:FILE, text:FILE or parallel:SOURCE,TARGET
    ///
    /// Of networks for text, stsb: is correlation with people's scores of pairs of sentences, sst2: and classes: are
    /// accuracy, text: is perplexity, and parallel: is BLEU of translations. {split} in a path of parallel: stands for val,
    /// valid, dev or test.
    #[arg(long, value_name = "DATA")]
    pub(super) data: Material,
    /// The architecture, where names and shapes do not tell
    #[arg(long, value_name = "NAME")]
    pub(super) arch: Option<Architecture>,
    /// Pictures in a batch [default: 128]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(super) batch_size: Option<usize>,
    /// Tokens of a window of text [default: 512, or as many as the network takes]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(super) window: Option<usize>,
    /// The first so many pictures, pairs or windows only
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(super) limit: Option<usize>,
    /// Hypotheses of a search for translations [default: 5]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(super) beam: Option<usize>,
    /// How much longer translations are preferred: score / length^F [default: 1]
    #[arg(long, value_name = "F", value_parser = limit)]
    pub(super) length_penalty: Option<f64>,
    /// How factors are run [default: auto]
    #[arg(long, value_name = "HOW", value_enum)]
    pub(super) execution: Option<ExecutionValue>,
    /// cpu, cuda or cuda:N
    #[arg(long, value_name = "NAME", default_value = "cpu")]
    pub(super) device: DeviceName,
    /// Threads that read and decode [default: as the machine has, at most 4]
    #[arg(long, value_name = "N")]
    pub(super) workers: Option<usize>,
    #[command(flatten)]
    pub(super) say: SayArguments,
    /// Exit with 3 if the accuracy is less, from 0 to 1
    #[arg(long, value_name = "F", value_parser = part)]
    pub(super) min_accuracy: Option<f64>,
    /// Exit with 3 if Spearman's correlation is less
    #[arg(long, value_name = "F", value_parser = part)]
    pub(super) min_spearman: Option<f64>,
    /// Exit with 3 if the BLEU is less, from 0 to 100
    #[arg(long, value_name = "F", value_parser = limit)]
    pub(super) min_bleu: Option<f64>,
    /// Exit with 3 if the perplexity is more
    #[arg(long, value_name = "F", value_parser = above_zero)]
    pub(super) max_perplexity: Option<f64>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum InitValue {
    /// From the truncated SVDs of random dense weights
    Spectral,
    /// Each factor as a layer of its own
    Default,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum OptimizerValue {
    Sgd,
    Adamw,
    Lamb,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum ExecutionValue {
    /// Whichever takes less
    Auto,
    /// A layer after the other
    Sequence,
    /// Multiplied out first
    Product,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum FactorDecayValue {
    /// The norm of the product
    Frobenius,
    /// The norms of the factors
    Weight,
    /// Nothing
    None,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum ResultValue {
    /// After the last epoch
    Last,
    /// The best on the test set
    Best,
}
