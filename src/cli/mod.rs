//! The command line: what was typed, what it means, what is printed, and the exit code.
//!
//! | exit code | meaning |
//! | --- | --- |
//! | 0 | done |
//! | 1 | failed; no result was written unless its report alone could not be printed; a run keeps its last state |
//! | 2 | wrong usage |
//! | 3 | done, but a check that was asked for does not hold |
//! | 130 | interrupted; nothing was written, a run keeps its last state |

mod arguments;
mod checkpoint_arguments;
mod evaluate_meaning;
mod language;
mod meaning;
mod output;
mod training_arguments;
mod training_meaning;
mod values;

use crate::commands::{self, CollapseOptions, CommandError, HeadsOptions, InspectOptions, VerifyOptions};
use crate::decompose::Method;
use crate::plan::{Pattern, Recipe};
use crate::report;
use crate::train::{RunFolder, TrainingProgress};
use arguments::{Cli, Command, CompressArguments, SayArguments};
use checkpoint_arguments::{CollapseArguments, HeadsArguments, InspectArguments, VerifyArguments};
use clap::{CommandFactory, FromArgMatches};
use evaluate_meaning::Evaluate;
use output::{Failure, print};
use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard, PoisonError};
use training_arguments::{EvaluateArguments, FinetuneArguments, TrainArguments};

/// It failed.
const FAILED: u8 = 1;
/// What was typed contradicts itself, or is no command line.
const USAGE: u8 = 2;
/// A check that was asked for does not hold.
const CHECK_FAILED: u8 = 3;
/// How much of what does not hold is told in words.
const SHOWN_FAILURES: usize = 10;
/// What a shell says of a process that an interrupt ended.
const INTERRUPTED: u8 = 130;

/// Parses the process's arguments, does what they say, and returns the exit code.
#[must_use]
pub fn run() -> ExitCode {
    let matches = match command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => {
            let mistyped = std::env::args().nth(1).and_then(|first| mistyped(&first));
            return mistyped
                .map_or_else(|| output::usage(&error), |failure| failure.of_command(None).report());
        }
    };
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => return output::usage(&error),
    };
    output::show_warnings();
    // An interrupt leaves nothing behind, wherever the work is.
    let handler = ctrlc::set_handler(|| {
        let published = crate::checkpoint::abandon_all();
        if let Some(folder) = training_folder().take() {
            output::paused(&folder);
            std::process::exit(INTERRUPTED.into());
        }
        if !published {
            output::interrupted();
            std::process::exit(INTERRUPTED.into());
        }
        // The result is there: what is left is to say so.
    });
    if let Err(error) = handler {
        output::warn(&format!("an interrupt will not clean up: {error}"));
    }
    let result = match cli.command {
        None => compress(&cli.compress, &matches),
        Some(Command::Collapse(arguments)) => collapse(arguments),
        Some(Command::Heads(arguments)) => heads(arguments),
        Some(Command::Verify(arguments)) => verify(arguments),
        Some(Command::Finetune(arguments)) => finetune(&arguments, &matches),
        Some(Command::Train(arguments)) => train(&arguments, &matches),
        Some(Command::Evaluate(arguments)) => evaluate(*arguments),
        Some(Command::Inspect(arguments)) => inspect(arguments),
        Some(Command::Import(arguments)) => language::import(arguments),
        Some(Command::Generate(arguments)) => language::generate(arguments),
        Some(Command::Translate(arguments)) => language::translate(arguments),
        Some(Command::Completions { shell }) => completions(shell),
        Some(Command::Man { directory }) => man(directory.as_deref()),
    };
    match result {
        Ok(code) => code,
        Err(failure) => failure.of_command(matches.subcommand_name()).report(),
    }
}

/// Says which command was meant, where the first argument is near one's name and is no checkpoint.
fn mistyped(first: &str) -> Option<Failure> {
    if first.starts_with('-') || first.contains(['/', '.', ':']) || Path::new(first).exists() {
        return None;
    }
    let commands = command();
    let names = commands.get_subcommands().map(clap::Command::get_name);
    let likeness = |name: &&str| strsim::normalized_damerau_levenshtein(first, name);
    let near = names.max_by(|one, other| likeness(one).total_cmp(&likeness(other)))?;
    let is_near = near != first && likeness(&near) >= 0.6;
    is_near
        .then(|| Failure::usage(format!("there is no command and no checkpoint `{first}`: `{near}` is near")))
}

/// The whole command line, for parsing, completions and the man page.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

fn progress(quiet: bool) -> Box<dyn crate::plan::Progress> {
    if quiet {
        Box::new(output::WarningsOnly)
    } else {
        Box::new(report::TerminalProgress::new(std::io::stderr().is_terminal()))
    }
}

