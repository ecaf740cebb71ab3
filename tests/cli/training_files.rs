//! What training leaves in its folder, and what the networks there are measured to be.

use std::path::PathBuf;

use crate::harness::{Place, header, shapes};
use crate::training_scene::{Scene, TEST_IMAGES, number};

const FINETUNE: [&str; 4] = ["finetune", "dense.safetensors", "--rank-ratio=0.5", "--epochs=2"];

fn names(place: &Place, out: &str) -> Vec<String> {
    let inside = place.names().into_iter().filter_map(|name| name.strip_prefix(out).map(PathBuf::from).ok());
    let plain = |name: PathBuf| {
        let name = name.display().to_string();
        // A second and a number follow.
        name.split_once("tfevents.").map_or(name.clone(), |(start, _)| format!("{start}tfevents"))
    };
    inside.map(plain).filter(|name| !name.is_empty()).collect()
}

#[test]
fn a_run_leaves_the_documented_files() {
    let scene = Scene::new();
    scene.trains(&FINETUNE, "tuned");
    scene.trains(&["train", "--arch=resnet8", "--epochs=1", "--lr=0.05"], "scratch");
    for out in ["tuned", "scratch"] {
        let expected = [
            "checkpoints",
            "checkpoints/best.safetensors",
            "checkpoints/last.safetensors",
            "checkpoints/state.safetensors",
            "events.out.tfevents",
            "metrics.jsonl",
            "model.safetensors",
            "options.toml",
            "report.html",
            "report.json",
        ];
        assert_eq!(names(&scene.place, out), expected, "{out}");
        let report: serde_json::Value =
            serde_json::from_slice(&scene.place.read(&format!("{out}/report.json"))).expect("JSON");
        let page = scene.place.text(&format!("{out}/report.html"));
        assert!(page.contains("<svg") && page.ends_with("</html>\n"), "{out}: no curves");
        let epochs = scene.epochs(out);
        assert_eq!(report["epochs"].as_array().map(Vec::len), Some(epochs.len()));
        assert_eq!(report["totals"]["steps"], epochs[epochs.len() - 1]["step"]);
        // The state, the networks and the result are whole files that can be read.
        for file in ["model", "checkpoints/best", "checkpoints/last", "checkpoints/state"] {
            assert!(!shapes(&scene.place.read(&format!("{out}/{file}.safetensors"))).is_empty());
        }
    }
    assert_eq!(scene.epochs("tuned").len(), 3, "one before training, and one for each epoch");
}

/// Files for others to read are not the owner's alone.
#[cfg(unix)]
#[test]
fn files_have_the_permissions_of_new_files() {
    use std::os::unix::fs::PermissionsExt as _;
    let scene = Scene::new();
    scene.trains(&["train", "--arch=resnet8", "--epochs=0"], "run");
    let mode = |name: &str| scene.place.join(name).metadata().expect("a file").permissions().mode() & 0o777;
    scene.place.write("usual", "");
    for name in ["options.toml", "report.json", "report.html", "metrics.jsonl", "model.safetensors"] {
        assert_eq!(mode(&format!("run/{name}")), mode("usual"), "{name}");
    }
}

/// The last line of the metrics, the network, and its collapsed form tell the same.
#[test]
fn evaluation_repeats_what_training_said() {
    let scene = Scene::new();
    scene.trains(&["finetune", "dense.safetensors", "--rank-ratio=0.25", "--epochs=2"], "run");
    scene.place.run(["collapse", "run/model.safetensors", "--out=collapsed.safetensors", "-q"]).exits(0);
    let epochs = scene.epochs("run");
    let last = epochs.last().expect("an epoch");
    let model = scene.evaluated("run/model.safetensors");
    let kept = scene.evaluated("run/checkpoints/last.safetensors");
    let collapsed = scene.evaluated("collapsed.safetensors");
    for found in [&model, &kept] {
        // The same batches of the same tensors.
        assert_eq!(number(found, "accuracy"), number(last, "test_accuracy"));
        let difference = number(found, "loss") - number(last, "test_loss");
        // Batches of another size are summed in another order, and may be run in another.
        assert!(difference.abs() < 1e-5, "{difference}");
    }
    assert!((number(&collapsed, "loss") - number(&model, "loss")).abs() < 1e-5);
    assert_eq!(collapsed["accuracy"], model["accuracy"]);
    assert_eq!(model["images"], TEST_IMAGES);
    assert_eq!(model["architecture"], "resnet8");
    assert!(number(&model, "factored_layers") > 0.0 && collapsed["factored_layers"] == 0);
    assert!(number(&model, "parameters") < number(&collapsed, "parameters"));
    assert!(number(&model, "multiply_adds") < number(&collapsed, "multiply_adds"));
    assert!(number(&model, "images_per_sec") > 0.0);
}

/// A network that sees brightness alone can learn these pictures.
#[test]
fn training_lowers_the_loss() {
    let scene = Scene::new();
    scene.trains(&["train", "--arch=resnet8", "--epochs=4", "--lr=0.05", "--schedule=constant"], "run");
    let epochs = scene.epochs("run");
    let (first, last) = (number(&epochs[1], "train_loss"), number(&epochs[4], "train_loss"));
    assert!(last < 0.8 * first, "{first} to {last}");
}

