//! Attention whose heads are made narrower, or balanced.

use super::calibration::{Calibration, CalibrationOptions};
use super::weights::decompose_error;
use super::{CommandError, model_card, side_files, text_networks};
use crate::checkpoint::{Checkpoint, Source, Staging};
use crate::decompose::{Method, Metric, narrow_head};
use crate::layers::{HeadProduct, HeadProductKind, HeadWeight, State, Stored};
use crate::models::{Task, TextConfig};
use crate::plan::{CalibrationRule, LayerEvent, Limits, Progress, Recipe, Stage};
use crate::report::{HeadsReport, NarrowedProduct};
use candle_core::{DType, Device, Tensor};
use faer::Mat;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

/// What [`heads`] is to do.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HeadsOptions {
    /// The checkpoint's folder.
    pub source: Source,
    /// Where the result goes.
    pub output: PathBuf,
    /// The part of queries' and keys' width that is kept; none to leave them as they are.
    pub query_key: Option<f64>,
    /// The part of values' width that is kept; none to leave them as they are.
    pub output_value: Option<f64>,
    /// What products are made to be near in.
    pub method: Method,
    /// What the model is run over, or statistics of that.
    pub calibration: CalibrationOptions,
    /// Which samples it is run over.
    pub rule: CalibrationRule,
    /// How much of the machine is used.
    pub limits: Limits,
    /// Whether an existing output is replaced, at the end and at once.
    pub overwrite: bool,
    /// The largest file written, in bytes.
    pub max_shard_bytes: u64,
}

impl HeadsOptions {
    /// Options for one checkpoint and output, which leave everything as it is.
    #[must_use]
    pub fn new(source: Source, output: PathBuf) -> Self {
        Self {
            source,
            output,
            query_key: None,
            output_value: None,
            method: Method::Plain,
            calibration: CalibrationOptions::default(),
            rule: CalibrationRule::default(),
            limits: Limits::default(),
            overwrite: false,
            max_shard_bytes: super::compress::DEFAULT_SHARD_BYTES,
        }
    }

    fn keep(&self, kind: HeadProductKind) -> Option<f64> {
        match kind {
            HeadProductKind::QueryKey => self.query_key,
            HeadProductKind::OutputValue => self.output_value,
        }
    }
}

/// Factors the products that heads of attention compute with, queries with keys and outputs with values, and writes the
/// checkpoint with narrower heads, whose names are what they were.
///
/// The bias of keys adds the same to all scores of a query and is left out; that of queries is factored with them. The bias
/// of values goes into the output's. Where positions turn queries and keys, those stay as they are. The scale of scores
/// stays that of the heads as they were.
///
/// # Errors
///
/// - [`CommandError::Usage`] when nothing is asked for;
/// - [`CommandError::Config`], [`CommandError::Network`] when the checkpoint is no known network for text;
/// - [`CommandError::Unfit`] when it has no such products: there is no attention, or its layers are factored;
/// - what calibration refuses
pub fn heads(options: &HeadsOptions, progress: &dyn Progress) -> Result<HeadsReport, CommandError> {
    let start = Instant::now();
    if options.query_key.is_none() && options.output_value.is_none() {
        let problem =
            "nothing is asked for: --query-key or --output-value says which part of the width is kept";
        return Err(CommandError::Usage(problem.to_owned()));
    }
    let checkpoint = Checkpoint::open(&options.source)?;
    let (_, config) = text_networks::config(&checkpoint)?;
    let mut state = State::read(&checkpoint)?;
    let (before, parameters_before) = (state.size_bytes(), state.parameters() as u64);
    let network =
        text_networks::build(&config, &state, Task::AsItIs, crate::layers::Execution::Auto, &Device::Cpu)?;
    let mut products = network.products().to_vec();
    for (kind, what) in [
        (HeadProductKind::QueryKey, "queries and keys"),
        (HeadProductKind::OutputValue, "outputs and values"),
    ] {
        if options.keep(kind).is_some() && !products.iter().any(|product| product.kind == kind) {
            let turned = kind == HeadProductKind::QueryKey && matches!(config, TextConfig::Llama(_));
            let why = if turned {
                "positions turn them; outputs and values can be, with --output-value alone"
            } else {
                "they are factored already"
            };
            return Err(CommandError::Unfit { problems: vec![format!("no {what} can be factored: {why}")] });
        }
    }
    drop(network);
    let output =
        side_files::output_options(&checkpoint, &options.output, options.max_shard_bytes, options.overwrite)?;
    Staging::check(&output, &side_files::inputs(&checkpoint), &[])?;
    let metrics = if options.calibration.is_given() {
        let calibration = Some(options.rule.clone());
        let recipe = Recipe { method: options.method, calibration, ..Recipe::default() };
        let calibration = Calibration::new(&checkpoint, &options.calibration, None, &recipe)?;
        calibration.run(options.limits, progress)?.metrics
    } else {
        BTreeMap::new()
    };
    let asked: Vec<usize> =
        (0..products.len()).filter(|&index| options.keep(products[index].kind).is_some()).collect();
    progress.begin(Stage::Factoring, asked.len(), asked.len() as u64);
    let mut narrowed = Vec::new();
    for index in asked {
        let begin = Instant::now();
        let HeadProduct { name: attention, kind, heads: [heads, _], width, .. } = products[index].clone();
        let keep = options.keep(kind).unwrap_or(1.0);
        let rank = ((keep * width as f64).round() as usize).clamp(1, width);
        let relative_error = narrow(&mut state, &mut products, index, rank, &metrics)?;
        let product = kind_name(kind);
        let name = format!("{attention} {product}");
        let mut event = LayerEvent::new(&name, begin.elapsed().as_secs_f64());
        event.ranks = Some(rank.into());
        event.relative_error = Some(relative_error);
        progress.finished(&event, 1);
        narrowed.push(NarrowedProduct { attention, product, heads, width, rank, relative_error });
    }
    progress.end();
    let record = checkpoint.record();
    let staging = state.stage(&output, record)?;
    let card = model_card::of_heads(&narrowed);
    let left_out = side_files::copy(&checkpoint, &staging, record, &BTreeMap::new(), &card)?;
    let mut report = HeadsReport::new(
        options.source.to_string(),
        options.method.name(),
        narrowed,
        [parameters_before, state.parameters() as u64],
        [before, state.size_bytes()],
        left_out,
    );
    if output.as_directory {
        report.files = side_files::names(&output);
        staging.add_file("report.json".as_ref(), report.to_json().as_bytes())?;
    }
    staging.publish(record.map(crate::checkpoint::Record::to_json).as_deref())?;
    report.output = Some(output.target.display().to_string());
    report.elapsed_secs = Some(start.elapsed().as_secs_f64());
    Ok(report)
}

