//! Weights left out by magnitude: what factored layers are compared with.

mod masks;
mod schedule;

pub use masks::Masks;
pub use schedule::{Pruning, PruningSchedule};
