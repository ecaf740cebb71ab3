#![doc = include_str!("../README.md")]

pub mod checkpoint;
pub mod cli;
pub mod commands;
pub mod decompose;
pub mod linalg;
pub mod plan;
pub mod report;

/// Name and version of the program, as records and reports say them.
pub const TOOL: &str = concat!("fnl ", env!("CARGO_PKG_VERSION"));
