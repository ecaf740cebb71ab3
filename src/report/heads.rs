use super::table::{Align, Table};
use super::training::percent;
use super::units;
use serde::Serialize;
use std::fmt::Write as _;

/// What was done to the heads of a checkpoint's attention.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct HeadsReport {
    /// The version of the schema.
    pub schema_version: u32,
    /// Name and version of the program.
    pub tool: String,
    /// `heads`.
    pub command: &'static str,
    /// The input, as it was named.
    pub input: String,
    /// Where the result was written; not in the report that lies beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// What products were made to be near in.
    pub method: &'static str,
    /// Each product, in order.
    pub products: Vec<NarrowedProduct>,
    /// Parameters before.
    pub parameters_before: u64,
    /// Parameters after.
    pub parameters_after: u64,
    /// Bytes of all tensors before.
    pub bytes_before: u64,
    /// Bytes of all tensors after.
    pub bytes_after: u64,
    /// Files beside the weights that the result does not have.
    pub files_left_out: Vec<String>,
    /// Files that were copied beside the weights: the next output may replace them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// Seconds, calibration included; not in the report that lies beside the result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elapsed_secs: Option<f64>,
}

/// What was done to one product of an attention's heads.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct NarrowedProduct {
    /// The attention's name.
    pub attention: String,
    /// `query_key` or `output_value`.
    pub product: &'static str,
    /// Heads.
    pub heads: usize,
    /// Elements of a head before.
    pub width: usize,
    /// Elements of a head after.
    pub rank: usize,
    /// Of all heads' products, in the method's norm.
    pub relative_error: f64,
}

impl HeadsReport {
    pub(crate) fn new(
        input: String,
        method: &'static str,
        products: Vec<NarrowedProduct>,
        [parameters_before, parameters_after]: [u64; 2],
        [bytes_before, bytes_after]: [u64; 2],
        files_left_out: Vec<String>,
    ) -> Self {
        Self {
            schema_version: super::SCHEMA_VERSION,
            tool: crate::TOOL.to_owned(),
            command: "heads",
            input,
            output: None,
            method,
            products,
            parameters_before,
            parameters_after,
            bytes_before,
            bytes_after,
            files_left_out,
            files: Vec::new(),
            elapsed_secs: None,
        }
    }

    /// One JSON document.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// A table of products, and the totals.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut table = Table::new(&[
            ("attention", Align::Left),
            ("product", Align::Left),
            ("heads", Align::Right),
            ("width", Align::Right),
            ("rank", Align::Right),
            ("error", Align::Right),
        ]);
        for product in &self.products {
            table.row([
                product.attention.clone(),
                product.product.to_owned(),
                product.heads.to_string(),
                product.width.to_string(),
                product.rank.to_string(),
                format!("{:.4}", product.relative_error),
            ]);
        }
        let mut text = format!("{table}\n");
        let (before, after) = (self.parameters_before, self.parameters_after);
        let part = percent(after as f64 / before.max(1) as f64);
        let _ = writeln!(
            text,
            "{} of {} parameters, {part}, in {}",
            units::count(after),
            units::count(before),
            units::seconds(self.elapsed_secs.unwrap_or_default())
        );
        for file in &self.files_left_out {
            let _ = writeln!(text, "left out: {file}");
        }
        if let Some(output) = &self.output {
            let _ = writeln!(text, "written to {output}");
        }
        text
    }
}
