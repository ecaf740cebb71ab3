//! Language models: bringing them in, and hearing what they say.

use super::arguments::SayArguments;
use super::output::{self, Failure, print};
use super::values::{FloatValue, Size, limit, part, positive};
use crate::checkpoint::Source;
use crate::commands::{self, GenerateOptions, ImportOptions, TranslateOptions};
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
    #[command(flatten)]
    say: SayArguments,
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
    let report = commands::import(&options, &*super::training_progress(arguments.say.quiet))?;
    print(&if arguments.say.json { report.to_json() } else { report.to_text() })?;
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
    let mut options = GenerateOptions::new(arguments.checkpoint, text(arguments.prompt, "prompt")?);
    options.tokens = arguments.tokens;
    let sampling = &mut options.sampling;
    sampling.temperature = arguments.temperature.unwrap_or(sampling.temperature);
    sampling.top_k = arguments.top_k;
    sampling.top_p = arguments.top_p;
    sampling.seed = arguments.seed.unwrap_or(sampling.seed);
    let mut stream = Streamed { json: arguments.json, failed: None };
    let report = commands::generate(&options, |piece| stream.show(piece))?;
    stream.end()?;
    print(&if arguments.json { report.to_json() } else { "\n".to_owned() })?;
    output::flush()?;
    if !arguments.quiet {
        output::note(&report.speed_text());
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Args, Debug)]
pub(super) struct TranslateArguments {
    /// A folder of a network that translates (Marian): dense, factored or collapsed
    #[arg(value_name = "CHECKPOINT")]
    checkpoint: Source,
    /// The sentences, one a line; `-` reads them from stdin
    #[arg(long, short, value_name = "TEXT", allow_hyphen_values = true)]
    text: String,
    /// Hypotheses of the search [default: 5]
    #[arg(long, value_name = "N", value_parser = positive)]
    beam: Option<usize>,
    /// How much longer translations are preferred: score / length^F [default: 1]
    #[arg(long, value_name = "F", value_parser = limit)]
    length_penalty: Option<f64>,
    /// Print one JSON document, at the end
    #[arg(long)]
    json: bool,
    /// Say nothing of the speed
    #[arg(long, short)]
    quiet: bool,
}

pub(super) fn translate(arguments: TranslateArguments) -> Result<ExitCode, Failure> {
    let lines = text(arguments.text, "sentences")?.lines().map(str::to_owned).collect();
    let mut options = TranslateOptions::new(arguments.checkpoint, lines);
    let search = &mut options.search;
    search.beams = arguments.beam.unwrap_or(search.beams);
    search.length_penalty = arguments.length_penalty.unwrap_or(search.length_penalty);
    let mut stream = Streamed { json: arguments.json, failed: None };
    let report = commands::translate(&options, |translated| {
        // A line for each line, whatever the network says.
        stream.show(&(translated.text.replace(['\n', '\r'], " ") + "\n"))
    })?;
    stream.end()?;
    if arguments.json {
        print(&report.to_json())?;
    }
    output::flush()?;
    if let Some(cut) = report.cut_text() {
        output::warn(&cut);
    }
    if !arguments.quiet {
        output::note(&report.speed_text());
    }
    Ok(ExitCode::SUCCESS)
}

/// A text, or what stdin has for `-`.
fn text(argument: String, what: &str) -> Result<String, Failure> {
    if argument != "-" {
        return Ok(argument);
    }
    io::read_to_string(io::stdin())
        .map_err(|error| Failure::new(format!("can't read the {what} from stdin: {error}")))
}

/// What is shown as it comes, unless one document is to be printed at the end.
struct Streamed {
    json: bool,
    failed: Option<io::Error>,
}

impl Streamed {
    fn show(&mut self, piece: &str) -> ControlFlow<()> {
        if self.json {
            return ControlFlow::Continue(());
        }
        match output::stream(piece) {
            Ok(going) => going,
            Err(error) => {
                self.failed = Some(error);
                ControlFlow::Break(())
            }
        }
    }

    fn end(self) -> io::Result<()> {
        self.failed.map_or(Ok(()), Err)
    }
}
