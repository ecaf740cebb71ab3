//! The report of a training run as one self-contained page.

use super::curves::{Curve, Scale, figure, number};
use super::page::{escape, page};
use super::training::{TrainedLayer, TrainedParameter, TrainingReport, decay_text, headline, percent};
use super::units;
use crate::plan::tuple as shape;
use crate::train::{EpochMetrics, LayerDiagnostics};
use std::fmt::Write as _;

/// What is measured of each layer: name, formula, and how it is read.
const DIAGNOSTICS: [(&str, &str, fn(&LayerDiagnostics) -> f64); 6] = [
    ("norm", "|A B|", |layer| layer.norm),
    ("nuclear norm", "the sum of singular values of A B", |layer| layer.nuclear_norm),
    (
        "nuclear norm's bound",
        "(|A|\u{b2} + |B|\u{b2}) / 2; of tensors half the factors' squares, a bound of nothing",
        |layer| layer.nuclear_bound,
    ),
    ("effective step size", "learning rate / |A B|\u{b2}", |layer| layer.effective_step_size),
    ("non-orthogonality", "how far the factors are from orthogonal", |layer| layer.non_orthogonality),
    ("stable rank", "|A B|\u{b2} / s\u{2081}\u{b2}", |layer| layer.stable_rank),
];

/// Renders a training run as a page with the totals, curves of loss, accuracy and learning rate, each factored layer's
/// diagnostics, and the table of parameters. Everything is inside the page: no script, style or picture is fetched.
#[must_use]
pub fn training_html(report: &TrainingReport) -> String {
    let mut body = String::new();
    header(&mut body, report);
    tiles(&mut body, report);
    curves(&mut body, &report.epochs);
    diagnostics(&mut body, &report.epochs);
    last_diagnostics(&mut body, &report.epochs);
    layer_table(&mut body, &report.layers);
    parameters(&mut body, &report.parameters);
    options(&mut body, report);
    page(&format!("fnl: training {}", report.model), &body)
}

fn header(body: &mut String, report: &TrainingReport) {
    let (model, tool) = (escape(&report.model), escape(&report.tool));
    let _ = write!(body, "<header><h1>{model}</h1><p>trained by {tool}");
    if let Some(output) = &report.output {
        let _ = write!(body, ", written to <code>{}</code>", escape(output));
    }
    let _ = writeln!(body, " in {}</p></header>", units::seconds(report.totals.elapsed_secs));
}

fn tiles(body: &mut String, report: &TrainingReport) {
    let totals = &report.totals;
    body.push_str("<section class=\"tiles\" aria-label=\"Totals\">\n");
    let mut tile = |name: &str, value: &str, note: &str| {
        let _ = writeln!(
            body,
            "<div class=\"tile\"><span>{name}</span><strong>{value}</strong><span>{note}</span></div>"
        );
    };
    if let Some(last) = report.epochs.last() {
        let best = report.best.as_ref().and_then(|best| {
            let epoch = report.epochs.iter().find(|epoch| epoch.epoch == best.epoch)?;
            Some(format!("best {} after epoch {}", headline(epoch).1, best.epoch))
        });
        let (name, shown) = headline(last);
        tile(&format!("test {}", escape(name)), &shown, &best.unwrap_or_default());
        tile(
            "test loss",
            &number(last.test_loss),
            &format!("on training samples {}", number(last.train_loss)),
        );
    }
    let dense = match (totals.parameters_dense, totals.keep) {
        (Some(dense), Some(keep)) => format!("{} of {}", percent(keep), units::count(dense)),
        _ => "trained".to_owned(),
    };
    tile("parameters", &units::count(totals.parameters), &dense);
    tile("epochs", &totals.epochs.to_string(), &format!("{} steps", totals.steps));
    let samples = format!("{} in {}", units::count(totals.samples), units::seconds(totals.elapsed_secs));
    tile(&format!("{} a second", totals.unit), &format!("{:.0}", totals.samples_per_sec), &samples);
    body.push_str("</section>\n");
}

