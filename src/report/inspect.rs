use super::compress::plural;
use super::table::{Align, Table};
use super::units;
use crate::checkpoint::Record;
use crate::decompose::{Curve, Format, Point, Ranks};
use crate::linalg::Spectrum;
use crate::plan::CatalogEntry;
use crate::plan::tuple as shape;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What a checkpoint holds, and what factoring its layers would cost and lose.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct InspectReport {
    /// The version of the schema.
    pub schema_version: u32,
    /// Name and version of the program.
    pub tool: String,
    /// `inspect`.
    pub command: &'static str,
    /// The checkpoint.
    pub input: String,
    /// What config.json calls its architecture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_type: Option<String>,
    /// Whether it is factored.
    pub factored: bool,
    /// The recipe that factored it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipe: Option<serde_json::Value>,
    /// Number of its parameters.
    pub parameters: u64,
    /// Bytes of all its tensors.
    pub size_bytes: u64,
    /// The layers that have factors, in natural order.
    pub layers: Vec<InspectedLayer>,
    /// What every tensor is, in natural order.
    pub tensors: Vec<CatalogEntry>,
}

/// One layer of an [`InspectReport`].
#[derive(Clone, Debug, Serialize)]
pub struct InspectedLayer {
    /// Its name.
    pub layer: String,
    /// What its weight is.
    pub kind: &'static str,
    /// The dense weight's shape.
    pub shape: Vec<usize>,
    /// The dense weight's element type.
    pub dtype: String,
    /// How it would be, or was, factored.
    pub scheme: &'static str,
    /// Groups of a convolution.
    pub groups: usize,
    /// Parameters stored.
    pub parameters: u64,
    /// Parameters of the dense weight.
    pub dense_parameters: u64,
    /// The largest possible rank.
    pub max_rank: usize,
    /// The largest rank at which factors are smaller than the dense weight.
    pub break_even_rank: usize,
    /// What its singular values say, where they were computed.
    #[serde(flatten)]
    pub spectrum: Option<LayerSpectrum>,
    /// What a given rank would cost and lose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preview: Option<RankPreview>,
    /// The rank of its factors, if it is factored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub factored_rank: Option<usize>,
    /// The rank of each mode, if each has its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub factored_ranks: Option<Ranks>,
    /// What factoring it would lose in each format, where that was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub formats: Vec<FormatCurve>,
    /// The recorded error of its factors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relative_error: Option<f64>,
    /// Other tensors that hold the same weight.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tied_with: Vec<String>,
    /// Why it stays dense unless it is targeted, or at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excluded: Option<String>,
}

/// Parts of a layer's parameters at which formats are compared in the table.
const KEPT: [f64; 5] = [0.75, 0.5, 0.25, 0.1, 0.05];

/// What a layer loses in a format, rank by rank.
#[derive(Clone, Debug, Serialize)]
pub struct FormatCurve {
    /// The scheme.
    pub scheme: &'static str,
    /// In order of parameters, errors falling.
    pub points: Vec<FormatPoint>,
}

/// A layer in a format, at ranks.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct FormatPoint {
    /// The ranks.
    pub ranks: Ranks,
    /// Parameters of the factors.
    pub parameters: u64,
    /// The relative error to expect.
    pub relative_error: f64,
}

impl FormatCurve {
    pub(crate) fn new(format: &Format, curve: &Curve) -> Self {
        let point = |point: &Point| FormatPoint {
            ranks: point.ranks,
            parameters: point.parameters as u64,
            relative_error: point.error_squared.sqrt(),
        };
        Self { scheme: format.scheme().name(), points: curve.points.iter().map(point).collect() }
    }

    /// The best point of at most so many parameters.
    #[must_use]
    pub fn within(&self, parameters: u64) -> Option<&FormatPoint> {
        self.points[..self.points.partition_point(|point| point.parameters <= parameters)].last()
    }
}

/// What the singular values of a layer say.
#[derive(Clone, Debug, Serialize)]
pub struct LayerSpectrum {
    /// `|W|^2 / s_1^2`.
    pub stable_rank: f64,
    /// The rank that 90 % of the energy needs.
    pub rank_90: usize,
    /// The rank that 95 % needs.
    pub rank_95: usize,
    /// The rank that 99 % needs.
    pub rank_99: usize,
    /// The rank that 99.9 % needs.
    pub rank_999: usize,
}

