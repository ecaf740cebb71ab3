//! fnl
pub mod checkpoint;
pub mod linalg;
