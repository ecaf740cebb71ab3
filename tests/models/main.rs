//! Networks against PyTorch's: names, shapes, outputs, gradients; and out of checkpoints, dense and factored.

mod checkpoints;
mod generation;
mod gguf;
mod imports;
mod networks;
mod recorded;
mod texts;
mod translations;
mod vits;
