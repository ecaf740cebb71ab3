//! What `inspect` says, against singular values computed here.

use crate::files::fixture;
use crate::tree::{Loaded, load, multiplied_out, norm, record, run_compress};
use faer::Mat;
use fnl::commands::{InspectOptions, inspect};
use fnl::plan::{ConvScheme, NoProgress, Pattern};
use fnl::report::{InspectReport, InspectedLayer};
use std::path::Path;

fn run(path: &Path, change: impl FnOnce(&mut InspectOptions)) -> InspectReport {
    let mut options = InspectOptions::new(path.into());
    change(&mut options);
    inspect(&options, &NoProgress).unwrap()
}

/// Singular values, descending, in f64.
fn values(matrix: &Mat<f64>) -> Vec<f64> {
    matrix.singular_values().unwrap()
}

/// A stored weight as the matrix that is factored: as it is, or by rows and columns of a kernel.
fn matrix(weight: &[f64], shape: &[usize], spatial: bool) -> Mat<f64> {
    match *shape {
        [rows, cols] => Mat::from_fn(rows, cols, |i, j| weight[i * cols + j]),
        [o, i, kh, kw] if spatial => Mat::from_fn(o * kh, i * kw, |row, col| {
            weight[((row / kh * i + col / kw) * kh + row % kh) * kw + col % kw]
        }),
        _ => {
            let (rows, cols) = (shape[0], weight.len() / shape[0]);
            Mat::from_fn(rows, cols, |i, j| weight[i * cols + j])
        }
    }
}

fn least_rank(values: &[f64], energy: f64) -> usize {
    let whole: f64 = values.iter().map(|s| s * s).sum();
    let mut kept = 0.0;
    for (index, s) in values.iter().enumerate() {
        kept += s * s;
        if kept >= energy * whole {
            return index + 1;
        }
    }
    values.len()
}

fn check(layer: &InspectedLayer, weight: &Loaded, spatial: bool) {
    let numbers = weight.numbers();
    let matrix = matrix(&numbers, &weight.shape, spatial);
    let values = values(&matrix);
    let (m, n) = (matrix.nrows(), matrix.ncols());
    assert_eq!(
        (layer.max_rank, layer.dense_parameters as usize),
        (m.min(n), numbers.len()),
        "{}",
        layer.layer
    );
    // r (m + n) < m n
    let break_even = (1..=m.min(n)).rev().find(|rank| rank * (m + n) < m * n).unwrap_or(0);
    assert_eq!(layer.break_even_rank, break_even, "{}", layer.layer);
    let found = layer.spectrum.as_ref().unwrap();
    let stable = norm(&numbers).powi(2) / values[0].powi(2);
    // Squares of values whose absolute error is 1e-7 s_1 at most.
    assert!(
        (found.stable_rank - stable).abs() <= 1e-5 * stable,
        "{}: {} {stable}",
        layer.layer,
        found.stable_rank
    );
    for (rank, energy) in
        [(found.rank_90, 0.9), (found.rank_95, 0.95), (found.rank_99, 0.99), (found.rank_999, 0.999)]
    {
        assert_eq!(rank, least_rank(&values, energy), "{}: {energy}", layer.layer);
    }
    if let Some(preview) = &layer.preview {
        assert_eq!(preview.rank, 7.min(m.min(n)));
        assert_eq!(preview.parameters as usize, preview.rank * (m + n));
        assert_eq!(preview.smaller, preview.rank <= break_even);
        let tail = norm(&values[preview.rank..]) / norm(&values);
        assert!((preview.relative_error.unwrap() - tail).abs() <= 1e-5, "{}", layer.layer);
    }
}

#[test]
fn the_numbers_of_dense_layers_are_those_of_their_singular_values() {
    for name in [
        "tiny-bert",
        "tiny-gpt2",
        "tiny-llama",
        "tiny-vit",
        "tiny-resnet.safetensors",
        "silero_vad_16k.safetensors",
    ] {
        for scheme in [ConvScheme::Spatial, ConvScheme::Channel] {
            let report = run(&fixture(name), |options| {
                options.rank = Some(7);
                options.conv_scheme = scheme;
            });
            let dense = load(&fixture(name));
            assert!(!report.factored && report.recipe.is_none());
            assert_eq!(
                report.size_bytes,
                dense.values().map(|t| t.bytes.len() as u64).sum::<u64>(),
                "{name}"
            );
            assert_eq!(report.tensors.len(), dense.len());
            for layer in &report.layers {
                let stored =
                    dense.get(&format!("{}.weight", layer.layer)).unwrap_or_else(|| &dense[&layer.layer]);
                assert_eq!((&layer.shape, &layer.dtype), (&stored.shape, &stored.dtype));
                check(layer, stored, scheme == ConvScheme::Spatial);
            }
            assert!(report.layers.len() >= 6, "{name}");
        }
    }
}

#[test]
fn a_factored_checkpoint_shows_what_its_factors_stand_for() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let done = run_compress(&fixture("tiny-vit"), &out, "[[rule]]\nrank = 6\n");
    let report = run(&out, |_| {});
    assert!(report.factored);
    assert_eq!(report.recipe, Some(done.recipe.clone()));
    assert_eq!(report.parameters, done.totals.totals.parameters_after);
    let (tensors, record) = (load(&out), record(&out));
    let factored: Vec<&InspectedLayer> = report.layers.iter().filter(|l| l.factored_rank.is_some()).collect();
    assert_eq!(factored.len(), 12);
    for layer in factored {
        let module = &record["modules"][&layer.layer];
        assert_eq!(layer.factored_rank, Some(6));
        assert_eq!(layer.relative_error, module["relative_error"].as_f64());
        let links = ["0", "1"].map(|index| &tensors[&format!("{}.{index}.weight", layer.layer)]);
        let stored: usize = links.iter().map(|link| link.shape.iter().product::<usize>()).sum();
        assert_eq!(layer.parameters as usize, stored);
        let product = multiplied_out(module, links[0], links[1]);
        let values = values(&matrix(&product, &layer.shape, false));
        let spectrum = layer.spectrum.as_ref().unwrap();
        assert!(spectrum.rank_999 <= 6);
        assert_eq!(spectrum.rank_90, least_rank(&values, 0.9), "{}", layer.layer);
        let stable = norm(&product).powi(2) / values[0].powi(2);
        assert!((spectrum.stable_rank - stable).abs() <= 1e-5 * stable);
    }
    // The links of the chains are no layers of their own.
    assert!(report.layers.iter().all(|layer| !layer.layer.ends_with(".0") && !layer.layer.ends_with(".1")));
}

#[test]
fn targets_narrow_it_and_misses_are_named() {
    let report = run(&fixture("tiny-vit"), |options| {
        options.targets = vec![Pattern::parse("**.intermediate.dense").unwrap()];
        options.spectra = false;
    });
    let names: Vec<&str> = report.layers.iter().map(|layer| layer.layer.as_str()).collect();
    assert_eq!(names, ["vit.encoder.layer.0.intermediate.dense", "vit.encoder.layer.1.intermediate.dense"]);
    assert!(report.layers.iter().all(|layer| layer.spectrum.is_none()));
    let mut options = InspectOptions::new(fixture("tiny-vit").as_path().into());
    options.targets = vec![Pattern::parse("classifer").unwrap()];
    let message = inspect(&options, &NoProgress).unwrap_err().to_string();
    assert_eq!(message, "`classifer` matches no layer; the nearest is `classifier`");
}