fn kind_name(kind: HeadProductKind) -> &'static str {
    match kind {
        HeadProductKind::QueryKey => "query_key",
        HeadProductKind::OutputValue => "output_value",
    }
}

/// Puts the factors of a product of this rank into the state; returns their relative error over all heads.
fn narrow(
    state: &mut State,
    products: &mut [HeadProduct],
    index: usize,
    rank: usize,
    metrics: &BTreeMap<String, Metric>,
) -> Result<f64, CommandError> {
    let HeadProduct { kind, left, right, heads: [heads, shared], width, .. } = products[index].clone();
    let (scores, group) = (kind == HeadProductKind::QueryKey, heads / shared);
    let (lefts, rights) = (split(state, &left, heads, width)?, split(state, &right, shared, width)?);
    let left_biases = if scores { split_bias(state, &left, heads, width)? } else { None };
    let right_biases = split_bias(state, &right, shared, width)?;
    let plain = Metric::plain();
    let metric = |part: &HeadWeight| metrics.get(part.name.trim_end_matches(".weight")).unwrap_or(&plain);
    // The bias of values goes into the output's, where there is one.
    let folds = !scores && state.tensors.contains_key(&bias_name(&left));
    let mut folded = vec![0.0; lefts[0].ncols()];
    let (mut norm, mut tail) = (0.0, 0.0);
    let (mut new_lefts, mut new_rights) = (Vec::new(), Vec::new());
    let (mut new_left_biases, mut new_right_biases) = (Vec::new(), Vec::new());
    for of_right in 0..shared {
        let own = of_right * group..(of_right + 1) * group;
        let mut gram = Mat::zeros(width, width);
        for head in own.clone() {
            let rows = lefts[head].as_ref();
            gram += if scores { metric(&left).input_gram(rows) } else { metric(&left).output_gram(rows) };
            // The bias of queries is one more input, which is always one.
            if let Some(bias) = left_biases.as_ref().map(|biases| &biases[head]) {
                gram += Mat::from_fn(width, width, |i, j| bias[i] * bias[j]);
            }
        }
        let right_gram = metric(&right).input_gram(rights[of_right].as_ref());
        let done =
            narrow_head(gram.as_ref(), right_gram.as_ref(), rank).map_err(decompose_error(&right.name))?;
        (norm, tail) = (norm + done.norm_squared, tail + done.tail_squared);
        for head in own {
            new_lefts.push(&done.left * &lefts[head]);
            new_left_biases.extend(left_biases.iter().flat_map(|biases| apply(&done.left, &biases[head])));
            if let (true, Some(biases)) = (folds, &right_biases) {
                for (column, sum) in folded.iter_mut().enumerate() {
                    let terms = biases[of_right].iter().enumerate();
                    *sum += terms.map(|(row, bias)| lefts[head][(row, column)] * bias).sum::<f64>();
                }
            }
        }
        new_rights.push(&done.right * &rights[of_right]);
        // That of keys adds the same to all scores of a query.
        new_right_biases.extend(right_biases.iter().flat_map(|biases| {
            if scores || folds { vec![0.0; rank] } else { apply(&done.right, &biases[of_right]) }
        }));
    }
    if folds && right_biases.is_some() {
        let sum: Vec<f64> =
            elements(state, &bias_name(&left))?.iter().zip(&folded).map(|(bias, more)| bias + more).collect();
        let count = sum.len();
        replace(state, &bias_name(&left), &[count], &sum)?;
    }
    let sides = [(true, new_lefts, new_left_biases), (false, new_rights, new_right_biases)];
    for (is_left, rows, bias) in sides {
        // What was put in before may have moved it.
        let HeadProduct { left, right, heads: [heads, shared], .. } = products[index].clone();
        let (part, count) = if is_left { (left, heads) } else { (right, shared) };
        splice(state, &part, count * width, &rows)?;
        if !bias.is_empty() {
            splice_bias(state, &part, count * width, &bias)?;
        }
        let (before, after) = (count * width, count * rank);
        let parts = products.iter_mut().flat_map(|product| [&mut product.left, &mut product.right]);
        for other in parts.filter(|other| other.name == part.name && other.start > part.start) {
            other.start -= before - after;
        }
    }
    products[index].width = rank;
    Ok(if norm > 0.0 { (tail / norm).sqrt() } else { 0.0 })
}

