//! What layers are computed by: each operation with its loops, its gradient, and its composition of candle's operations.

mod activation;
mod compose;
mod convolution;
mod linear;
mod lookup;
mod normalization;
mod pooling;
mod reconstruction;
mod shape;

pub use activation::{Add, Relu};
pub use convolution::Convolution;
pub use linear::Product;
pub use lookup::Lookup;
pub use normalization::{Normalization, ScaleShift};
pub use pooling::{GlobalAverage, MaxPool};
pub use reconstruction::Reconstruction;
pub use shape::{PadChannels, Reshape};
