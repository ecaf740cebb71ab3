//! What must hold of truncated singular value decompositions, whichever way they are computed.

mod determinism;
mod inputs;
mod matrices;
mod paths;
mod recorded;
mod spectra;
mod theorems;
