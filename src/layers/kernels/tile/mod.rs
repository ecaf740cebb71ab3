//! Register tiles: sums of products that stay in registers while they grow, at addresses found in tables.
//!
//! Everything `unsafe` of the room is here. The loops have no bounds to check inside; what they may touch is checked
//! against the slices before they start.
//!
//! | file | what |
//! | --- | --- |
//! | `vector` | one register, of each kind of machine |
//! | `convolve`, `correlate` | sums over taps for outputs; sums over outputs for taps |
//! | `multiply` | products of small matrices |
//! | `transform` | patches of planes into Winograd's and back |
//! | `turn` | rows into columns |
//! | `product` | products of large matrices |
//! | `build` | new memory, written by tasks |

#![expect(unsafe_code, reason = "vectors at addresses from tables, bounds checked once before the loops")]
#![expect(
    clippy::inline_always,
    reason = "a loop gets its instructions from the function it is inlined into"
)]
#![expect(
    clippy::needless_range_loop,
    reason = "loops of known length over registers, which iterators would not unroll"
)]

mod build;
mod convolve;
mod correlate;
mod multiply;
mod product;
mod transform;
mod turn;
mod vector;

pub use build::keep_freed_memory;
pub(super) use build::{Fresh, build, build_fresh, build_two};
pub(super) use convolve::{Block, Spot, Taps, convolve};
pub(super) use correlate::{Correlation, correlate};
pub(super) use multiply::{Matrix, MatrixMut, multiply};
pub(crate) use product::matmul;
pub(super) use transform::{FAR, Grid, NEAR, gather, inputs, outputs, slopes, spread};
pub(super) use turn::turn;
