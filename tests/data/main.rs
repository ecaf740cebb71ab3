//! Data sets and batches: what is read, what is refused, which order and which variations come out.

mod augmentation;
mod cifar;
mod fingerprints;
mod folders;
mod idx;
mod loader;
mod made;
mod parallel;
mod pictures;
mod real;
mod refusals;
mod tiny_imagenet;
