//! Batch normalization re-estimated after factoring, without training.

use crate::harness::{fixture, range_of, shapes};
use crate::training_scene::{Scene, number};

/// Tensors in which two files of equal names and shapes differ.
#[track_caller]
fn differences(one: &[u8], other: &[u8]) -> Vec<String> {
    assert_eq!(shapes(one), shapes(other));
    let differs = |name: &String| one[range_of(one, name)] != other[range_of(other, name)];
    shapes(one).into_keys().filter(differs).collect()
}

#[test]
fn only_running_statistics_change() {
    let scene = Scene::new();
    scene.trains(&["train", "--arch=resnet8", "--epochs=4", "--lr=0.05", "--schedule=constant"], "dense");
    for save in ["factored", "collapsed"] {
        let compress = |out: &str, flags: &[&str]| {
            let usual = ["dense/model.safetensors", "--rank=2", "-q", "--save", save, "--out", out];
            scene.place.run([&usual[..], flags].concat()).exits(0);
            scene.place.read(out)
        };
        let as_is = compress(&format!("{save}.safetensors"), &[]);
        let name = format!("{save}-recalibrated.safetensors");
        let recalibrated = compress(&name, &["--recalibrate=cifar10:data"]);
        let changed = differences(&as_is, &recalibrated);
        let statistics = |name: &str| name.ends_with(".running_mean") || name.ends_with(".running_var");
        assert!(changed.iter().all(|name| statistics(name)), "{changed:?}");
        let all = shapes(&as_is).into_keys().filter(|name| statistics(name)).count();
        // What the first, dense convolution gives is what it gave in training, but for the crops.
        assert!(all - changed.len() <= 2, "{changed:?}");
        let [before, after] = [format!("{save}.safetensors"), name].map(|name| scene.evaluated(&name));
        assert!(number(&after, "loss") < number(&before, "loss"), "{before}\n{after}");
    }
    let again = ["dense/model.safetensors", "--rank=2", "-q", "--out=again.safetensors"];
    scene.place.run([&again[..], &["--recalibrate=cifar10:data", "--threads=1"]].concat()).exits(0);
    assert_eq!(scene.place.read("again.safetensors"), scene.place.read("factored-recalibrated.safetensors"));
}

/// Before training, a run recalibrates the same way.
#[test]
fn fine_tuning_without_training_is_compressing() {
    let scene = Scene::new();
    let compress = ["dense.safetensors", "--rank=4", "-q", "--out=factored.safetensors"];
    scene.place.run([&compress[..], &["--recalibrate=cifar10:data"]].concat()).exits(0);
    let command =
        ["finetune", "dense.safetensors", "--rank=4", "--epochs=0", "--recalibrate", "--batch-size=128"];
    let arguments = [&command[..], &["--data=cifar10:data", "--out=run", "-q"]].concat();
    scene.place.run(arguments).exits(0);
    let names = ["factored.safetensors", "run/model.safetensors"];
    let [one, other] = names.map(|name| scene.place.read(name));
    let differ = differences(&one, &other);
    // The weights are factored in other precisions.
    assert!(
        differ.iter().all(|name| name.ends_with(".0.weight") || name.ends_with(".1.weight")),
        "{differ:?}"
    );
    let [one, other] = names.map(|name| number(&scene.evaluated(name), "loss"));
    assert!((one - other).abs() < 1e-5 * other, "{one}, {other}");
}

#[test]
fn what_cannot_be_recalibrated_is_refused_first() {
    let scene = Scene::new();
    let refuses = |arguments: &[&str]| {
        let usual = ["--rank=4", "--out=out.safetensors"];
        scene.place.refuses(1, [arguments, &usual].concat()).stderr_lacks("factored")
    };
    let folder = ["--rank=4", "--out=out", "--recalibrate=cifar10:data"];
    let bert = fixture("tiny-bert");
    let run = scene.place.refuses(1, [&[bert.as_str()][..], &folder].concat()).stderr_lacks("factored");
    run.stderr_has("error: batch normalization can't be recalibrated: the architecture cannot be told from")
        .stderr_has("\nhint: --recalibrate is for the networks that `compress train` can train\n");
    refuses(&["dense.safetensors", "--recalibrate=cifar10:nowhere"])
        .stderr("error: the folder `nowhere` of the data set does not exist\n");
    scene.place.write("hundred/train.bin", [vec![0], crate::training_scene::records(1, 1)].concat());
    refuses(&["dense.safetensors", "--recalibrate=cifar100:hundred"])
        .stderr("error: the data has 100 classes, the network 10\n");
    let dry = ["dense.safetensors", "--rank=4", "--dry-run", "--recalibrate=cifar10:data"];
    scene.place.refuses(2, dry).stderr_has("cannot be used with");
}
