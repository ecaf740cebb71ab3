//! The `compress` binary as a user meets it: arguments in; exit code, stdout, stderr and files out.

mod bad_input;
mod checks;
mod crash;
mod harness;
mod outputs;
mod page;
mod selection;
mod streams;
mod usage;