fn compress(arguments: &CompressArguments, matches: &clap::ArgMatches) -> Result<ExitCode, Failure> {
    let options = meaning::compress_options(arguments, matches)?;
    if let Some(page) = &arguments.report {
        let recipe = arguments.selection.recipe.as_deref();
        meaning::refuse_page(page, recipe, &options.source, options.output.as_deref(), options.overwrite)?;
    }
    let progress = progress(arguments.quiet);
    let report = commands::compress(&options, &*progress)?;
    if let Some(page) = &arguments.report {
        output::write_file(page, &report::html(&report))?;
    }
    if arguments.json {
        print(&report.to_json())?;
    } else {
        if options.dry_run {
            print(&(report.tensors_text() + "\n"))?;
        }
        print(&report.to_text())?;
    }
    output::flush()?;
    if report.totals.totals.layers_factored == 0 && report.passed() {
        output::warn("no layer is factored; what is said of each left dense tells why");
    }
    for check in report.checks.iter().filter(|check| !check.passed) {
        output::check_failed(&check.message);
    }
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::from(CHECK_FAILED) })
}

fn collapse(arguments: CollapseArguments) -> Result<ExitCode, Failure> {
    let mut options = CollapseOptions::new(arguments.checkpoint, arguments.output.out);
    options.limits = arguments.machine.limits();
    options.overwrite = arguments.output.overwrite;
    if let Some(size) = arguments.output.max_shard_size {
        options.max_shard_bytes = size.0;
    }
    let report = commands::collapse(&options, &*progress(arguments.say.quiet))?;
    print(&if arguments.say.json { report.to_json() } else { report.to_text() })?;
    output::flush()?;
    Ok(ExitCode::SUCCESS)
}

fn heads(arguments: HeadsArguments) -> Result<ExitCode, Failure> {
    let mut options = HeadsOptions::new(arguments.checkpoint, arguments.output.out);
    (options.query_key, options.output_value) = (arguments.query_key, arguments.output_value);
    let given = meaning::calibration(&arguments.calibration, arguments.output.overwrite);
    if arguments.calibration.calibration_inputs.is_some() {
        return Err(Failure::usage("--calibration-inputs says nothing of heads".to_owned()));
    }
    match arguments.calibration.method.map(Method::from) {
        Some(method) if given.is_given() == (method == Method::Plain) => {
            let problem = "every method but `plain` needs --calibrate or --statistics, and `plain` none";
            return Err(Failure::usage(problem.to_owned()));
        }
        _ => {}
    }
    let mut recipe = Recipe::default();
    meaning::calibrate(&mut recipe, &arguments.calibration, &given)?;
    (options.method, options.calibration) = (recipe.method, given);
    options.rule = recipe.calibration.unwrap_or_default();
    options.limits = arguments.machine.limits();
    options.overwrite = arguments.output.overwrite;
    if let Some(size) = arguments.output.max_shard_size {
        options.max_shard_bytes = size.0;
    }
    let report = commands::heads(&options, &*progress(arguments.say.quiet))?;
    print(&if arguments.say.json { report.to_json() } else { report.to_text() })?;
    output::flush()?;
    Ok(ExitCode::SUCCESS)
}

fn verify(arguments: VerifyArguments) -> Result<ExitCode, Failure> {
    let mut options = VerifyOptions::new(arguments.factored, arguments.against);
    options.limits = arguments.machine.limits();
    let report = commands::verify(&options, &*progress(arguments.say.quiet))?;
    print(&if arguments.say.json { report.to_json() } else { report.to_text() })?;
    output::flush()?;
    // The table above has every layer's; what is wrong everywhere is wrong for one reason.
    let mut failures = report.failures();
    for failure in failures.by_ref().take(SHOWN_FAILURES) {
        output::check_failed(&failure);
    }
    match failures.count() {
        0 => {}
        more => output::check_failed(&format!("and {more} more, all in the report of --json")),
    }
    if let Some(guess) = report.guess() {
        output::hint(guess);
    }
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::from(CHECK_FAILED) })
}

fn training_progress(quiet: bool) -> Box<dyn TrainingProgress> {
    if quiet {
        Box::new(output::WarningsOnly)
    } else {
        Box::new(report::TerminalTraining::new(std::io::stderr().is_terminal()))
    }
}

/// The folder of the run that is going on: an interrupt ends it, and leaves its last state.
fn training_folder() -> MutexGuard<'static, Option<RunFolder>> {
    static FOLDER: Mutex<Option<RunFolder>> = Mutex::new(None);
    FOLDER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does what trains in a folder; once it is done, an interrupt does not deny it.
fn in_folder<T>(folder: &Path, act: impl FnOnce() -> Result<T, CommandError>) -> Result<T, Failure> {
    *training_folder() = Some(RunFolder::new(folder));
    let done = act();
    if done.as_ref().is_err_and(CommandError::is_interrupt) {
        return Ok(done?);
    }
    *training_folder() = None;
    Ok(done?)
}