impl LayerSpectrum {
    pub(crate) fn new(spectrum: &Spectrum) -> Self {
        Self {
            stable_rank: spectrum.stable_rank(),
            rank_90: spectrum.rank_for_energy(0.9),
            rank_95: spectrum.rank_for_energy(0.95),
            rank_99: spectrum.rank_for_energy(0.99),
            rank_999: spectrum.rank_for_energy(0.999),
        }
    }
}

/// What a layer would be at a given rank.
#[derive(Clone, Debug, Serialize)]
pub struct RankPreview {
    /// The rank, at most the layer's largest.
    pub rank: usize,
    /// Parameters of the factors.
    pub parameters: u64,
    /// Whether they are fewer than the dense weight's.
    pub smaller: bool,
    /// Multiply-adds for one token or output position.
    pub multiply_adds: u64,
    /// The least possible relative error, where the spectrum is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relative_error: Option<f64>,
}

impl InspectReport {
    pub(crate) fn new(
        input: String,
        model_type: Option<String>,
        record: Option<Record>,
        tensors: Vec<CatalogEntry>,
        layers: Vec<InspectedLayer>,
    ) -> Self {
        Self {
            schema_version: super::SCHEMA_VERSION,
            tool: crate::TOOL.to_owned(),
            command: "inspect",
            input,
            model_type,
            factored: record.is_some(),
            recipe: record.map(|record| record.recipe),
            parameters: tensors.iter().filter(|t| t.kind.is_parameter()).map(CatalogEntry::elements).sum(),
            size_bytes: tensors.iter().map(|tensor| tensor.size_bytes).sum(),
            layers,
            tensors,
        }
    }

