//! A run's folder is a checkpoint by itself: other commands take it, and what they make of it tells of no run.

use crate::harness::{Place, fixture};
use crate::training_scene::{Scene, number};
use serde_json::{Value, json};

/// The fixture with pictures brought near zero by other numbers than CIFAR-10's.
fn vit(place: &Place) {
    for name in ["config.json", "model.safetensors"] {
        place.write(
            &format!("vit/{name}"),
            std::fs::read(fixture(&format!("tiny-vit/{name}"))).expect("a fixture"),
        );
    }
    let preprocessor = json!({"image_mean": [0.25, 0.5, 0.75], "image_std": [0.5, 0.5, 0.5], "size": 32});
    place.write("vit/preprocessor_config.json", preprocessor.to_string());
}

fn last_loss(scene: &Scene, out: &str) -> f64 {
    number(scene.epochs(out).last().expect("an epoch"), "test_loss")
}

#[test]
fn a_vision_transformer_is_measured_as_it_was_trained() {
    let scene = Scene::new();
    vit(&scene.place);
    scene.trains(&["finetune", "vit", "--rank-ratio=0.5", "--epochs=1"], "tuned");
    let found = scene.evaluated("tuned");
    assert_eq!(found["architecture"], "vit-d32-l2-h4-i64-p8-s32");
    assert!((number(&found, "loss") - last_loss(&scene, "tuned")).abs() < 1e-5);
    let before: Value = serde_json::from_slice(&scene.place.read("vit/config.json")).expect("JSON");
    let mut after: Value = serde_json::from_slice(&scene.place.read("tuned/config.json")).expect("JSON");
    let record = after.as_object_mut().expect("an object").remove("factorization").expect("the record");
    assert_eq!(record["modules"].as_object().map(serde_json::Map::len), Some(4));
    assert_eq!(after, before);
    let preprocessor = "preprocessor_config.json";
    assert_eq!(
        scene.place.read(&format!("tuned/{preprocessor}")),
        scene.place.read(&format!("vit/{preprocessor}"))
    );
    // It goes on from there, with what brings pictures near zero.
    scene.trains(&["finetune", "tuned", "--epochs=0"], "again");
    assert!((last_loss(&scene, "again") - last_loss(&scene, "tuned")).abs() < 1e-5);
}

#[test]
fn a_vision_transformer_from_scratch_says_its_sizes() {
    let scene = Scene::new();
    scene.trains(&["train", "--arch=vit-d32-l1-h2-i64-p8-s32", "--epochs=1"], "scratch");
    let found = scene.evaluated("scratch");
    assert_eq!(found["architecture"], "vit-d32-l1-h2-i64-p8-s32");
    assert!((number(&found, "loss") - last_loss(&scene, "scratch")).abs() < 1e-5);
    let config: Value = serde_json::from_slice(&scene.place.read("scratch/config.json")).expect("JSON");
    assert_eq!((&config["num_attention_heads"], &config["id2label"]["9"]), (&json!(2), &json!("truck")));
    assert!(!scene.place.join("scratch/preprocessor_config.json").exists(), "the data's own normalization");
}

#[test]
fn what_is_made_of_a_run_tells_of_no_run() {
    let scene = Scene::new();
    vit(&scene.place);
    scene.trains(&["finetune", "vit", "--rank-ratio=0.5", "--epochs=1"], "run");
    scene.place.write("run/LICENSE", "free");
    scene.place.run(["collapse", "run", "--out=dense", "-q"]).exits(0);
    let inside = |folder: &str| -> Vec<String> {
        let names = scene.place.names();
        let mut names: Vec<String> = names
            .iter()
            .filter_map(|name| Some(name.strip_prefix(folder).ok()?.display().to_string()))
            .collect();
        names.retain(|name| !name.is_empty());
        names
    };
    let model = ["LICENSE", "config.json", "model.safetensors", "preprocessor_config.json"];
    assert_eq!(inside("dense"), model);
    scene.place.run(["dense", "--rank-ratio=0.25", "--out=smaller", "-q"]).exits(0);
    assert_eq!(inside("smaller"), [&model[..], &["report.json"]].concat());
    // A folder of no run keeps files of these names.
    scene.place.write("dense/options.toml", "mine");
    scene.place.run(["dense", "--rank-ratio=0.25", "--out=other", "-q"]).exits(0);
    assert_eq!(scene.place.text("other/options.toml"), "mine");
}

#[test]
fn recipes_are_read_from_all_that_holds_one() {
    let scene = Scene::new();
    let place = &scene.place;
    scene.trains(&["finetune", "dense.safetensors", "--rank-ratio=0.5", "--epochs=0"], "run");
    place.run(["dense.safetensors", "--rank-ratio=0.5", "--out=folder/", "-q"]).exits(0);
    place
        .run(["dense.safetensors", "--rank-ratio=0.5", "--save=collapsed", "--out=collapsed/", "-q"])
        .exits(0);
    let plan = |recipe: &str| {
        let flag = format!("--recipe={recipe}");
        let report = place.run(["dense.safetensors", &flag, "--dry-run", "--json", "-q"]).exits(0).json();
        report["layers"].as_array().expect("layers").iter().map(|layer| layer["rank"].clone()).collect()
    };
    let expected: Vec<Value> = plan("folder");
    assert!(!expected.is_empty());
    for place in ["folder/report.json", "collapsed", "run", "run/options.toml", "run/report.json"] {
        assert_eq!(plan(place), expected, "{place}");
    }
}

#[test]
fn factors_that_were_trained_are_not_taken_for_damaged_ones() {
    let scene = Scene::new();
    scene.trains(&["finetune", "dense.safetensors", "--rank-ratio=0.5", "--epochs=1"], "run");
    let verify = ["verify", "run/model.safetensors", "--against=dense.safetensors", "-q"];
    scene.place.run(verify).exits(3).stderr_has("hint: every layer differs: the factors were trained");
}

#[test]
fn the_best_of_a_pruned_run_is_pruned() {
    let scene = Scene::new();
    let prune =
        ["--prune-keep=0.2", "--prune-until=1", "--result=best", "--epochs=3", "--learning-rate=0.005"];
    scene.trains(&[&["finetune", "dense.safetensors"], &prune[..]].concat(), "run");
    let report: Value = serde_json::from_slice(&scene.place.read("run/report.json")).expect("JSON");
    assert_eq!(report["best"]["epoch"], 3, "only the last has left all of it out");
    let bytes = scene.place.read("run/model.safetensors");
    let range = crate::harness::range_of(&bytes, "layer3.0.conv1.weight");
    let (weights, _) = bytes[range].as_chunks::<4>();
    let zeros = weights.iter().filter(|bytes| f32::from_le_bytes(**bytes) == 0.0).count();
    assert!(2 * zeros > weights.len(), "{zeros} of {}", weights.len());
}

#[test]
fn a_run_that_appeared_in_the_meantime_is_not_replaced() {
    let scene = Scene::new();
    let mut slow =
        scene.place.command(Scene::arguments(&["finetune", "dense.safetensors", "--epochs=0"], "run"));
    // Two at once: whichever comes second finds the other's run, at the start or when it would write.
    let other = slow.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn();
    let second = scene.place.run(Scene::arguments(&["finetune", "dense.safetensors", "--epochs=0"], "run"));
    let first = other.expect("the binary starts").wait().expect("it ends");
    let done = [first.code(), second.code].iter().filter(|code| **code == Some(0)).count();
    assert_eq!(done, 1, "one of them has the folder: {}", second.stderr);
}
