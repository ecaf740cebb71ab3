//! A run's report as text, JSON and a page says what its epochs say.

use candle_core::{DType, Device, Tensor};
use fnl::layers::{Parameters, Role};
use fnl::report::{TrainingReport, training_html};
use fnl::train::{Decay, DecayTable, EpochMetrics, LayerDiagnostics};

fn parameters() -> Parameters {
    let mut parameters = Parameters::new();
    for (name, shape, role) in [
        ("conv.0.weight", &[12, 16, 1, 3][..], Role::Factor),
        ("conv.1.weight", &[32, 12, 3, 1], Role::Factor),
        ("bn.weight", &[32], Role::Normalization),
        ("bn.running_mean", &[32], Role::Statistic),
        ("fc<1>.weight", &[10, 32], Role::Weight),
        ("fc<1>.bias", &[10], Role::Bias),
    ] {
        parameters.insert(name, &Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap(), role).unwrap();
    }
    parameters
}

fn decay() -> DecayTable {
    let mut decay = DecayTable::new();
    decay.insert("conv.0.weight", Decay::Frobenius(0.0005));
    decay.insert("conv.1.weight", Decay::Frobenius(0.0005));
    decay.insert("fc<1>.weight", Decay::Weight(0.0005));
    decay
}

/// Training that goes well, and then a little worse.
fn epochs(count: u64, layers: &[&str]) -> Vec<EpochMetrics> {
    let epoch = |epoch: u64| {
        let t = epoch as f64 / count as f64;
        let layer = |(index, name): (usize, &&str)| LayerDiagnostics {
            layer: (*name).to_owned(),
            norm: 3.0 + index as f64 + t,
            nuclear_norm: 9.0 + index as f64 - t,
            nuclear_bound: 12.0 + index as f64 - t,
            effective_step_size: 0.1 * 10f64.powf(-2.0 * t) / (3.0 + index as f64).powi(2),
            non_orthogonality: if index == 1 { f64::NAN } else { 0.1 * t },
            stable_rank: 5.0 - t,
        };
        EpochMetrics {
            epoch,
            step: 391 * epoch,
            train_loss: 2.3 * (-3.0 * t).exp(),
            train_accuracy: 0.1 + 0.85 * t,
            test_loss: 2.3 * (-2.0 * t).exp(),
            test_accuracy: 0.9 - (t - 0.75).powi(2),
            scores: indexmap::IndexMap::new(),
            learning_rate: if t < 0.5 { 0.1 } else { 0.01 },
            elapsed_secs: 60.0 * epoch as f64,
            layers: layers.iter().enumerate().map(layer).collect(),
        }
    };
    (1..=count).map(epoch).collect()
}

fn report(count: u64, layers: &[&str]) -> TrainingReport {
    let options = serde_json::json!({ "optimizer": { "kind": "sgd" } });
    TrainingReport::new(
        "resnet<32>".to_owned(),
        &parameters(),
        &decay(),
        epochs(count, layers),
        ("images", 50_000 * count),
        options,
    )
    .against_dense(10_000)
}

#[test]
fn text_has_epochs_and_totals() {
    let text = report(100, &["conv"]).to_text();
    let lines: Vec<&str> = text.lines().collect();
    let epochs: Vec<&&str> =
        lines.iter().filter(|line| line.trim_start().starts_with(char::is_numeric)).collect();
    assert_eq!(epochs[0].split_whitespace().next(), Some("4")); // every fourth, to the last
    assert!(epochs.iter().any(|line| line.starts_with("   75 ") && line.ends_with("  best")), "{text}");
    assert!(epochs.iter().any(|line| line.starts_with("  100 ") && line.ends_with("100 min 0 s")), "{text}");
    let end = "2.1 K trained parameters, 20.90 % of the dense model's 10.0 K\n\
               100 epochs, 39100 steps, 5.0 M images in 100 min 0 s: 833 images/s\n\
               test accuracy: 83.75 % at the end, best 90.00 % after epoch 75\n";
    assert!(text.ends_with(end), "{text}");
}

#[test]
fn policy_has_a_line_for_each_role_and_decay() {
    let text = report(1, &[]).policy_text();
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["role", "tensors", "parameters", "decay"]);
    assert_eq!(rows[1], ["factor", "2", "1.7", "K", "frobenius", "0.0005"]);
    assert_eq!(rows[2], ["normalization", "1", "32", "none"]);
    assert_eq!(rows[3], ["weight", "1", "320", "weight", "0.0005"]);
    assert_eq!(rows[4], ["bias", "1", "10", "none"]);
    assert_eq!(rows.len(), 5, "{text}");
}

