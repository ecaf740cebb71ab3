//! The report as one self-contained page.

use super::compress::{CompressReport, LayerReport, plural};
use super::page::{escape, page};
use super::units;
use crate::linalg::Spectrum;
use crate::plan::tuple as shape;
use std::fmt::Write as _;

/// Points of a spectrum drawn at most; between them the curve is straight.
const MOST_POINTS: usize = 160;

/// Renders a compression as a page with the totals, a table that sorts, parameters by layer, and each layer's
/// spectrum with its cut. Everything is inside the page: no script, style or picture is fetched.
#[must_use]
pub fn html(report: &CompressReport) -> String {
    let mut body = String::new();
    header(&mut body, report);
    tiles(&mut body, report);
    checks(&mut body, report);
    layer_table(&mut body, report);
    parameters(&mut body, &report.layers);
    spectra(&mut body, &report.layers);
    left_dense(&mut body, report);
    recipe(&mut body, report);
    page(&format!("fnl: {}", report.input), &body)
}

fn header(body: &mut String, report: &CompressReport) {
    let done = if report.dry_run { "plan for" } else { "factored" };
    let _ = write!(body, "<header><h1>{}</h1><p>{done} by {}", escape(&report.input), escape(&report.tool));
    if let Some(output) = &report.output {
        let _ = write!(body, ", written to <code>{}</code>", escape(output));
    }
    if let Some(elapsed) = report.totals.elapsed_secs {
        let _ = write!(body, " in {}", units::seconds(elapsed));
    }
    body.push_str("</p></header>\n");
}

fn tiles(body: &mut String, report: &CompressReport) {
    let totals = &report.totals.totals;
    body.push_str("<section class=\"tiles\" aria-label=\"Totals\">\n");
    let mut tile = |name: &str, value: &str, note: &str| {
        let _ = writeln!(
            body,
            "<div class=\"tile\"><span>{name}</span><strong>{value}</strong><span>{note}</span></div>"
        );
    };
    let change = |before: String, after: String| format!("{before} &rarr; {after}");
    tile(
        "parameters kept",
        &percent(report.totals.keep),
        &change(units::count(totals.parameters_before), units::count(totals.parameters_after)),
    );
    tile(
        "kept in factored layers",
        &percent(report.totals.layer_keep),
        &change(units::count(totals.layer_parameters_before), units::count(totals.layer_parameters_after)),
    );
    tile(
        "size",
        &units::size(totals.bytes_after),
        &change(units::size(totals.bytes_before), units::size(totals.bytes_after)),
    );
    tile(
        "multiply-adds",
        &percent(ratio(totals.multiply_adds_after, totals.multiply_adds_before)),
        &change(units::count(totals.multiply_adds_before), units::count(totals.multiply_adds_after)),
    );
    if let (Some(worst), Some(mean)) = (&report.totals.worst_error, report.totals.mean_error) {
        let shown = units::foreseen(worst.relative_error, worst.certainty);
        let note = format!("worst {}, {}", escape(&shown), escape(&worst.layer));
        let mean = units::foreseen(mean, report.totals.mean_certainty);
        tile("mean relative error", &escape(&mean), &note);
    }
    let dense = format!("{} left dense", totals.layers_dense);
    tile("layers factored", &totals.layers_factored.to_string(), &dense);
    body.push_str("</section>\n");
}

fn checks(body: &mut String, report: &CompressReport) {
    if report.checks.is_empty() {
        return;
    }
    body.push_str("<section><h2>Checks</h2><ul class=\"checks\">\n");
    for check in &report.checks {
        let (class, word) = if check.passed { ("holds", "holds") } else { ("fails", "fails") };
        let _ = writeln!(
            body,
            "<li class=\"{class}\"><b>{word}</b> <code>{}</code> {}</li>",
            check.check,
            escape(&check.message)
        );
    }
    body.push_str("</ul></section>\n");
}