#[test]
fn averaged_and_pruned_weights_are_what_is_saved() {
    let scene = Scene::new();
    let flags = ["finetune", "dense.safetensors", "--epochs=4", "--prune-keep=0.4", "--prune-until=0.5"];
    scene.trains(&[&flags[..], &["--average=0.9"]].concat(), "run");
    let bytes = scene.place.read("run/model.safetensors");
    let zeros = |tensor: &str| {
        let elements = &bytes[crate::harness::range_of(&bytes, tensor)];
        elements.chunks(4).filter(|element| *element == [0; 4] || *element == [0, 0, 0, 0x80]).count()
    };
    let counts: Vec<(usize, usize)> = shapes(&bytes)
        .iter()
        .filter(|(_, shape)| shape.len() > 1)
        .map(|(name, shape)| (zeros(name), shape.iter().product()))
        .collect();
    let zero: usize = counts.iter().map(|(zero, _)| zero).sum();
    let all: usize = shapes(&bytes)
        .iter()
        .filter(|(name, _)| !name.contains("running") && !name.contains("num_batches"))
        .map(|(_, shape)| shape.iter().product::<usize>())
        .sum();
    // Rounding of the part to whole weights.
    assert!((zero as f64 / all as f64 - 0.6).abs() < 1e-3, "{zero} of {all} are zero");
    let report: serde_json::Value =
        serde_json::from_slice(&scene.place.read("run/report.json")).expect("JSON");
    assert_eq!(report["totals"]["parameters"], all - zero);
    assert!(
        (scene.evaluated("run/model.safetensors")["accuracy"].as_f64())
            == scene.epochs("run").last().expect("an epoch")["test_accuracy"].as_f64()
    );
}

/// Factors of more elements than their weight are trained, and collapse to the plain network.
#[test]
fn deep_and_wide_networks_collapse_to_plain_names() {
    let scene = Scene::new();
    let plain = shapes(&scene.place.read("dense.safetensors"));
    for (name, flags) in [
        ("deep", &["--scheme=deep"][..]),
        ("wide", &["--rank-ratio=3"]),
        ("default", &["--rank-ratio=3", "--init=default"]),
    ] {
        let train = [&["train", "--arch=resnet8", "--epochs=1", "--lr=0.01"][..], flags].concat();
        scene.trains(&train, name);
        let factored = scene.place.read(&format!("{name}/model.safetensors"));
        assert!(header(&factored).0["__metadata__"]["factorization"].is_string());
        let last = if name == "deep" { 2 } else { 1 };
        assert!(shapes(&factored).contains_key(&format!("layer1.0.conv1.{last}.weight")), "{name}");

        scene.trains(&[&train[..], &["--save=collapsed"]].concat(), &format!("{name}-collapsed"));
        let whole = scene.place.read(&format!("{name}-collapsed/model.safetensors"));
        assert_eq!(shapes(&whole), plain, "{name}");
        assert!(header(&whole).0["__metadata__"].get("factorization").is_none());
        let [one, other] = [name, &format!("{name}-collapsed")]
            .map(|name| scene.evaluated(&format!("{name}/model.safetensors")));
        // Products of f32 matrices, multiplied out or one after the other.
        assert!((number(&one, "loss") - number(&other, "loss")).abs() < 1e-4, "{one}\n{other}");

        let model = format!("{name}/model.safetensors");
        let inspected = scene.place.run(["inspect", &model, "--json", "-q"]).exits(0).json();
        assert_eq!(inspected["factored"], true);
        let layers = inspected["layers"].as_array().expect("layers").clone();
        let layer = layers.iter().find(|layer| layer["layer"] == "layer1.0.conv1").expect("a layer");
        assert!(number(layer, "parameters") > number(layer, "dense_parameters"), "{layer}");
        scene.place.run(["inspect", &model, "-q"]).exits(0).stdout_has("layer1.0.conv1");
        let back = format!("--out={name}.safetensors");
        scene.place.run(["collapse", &model, &back, "-q"]).exits(0);
        assert_eq!(shapes(&scene.place.read(&format!("{name}.safetensors"))), plain);
        // Training has moved it away from what its record was made of: what is found is not what is recorded.
        let verify = ["verify", &model, "--against", "dense.safetensors", "--json", "-q"];
        let verified = scene.place.run(verify).exits(3).json();
        assert_eq!(
            verified["layers"].as_array().map(Vec::len),
            Some(layers.iter().filter(|l| l["factored_rank"].is_number()).count())
        );
    }
}

#[test]
fn compressing_refuses_what_makes_a_checkpoint_larger() {
    let scene = Scene::new();
    let out = "--out=out.safetensors";
    scene.place.refuses(2, ["dense.safetensors", "--rank-ratio=3", out]).stderr_has("above 0 and at most 1");
    for recipe in ["[[rule]]\nscheme = \"deep\"\nrank_ratio = 1.0\n", "[[rule]]\nrank_ratio = 3.0\n"] {
        scene.place.write("recipe.toml", recipe);
        scene
            .place
            .refuses(2, ["dense.safetensors", "--recipe=recipe.toml", out])
            .stderr_has("error: the recipe asks for overcomplete factors, by ")
            .stderr_has("\nhint: ");
    }
}
