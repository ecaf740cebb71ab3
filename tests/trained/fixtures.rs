//! The trained fixtures are what README says, on the test pictures beside them.

use fnl::checkpoint::Source;
use fnl::commands::{CollapseOptions, EvaluateOptions, collapse, evaluate};
use fnl::plan::NoProgress;
use fnl::report::EvaluateReport;
use fnl::train::Unheard;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

fn measured(checkpoint: PathBuf) -> EvaluateReport {
    let data = format!("cifar10:{}", fixture("cifar10-500").display()).parse().unwrap();
    evaluate(&EvaluateOptions::new(Source::Path(checkpoint), data), &Unheard).unwrap()
}

/// Pictures of 500 that are told rightly, as examples/evaluate_cifar10.py counts them in PyTorch.
#[test]
fn trained_fixtures_are_as_accurate_as_in_pytorch() {
    for (name, right, factored) in
        [("resnet20-cifar10.safetensors", 442.0, false), ("resnet20-cifar10-keep25.safetensors", 430.0, true)]
    {
        let report = measured(fixture(name));
        assert_eq!((report.network.architecture.as_str(), report.evaluation.images), ("resnet20", 500));
        assert_eq!((report.evaluation.accuracy * 500.0).round(), right, "{name}");
        assert_eq!(report.network.factored_layers > 0, factored, "{name}");
    }
}

#[test]
fn a_fine_tuned_network_computes_what_it_collapses_to() {
    let scratch = tempfile::tempdir().unwrap();
    let (factored, collapsed) =
        (fixture("resnet20-cifar10-keep25.safetensors"), scratch.path().join("collapsed.safetensors"));
    collapse(&CollapseOptions::new(Source::Path(factored.clone()), collapsed.clone()), &NoProgress).unwrap();
    let (one, other) = (measured(factored), measured(collapsed));
    assert_eq!(one.evaluation.accuracy, other.evaluation.accuracy);
    // Logits are off by a few of f32's last digits, and so is the mean of their losses.
    assert!((one.evaluation.loss - other.evaluation.loss).abs() < 1e-5);
    assert!(one.network.parameters * 3 < other.network.parameters && other.network.factored_layers == 0);
}