fn layer_table(body: &mut String, report: &CompressReport) {
    let layers = &report.layers;
    if layers.is_empty() {
        body.push_str("<section><h2>Layers</h2><p>No layer was factored.</p></section>\n");
        return;
    }
    let calibrated = layers.iter().any(|layer| layer.output_error.is_some());
    let compared = layers.iter().any(|layer| !layer.alternatives.is_empty());
    let degenerate = layers.iter().any(|layer| layer.degeneracy.is_some());
    body.push_str("<section><h2>Layers</h2>");
    if let Some(marks) = report.marks() {
        let _ = write!(body, "<p>{}</p>", escape(&marks));
    }
    body.push_str("<div class=\"scroll\"><table class=\"sortable\"><thead><tr>");
    for (name, numeric) in [
        ("layer", false),
        ("kind", false),
        ("shape", false),
        ("scheme", false),
        ("rank", true),
        ("of at most", true),
        ("before", true),
        ("after", true),
        ("kept", true),
        ("relative error", true),
        ("of output", true),
        ("degeneracy", true),
        ("next best", false),
        ("seconds", true),
    ] {
        let is_absent = match name {
            "next best" => !compared,
            "of output" => !calibrated,
            "degeneracy" => !degenerate,
            _ => false,
        };
        if is_absent {
            continue;
        }
        let class = if numeric { " class=\"number\"" } else { "" };
        let _ = write!(body, "<th scope=\"col\"{class}><button type=\"button\">{name}</button></th>");
    }
    body.push_str("</tr></thead><tbody>\n");
    for layer in layers {
        let kept = ratio(layer.parameters_after, layer.parameters_before);
        let number =
            |value: f64, text: &str| format!("<td class=\"number\" data-value=\"{value}\">{text}</td>");
        let shown = |e: f64| number(e, &escape(&units::foreseen(e, layer.certainty)));
        let error = layer.relative_error.map_or_else(|| number(-1.0, "&ndash;"), shown);
        let output = match layer.output_error {
            Some(error) => number(error, &units::error(error)),
            None if calibrated => number(-1.0, "&ndash;"),
            None => String::new(),
        };
        let degeneracy = match layer.degeneracy {
            Some(found) => number(found, &format!("{found:.1}")),
            None if degenerate => number(-1.0, "&ndash;"),
            None => String::new(),
        };
        let next = if compared {
            format!(
                "<td>{}</td>",
                layer.next_best().map_or_else(|| "&ndash;".to_owned(), |next| escape(&next))
            )
        } else {
            String::new()
        };
        let time =
            layer.elapsed_secs.map_or_else(|| number(-1.0, "&ndash;"), |t| number(t, &format!("{t:.3}")));
        let _ = writeln!(
            body,
            "<tr><td>{}</td><td>{}</td><td data-value=\"{}\">{}</td><td>{}</td>{}{}{}{}{}{error}{output}{degeneracy}{next}{time}</tr>",
            name(layer),
            layer.kind,
            layer.parameters_before,
            shape(&layer.shape),
            layer.scheme,
            number(layer.rank as f64, &layer.ranks.to_string()),
            number(layer.max_rank as f64, &layer.max_rank.to_string()),
            number(layer.parameters_before as f64, &units::count(layer.parameters_before)),
            number(layer.parameters_after as f64, &units::count(layer.parameters_after)),
            number(kept, &percent(kept)),
        );
    }
    body.push_str("</tbody></table></div></section>\n");
}

/// A layer's name, which leads to its spectrum where that is drawn.
fn name(layer: &LayerReport) -> String {
    let name = escape(&layer.layer);
    if layer.spectrum.is_none() {
        return name;
    }
    format!("<a href=\"#{}\">{name}</a>", anchor(&layer.layer))
}

fn parameters(body: &mut String, layers: &[LayerReport]) {
    let Some(most) = layers.iter().map(|layer| layer.parameters_before).max().filter(|&most| most > 0) else {
        return;
    };
    body.push_str(
        "<section><h2>Parameters before and after</h2>\
         <p class=\"legend\"><i class=\"before\"></i>before <i class=\"after\"></i>after</p>\n<div class=\"bars\">\n",
    );
    for layer in layers {
        let width = |parameters: u64| 100.0 * parameters as f64 / most as f64;
        let _ = writeln!(
            body,
            "<div class=\"bar\"><span class=\"name\">{name}</span>\
             <span class=\"track\"><i class=\"before\" style=\"width:{:.2}%\"></i><i class=\"after\" style=\"width:{:.2}%\"></i></span>\
             <span class=\"number\">{} &rarr; {}</span></div>",
            width(layer.parameters_before),
            width(layer.parameters_after),
            units::count(layer.parameters_before),
            units::count(layer.parameters_after),
            name = escape(&layer.layer),
        );
    }
    body.push_str("</div></section>\n");
}

fn spectra(body: &mut String, layers: &[LayerReport]) {
    if layers.iter().all(|layer| layer.spectrum.is_none()) {
        return;
    }
    body.push_str(
        "<section><h2>Spectra</h2>\
         <p>Singular values over the largest one, on a logarithmic scale; the line marks the rank, what is left of it is kept. Of a layer that is a tensor they are those of its weight as a matrix, which no rank cuts.</p>\n\
         <div class=\"charts\">\n",
    );
    for layer in layers {
        let Some(spectrum) = &layer.spectrum else { continue };
        let _ = writeln!(
            body,
            "<figure id=\"{}\"><figcaption>{}<span>{}rank {} of {}, error {}</span></figcaption>{}</figure>",
            anchor(&layer.layer),
            escape(&layer.layer),
            if layer.is_tensor() { format!("{}, ", layer.scheme) } else { String::new() },
            layer.ranks,
            layer.max_rank,
            layer
                .relative_error
                .map_or_else(|| "unknown".to_owned(), |e| escape(&units::foreseen(e, layer.certainty))),
            chart(spectrum, (!layer.is_tensor()).then_some(layer.rank))
        );
    }
    body.push_str("</div></section>\n");
}

