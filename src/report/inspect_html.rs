//! What factoring each layer would lose in each format, as a page.

use super::compress::plural;
use super::curves::{self, Curve, Scale};
use super::inspect::{FormatCurve, InspectReport, InspectedLayer};
use super::page::{escape, page};
use super::units;
use std::fmt::Write as _;

/// A colour for each format, told apart on light and dark.
const COLORS: [&str; 6] = ["#0f766e", "#b4530a", "#4f6bd8", "#b0379b", "#6f8f1f", "#8a6d5a"];
/// Points of a curve drawn at most; between them it is straight.
const MOST_POINTS: usize = 80;

/// Renders a page with a chart for each layer whose formats were compared: the relative error to expect over the part of the
/// parameters kept. Everything is inside the page.
#[must_use]
pub fn inspect_html(report: &InspectReport) -> String {
    let layers: Vec<&InspectedLayer> =
        report.layers.iter().filter(|layer| !layer.formats.is_empty()).collect();
    let mut body = String::new();
    let _ = writeln!(
        body,
        "<header><h1>{}</h1><p>{} parameters, {} looked into by {}</p></header>",
        escape(&report.input),
        units::count(report.parameters),
        plural(layers.len(), "layer"),
        escape(&report.tool)
    );
    body.push_str(
        "<section><h2>Formats</h2><p>The relative error to expect, over the percentage of the layer's parameters that factors keep: \
         that of the truncated SVD for matrices, that of HOSVD, a bound, for tucker, another bound for tensor-train, and of cp a few ranks, measured.</p>\n\
         <div class=\"charts\">\n",
    );
    for layer in layers {
        let curves: Vec<Curve<'_>> =
            layer.formats.iter().zip(COLORS).map(|(c, color)| drawn(layer, c, color)).collect();
        let note = format!(
            "{}, {} parameters",
            crate::plan::tuple(&layer.shape),
            units::count(layer.dense_parameters)
        );
        body.push_str(&curves::figure(&layer.layer, &note, Scale::Percent, &curves));
    }
    body.push_str("</div></section>\n");
    page(&format!("fnl: {}", report.input), &body)
}

fn drawn<'a>(layer: &InspectedLayer, curve: &'a FormatCurve, color: &str) -> Curve<'a> {
    let step = curve.points.len().div_ceil(MOST_POINTS).max(1);
    let last = curve.points.len().saturating_sub(1);
    let kept = curve.points.iter().enumerate().filter(|(index, _)| index % step == 0 || *index == last);
    let point = |point: &super::inspect::FormatPoint| {
        let permille = (1000.0 * point.parameters as f64 / layer.dense_parameters as f64).round();
        (permille / 10.0, point.relative_error)
    };
    Curve { name: curve.scheme, color: color.to_owned(), points: kept.map(|(_, at)| point(at)).collect() }
}
