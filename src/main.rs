//! The `compress` binary: parses, runs, exits.

use std::process::ExitCode;

fn main() -> ExitCode {
    fnl::cli::run()
}
