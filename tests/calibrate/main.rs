//! What a model does with data: sums, files of them, and compressions that use them.

mod compressions;
mod minilm;
mod networks;
mod pictures;
mod statistics;
