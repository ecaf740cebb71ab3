use crate::layers::operations::{Activation, Relu, SmoothActivation};
use crate::layers::{Node, Tape};
use candle_core::Result;

/// Runs an activation.
pub(super) fn activate(activation: Activation, tape: &Tape, xs: &Node) -> Result<Node> {
    match SmoothActivation::new(activation) {
        Some(smooth) => tape.apply(smooth, &[xs]),
        None => tape.apply(Relu, &[xs]),
    }
}