#[test]
fn json_has_every_epoch() {
    let json: serde_json::Value = serde_json::from_str(&report(3, &["a", "b"]).to_json()).unwrap();
    assert_eq!((&json["schema_version"], &json["command"]), (&1.into(), &"train".into()));
    assert_eq!(json["epochs"].as_array().unwrap().len(), 3);
    assert_eq!(json["epochs"][2]["layers"][1]["non_orthogonality"], serde_json::Value::Null);
    assert_eq!(json["epochs"][2]["layers"][1]["layer"], "b");
    assert_eq!(json["totals"]["keep"], 0.209);
    assert_eq!(json["best"]["epoch"], 2);
    assert_eq!(json["parameters"][0]["decay"]["frobenius"], 0.0005);
    assert_eq!(json["parameters"][2]["decay"], "none");
    assert_eq!(json["options"]["optimizer"]["kind"], "sgd");
}

#[test]
fn the_best_epoch_is_the_first_of_equals_and_a_number() {
    let mut all = epochs(4, &[]);
    for (epoch, accuracy) in all.iter_mut().zip([0.5, 0.75, f64::NAN, 0.75]) {
        epoch.test_accuracy = accuracy;
    }
    let report = TrainingReport::new(
        String::new(),
        &parameters(),
        &decay(),
        all,
        ("images", 0),
        serde_json::Value::Null,
    );
    let best = report.best.unwrap();
    assert_eq!((best.epoch, best.test_accuracy), (2, Some(0.75)));
    let none = TrainingReport::new(
        String::new(),
        &parameters(),
        &decay(),
        Vec::new(),
        ("images", 0),
        serde_json::Value::Null,
    );
    assert!(none.best.is_none());
    assert!(none.to_text().ends_with("0 epochs, 0 steps, 0 images in < 1 ms: 0 images/s\n"));
    assert!(training_html(&none).contains("No epoch was finished."));
}

/// The points of the polylines of the figure with this caption.
fn polylines<'a>(html: &'a str, caption: &str) -> Vec<Vec<(f64, f64)>> {
    let start = html.find(&format!("<figure><figcaption>{caption}<span class=\"legend\">")).unwrap();
    let figure = &html[start..start + html[start..].find("</figure>").unwrap()];
    let points = |rest: &'a str| {
        let points = &rest[..rest.find('"').unwrap()];
        let pair = |pair: &str| {
            let (x, y) = pair.split_once(',').unwrap();
            (x.parse().unwrap(), y.parse().unwrap())
        };
        points.split(' ').map(pair).collect()
    };
    figure.split("points=\"").skip(1).map(points).collect()
}

#[test]
fn the_page_draws_what_was_measured() {
    let report = report(20, &["stem", "stage1.0.conv1", "stage1.0.conv2"]);
    let html = training_html(&report);
    // Curves are affine in what they show: heights of accuracy against the epochs' own numbers.
    let lines = polylines(&html, "accuracy");
    assert_eq!(lines.len(), 2);
    for (line, of) in lines.iter().zip([
        (|epoch: &EpochMetrics| epoch.train_accuracy) as fn(&EpochMetrics) -> f64,
        |epoch: &EpochMetrics| epoch.test_accuracy,
    ]) {
        assert_eq!(line.len(), 20);
        let values: Vec<f64> = report.epochs.iter().map(of).collect();
        let slope = (lines[0][19].1 - lines[0][0].1)
            / (report.epochs[19].train_accuracy - report.epochs[0].train_accuracy);
        assert!(slope < -100.0, "{slope}");
        for (i, pair) in line.windows(2).enumerate() {
            let expected = slope * (values[i + 1] - values[i]);
            // both ends are written with one digit after the point
            assert!((pair[1].1 - pair[0].1 - expected).abs() < 0.21, "{i}");
            assert!(pair[1].0 > pair[0].0);
        }
    }
    // A layer without numbers has no line, and no NaN is written.
    assert_eq!(polylines(&html, "norm").len(), 3);
    assert_eq!(polylines(&html, "non-orthogonality").len(), 2);
    assert!(!html.contains("NaN") && !html.contains("inf\""));
    // Names are escaped, and nothing is fetched.
    assert!(html.contains("resnet&lt;32&gt;") && html.contains("fc&lt;1&gt;.weight"));
    assert!(!html.contains("<32>") && !html.contains("http"));
}

#[test]
fn a_single_epoch_is_a_dot() {
    let html = training_html(&report(1, &["conv"]));
    assert!(html.contains("<circle"));
    assert!(!html.contains("NaN") && !html.contains("inf\""));
}
