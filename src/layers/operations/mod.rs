//! What layers are computed by: each operation with its loops, its gradient, and its composition of candle's operations.

mod activation;
mod attention;
mod columns;
mod compose;
mod convolution;
mod dropout;
mod linear;
mod lookup;
mod normalization;
mod picture_tokens;
mod pooling;
mod reconstruction;
mod rotary;
mod row_norm;
mod scale;
mod sequence;
mod shape;
mod smooth;

pub use activation::{Add, Relu};
pub use attention::Attention;
pub use columns::Columns;
pub use convolution::Convolution;
pub use dropout::{Dropout, Dropouts};
pub use linear::Product;
pub(crate) use linear::{After, FinishedProduct};
pub use lookup::Lookup;
pub use normalization::{Normalization, ScaleShift};
pub use picture_tokens::PictureTokens;
pub use pooling::{GlobalAverage, MaxPool};
pub use reconstruction::Reconstruction;
pub use rotary::Rotary;
pub use row_norm::RowNormalization;
pub use scale::Scale;
pub use sequence::{SequenceMean, UnitRows};
pub use shape::{PadChannels, Reshape};
pub use smooth::{Activation, Multiply, SmoothActivation};
