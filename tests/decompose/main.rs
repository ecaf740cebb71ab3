//! Weights as chains of layers: what a chain computes, and what its factors are.

mod convolutions;
mod errors;
mod formats;
mod lookups;
mod metrics;
mod patches;
mod reference;
mod sizes;
mod spectra;
