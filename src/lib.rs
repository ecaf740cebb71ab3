#![doc = include_str!("../README.md")]

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
