use crate::checkpoint::{
    Checkpoint, CheckpointError, Dtype, OutputError, OutputOptions, OutputTensor, Staging, natural_order,
};
use crate::decompose::{Method, Metric};
use crate::linalg::Cholesky;
use faer::Mat;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// Second moments of rows: `sum_t x_t x_tᵗ`, of which the lower triangle counts, and `sum_t |x_t|`.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    pub(super) second: Mat<f64>,
    pub(super) magnitude: Vec<f64>,
    pub(super) rows: u64,
}

impl Moments {
    /// Elements of a row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.magnitude.len()
    }

    /// Rows that were summed up.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }
}

/// What is known of one layer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LayerMoments {
    /// Which input it has.
    pub(super) input: usize,
    /// The gradients of its outputs.
    pub(super) outputs: Option<Moments>,
}

impl LayerMoments {
    pub(super) fn new(input: usize) -> Self {
        Self { input, outputs: None }
    }
}

/// What is added to the diagonal of second moments, as part of their mean: few rows leave directions in which they say nothing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Damping {
    /// Of inputs.
    pub inputs: f64,
    /// Of gradients.
    pub outputs: f64,
}

impl Default for Damping {
    fn default() -> Self {
        Self { inputs: 1e-3, outputs: 1e-2 }
    }
}

/// What a model did with calibration data.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    /// A number for the model's tensors, in hexadecimal.
    pub model: String,
    /// A number for the samples, in hexadecimal.
    pub data: String,
    /// Samples that were run.
    pub samples: u64,
    /// Tokens, or pictures, of all samples.
    pub tokens: u64,
    pub(super) inputs: Vec<Moments>,
    pub(super) layers: BTreeMap<String, LayerMoments>,
}

/// Why statistics cannot be read, written or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StatisticsError {
    /// The file cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The file cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// A file that holds something else.
    #[error("`{}` holds no calibration statistics: {problem}", path.display())]
    NotStatistics {
        /// The file.
        path: PathBuf,
        /// What is missing or wrong.
        problem: String,
    },
    /// Statistics of another model, or of other data.
    #[error("the statistics in `{}` are of another {what}: {found}, expected {expected}", path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// What differs.
        what: &'static str,
        /// The number in the file.
        found: String,
        /// The number expected.
        expected: String,
    },
    /// A model that gives no numbers, or numbers too large to be squared.
    #[error("calibration is of no use: {what} of `{layer}` are not finite")]
    NotFinite {
        /// Inputs or gradients.
        what: &'static str,
        /// The first layer with them.
        layer: String,
    },
    /// Statistics without what a method needs.
    #[error("the statistics in `{}` hold no gradients, which method `fisher` needs", path.display())]
    NoGradients {
        /// The file.
        path: PathBuf,
    },
}

/// The key of a statistics file's description in its metadata.
const KEY: &str = "calibration";

#[derive(Serialize, Deserialize)]
struct Description {
    version: u32,
    tool: String,
    model: String,
    data: String,
    samples: u64,
    tokens: u64,
    /// Rows of each input.
    inputs: Vec<u64>,
    layers: BTreeMap<String, LayerDescription>,
}

#[derive(Serialize, Deserialize)]
struct LayerDescription {
    input: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    output_rows: Option<u64>,
}

impl Statistics {
    /// The same statistics, of this model and these samples.
    #[must_use]
    pub fn named(self, model: String, data: String) -> Self {
        Self { model, data, ..self }
    }

    /// The layers that were reached.
    pub fn layers(&self) -> impl Iterator<Item = &str> {
        self.layers.keys().map(String::as_str)
    }

    /// What went into a layer.
    #[must_use]
    pub fn input(&self, layer: &str) -> Option<&Moments> {
        self.inputs.get(self.layers.get(layer)?.input)
    }

    /// Refuses what no metric can be made of.
    ///
    /// # Errors
    ///
    /// - [`StatisticsError::NotFinite`]: a model whose weights or activations are not finite
    pub fn check(&self) -> Result<(), StatisticsError> {
        let broken = |moments: &Moments| !moments.magnitude.iter().all(|sum| sum.is_finite());
        let mut names: Vec<&String> = self.layers.keys().collect();
        names.sort_by(|a, b| natural_order(a, b));
        for name in names {
            let layer = &self.layers[name];
            let what = if broken(&self.inputs[layer.input]) {
                "inputs"
            } else if layer.outputs.as_ref().is_some_and(broken) {
                "gradients of outputs"
            } else {
                continue;
            };
            return Err(StatisticsError::NotFinite { what, layer: name.clone() });
        }
        Ok(())
    }

    /// Whether gradients were collected.
    #[must_use]
    pub fn has_gradients(&self) -> bool {
        self.layers.values().any(|layer| layer.outputs.is_some())
    }

    /// The metric of each layer that was reached. Layers with one input share what is computed of it.
    #[must_use]
    pub fn metrics(&self, method: Method, damping: Damping) -> BTreeMap<String, Metric> {
        let inputs: Vec<OnceLock<Option<Arc<Cholesky>>>> =
            self.inputs.iter().map(|_| OnceLock::new()).collect();
        let factors = |index: usize| {
            let moments = &self.inputs[index];
            inputs[index].get_or_init(|| {
                let mean = &moments.second * faer::Scale(1.0 / moments.rows.max(1) as f64);
                Cholesky::new(mean.as_ref(), damping.inputs).map(Arc::new)
            })
        };
        let metric = |layer: &LayerMoments| match method {
            Method::Plain => Some(Metric::plain()),
            Method::Diagonal => diagonal(&self.inputs[layer.input]).map(|scales| Metric::diagonal(&scales)),
            Method::Whitened => factors(layer.input).clone().map(Metric::whitened),
            Method::Fisher => {
                let moments = layer.outputs.as_ref()?;
                let per_sample = &moments.second * faer::Scale(1.0 / self.samples.max(1) as f64);
                let outputs = Arc::new(Cholesky::new(per_sample.as_ref(), damping.outputs)?);
                Some(Metric::fisher(factors(layer.input).clone()?, outputs))
            }
        };
        let named = |(name, layer): (&String, &LayerMoments)| Some((name.clone(), metric(layer)?));
        self.layers.iter().filter_map(named).collect()
    }

