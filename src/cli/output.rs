//! What is printed: results on stdout, all else on stderr. A reader that goes away is not an error.

use crate::commands::CommandError;
use crate::report::printable_lines;
use crate::train::RunFolder;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;

/// Why the process ends with another code than 0.
#[derive(Debug)]
pub(super) struct Failure {
    message: String,
    hint: Option<String>,
    code: u8,
}

impl Failure {
    pub(super) fn new(message: String) -> Self {
        Self { message, hint: None, code: super::FAILED }
    }

    pub(super) fn usage(message: String) -> Self {
        Self { message, hint: None, code: super::USAGE }
    }

    /// The same, with where the flags of the command are listed if they were used wrongly and nothing better is known.
    pub(super) fn of_command(mut self, name: Option<&str>) -> Self {
        if self.code == super::USAGE && self.hint.is_none() {
            let name = name.map_or_else(String::new, |name| format!(" {name}"));
            self.hint = Some(format!("`compress{name} --help` lists all flags"));
        }
        self
    }

    /// Prints what went wrong and returns the exit code.
    pub(super) fn report(self) -> ExitCode {
        if self.code == super::INTERRUPTED {
            // The handler removes what was written, says so and ends the process.
            std::thread::sleep(std::time::Duration::from_secs(10));
        }
        let mut stderr = io::stderr();
        let _ = writeln!(stderr, "error: {}", printable_lines(&self.message));
        if let Some(hint) = self.hint {
            let mut lines = hint.lines();
            let _ = writeln!(stderr, "hint: {}", lines.next().unwrap_or_default());
            for line in lines {
                let _ = writeln!(stderr, "      {line}");
            }
        }
        ExitCode::from(self.code)
    }
}

/// Says on stderr what may be the reason.
pub(super) fn hint(text: &str) {
    let _ = writeln!(io::stderr(), "hint: {text}");
}

impl From<CommandError> for Failure {
    fn from(error: CommandError) -> Self {
        let hint = error.hint();
        let code = match &error {
            error if error.is_interrupt() => super::INTERRUPTED,
            error if error.is_usage() => super::USAGE,
            _ => super::FAILED,
        };
        Self { hint, code, ..Self::from(anyhow::Error::from(error)) }
    }
}

impl From<anyhow::Error> for Failure {
    /// One line of the error and its causes; an error that only passes its cause on is not said twice.
    fn from(error: anyhow::Error) -> Self {
        let mut message = String::new();
        for cause in error.chain().map(|cause| without_backtrace(cause.to_string())) {
            if message.ends_with(&cause) {
                continue;
            }
            if !message.is_empty() {
                message.push_str(": ");
            }
            message.push_str(&cause);
        }
        Self::new(message)
    }
}

/// A message without the frames that candle's errors append where `RUST_BACKTRACE` is set.
fn without_backtrace(mut message: String) -> String {
    if let Some(frames) = message.find("\n   0: ") {
        message.truncate(frames);
    }
    message
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new(format!("can't write to stdout: {error}"))
    }
}

/// Writes to stdout; a pipe whose reader is gone takes everything.
pub(super) fn print(text: &str) -> io::Result<()> {
    forgive_closed_pipe(io::stdout().lock().write_all(printable_lines(text).as_bytes()))
}

pub(super) fn flush() -> io::Result<()> {
    forgive_closed_pipe(io::stdout().lock().flush())
}

/// Writes to stdout at once; says to stop when the reader of a pipe is gone.
pub(super) fn stream(text: &str) -> io::Result<ControlFlow<()>> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(ControlFlow::Continue(())),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
        Err(error) => Err(error),
    }
}

fn forgive_closed_pipe(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Prints what clap has to say: help and versions to stdout, wrong usage to stderr.
pub(super) fn usage(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Shows the library's warnings on stderr.
pub(super) fn show_warnings() {
    let format = tracing_subscriber::fmt::format().without_time().with_target(false).compact();
    let subscriber = tracing_subscriber::fmt()
        .event_format(format)
        .with_max_level(tracing::Level::WARN)
        .with_writer(io::stderr)
        .with_ansi(false);
    // Only a program that has set another up already can refuse this one.
    let _ = tracing::subscriber::set_global_default(subscriber.finish());
}

pub(super) fn warn(message: &str) {
    let _ = writeln!(io::stderr(), "warning: {}", printable_lines(message));
}

/// Shows no progress, and what the user should know.
pub(super) struct WarningsOnly;

impl crate::plan::Progress for WarningsOnly {
    fn warn(&self, message: &str) {
        warn(message);
    }
}

impl crate::train::TrainingProgress for WarningsOnly {
    fn warn(&self, message: &str) {
        warn(message);
    }
}

/// Says something beside the result.
pub(super) fn note(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

pub(super) fn check_failed(message: &str) {
    let _ = writeln!(io::stderr(), "check failed: {}", printable_lines(message));
}

pub(super) fn interrupted() {
    let _ = writeln!(io::stderr(), "\ninterrupted: nothing was written");
}

/// Says how a run that was interrupted goes on.
pub(super) fn paused(folder: &RunFolder) {
    let next = if folder.has_state() {
        format!("--resume continues the run in `{}`", folder.root().display())
    } else {
        "there is no state yet to resume from".to_owned()
    };
    let _ = writeln!(io::stderr(), "\ninterrupted: {next}");
}

/// Writes a file whole or not at all.
pub(super) fn write_file(path: &Path, text: &str) -> Result<(), Failure> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(text.as_bytes())?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
        }
        file.persist(path).map_err(|error| error.error)?;
        Ok::<(), io::Error>(())
    };
    write().map_err(|error| Failure::new(format!("can't write `{}`: {error}", path.display())))
}
