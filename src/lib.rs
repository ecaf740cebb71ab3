#![doc = include_str!("../README.md")]

// Their types are in this library's signatures: who uses it needs the same versions.
pub use {candle_core, faer, indexmap, serde_json};

pub mod calibrate;
pub mod checkpoint;
pub mod cli;
pub mod commands;
pub mod data;
pub mod decompose;
pub mod layers;
pub mod linalg;
pub mod models;
pub mod plan;
pub mod report;
pub mod train;

/// Name and version of the program, as records and reports say them.
pub const TOOL: &str = concat!("fnl ", env!("CARGO_PKG_VERSION"));
