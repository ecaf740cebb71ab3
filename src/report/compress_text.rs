//! A compression's report as tables.

use super::compress::{CompressReport, plural};
use super::table::{Align, Table};
use super::units;
use crate::plan::tuple as shape;
use std::fmt::Write as _;

impl CompressReport {
    /// The table of layers, what was left dense and why, and the totals.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        // What a method that knows the data made of outputs, where there is one.
        let calibrated = self.layers.iter().any(|layer| layer.output_error.is_some());
        let mut columns = vec![
            ("layer", Align::Left),
            ("kind", Align::Left),
            ("shape", Align::Left),
            ("scheme", Align::Left),
            ("rank", Align::Right),
            ("before", Align::Right),
            ("after", Align::Right),
            ("error", Align::Right),
        ];
        columns.extend(calibrated.then_some(("of output", Align::Right)));
        let compared = self.layers.iter().any(|layer| !layer.alternatives.is_empty());
        columns.extend(compared.then_some(("next best", Align::Left)));
        columns.push(("time", Align::Right));
        let mut table = Table::new(&columns);
        let error = |error: Option<f64>| error.map_or_else(|| "-".to_owned(), units::error);
        for layer in &self.layers {
            let mut cells = vec![
                layer.layer.clone(),
                layer.kind.to_owned(),
                shape(&layer.shape),
                layer.scheme.to_owned(),
                layer.ranks.to_string(),
                units::count(layer.parameters_before),
                units::count(layer.parameters_after),
                layer.relative_error.map_or_else(|| "-".to_owned(), |e| units::foreseen(e, layer.certainty)),
            ];
            cells.extend(calibrated.then(|| error(layer.output_error)));
            cells.extend(compared.then(|| layer.next_best().unwrap_or_else(|| "-".to_owned())));
            cells.push(layer.elapsed_secs.map_or_else(|| "-".to_owned(), units::seconds));
            table.row(cells);
        }
        if !table.is_empty() {
            let _ = writeln!(text, "{table}");
        }
        if !self.dense.is_empty() {
            let mut table = Table::new(&[
                ("left dense", Align::Left),
                ("kind", Align::Left),
                ("shape", Align::Left),
                ("parameters", Align::Right),
                ("why", Align::Left),
            ]);
            for dense in &self.dense {
                table.row([
                    dense.layer.clone(),
                    dense.kind.to_owned(),
                    shape(&dense.shape),
                    units::count(dense.parameters),
                    dense.detail.clone(),
                ]);
            }
            let _ = writeln!(text, "{table}");
        }
        text + &self.totals_text()
    }

    /// The plan of every tensor, for a dry run.
    #[must_use]
    pub fn tensors_text(&self) -> String {
        let mut table = Table::new(&[
            ("tensor", Align::Left),
            ("kind", Align::Left),
            ("dtype", Align::Left),
            ("shape", Align::Left),
            ("action", Align::Left),
            ("written", Align::Left),
        ]);
        for tensor in &self.tensors {
            let written: Vec<String> = tensor
                .outputs
                .iter()
                .map(|output| {
                    let same = output.name == tensor.name && output.shape == tensor.shape;
                    let dtype = crate::checkpoint::dtype_name(output.dtype);
                    match (same, dtype == tensor.dtype) {
                        (true, true) => "as it is".to_owned(),
                        (true, false) => format!("as {dtype}"),
                        (false, true) => format!("{} {}", output.name, shape(&output.shape)),
                        (false, false) => format!("{} {} as {dtype}", output.name, shape(&output.shape)),
                    }
                })
                .collect();
            let action = serde_json::to_value(tensor.action).unwrap_or_default();
            table.row([
                tensor.name.clone(),
                tensor.kind.name().to_owned(),
                tensor.dtype.to_owned(),
                shape(&tensor.shape),
                action.as_str().unwrap_or_default().to_owned(),
                written.join(", "),
            ]);
        }
        table.to_string()
    }

    fn totals_text(&self) -> String {
        let totals = &self.totals.totals;
        let mut table = Table::new(&[
            ("total", Align::Left),
            ("before", Align::Right),
            ("after", Align::Right),
            ("kept", Align::Right),
        ]);
        let mut row = |name: &str, before: u64, after: u64, show: fn(u64) -> String| {
            let kept = if before == 0 { 100.0 } else { 100.0 * after as f64 / before as f64 };
            table.row([name.to_owned(), show(before), show(after), format!("{kept:.1} %")]);
        };
        row("parameters", totals.parameters_before, totals.parameters_after, units::count);
        row(
            "in factored layers",
            totals.layer_parameters_before,
            totals.layer_parameters_after,
            units::count,
        );
        row("bytes", totals.bytes_before, totals.bytes_after, units::size);
        row("multiply-adds", totals.multiply_adds_before, totals.multiply_adds_after, units::count);
        let mut text = format!("{table}\n");
        let _ = write!(
            text,
            "{} factored, {} left dense",
            plural(totals.layers_factored, "layer"),
            totals.layers_dense
        );
        if let (Some(worst), Some(mean)) = (&self.totals.worst_error, self.totals.mean_error) {
            let mean = units::foreseen(mean, self.totals.mean_certainty);
            let worst_error = units::foreseen(worst.relative_error, worst.certainty);
            let _ = write!(text, "; relative error: mean {mean}, worst {worst_error} (`{}`)", worst.layer);
        }
        text.push('\n');
        if let Some(worst) = &self.totals.worst_degeneracy {
            let _ = writeln!(
                text,
                "components' squared norms over their sum's: at most {:.1} (`{}`)",
                worst.degeneracy, worst.layer
            );
        }
        if let Some(marks) = self.marks() {
            let _ = writeln!(text, "{marks}");
        }
        if self.dry_run {
            let _ = writeln!(text, "working memory: at most {}", units::size(self.totals.peak_memory_bytes));
        }
        for file in &self.files_left_out {
            let _ = writeln!(text, "not copied: {file}, another copy of the weights");
        }
        match (&self.output, self.totals.elapsed_secs) {
            (Some(output), Some(elapsed)) => {
                let _ = write!(text, "written to {output} in {}", units::seconds(elapsed));
                if let Some(calibration) = self.totals.calibration_secs {
                    let _ = write!(text, ", {} of it calibration", units::seconds(calibration));
                }
                text.push('\n');
            }
            _ if self.dry_run => text.push_str("dry run: nothing written\n"),
            _ => {}
        }
        text
    }
}