    /// Writes a file, which appears whole.
    ///
    /// # Errors
    ///
    /// - a file that exists, unless it is to be replaced, or cannot be written
    pub fn write(&self, path: &Path, overwrite: bool) -> Result<(), StatisticsError> {
        let mut named: Vec<(String, &Moments)> = self
            .inputs
            .iter()
            .enumerate()
            .map(|(index, moments)| (format!("inputs.{index}"), moments))
            .collect();
        named.extend(
            self.layers
                .iter()
                .filter_map(|(name, layer)| Some((format!("outputs.{name}"), layer.outputs.as_ref()?))),
        );
        let mut tensors: Vec<(OutputTensor, Vec<u8>)> = Vec::new();
        for (name, moments) in named {
            let n = moments.width();
            let lower = (0..n).flat_map(|i| (0..n).map(move |j| moments.second[(i.max(j), i.min(j))]));
            for (part, shape, values) in [
                ("second", vec![n, n], lower.collect::<Vec<f64>>()),
                ("magnitude", vec![n], moments.magnitude.clone()),
            ] {
                let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                tensors
                    .push((OutputTensor { name: format!("{name}.{part}"), dtype: Dtype::F64, shape }, bytes));
            }
        }
        let description = Description {
            version: 1,
            tool: crate::TOOL.to_owned(),
            model: self.model.clone(),
            data: self.data.clone(),
            samples: self.samples,
            tokens: self.tokens,
            inputs: self.inputs.iter().map(|moments| moments.rows).collect(),
            layers: self
                .layers
                .iter()
                .map(|(name, layer)| {
                    let output_rows = layer.outputs.as_ref().map(|moments| moments.rows);
                    (name.clone(), LayerDescription { input: layer.input, output_rows })
                })
                .collect(),
        };
        let text = serde_json::to_string(&description).unwrap_or_default();
        let mut options = OutputOptions::file(path);
        options.overwrite = overwrite;
        options.metadata.insert(KEY.to_owned(), text);
        let outputs: Vec<OutputTensor> = tensors.iter().map(|(output, _)| output.clone()).collect();
        let staging = Staging::create(&options, &outputs)?;
        for (output, bytes) in &tensors {
            staging.write(&output.name, bytes)?;
        }
        staging.publish(None)?;
        Ok(())
    }

    /// Reads a file.
    ///
    /// # Errors
    ///
    /// - a file that cannot be read, or holds something else
    pub fn read(path: &Path) -> Result<Self, StatisticsError> {
        let checkpoint = Checkpoint::open_path(path)?;
        let not = |problem: String| StatisticsError::NotStatistics { path: path.to_path_buf(), problem };
        let text = checkpoint
            .metadata()
            .get(KEY)
            .ok_or_else(|| not(format!("there is no `{KEY}` in its metadata")))?;
        let description: Description = serde_json::from_str(text).map_err(|error| not(error.to_string()))?;
        if description.version != 1 {
            return Err(not(format!("version {} is not known to this program", description.version)));
        }
        let values = |name: &str| -> Result<Vec<f64>, StatisticsError> {
            let entry = checkpoint.get(name).filter(|entry| entry.dtype == Dtype::F64);
            let entry = entry.ok_or_else(|| not(format!("`{name}` is missing")))?;
            let bytes = checkpoint.bytes(entry)?;
            let (chunks, _) = bytes.as_chunks::<8>();
            Ok(chunks.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect())
        };
        let moments = |name: &str, rows: u64| {
            let magnitude = values(&format!("{name}.magnitude"))?;
            let (n, second) = (magnitude.len(), values(&format!("{name}.second"))?);
            if second.len() != n * n {
                return Err(not(format!(
                    "`{name}.second` has {} elements, expected {}",
                    second.len(),
                    n * n
                )));
            }
            let second = Mat::from_fn(n, n, |i, j| if j <= i { second[i * n + j] } else { 0.0 });
            Ok(Moments { second, magnitude, rows })
        };
        let mut inputs = Vec::new();
        for (index, &rows) in description.inputs.iter().enumerate() {
            inputs.push(moments(&format!("inputs.{index}"), rows)?);
        }
        let mut layers = BTreeMap::new();
        for (name, layer) in description.layers {
            if layer.input >= inputs.len() {
                return Err(not(format!("`{name}` has input {} of {}", layer.input, inputs.len())));
            }
            let outputs =
                layer.output_rows.map(|rows| moments(&format!("outputs.{name}"), rows)).transpose()?;
            layers.insert(name, LayerMoments { input: layer.input, outputs });
        }
        let Description { model, data, samples, tokens, .. } = description;
        Ok(Self { model, data, samples, tokens, inputs, layers })
    }
}

/// The root of each input's mean magnitude; none where every input is zero.
fn diagonal(moments: &Moments) -> Option<Vec<f64>> {
    let mean = moments.magnitude.iter().sum::<f64>() / moments.width().max(1) as f64;
    if !mean.is_finite() || mean <= 0.0 {
        return None;
    }
    // An input that is always zero still gets a scale.
    Some(moments.magnitude.iter().map(|sum| sum.max(1e-6 * mean).sqrt()).collect())
}
