//! Loops over slices of f32, on all threads, whose results do not depend on their number.
