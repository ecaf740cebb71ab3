//! Language models: bringing them in, and hearing what they say.

use super::output::{self, Failure, print};
use super::values::{FloatValue, Size};
use crate::commands::{self, ImportOptions};
use clap::Args;
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