fn finetune(arguments: &FinetuneArguments, matches: &clap::ArgMatches) -> Result<ExitCode, Failure> {
    let options = training_meaning::finetune_options(arguments, of_command(matches))?;
    let quiet = arguments.run.quiet;
    let outcome = in_folder(&options.run.output, || {
        commands::finetune(&options, &*progress(quiet), &*training_progress(quiet))
    })?;
    finished(&outcome, arguments.run.json)
}

fn train(arguments: &TrainArguments, matches: &clap::ArgMatches) -> Result<ExitCode, Failure> {
    let options = training_meaning::train_options(arguments, of_command(matches))?;
    let quiet = arguments.run.quiet;
    let outcome = in_folder(&options.run.output, || {
        commands::train(&options, &*progress(quiet), &*training_progress(quiet))
    })?;
    finished(&outcome, arguments.run.json)
}

/// What was typed after the name of a command.
fn of_command(matches: &clap::ArgMatches) -> &clap::ArgMatches {
    matches.subcommand().map_or(matches, |(_, matches)| matches)
}

fn finished(report: &report::TrainingReport, json: bool) -> Result<ExitCode, Failure> {
    print(&if json { report.to_json() } else { report.to_text() })?;
    output::flush()?;
    for check in report.checks.iter().filter(|check| !check.passed) {
        output::check_failed(&check.message);
    }
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::from(CHECK_FAILED) })
}

fn evaluate(arguments: EvaluateArguments) -> Result<ExitCode, Failure> {
    let SayArguments { quiet, json } = arguments.say;
    let progress = training_progress(quiet);
    let (text, checks) = match evaluate_meaning::evaluate_options(arguments)? {
        Evaluate::Images(options) => {
            let report = commands::evaluate(&options, &*progress)?;
            (if json { report.to_json() } else { report.to_text() }, report.checks)
        }
        Evaluate::Text(options) => {
            let report = commands::evaluate_text(&options, &*progress)?;
            (if json { report.to_json() } else { report.to_text() }, report.checks)
        }
        Evaluate::Translation(options) => {
            let report = commands::evaluate_translation(&options, &*progress)?;
            (if json { report.to_json() } else { report.to_text() }, report.checks)
        }
    };
    print(&text)?;
    output::flush()?;
    for check in checks.iter().filter(|check| !check.passed) {
        output::check_failed(&check.message);
    }
    let passed = checks.iter().all(|check| check.passed);
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::from(CHECK_FAILED) })
}

fn inspect(arguments: InspectArguments) -> Result<ExitCode, Failure> {
    let mut options = InspectOptions::new(arguments.checkpoint);
    options.targets = arguments
        .target
        .iter()
        .map(|text| Pattern::parse(text))
        .collect::<Result<_, _>>()
        .map_err(|error| Failure::usage(error.to_string()))?;
    options.rank = arguments.rank;
    options.conv_scheme = arguments.conv_scheme.unwrap_or_default().into();
    options.spectra = !arguments.no_spectra && !arguments.recipe;
    options.formats = arguments.formats.then(|| arguments.pairs.clone().unwrap_or_default());
    options.limits = arguments.machine.limits();
    if let Some(page) = &arguments.report {
        meaning::refuse_page(page, None, &options.source, None, false)?;
    }
    let report = commands::inspect(&options, &*progress(arguments.say.quiet))?;
    if let Some(page) = &arguments.report {
        output::write_file(page, &report::inspect_html(&report))?;
    }
    if arguments.recipe {
        let Some(recipe) = &report.recipe else {
            return Err(Failure::new(format!("`{}` is not factored: it has no recipe", report.input)));
        };
        let recipe = Recipe::from_json(recipe).map_err(|error| Failure::new(error.to_string()))?;
        print(&recipe.to_toml())?;
    } else if arguments.say.json {
        print(&report.to_json())?;
    } else {
        if arguments.tensors {
            print(&(report.tensors_text() + "\n"))?;
        }
        print(&report.to_text())?;
    }
    output::flush()?;
    Ok(ExitCode::SUCCESS)
}

fn completions(shell: clap_complete::Shell) -> Result<ExitCode, Failure> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command(), "compress", &mut text);
    print(&String::from_utf8_lossy(&text))?;
    output::flush()?;
    Ok(ExitCode::SUCCESS)
}

fn man(directory: Option<&std::path::Path>) -> Result<ExitCode, Failure> {
    if let Some(directory) = directory {
        std::fs::create_dir_all(directory).map_err(|error| {
            Failure::new(format!("can't make the folder `{}`: {error}", directory.display()))
        })?;
        clap_mangen::generate_to(command(), directory).map_err(|error| {
            Failure::new(format!("can't write man pages to `{}`: {error}", directory.display()))
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = Vec::new();
    clap_mangen::Man::new(command())
        .render(&mut text)
        .map_err(|error| Failure::new(format!("can't render the man page: {error}")))?;
    print(&String::from_utf8_lossy(&text))?;
    output::flush()?;
    Ok(ExitCode::SUCCESS)
}