/// One number of each epoch.
fn over(epochs: &[EpochMetrics], of: fn(&EpochMetrics) -> f64) -> Vec<(f64, f64)> {
    epochs.iter().map(|epoch| (epoch.epoch as f64, of(epoch))).collect()
}

/// The start of a section of charts.
fn charts(body: &mut String, title: &str, note: &str) {
    let _ = writeln!(
        body,
        "<section><h2>{title}</h2>{note}\
         <div class=\"charts\" style=\"grid-template-columns:repeat(auto-fill,minmax(min(20rem,100%),1fr))\">"
    );
}

fn curves(body: &mut String, epochs: &[EpochMetrics]) {
    if epochs.is_empty() {
        body.push_str("<section><h2>Curves</h2><p>No epoch was finished.</p></section>\n");
        return;
    }
    let pair = |train: fn(&EpochMetrics) -> f64, test: fn(&EpochMetrics) -> f64| {
        [("train", "var(--cut)", train), ("test", "var(--after)", test)].map(|(name, color, of)| Curve {
            name,
            color: color.to_owned(),
            points: over(epochs, of),
        })
    };
    charts(body, "Curves", "");
    let losses = pair(|epoch| epoch.train_loss, |epoch| epoch.test_loss);
    body.push_str(&figure("loss", "by epoch", Scale::Numbers, &losses));
    if epochs.iter().any(|epoch| epoch.test_accuracy.is_finite()) {
        let accuracies = pair(|epoch| epoch.train_accuracy, |epoch| epoch.test_accuracy);
        body.push_str(&figure("accuracy", "by epoch", Scale::Percent, &accuracies));
    }
    for name in epochs[0].scores.keys() {
        let of = |epoch: &EpochMetrics| {
            Some((epoch.epoch as f64, epoch.scores.get(name).copied().filter(|score| score.is_finite())?))
        };
        let points = epochs.iter().filter_map(of).collect();
        let curve = Curve { name: "test", color: "var(--after)".to_owned(), points };
        body.push_str(&figure(&escape(name), "by epoch", Scale::Numbers, &[curve]));
    }
    let rate = Curve {
        name: "learning rate",
        color: "var(--after)".to_owned(),
        points: over(epochs, |epoch| epoch.learning_rate),
    };
    body.push_str(&figure("learning rate", "at the end of each epoch", Scale::Numbers, &[rate]));
    body.push_str("</div></section>\n");
}

/// The factored layers, in the order in which they first appear.
fn layers(epochs: &[EpochMetrics]) -> Vec<&str> {
    let mut layers: Vec<&str> = Vec::new();
    for layer in epochs.iter().flat_map(|epoch| &epoch.layers) {
        if !layers.contains(&layer.layer.as_str()) {
            layers.push(&layer.layer);
        }
    }
    layers
}

/// From blue, the first layer, to red, the last, all equally light, so that each is seen on light and dark.
fn depth(index: usize, count: usize) -> String {
    let part = index as f64 / count.max(2).saturating_sub(1) as f64;
    format!("oklch(62% 0.14 {:.0})", 260.0 - 235.0 * part)
}

fn diagnostics(body: &mut String, epochs: &[EpochMetrics]) {
    let layers = layers(epochs);
    let (Some(first), Some(last)) = (layers.first(), layers.last()) else { return };
    let mut note = String::from("<p class=\"legend\">");
    let _ = match layers.len() {
        1 => write!(note, "<i style=\"background:{}\"></i>{}", depth(0, 1), escape(first)),
        count => write!(
            note,
            "One line a layer, from <i style=\"background:{}\"></i>{} to <i style=\"background:{}\"></i>{}; point at a line for its name.",
            depth(0, count),
            escape(first),
            depth(count - 1, count),
            escape(last)
        ),
    };
    note.push_str("</p>\n");
    charts(body, "Factored layers", &note);
    for (name, formula, of) in DIAGNOSTICS {
        let curves: Vec<Curve<'_>> = layers
            .iter()
            .enumerate()
            .map(|(index, &layer)| {
                let at = |epoch: &EpochMetrics| {
                    let found = epoch.layers.iter().find(|found| found.layer == layer);
                    (epoch.epoch as f64, found.map_or(f64::NAN, of))
                };
                let points = epochs.iter().map(at).collect();
                Curve { name: layer, color: depth(index, layers.len()), points }
            })
            .collect();
        body.push_str(&figure(name, formula, Scale::Numbers, &curves));
    }
    body.push_str("</div></section>\n");
}

