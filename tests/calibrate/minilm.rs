//! all-MiniLM-L6-v2 on STS-B: what calibration is worth on a trained network.

use fnl::commands::{
    CalibrationData, CalibrationOptions, CompressOptions, EvaluateTextOptions, compress, evaluate_text,
};
use fnl::decompose::Method;
use fnl::plan::{CalibrationRule, NoProgress, RankRule, Recipe, Rule};
use fnl::report::TextMeasure;
use fnl::train::Unheard;
use std::path::Path;

fn spearman(folder: &Path) -> f64 {
    let data = format!("stsb:{}/text", std::env::var("FNL_DATA").unwrap());
    let source = folder.display().to_string().parse().unwrap();
    let report = evaluate_text(&EvaluateTextOptions::new(source, data.parse().unwrap()), &Unheard).unwrap();
    match report.measured {
        TextMeasure::Similarity(found) => found.spearman,
        other => panic!("{other:?}"),
    }
}

#[test]
#[ignore = "needs all-MiniLM-L6-v2 and STS-B: FNL_MINILM=DIR, FNL_DATA=DIR"]
fn sentence_vectors_keep_their_order_without_labels_or_training() {
    let minilm = std::env::var("FNL_MINILM").unwrap();
    let dense = spearman(Path::new(&minilm));
    // sentence-transformers' figure
    assert!((dense - 0.8672).abs() < 5e-4, "{dense}");
    let folder = tempfile::tempdir().unwrap();
    let statistics = folder.path().join("statistics.safetensors");
    for (keep, most) in [(0.75, 0.005), (0.5, 0.025), (0.35, 0.05)] {
        let mut recipe = Recipe::default();
        recipe.rules.push(Rule::new(RankRule::LayerKeep(keep)).target("encoder.**").unwrap());
        recipe.method = Method::Fisher;
        recipe.calibration = Some(CalibrationRule::default());
        let mut options = CompressOptions::new(minilm.parse().unwrap(), recipe);
        let target = folder.path().join(keep.to_string());
        options.output = Some(target.clone());
        options.calibration = CalibrationOptions::default();
        if statistics.exists() {
            options.calibration.statistics = Some(statistics.clone());
        } else {
            let data = format!("stsb:{}/text", std::env::var("FNL_DATA").unwrap());
            options.calibration.data = Some(CalibrationData::Text(data.parse().unwrap()));
            options.calibration.save = Some(statistics.clone());
        }
        compress(&options, &NoProgress).unwrap();
        let found = spearman(&target);
        assert!(dense - found <= most, "keep {keep}: {found} of {dense}");
    }
}
