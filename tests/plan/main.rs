//! Plans: what each tensor is taken for, which layers are selected, and which rank each gets.

mod catalog;
mod files;
mod ranks;
mod recipes;
mod selection;
