//! Layers, operations and the computation under them.

mod agreement;
mod batch_norms;
mod chains;
mod convolutions;
mod modules;
mod operations;
mod overcomplete;
mod tapes;
mod tensors;
mod tokens;
