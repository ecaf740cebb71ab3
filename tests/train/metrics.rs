//! Records come back from their file, and a run that is resumed keeps those it had earned.

use fnl::train::{
    EpochMetrics, LayerDiagnostics, MetricsError, MetricsRecord, MetricsWriter, StepMetrics, read_metrics,
};
use std::io::Write as _;
use std::path::Path;

fn step(step: u64) -> MetricsRecord {
    MetricsRecord::Step(StepMetrics {
        epoch: 1 + step / 10,
        step,
        loss: 2.5 / step as f64,
        accuracy: 0.125,
        learning_rate: 0.1,
        gradient_norm: step.is_multiple_of(2).then_some(1.5),
        samples_per_sec: 812.5,
    })
}

fn epoch(epoch: u64) -> MetricsRecord {
    MetricsRecord::Epoch(EpochMetrics {
        epoch,
        step: epoch * 10,
        train_loss: 1.25,
        train_accuracy: 0.5,
        test_loss: 1.5,
        test_accuracy: 0.25,
        scores: indexmap::IndexMap::new(),
        learning_rate: 0.1,
        elapsed_secs: 3.5,
        layers: vec![LayerDiagnostics {
            layer: "stage1.0.conv1".to_owned(),
            norm: 3.0,
            nuclear_norm: 4.0,
            nuclear_bound: 5.0,
            effective_step_size: 0.011,
            non_orthogonality: 0.5,
            stable_rank: 2.25,
        }],
    })
}

fn written(path: &Path, records: &[MetricsRecord]) {
    let mut writer = MetricsWriter::create(path).unwrap();
    for record in records {
        writer.write(record).unwrap();
    }
}

#[test]
fn records_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.jsonl");
    let records = [step(5), step(10), epoch(1), step(15), step(20), epoch(2)];
    written(&path, &records);
    assert_eq!(read_metrics(&path).unwrap(), records);
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        text.lines().nth(2).unwrap(),
        r#"{"kind":"epoch","epoch":1,"step":10,"train_loss":1.25,"train_accuracy":0.5,"test_loss":1.5,"test_accuracy":0.25,"learning_rate":0.1,"elapsed_secs":3.5,"layers":[{"layer":"stage1.0.conv1","norm":3.0,"nuclear_norm":4.0,"nuclear_bound":5.0,"effective_step_size":0.011,"non_orthogonality":0.5,"stable_rank":2.25}]}"#
    );
}

#[test]
fn what_is_not_finite_is_null() {
    let MetricsRecord::Step(mut metrics) = step(3) else { unreachable!() };
    metrics.loss = f64::INFINITY;
    metrics.gradient_norm = Some(f64::NAN);
    let text = serde_json::to_string(&MetricsRecord::Step(metrics)).unwrap();
    assert!(text.contains(r#""loss":null"#) && text.contains(r#""gradient_norm":null"#), "{text}");
    let Ok(MetricsRecord::Step(back)) = serde_json::from_str(&text) else { panic!("{text}") };
    assert!(back.loss.is_nan() && back.gradient_norm.is_none());
}

#[test]
fn a_resumed_run_cuts_off_what_lies_beyond() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.jsonl");
    let records = [step(5), step(10), epoch(1), step(15), step(20)];
    for (from, kept) in [(0, 0), (4, 0), (5, 1), (10, 3), (14, 3), (15, 4), (20, 5), (100, 5)] {
        written(&path, &records);
        // the line that an interrupt left
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"kind\":\"st").unwrap();
        assert_eq!(read_metrics(&path).unwrap(), records);
        let mut writer = MetricsWriter::resume(&path, from).unwrap();
        assert_eq!(read_metrics(&path).unwrap(), records[..kept], "from {from}");
        writer.write(&step(from + 1)).unwrap();
        let expected: Vec<_> = records[..kept].iter().cloned().chain([step(from + 1)]).collect();
        assert_eq!(read_metrics(&path).unwrap(), expected, "from {from}");
    }
    let fresh = folder.path().join("fresh.jsonl");
    MetricsWriter::resume(&fresh, 7).unwrap().write(&step(8)).unwrap();
    assert_eq!(read_metrics(&fresh).unwrap(), [step(8)]);
}

#[test]
fn a_file_of_something_else_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.jsonl");
    written(&path, &[step(5)]);
    std::fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .unwrap()
        .write_all(b"{\"kind\":\"other\"}\n")
        .unwrap();
    let before = std::fs::read(&path).unwrap();
    let error = MetricsWriter::resume(&path, 100).unwrap_err();
    assert!(matches!(error, MetricsError::Line { line: 2, .. }), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
    let missing = MetricsWriter::create(&folder.path().join("none/metrics.jsonl")).unwrap_err();
    assert!(missing.to_string().starts_with("can't create `"), "{missing}");
}
