//! Networks that others trained are as good here as in PyTorch.

use super::{from_environment, resnet};
use fnl::checkpoint::Source;
use fnl::commands::{CollapseOptions, CompressOptions, EvaluateOptions, collapse, compress, evaluate};
use fnl::data::DataSource;
use fnl::plan::{NoProgress, RankRule, Recipe, Rule};
use fnl::report::EvaluateReport;
use fnl::train::Unheard;
use std::path::Path;

fn measured(checkpoint: &Path) -> EvaluateReport {
    let data: DataSource = format!("cifar10:{}", from_environment("FNL_CIFAR10").display()).parse().unwrap();
    evaluate(&EvaluateOptions::new(Source::Path(checkpoint.to_owned()), data), &Unheard).unwrap()
}

/// PyTorch's figures on all 10,000 test images.
#[test]
#[ignore = "needs FNL_DATA and FNL_CIFAR10, folders with checkpoints and with the CIFAR-10 binaries"]
fn dense_networks_are_as_accurate_as_in_pytorch() {
    for (depth, accuracy) in [(20, 0.9173), (56, 0.9339)] {
        let report = measured(&resnet(depth));
        assert_eq!(
            (report.network.architecture.as_str(), report.evaluation.images),
            (&*format!("resnet{depth}"), 10_000)
        );
        assert_eq!((report.evaluation.accuracy * 1e4).round() / 1e4, accuracy, "resnet{depth}");
    }
}

#[test]
#[ignore = "needs FNL_DATA and FNL_CIFAR10, folders with checkpoints and with the CIFAR-10 binaries"]
fn a_factored_network_is_as_accurate_as_the_collapsed_one() {
    let scratch = tempfile::tempdir().unwrap();
    let (factored, collapsed) = (scratch.path().join("f.safetensors"), scratch.path().join("c.safetensors"));
    let source = Source::Path(resnet(56));
    let mut recipe = Recipe::default();
    recipe.rules.push(Rule::new(RankRule::LayerKeep(0.5)));
    let mut options = CompressOptions::new(source, recipe);
    options.output = Some(factored.clone());
    compress(&options, &NoProgress).unwrap();
    collapse(&CollapseOptions::new(Source::Path(factored.clone()), collapsed.clone()), &NoProgress).unwrap();
    let (one, other) = (measured(&factored), measured(&collapsed));
    // As examples/evaluate_cifar10.py finds it in PyTorch.
    assert_eq!((one.evaluation.accuracy * 1e4).round() / 1e4, 0.8777);
    assert_eq!(one.evaluation.accuracy, other.evaluation.accuracy);
    assert!((one.evaluation.loss - other.evaluation.loss).abs() < 1e-5);
    assert!(one.network.factored_layers > 10 && other.network.factored_layers == 0);
    assert!(one.network.multiply_adds < other.network.multiply_adds);
}
