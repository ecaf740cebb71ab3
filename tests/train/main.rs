//! What training is made of: steps against PyTorch's and the papers', gradients against differences, records on disk.

mod losses;
mod metrics;
mod optimizers;
mod recorded;
mod resumed;
mod schedules;