/// A curve of singular values over the first, from 1 down to a power of ten, and the cut, where a rank cuts it.
fn chart(spectrum: &Spectrum, rank: Option<usize>) -> String {
    const WIDTH: f64 = 260.0;
    const HEIGHT: f64 = 120.0;
    const LEFT: f64 = 34.0;
    const BOTTOM: f64 = 16.0;
    let values = spectrum.values();
    let first = values.first().copied().unwrap_or(0.0);
    if first <= 0.0 {
        return "<p>all singular values are 0</p>".to_owned();
    }
    // At most six decades: below, rounding is what is drawn.
    let smallest = values.iter().rev().find(|&&value| value > first * 1e-6).map_or(first, |&value| value);
    let decades = (-(smallest / first).log10()).ceil().clamp(1.0, 6.0);
    let x = |index: f64| LEFT + (WIDTH - LEFT) * index / (values.len().max(2) - 1) as f64;
    let y = |value: f64| {
        let depth = -(value / first).max(1e-12).log10();
        4.0 + (HEIGHT - BOTTOM - 4.0) * (depth / decades).min(1.0)
    };
    let step = values.len().div_ceil(MOST_POINTS).max(1);
    let mut indices: Vec<usize> = (0..values.len()).step_by(step).collect();
    if indices.last() != Some(&(values.len() - 1)) {
        indices.push(values.len() - 1);
    }
    let points: Vec<String> =
        indices.iter().map(|&i| format!("{:.1},{:.1}", x(i as f64), y(values[i]))).collect();
    let base = HEIGHT - BOTTOM;
    let at_rank = rank.map(|rank| format!(", cut at rank {rank}")).unwrap_or_default();
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{} singular values{at_rank}\">",
        values.len()
    );
    for decade in 0..=decades as i32 {
        let at = y(first * 10f64.powi(-decade));
        let label = if decade == 0 { "1".to_owned() } else { format!("1e-{decade}") };
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/><text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            LEFT - 4.0,
            at + 3.5
        );
    }
    let _ = write!(
        svg,
        "<polyline class=\"curve\" points=\"{}\"/>\
         <text x=\"{LEFT}\" y=\"{:.0}\">1</text><text x=\"{WIDTH}\" y=\"{:.0}\" text-anchor=\"end\">{}</text>",
        points.join(" "),
        HEIGHT - 3.0,
        HEIGHT - 3.0,
        values.len()
    );
    let Some(rank) = rank else { return svg + "</svg>" };
    let cut = x((rank as f64 - 0.5).max(0.0));
    let kept: Vec<String> = indices
        .iter()
        .filter(|&&i| i < rank)
        .map(|&i| format!("{:.1},{:.1}", x(i as f64), y(values[i])))
        .collect();
    let _ = write!(
        svg,
        "<polygon class=\"kept\" points=\"{LEFT},{base} {} {cut:.1},{base}\"/>\
         <line class=\"cut\" x1=\"{cut:.1}\" x2=\"{cut:.1}\" y1=\"0\" y2=\"{base}\"/>",
        kept.join(" ")
    );
    if (0.12..0.88).contains(&((cut - LEFT) / (WIDTH - LEFT))) {
        let _ = write!(
            svg,
            "<text x=\"{cut:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{rank}</text>",
            HEIGHT - 3.0
        );
    }
    svg + "</svg>"
}

fn left_dense(body: &mut String, report: &CompressReport) {
    if report.dense.is_empty() {
        return;
    }
    let _ = write!(
        body,
        "<section><h2>Left dense</h2><p>{} that could be factored.</p><div class=\"scroll\"><table class=\"sortable\"><thead><tr>",
        plural(report.dense.len(), "weight")
    );
    for (name, class) in
        [("layer", ""), ("kind", ""), ("shape", ""), ("parameters", " class=\"number\""), ("why", "")]
    {
        let _ = write!(body, "<th scope=\"col\"{class}><button type=\"button\">{name}</button></th>");
    }
    body.push_str("</tr></thead><tbody>\n");
    for dense in &report.dense {
        let _ = writeln!(
            body,
            "<tr><td>{}</td><td>{}</td><td data-value=\"{parameters}\">{}</td><td class=\"number\" data-value=\"{parameters}\">{}</td><td>{}</td></tr>",
            escape(&dense.layer),
            dense.kind,
            shape(&dense.shape),
            units::count(dense.parameters),
            escape(&dense.detail),
            parameters = dense.parameters,
        );
    }
    body.push_str("</tbody></table></div></section>\n");
}

fn recipe(body: &mut String, report: &CompressReport) {
    let text =
        crate::plan::Recipe::from_json(&report.recipe).map(|recipe| recipe.to_toml()).unwrap_or_default();
    let _ = writeln!(
        body,
        "<section><h2>Recipe</h2><details><summary>what repeats this run: <code>compress --recipe FILE.toml</code></summary><pre>{}</pre></details></section>",
        escape(&text)
    );
}

fn percent(part: f64) -> String {
    format!("{:.1} %", 100.0 * part)
}

fn ratio(after: u64, before: u64) -> f64 {
    if before == 0 { 1.0 } else { after as f64 / before as f64 }
}

fn anchor(layer: &str) -> String {
    layer.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
}
