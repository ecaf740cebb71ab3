//! The checkpoint room from outside: what is read, what is refused and with which words, what is written and when
//! it appears.

mod bad_files;
mod bad_folders;
mod fixture;
mod hub;
mod interrupt;
mod numbers;
mod properties;
mod reading;
mod records;
mod server;
mod space;
mod staging;
mod targets;
mod writing;
