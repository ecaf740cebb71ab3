//! The commands as a library: what is in the files afterwards, byte by byte and number by number.

mod collapse;
mod compress;
mod dtypes;
#[path = "../plan/files.rs"]
mod files;
mod heads;
mod inspect;
mod layers;
mod pictures;
mod refusals;
mod repeat;
mod translations;
mod tree;
mod verify;
