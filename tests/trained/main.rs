//! What must hold on trained checkpoints: the fixtures, and some that are not in the repository.
//!
//! `FNL_DATA` names a folder with `checkpoints/resnet20-cifar10.safetensors` and
//! `checkpoints/resnet56-cifar10.safetensors`; `FNL_MINILM` one with the checkpoint of all-MiniLM-L6-v2;
//! `FNL_CIFAR10` one with the six files of CIFAR-10's binary version.

mod accuracy;
mod fixtures;

use fnl::checkpoint::Source;
use fnl::commands::{
    CollapseOptions, CompressOptions, InspectOptions, VerifyOptions, collapse, compress, inspect, verify,
};
use fnl::plan::{Allocate, NoProgress, RankRule, Recipe, Rule};
use fnl::report::CompressReport;
use std::path::{Path, PathBuf};

fn from_environment(variable: &str) -> PathBuf {
    PathBuf::from(std::env::var_os(variable).unwrap_or_else(|| panic!("{variable} names no folder")))
}

fn resnet(depth: usize) -> PathBuf {
    from_environment("FNL_DATA").join(format!("checkpoints/resnet{depth}-cifar10.safetensors"))
}

fn run(input: &Path, output: &Path, rank: RankRule, allocate: Allocate) -> CompressReport {
    let mut recipe = Recipe::default();
    recipe.rules.push(Rule::new(rank));
    recipe.allocate = allocate;
    let mut options = CompressOptions::new(Source::Path(input.to_owned()), recipe);
    options.output = Some(output.to_owned());
    compress(&options, &NoProgress).unwrap()
}

/// Compresses, verifies and collapses; the errors are what the spectra promise.
fn whole_way(input: &Path, rank: RankRule, allocate: Allocate) -> CompressReport {
    let folder = tempfile::tempdir().unwrap();
    let (factored, dense) = (folder.path().join("factored"), folder.path().join("dense"));
    let report = run(input, &factored, rank, allocate);
    let source = || Source::Path(input.to_owned());
    let verified =
        verify(&VerifyOptions::new(Source::Path(factored.clone()), source()), &NoProgress).unwrap();
    assert!(verified.passed(), "{}", verified.to_text());

    let mut spectra = CompressOptions::new(source(), Recipe::from_json(&report.recipe).unwrap());
    spectra.dry_run = true;
    spectra.spectra = true;
    let planned = compress(&spectra, &NoProgress).unwrap();
    for (layer, plan) in report.layers.iter().zip(&planned.layers) {
        let (error, best) = (layer.relative_error.unwrap(), plan.relative_error.unwrap());
        // The wanted bound on any method, and what f32 products round.
        assert!(error <= 1.0001 * best + 1e-6, "{}: {error} against {best}", layer.layer);
    }

    let options = CollapseOptions::new(Source::Path(factored), dense.clone());
    collapse(&options, &NoProgress).unwrap();
    let mut options = InspectOptions::new(Source::Path(dense));
    options.spectra = false;
    let collapsed = inspect(&options, &NoProgress).unwrap();
    assert_eq!(collapsed.parameters, report.totals.totals.parameters_before);
    report
}

#[test]
#[ignore = "needs trained checkpoints that are not in the repository: FNL_DATA"]
fn resnets_keep_their_budget_and_errors_are_optimal() {
    for depth in [20, 56] {
        for allocate in [Allocate::Uniform, Allocate::Spectral] {
            for keep in [0.75, 0.5, 0.25] {
                let report = whole_way(&resnet(depth), RankRule::Keep(keep), allocate);
                // One step of rank is at most 384 parameters in these networks.
                let slack = 384.0 / report.totals.totals.parameters_before as f64;
                assert!(
                    report.totals.keep <= keep && report.totals.keep > keep - slack,
                    "{}",
                    report.totals.keep
                );
            }
        }
        assert_eq!(
            whole_way(&resnet(depth), RankRule::Energy(0.9), Allocate::Uniform).layers.len(),
            depth - 2
        );
    }
}

#[test]
#[ignore = "needs the checkpoint of all-MiniLM-L6-v2: FNL_MINILM"]
fn minilm_is_compressed_whole() {
    let report = whole_way(&from_environment("FNL_MINILM"), RankRule::Rank(64), Allocate::Uniform);
    assert_eq!(report.layers.len(), 37);
    assert!(report.totals.keep < 0.65);
    let worst = report.totals.worst_error.unwrap();
    assert_eq!(worst.layer, "encoder.layer.4.intermediate.dense");
}
