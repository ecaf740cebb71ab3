//! What training is made of: steps against PyTorch's and the papers', gradients against differences, records on disk.

mod averages;
mod bleus;
mod events;
mod losses;
mod metrics;
mod optimizers;
mod pruning;
mod recorded;
mod reports;
mod resumed;
mod schedules;
mod texts;
