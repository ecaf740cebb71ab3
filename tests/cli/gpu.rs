//! Training on a GPU: the losses of the processor, the same bits again, and near ones in bf16.

use crate::harness::{Place, fixture};
use crate::training_scene::Scene;
use crate::training_texts::scene as texts;
use serde_json::Value;

/// The losses of a run's epochs, training's and the test set's.
fn losses(report: &Value) -> Vec<f64> {
    let epochs = report["epochs"].as_array().expect("epochs");
    let of = |epoch: &Value| ["train_loss", "test_loss"].map(|name| epoch[name].as_f64());
    epochs.iter().flat_map(of).flatten().collect()
}

/// What a report of an evaluation measured, as far as it is smooth in the weights.
fn measures(report: &Value) -> Vec<f64> {
    let Some(object) = report.as_object() else { return Vec::new() };
    let of = |(name, value): (&String, &Value)| match value.as_f64() {
        Some(value) if ["loss", "perplexity", "pearson"].contains(&name.as_str()) => vec![value],
        _ => measures(value),
    };
    object.iter().flat_map(of).collect()
}

/// A command that trains on the processor, on a GPU, there again, and in bf16.
#[track_caller]
fn trains_alike(place: &Place, command: &[&str]) {
    let run = |out: &str, more: &[&str]| {
        let usual = ["--json", "--quiet", "--out", out];
        losses(&place.run([command, &usual, more].concat()).exits(0).json())
    };
    let expected = run("cpu", &["--epochs=3"]);
    assert!(expected.len() >= 7, "{command:?}: {expected:?}");
    let near = |found: &[f64], off: f64| {
        assert_eq!(found.len(), expected.len(), "{command:?}");
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found / expected - 1.0).abs() < off, "{command:?}: {found} for {expected}");
        }
    };
    let gpu = run("gpu", &["--epochs=3", "--device=cuda"]);
    // Rounding differs, and training carries it on.
    near(&gpu, 1e-2);
    assert_eq!(run("again", &["--epochs=3", "--device=cuda:0"]), gpu, "{command:?}: other losses");
    assert!(place.read("again/model.safetensors") == place.read("gpu/model.safetensors"), "{command:?}");
    near(&run("bf16", &["--epochs=3", "--device=cuda", "--bf16"]), 0.1);
    // What it wrote measures the same wherever it is read.
    let data = command.iter().find(|flag| flag.starts_with("--data")).expect("data");
    let [cpu, gpu] = ["cpu", "cuda"].map(|device| {
        let arguments = ["evaluate", "gpu", data, "--device", device, "--json", "--quiet"];
        measures(&place.run(arguments).exits(0).json())
    });
    assert!(!cpu.is_empty() && cpu.len() == gpu.len(), "{command:?}: {cpu:?} {gpu:?}");
    for (cpu, gpu) in cpu.iter().zip(&gpu) {
        assert!((gpu - cpu).abs() < 1e-3 * cpu.abs().max(1.0), "{command:?}: {gpu} for {cpu}");
    }
}

#[test]
fn pictures() {
    let scene = Scene::new();
    let common =
        ["finetune", "dense.safetensors", "--data=cifar10:data", "--batch-size=8", "--learning-rate=0.01"];
    for scheme in ["spatial", "channel", "tucker", "cp", "tensor-train", "deep"] {
        let scheme = format!("--scheme={scheme}");
        let size = if scheme.ends_with("deep") { "--rank-ratio=1" } else { "--layer-keep=0.5" };
        trains_alike(&scene.place, &[&common[..], &[&scheme, size, "--overwrite"]].concat());
    }
    let common = &common[..4];
    let more = [
        "--rank-ratio=0.5",
        "--optimizer=adamw",
        "--learning-rate=0.0005",
        "--average=0.9",
        "--clip=1",
        "--overwrite",
    ];
    trains_alike(&scene.place, &[common, &more].concat());
}

#[test]
fn sentences_and_classes() {
    let place = texts();
    let common =
        ["finetune", "net", "--batch-size=8", "--learning-rate=0.003", "--rank-ratio=0.5", "--overwrite"];
    for data in ["--data=classes:data", "--data=stsb:data"] {
        trains_alike(&place, &[&common[..], &[data]].concat());
    }
}

#[test]
fn language_models() {
    let place = Place::new();
    place.write("text.txt", "the quick brown fox jumps over the lazy dog and runs on\n".repeat(12));
    let model = fixture("tiny-llama");
    let data = ["--data=text:text.txt", "--test-data=text:text.txt", "--window=32", "--batch-size=4"];
    let more = ["--rank-ratio=0.5", "--learning-rate=0.003", "--overwrite"];
    trains_alike(&place, &[&["finetune", &model][..], &data, &more].concat());
}

#[test]
fn networks_from_scratch() {
    let place = texts();
    for (language, verb) in [("de", "rennt"), ("en", "runs")] {
        let lines = (0..24).map(|line| format!("{} {verb}.\n", ["a", "b", "ab", "ba", "aba"][line % 5]));
        place.write(&format!("train.{language}"), lines.collect::<String>());
    }
    let config = |name: &str| format!("{}/examples/{name}-small.json", env!("CARGO_MANIFEST_DIR"));
    let common = ["train", "--overwrite", "--learning-rate=0.001", "--rank-ratio=0.25"];
    let pairs = ["--data=parallel:train.de,train.en", "--test-data=parallel:train.de,train.en"];
    let more = ["--dropout=0.1", "--vocabulary=265", "--batch-size=64", "--config", &config("marian")];
    trains_alike(&place, &[&common[..], &pairs, &more].concat());
    let more = ["--data=text:data", "--tokenizer=net", "--batch-size=4", "--config", &config("bert")];
    trains_alike(&place, &[&common[..], &more].concat());
}
