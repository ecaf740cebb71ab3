//! Convolutions, attention, normalization and what goes between them, as loops over slices of f32.
//!
//! Pictures are contiguous `(n, c, h, w)`, tokens `(tokens, d)`. Nothing here depends on the number of threads: each element of a result is
//! computed by one task, and sums over tasks are added in a fixed order.
//!
//! | file | what |
//! | --- | --- |
//! | `convolution`, `correlation` | forward and the gradient of the input; the gradient of the kernel |
//! | `winograd` | both, for kernels of 3 x 3, with a quarter of the products |
//! | `axis`, `padded`, `interleaved` | which taps an output has on an axis; planes in which all can be read |
//! | `tile`, `machine` | sums of products in registers and of matrices, and what registers there are |
//! | `stream` | sums and maps over slices |
//! | `normalization` | batch normalization with the sum and the relu after it, and its gradient |
//! | `pooling` | largest and mean elements of windows and planes |
//! | `elementwise` | sums, relu, sums over channels |
//! | `finish` | bias, activation and residual of a product's rows |
//! | `smooth`, `rows`, `attention` | smooth activations and softmax; normalization of rows; attention within sequences |

mod attention;
mod axis;
mod convolution;
mod correlation;
mod elementwise;
mod finish;
mod interleaved;
mod machine;
mod normalization;
mod padded;
mod pooling;
#[cfg(test)]
mod reference;
mod rows;
mod smooth;
mod stream;
mod tile;
mod winograd;

pub(crate) use attention::AttentionShape;
pub(crate) use convolution::{convolve, convolve_backward_input, effort};
pub(crate) use correlation::convolve_backward_kernel;
pub(crate) use elementwise::{add, relu, relu_backward, sum_per_channel, sum_rows};
pub(crate) use finish::Finish;
pub(crate) use normalization::{normalize, normalize_backward, scale_shift};
pub(crate) use pooling::{global_average, global_average_backward, max_pool, max_pool_backward};
pub(crate) use rows::RowNorm;
pub(crate) use smooth::Smooth;
pub use tile::keep_freed_memory;
pub(crate) use tile::matmul;
