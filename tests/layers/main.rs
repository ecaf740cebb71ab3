//! Layers, operations and the computation under them.
