//! Transformers for pictures through the commands: a folder with its configuration, dense, factored and trained on.

use crate::files::fixture;
use fnl::checkpoint::Source;
use fnl::commands::{
    CollapseOptions, CompressOptions, EvaluateOptions, FinetuneOptions, RunOptions, collapse, compress,
    evaluate, finetune,
};
use fnl::data::{DataSource, Normalization};
use fnl::plan::{NoProgress, RankRule, Recipe, Rule};
use fnl::report::EvaluateReport;
use fnl::train::Unheard;
use std::fs;
use std::path::Path;

fn measured(folder: &Path, normalization: Option<Normalization>) -> EvaluateReport {
    let data: DataSource = format!("cifar10:{}", fixture("cifar10-500").display()).parse().unwrap();
    let mut options = EvaluateOptions::new(Source::Path(folder.to_owned()), data);
    options.normalization = normalization;
    evaluate(&options, &Unheard).unwrap()
}

#[test]
fn a_folder_is_measured_factored_and_trained_with_its_own_normalization() {
    let scratch = tempfile::tempdir().unwrap();
    let dense = scratch.path().join("dense");
    fs::create_dir(&dense).unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(fixture("tiny-vit").join(name), dense.join(name)).unwrap();
    }
    let plain = measured(&dense, None);
    assert_eq!(plain.network.architecture, "vit-d32-l2-h4-i64-p8-s32");
    let half = Normalization { mean: vec![0.5; 3], std: vec![0.25; 3] };
    fs::write(
        dense.join("preprocessor_config.json"),
        r#"{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25], "size": {"height": 32, "width": 32}}"#,
    )
    .unwrap();
    let own = measured(&dense, None);
    assert_ne!(own.evaluation.loss, plain.evaluation.loss);
    assert_eq!(own.evaluation.loss, measured(&dense, Some(half)).evaluation.loss);
    assert_eq!(plain.evaluation.loss, measured(&dense, Some(Normalization::imagenet())).evaluation.loss);

    let mut recipe = Recipe::default();
    recipe.rules.push(Rule::new(RankRule::LayerKeep(0.6)));
    let (factored, collapsed) = (scratch.path().join("factored"), scratch.path().join("collapsed"));
    let mut options = CompressOptions::new(Source::Path(dense.clone()), recipe.clone());
    options.output = Some(factored.clone());
    compress(&options, &NoProgress).unwrap();
    collapse(&CollapseOptions::new(Source::Path(factored.clone()), collapsed.clone()), &NoProgress).unwrap();
    let (one, other) = (measured(&factored, None), measured(&collapsed, None));
    assert!(one.network.factored_layers > 4);
    assert!((one.evaluation.loss - other.evaluation.loss).abs() < 1e-5);
    assert!((one.evaluation.loss - own.evaluation.loss).abs() > 1e-5);

    // trained on pictures that it is measured on, it gets better than it was
    let data = scratch.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::copy(fixture("cifar10-500").join("test_batch.bin"), data.join("test_batch.bin")).unwrap();
    for batch in 1..=5 {
        let to = data.join(format!("data_batch_{batch}.bin"));
        fs::copy(fixture("cifar10-500").join("test_batch.bin"), to).unwrap();
    }
    let data = format!("cifar10:{}", data.display()).parse::<fnl::data::DataSource>().unwrap();
    let mut run =
        RunOptions::new(data, scratch.path().join("run"), fnl::train::TrainingOptions::fine_tuning());
    run.training.epochs = 1;
    run.training.train_limit = Some(500);
    let report =
        finetune(&FinetuneOptions::new(Source::Path(dense), Some(recipe), run), &NoProgress, &Unheard);
    let report = report.unwrap();
    assert!(report.epochs[0].test_loss < one.evaluation.loss, "{:?}", report.epochs[0]);
}