    /// The report as one JSON document.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// The catalog in a few lines, then the table of layers.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let what = if self.factored { "factored" } else { "dense" };
        let model = self.model_type.as_deref().map(|model| format!(" {model}")).unwrap_or_default();
        let _ = writeln!(
            text,
            "{}: {what}{model} checkpoint, {} parameters in {}, {}\n",
            self.input,
            units::count(self.parameters),
            plural(self.tensors.len(), "tensor"),
            units::size(self.size_bytes)
        );
        let _ = writeln!(text, "{}", self.kinds());
        if self.layers.is_empty() {
            text.push_str("no layer has factors\n");
            return text;
        }
        let _ = writeln!(text, "{}", self.layer_table());
        if self.has_spectra() {
            text.push_str("90 % to 99.9 %: the rank that this part of the squared norm needs\n");
        }
        let formats = self.format_table();
        if !formats.is_empty() {
            let _ = write!(
                text,
                "\n{formats}\nerrors to expect at these parts of the layer's parameters, the least marked; those of tucker and tensor-train are bounds, \
                 of cp after few sweeps\n"
            );
        }
        text
    }

    /// For each layer and format the errors at some parts of its parameters.
    fn format_table(&self) -> Table {
        let mut columns = vec![("layer", Align::Left), ("format", Align::Left)];
        let titles: Vec<String> = KEPT.iter().map(|part| format!("{part}")).collect();
        columns.extend(titles.iter().map(|title| (title.as_str(), Align::Right)));
        let mut table = Table::new(&columns);
        for layer in &self.layers {
            let at = |curve: &FormatCurve, part: f64| {
                curve.within((part * layer.dense_parameters as f64) as u64).map(|point| point.relative_error)
            };
            for (index, curve) in layer.formats.iter().enumerate() {
                let mut row = vec![if index == 0 { layer.layer.clone() } else { String::new() }];
                row.push(curve.scheme.to_owned());
                row.extend(KEPT.iter().map(|&part| {
                    let all = layer.formats.iter().filter_map(|curve| at(curve, part));
                    let least = all.min_by(f64::total_cmp);
                    let mark = |error: f64| if Some(error) == least { "*" } else { "" };
                    at(curve, part).map_or_else(
                        || "-".to_owned(),
                        |error| format!("{}{}", mark(error), units::error(error)),
                    )
                }));
                table.row(row);
            }
        }
        table
    }

    fn has_spectra(&self) -> bool {
        self.layers.iter().any(|layer| layer.spectrum.is_some())
    }

    /// Every tensor, a line each.
    #[must_use]
    pub fn tensors_text(&self) -> String {
        let mut table = Table::new(&[
            ("tensor", Align::Left),
            ("kind", Align::Left),
            ("dtype", Align::Left),
            ("shape", Align::Left),
            ("size", Align::Right),
            ("note", Align::Left),
        ]);
        for tensor in &self.tensors {
            let mut notes: Vec<String> = Vec::new();
            if !tensor.tied_with.is_empty() {
                notes.push(format!("same as {}", tensor.tied_with.join(", ")));
            }
            if let Some(exclusion) = tensor.exclusion.as_ref().filter(|_| tensor.is_candidate()) {
                notes.push(exclusion.to_string());
            }
            table.row([
                tensor.name.clone(),
                tensor.kind.name().to_owned(),
                tensor.dtype.to_owned(),
                shape(&tensor.shape),
                units::size(tensor.size_bytes),
                notes.join("; "),
            ]);
        }
        table.to_string()
    }

    fn kinds(&self) -> Table {
        let mut kinds: BTreeMap<(&str, &str), (usize, u64, u64)> = BTreeMap::new();
        for tensor in &self.tensors {
            let sums = kinds.entry((tensor.kind.name(), tensor.dtype)).or_default();
            *sums = (sums.0 + 1, sums.1 + tensor.elements(), sums.2 + tensor.size_bytes);
        }
        let mut table = Table::new(&[
            ("kind", Align::Left),
            ("dtype", Align::Left),
            ("tensors", Align::Right),
            ("elements", Align::Right),
            ("size", Align::Right),
        ]);
        for ((kind, dtype), (tensors, elements, bytes)) in kinds {
            table.row([
                kind.to_owned(),
                dtype.to_owned(),
                tensors.to_string(),
                units::count(elements),
                units::size(bytes),
            ]);
        }
        table
    }

    fn layer_table(&self) -> Table {
        let rank = self.layers.iter().find_map(|layer| layer.preview.as_ref()).map(|preview| preview.rank);
        let (at, loses) = (format!("at rank {}", rank.unwrap_or(0)), "loses".to_owned());
        let mut columns = vec![
            ("layer", Align::Left),
            ("kind", Align::Left),
            ("shape", Align::Left),
            ("parameters", Align::Right),
            ("break-even", Align::Right),
        ];
        let with_spectra = self.has_spectra();
        if with_spectra {
            columns
                .extend(["stable rank", "90 %", "95 %", "99 %", "99.9 %"].map(|name| (name, Align::Right)));
        }
        if self.factored {
            columns.extend([("scheme", Align::Left), ("rank", Align::Right), ("error", Align::Right)]);
        }
        if rank.is_some() {
            columns.extend([(at.as_str(), Align::Right), (loses.as_str(), Align::Right)]);
        }
        columns.push(("note", Align::Left));
        let mut table = Table::new(&columns);
        for layer in &self.layers {
            let mut row = vec![
                layer.layer.clone(),
                layer.kind.to_owned(),
                shape(&layer.shape),
                units::count(layer.parameters),
                layer.break_even_rank.to_string(),
            ];
            match &layer.spectrum {
                Some(s) => row.extend([
                    format!("{:.1}", s.stable_rank),
                    s.rank_90.to_string(),
                    s.rank_95.to_string(),
                    s.rank_99.to_string(),
                    s.rank_999.to_string(),
                ]),
                None if with_spectra => row.extend(vec!["-".to_owned(); 5]),
                None => {}
            }
            if self.factored {
                let rank = layer.factored_ranks.map(|ranks| ranks.to_string());
                let rank = rank.or_else(|| layer.factored_rank.map(|rank| rank.to_string()));
                row.push(rank.as_ref().map_or("-", |_| layer.scheme).to_owned());
                row.push(rank.unwrap_or_else(|| "dense".to_owned()));
                row.push(layer.relative_error.map_or_else(|| "-".to_owned(), units::error));
            }
            if let Some(preview) = &layer.preview {
                row.push(if preview.smaller {
                    units::count(preview.parameters)
                } else {
                    "not smaller".to_owned()
                });
                row.push(preview.relative_error.map_or_else(|| "-".to_owned(), units::error));
            }
            row.push(layer.excluded.clone().unwrap_or_default());
            table.row(row);
        }
        table
    }
}