fn apply(matrix: &Mat<f64>, column: &[f64]) -> Vec<f64> {
    (0..matrix.nrows()).map(|i| column.iter().enumerate().map(|(j, x)| matrix[(i, j)] * x).sum()).collect()
}

fn bias_name(part: &HeadWeight) -> String {
    format!("{}.bias", part.name.trim_end_matches(".weight"))
}

fn missing(name: &str) -> CommandError {
    let module = name.rsplit_once('.').map_or(name, |(module, _)| module).to_owned();
    CommandError::RecordMismatch {
        module,
        problem: format!("expected the tensor `{name}`, which is missing"),
    }
}

fn elements(state: &State, name: &str) -> Result<Vec<f64>, CommandError> {
    let tensor = state.tensors.get(name).and_then(Stored::tensor).ok_or_else(|| missing(name))?;
    Ok(tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
}

fn replace(state: &mut State, name: &str, shape: &[usize], values: &[f64]) -> Result<(), CommandError> {
    let narrow: Vec<f32> = values.iter().map(|&value| value as f32).collect();
    match state.tensors.get_mut(name) {
        Some(Stored::Floating { tensor, .. }) => *tensor = Tensor::from_vec(narrow, shape, &Device::Cpu)?,
        _ => return Err(missing(name)),
    }
    Ok(())
}

/// A whole weight with heads along its rows.
fn oriented(state: &State, part: &HeadWeight) -> Result<Mat<f64>, CommandError> {
    let values = elements(state, &part.name)?;
    let shape = state.tensors.get(&part.name).map(Stored::shape).unwrap_or_default();
    let &[rows, columns] = shape else { return Err(missing(&part.name)) };
    let stored = faer::MatRef::from_row_major_slice(&values, rows, columns);
    Ok(if part.axis == 0 { stored.to_owned() } else { stored.transpose().to_owned() })
}

/// The rows of each head.
fn split(
    state: &State,
    part: &HeadWeight,
    heads: usize,
    width: usize,
) -> Result<Vec<Mat<f64>>, CommandError> {
    let whole = oriented(state, part)?;
    let head = |head: usize| whole.subrows(part.start + head * width, width).to_owned();
    Ok((0..heads).map(head).collect())
}

fn split_bias(
    state: &State,
    part: &HeadWeight,
    heads: usize,
    width: usize,
) -> Result<Option<Vec<Vec<f64>>>, CommandError> {
    let name = bias_name(part);
    if !state.tensors.contains_key(&name) {
        return Ok(None);
    }
    let values = elements(state, &name)?;
    Ok(Some(
        values[part.start..part.start + heads * width].chunks_exact(width).map(<[f64]>::to_vec).collect(),
    ))
}

/// Puts heads in the place of so many rows, or columns, of a weight.
fn splice(
    state: &mut State,
    part: &HeadWeight,
    count: usize,
    heads: &[Mat<f64>],
) -> Result<(), CommandError> {
    let whole = oriented(state, part)?;
    let rows: usize = heads.iter().map(Mat::nrows).sum();
    let (total, columns) = (whole.nrows() - count + rows, whole.ncols());
    let mut values = Vec::with_capacity(total * columns);
    let mut push = |row: faer::RowRef<'_, f64>| values.extend(row.iter());
    (0..part.start).for_each(|row| push(whole.row(row)));
    for head in heads {
        (0..head.nrows()).for_each(|row| push(head.row(row)));
    }
    (part.start + count..whole.nrows()).for_each(|row| push(whole.row(row)));
    if part.axis == 0 {
        return replace(state, &part.name, &[total, columns], &values);
    }
    let stored = faer::MatRef::from_row_major_slice(&values, total, columns);
    let transposed: Vec<f64> = (0..columns).flat_map(|j| (0..total).map(move |i| stored[(i, j)])).collect();
    replace(state, &part.name, &[columns, total], &transposed)
}

fn splice_bias(state: &mut State, part: &HeadWeight, count: usize, new: &[f64]) -> Result<(), CommandError> {
    let name = bias_name(part);
    let mut values = elements(state, &name)?;
    values.splice(part.start..part.start + count, new.iter().copied());
    let size = values.len();
    replace(state, &name, &[size], &values)
}