/// The head of a table whose columns sort; numbers are flush right.
fn table_head(body: &mut String, columns: &[(&str, bool)]) {
    body.push_str("<div class=\"scroll\"><table class=\"sortable\"><thead><tr>");
    for (name, numeric) in columns {
        let class = if *numeric { " class=\"number\"" } else { "" };
        let _ =
            write!(body, "<th scope=\"col\"{class}><button type=\"button\">{}</button></th>", escape(name));
    }
    body.push_str("</tr></thead><tbody>\n");
}

fn last_diagnostics(body: &mut String, epochs: &[EpochMetrics]) {
    let Some(last) = epochs.last().filter(|epoch| !epoch.layers.is_empty()) else { return };
    let _ = write!(body, "<section><h2>Factored layers after epoch {}</h2>", last.epoch);
    let columns: Vec<(&str, bool)> =
        std::iter::once(("layer", false)).chain(DIAGNOSTICS.map(|(name, ..)| (name, true))).collect();
    table_head(body, &columns);
    for layer in &last.layers {
        let _ = write!(body, "<tr><td>{}</td>", escape(&layer.layer));
        for (_, _, of) in DIAGNOSTICS {
            let value = of(layer);
            let (key, text) =
                if value.is_finite() { (value, number(value)) } else { (-1.0, "&ndash;".to_owned()) };
            let _ = write!(body, "<td class=\"number\" data-value=\"{key}\">{text}</td>");
        }
        body.push_str("</tr>\n");
    }
    body.push_str("</tbody></table></div></section>\n");
}

fn layer_table(body: &mut String, layers: &[TrainedLayer]) {
    if layers.is_empty() {
        return;
    }
    body.push_str("<section><h2>How layers are factored</h2>");
    table_head(body, &[("layer", false), ("scheme", false), ("shape", false), ("rank", true)]);
    for layer in layers {
        let ranks: Vec<String> = layer.ranks.iter().map(ToString::to_string).collect();
        let _ = writeln!(
            body,
            "<tr><td>{}</td><td>{}</td><td data-value=\"{}\">{}</td><td class=\"number\" data-value=\"{}\">{}</td></tr>",
            escape(&layer.layer),
            escape(&layer.scheme),
            layer.shape.iter().product::<usize>(),
            shape(&layer.shape),
            layer.ranks.iter().max().unwrap_or(&0),
            ranks.join(","),
        );
    }
    body.push_str("</tbody></table></div></section>\n");
}

fn parameters(body: &mut String, parameters: &[TrainedParameter]) {
    if parameters.is_empty() {
        return;
    }
    body.push_str("<section><h2>Parameters</h2>");
    let columns =
        [("parameter", false), ("role", false), ("shape", false), ("parameters", true), ("decay", false)];
    table_head(body, &columns);
    for parameter in parameters {
        let _ = writeln!(
            body,
            "<tr><td>{}</td><td>{}</td><td data-value=\"{count}\">{}</td><td class=\"number\" data-value=\"{count}\">{}</td><td>{}</td></tr>",
            escape(&parameter.name),
            parameter.role,
            shape(&parameter.shape),
            units::count(parameter.parameters),
            decay_text(parameter.decay),
            count = parameter.parameters,
        );
    }
    body.push_str("</tbody></table></div></section>\n");
}

fn options(body: &mut String, report: &TrainingReport) {
    let text = serde_json::to_string_pretty(&report.options).unwrap_or_default();
    let _ = writeln!(
        body,
        "<section><h2>Options</h2><details><summary>what repeats this run</summary><pre>{}</pre></details></section>",
        escape(&text)
    );
}
