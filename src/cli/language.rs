//! Language models: bringing them in, and hearing what they say.

use super::output::{self, Failure, print};
use super::values::{FloatValue, Size, limit, part, positive};
use crate::checkpoint::Source;
use crate::commands::{self, GenerateOptions, ImportOptions};
use clap::Args;
use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Args, Debug)]
pub(super) struct ImportArguments {
    /// A GGUF file of a Llama (SmolLM, Mistral), Qwen2, Qwen3 or GPT-2
    #[arg(value_name = "MODEL.gguf")]
    file: PathBuf,
    /// Where the Hugging Face folder goes
    #[arg(long, short, value_name = "DIR")]
    out: PathBuf,
    /// Element type of the parameters written [default: f32]
    ///
    /// In f32 they are exactly what the file's blocks stand for; f16 and bf16 round them.
    #[arg(long, value_name = "DTYPE", value_enum)]
    dtype: Option<FloatValue>,
    /// Take the tokenizer from this folder's tokenizer.json instead of the file
    #[arg(long, value_name = "DIR")]
    tokenizer: Option<PathBuf>,
    /// Largest file of the folder [default: 5GB]
    #[arg(long, value_name = "SIZE")]
    max_shard_size: Option<Size>,
    /// Replace an existing output, at the end and at once
    #[arg(long)]
    overwrite: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// Show no progress
    #[arg(long, short)]
    quiet: bool,
}

pub(super) fn import(arguments: ImportArguments) -> Result<ExitCode, Failure> {
    let mut options = ImportOptions::new(arguments.file, arguments.out);
    if let Some(dtype) = arguments.dtype {
        options.dtype = dtype.into();
    }
    options.tokenizer = arguments.tokenizer;
    options.overwrite = arguments.overwrite;
    if let Some(size) = arguments.max_shard_size {
        options.max_shard_bytes = size.0;
    }
    let report = commands::import(&options, &*super::training_progress(arguments.quiet))?;
    print(&if arguments.json { report.to_json() } else { report.to_text() })?;
    output::flush()?;
    Ok(ExitCode::SUCCESS)
}

#[derive(Args, Debug)]
pub(super) struct GenerateArguments {
    /// A language model's folder: dense, factored or collapsed
    #[arg(value_name = "CHECKPOINT")]
    checkpoint: Source,
    /// The text to continue; `-` reads it from stdin
    #[arg(long, short, value_name = "TEXT", allow_hyphen_values = true)]
    prompt: String,
    /// Tokens to generate at most [default: 128, or as many as the network takes]
    #[arg(long, short = 'n', value_name = "N", value_parser = positive)]
    tokens: Option<usize>,
    /// What scores are divided by; at 0 the likeliest token is taken [default: 0]
    #[arg(long, value_name = "F", value_parser = limit, allow_negative_numbers = true)]
    temperature: Option<f64>,
    /// Draw among so many of the likeliest tokens [default: all]
    #[arg(long, value_name = "N", value_parser = positive, requires = "temperature")]
    top_k: Option<usize>,
    /// Draw among the likeliest tokens with this part of the probability [default: 1]
    #[arg(long, value_name = "F", value_parser = part, requires = "temperature")]
    top_p: Option<f64>,
    /// What is drawn from; the same seed gives the same text [default: 0]
    #[arg(long, value_name = "N", requires = "temperature")]
    seed: Option<u64>,
    /// Print one JSON document, at the end
    #[arg(long)]
    json: bool,
    /// Say nothing of the speed
    #[arg(long, short)]
    quiet: bool,
}

pub(super) fn generate(arguments: GenerateArguments) -> Result<ExitCode, Failure> {
    let prompt = if arguments.prompt == "-" {
        io::read_to_string(io::stdin())
            .map_err(|error| Failure::new(format!("can't read the prompt from stdin: {error}")))?
    } else {
        arguments.prompt
    };
    let mut options = GenerateOptions::new(arguments.checkpoint, prompt);
    options.tokens = arguments.tokens;
    let sampling = &mut options.sampling;
    sampling.temperature = arguments.temperature.unwrap_or(sampling.temperature);
    sampling.top_k = arguments.top_k;
    sampling.top_p = arguments.top_p;
    sampling.seed = arguments.seed.unwrap_or(sampling.seed);
    let mut failed = None;
    let report = commands::generate(&options, |piece| {
        if arguments.json {
            return ControlFlow::Continue(());
        }
        match output::stream(piece) {
            Ok(going) => going,
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    print(&if arguments.json { report.to_json() } else { "\n".to_owned() })?;
    output::flush()?;
    if !arguments.quiet {
        output::note(&report.speed_text());
    }
    Ok(ExitCode::SUCCESS)
}
