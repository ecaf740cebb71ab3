use super::{count, size};
use crate::layers::{LayerEntry, Parameters};
use serde::Serialize;
use std::fmt::Write as _;

/// A network that was measured, and on what.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Evaluated {
    /// The version of the report's form.
    pub schema_version: u32,
    /// Always `evaluate`.
    pub command: &'static str,
    /// The program, with its version.
    pub tool: &'static str,
    /// The checkpoint.
    pub input: String,
    /// What network it is.
    pub architecture: String,
    /// The data.
    pub data: String,
    /// Layers that are factored.
    pub factored_layers: usize,
    /// Layers with a weight.
    pub layers: usize,
    /// Trained parameters.
    pub parameters: usize,
    /// Multiply-adds for one picture, or for one token.
    pub multiply_adds: u64,
    /// Bytes of all tensors.
    pub size_bytes: u64,
}

impl Evaluated {
    /// A checkpoint's network and the data, with what was counted.
    pub(crate) fn new(
        [input, architecture, data]: [String; 3],
        layers: &[LayerEntry],
        parameters: &Parameters,
        size_bytes: u64,
        multiply_adds: u64,
    ) -> Self {
        Self {
            schema_version: super::SCHEMA_VERSION,
            command: "evaluate",
            tool: crate::TOOL,
            input,
            architecture,
            data,
            factored_layers: layers.iter().filter(|layer| layer.weight.chain().is_some()).count(),
            layers: layers.len(),
            parameters: parameters.count(),
            multiply_adds,
            size_bytes,
        }
    }

    /// The lines on the network, whose multiply-adds are for one such `unit`.
    pub(super) fn to_text(&self, unit: &str) -> String {
        let mut text = String::new();
        let form = match (self.factored_layers, self.layers) {
            (0, _) => "dense".to_owned(),
            (factored, layers) => format!("{factored} of {layers} layers factored"),
        };
        let _ = writeln!(text, "network        {}, {form}", self.architecture);
        let _ = writeln!(
            text,
            "parameters     {} ({}), {} multiply-adds {unit}",
            count(self.parameters as u64),
            size(self.size_bytes),
            count(self.multiply_adds)
        );
        text
    }
}
