//! Networks against PyTorch's: names, shapes, outputs, gradients; and out of checkpoints, dense and factored.

mod checkpoints;
mod networks;
mod recorded;
mod texts;
mod translations;
mod vits;
