//! The `compress` binary as a user meets it: arguments in; exit code, stdout, stderr and files out.

mod bad_input;
mod checks;
mod crash;
mod formats;
#[path = "../models/gguf.rs"]
mod gguf;
#[cfg(feature = "cuda")]
mod gpu;
mod harness;
mod language;
mod loader;
mod odd_networks;
mod outputs;
mod page;
mod run_folders;
mod selection;
mod streams;
mod training_files;
mod training_options;
mod training_recalibrate;
mod training_refusals;
mod training_resume;
mod training_scene;
mod training_schema;
mod training_texts;
mod translations;
mod usage;
