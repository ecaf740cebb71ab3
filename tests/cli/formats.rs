//! Tensors on the command line: from a dense checkpoint to its factors, and back.

use crate::harness::{Place, fixture, header, shapes, silero};
use crate::training_scene::Scene;
use serde_json::Value;

const TENSORS: [&str; 3] = ["tucker", "cp", "tensor-train"];

fn layers(report: &Value) -> Vec<Value> {
    report["layers"].as_array().expect("layers").clone()
}

#[test]
fn every_format_is_verified_collapsed_and_evaluated() {
    let (place, dense) = (Place::new(), fixture("resnet20-cifar10.safetensors"));
    let pictures = format!("cifar10:{}", fixture("cifar10-500"));
    for scheme in TENSORS {
        let (factored, collapsed) = (format!("{scheme}.safetensors"), format!("{scheme}-dense.safetensors"));
        let flags = ["--layer-keep=0.5", "--scheme", scheme, "--json", "-q", "--out", &factored];
        let report = place.run([dense.as_str()].into_iter().chain(flags)).exits(0).json();
        let written = shapes(&place.read(&factored));
        for layer in layers(&report).iter().filter(|layer| layer["scheme"] == scheme) {
            let name = layer["layer"].as_str().expect("a name");
            assert_eq!(
                written.contains_key(&format!("{name}.core_0")),
                scheme == "tensor-train",
                "{written:?}"
            );
            let parts = written.iter().filter(|(key, _)| key.starts_with(&format!("{name}.")));
            let parameters: usize = parts.map(|(_, shape)| shape.iter().product::<usize>()).sum();
            assert_eq!(layer["parameters_after"], parameters);
            assert_eq!(layer.get("degeneracy").is_some(), scheme == "cp");
        }
        assert!(layers(&report).iter().any(|layer| layer["scheme"] == scheme));
        place.run(["verify", &factored, "--against", &dense, "-q"]).exits(0).stdout_has("all hold");
        place.run(["collapse", &factored, "--out", &collapsed, "-q"]).exits(0);
        let accuracy = |checkpoint: &str| {
            let found =
                place.run(["evaluate", checkpoint, "--data", &pictures, "--json", "-q"]).exits(0).json();
            found["evaluation"]["loss"].as_f64().or(found["loss"].as_f64()).expect("a loss")
        };
        let (chain, product) = (accuracy(&factored), accuracy(&collapsed));
        assert!((chain - product).abs() < 1e-4 * product, "{scheme}: {chain} {product}");
        place.run(["inspect", &factored, "-q"]).exits(0).stdout_has("factored checkpoint");
    }
}

#[test]
fn linear_layers_and_embeddings_are_tensors_too() {
    let (place, dense) = (Place::new(), fixture("tiny-bert"));
    for scheme in ["tucker", "tensor-train"] {
        let flags =
            ["--rank=3", "--scheme", scheme, "--target=**.self.*", "--target=**.word_embeddings", "-q"];
        let out = ["--json", "--out", scheme];
        let report = place.run([dense.as_str()].into_iter().chain(flags).chain(out)).exits(0).json();
        assert!(layers(&report).len() > 2);
        assert!(layers(&report).iter().all(|layer| layer["scheme"] == scheme));
        let file = place.read(&format!("{scheme}/model.safetensors"));
        let names = shapes(&file);
        let query = "bert.encoder.layer.0.attention.self.query";
        assert!(names.contains_key(&format!("{query}.bias")), "{names:?}");
        let record = header(&file).0["__metadata__"]["factorization"].as_str().map(str::to_owned);
        let record: Value = serde_json::from_str(&record.expect("a record")).expect("JSON");
        let pairs = if scheme == "tucker" { 3 } else { 2 };
        assert_eq!(record["modules"][query]["pairs"].as_array().map(Vec::len), Some(pairs));
        place.run(["verify", scheme, "--against", &dense, "-q"]).exits(0).stdout_has("all hold");
        let collapsed = format!("{scheme}-dense");
        place.run(["collapse", scheme, "--out", &collapsed, "-q"]).exits(0);
        assert!(
            shapes(&place.read(&format!("{collapsed}/model.safetensors")))
                .contains_key(&format!("{query}.weight"))
        );
    }
}

#[test]
fn a_weight_with_two_names_has_one_format_whatever_rules_take_them() {
    let (place, dense) = (Place::new(), fixture("tiny-bert"));
    for scheme in ["auto", "tensor-train", "tucker"] {
        let recipe = format!(
            "[[rule]]\ntargets = [\"**.word_embeddings\"]\nscheme = \"{scheme}\"\nrank = 3\n\
             [[rule]]\ntargets = [\"cls.predictions.decoder\"]\nrank = 4\n"
        );
        place.write("recipe.toml", recipe);
        let flags = ["--recipe=recipe.toml", "--json", "-q", "--out", scheme];
        let report = place.run([dense.as_str()].into_iter().chain(flags)).exits(0).json();
        let found = layers(&report);
        assert_eq!(found.len(), 2, "{report}");
        assert_eq!(found[0]["scheme"], found[1]["scheme"]);
        assert_eq!(found[0]["parameters_after"], found[1]["parameters_after"]);
        place.run(["verify", scheme, "--against", &dense, "-q"]).exits(0).stdout_has("all hold");
    }
}

#[test]
fn auto_takes_what_loses_least_and_says_what_comes_next() {
    let (place, dense) = (Place::new(), fixture("tiny-resnet.safetensors"));
    for rule in ["--layer-keep=0.4", "--rank=3", "--energy=0.8"] {
        for objective in ["parameters", "macs"] {
            let flags = [rule, "--scheme=auto", "--objective", objective, "--dry-run", "-q"];
            let report = place.run([dense.as_str(), "--json"].into_iter().chain(flags)).exits(0).json();
            assert!(!layers(&report).is_empty(), "{rule} {objective}");
            for layer in layers(&report) {
                let error = layer["relative_error"].as_f64().expect("an error");
                let others = layer["alternatives"].as_array().expect("others").clone();
                assert!(!others.is_empty());
                for other in others {
                    assert!(other["relative_error"].as_f64().expect("an error") >= error - 1e-9, "{layer}");
                }
            }
            place.run([dense.as_str()].into_iter().chain(flags)).exits(0).stdout_has("next best");
        }
    }
}

#[test]
fn auto_tries_what_is_only_bounded_or_estimated() {
    let (place, dense) = (Place::new(), fixture("resnet20-cifar10.safetensors"));
    let targets = ["--target=layer2.1.conv1", "--target=layer3.1.conv1"];
    let auto = [
        "--layer-keep=0.35",
        "--allocate=uniform",
        "--scheme=auto",
        "--json",
        "-q",
        "--out=auto.safetensors",
    ];
    let arguments = || [dense.as_str()].into_iter().chain(targets);
    let report = place.run(arguments().chain(auto)).exits(0).json();
    // A tensor whose error is known exactly was tried: at this budget Tucker may turn out to be the best.
    let is_tried =
        |other: &Value| other["certainty"] == "exact" && TENSORS.iter().any(|name| other["scheme"] == *name);
    let others = layers(&report).into_iter().filter_map(|layer| layer["alternatives"].as_array().cloned());
    assert!(others.flatten().any(|other| is_tried(&other)), "{report}");
    for layer in layers(&report) {
        let (name, error) =
            (layer["layer"].as_str().expect("a name"), layer["relative_error"].as_f64().expect("one"));
        for other in layer["alternatives"].as_array().expect("others") {
            // The other format, at the ranks that were compared.
            let ranks: Vec<String> =
                other["ranks"].as_array().expect("ranks").iter().map(ToString::to_string).collect();
            let (rank, target) = (format!("--rank={}", ranks.join(",")), format!("--target={name}"));
            let scheme = other["scheme"].as_str().expect("a scheme");
            let flags = [
                "--scheme",
                scheme,
                &rank,
                &target,
                "--json",
                "-q",
                "--out=other.safetensors",
                "--overwrite",
            ];
            let found = place.run([dense.as_str()].into_iter().chain(flags)).exits(0).json();
            let measured = layers(&found)[0]["relative_error"].as_f64().expect("an error");
            assert!(measured >= error - 1e-6, "{name}: {scheme} {rank} loses {measured}, {layer}");
            if other["certainty"] == "exact" {
                let told = other["relative_error"].as_f64().expect("an error");
                assert!((measured - told).abs() < 1e-5, "{name} {scheme}: {measured} {told}");
            }
        }
    }
    // A dry run's check is held against what would be written, and what it only bounds is marked.
    let train = ["--scheme=tensor-train", "--energy=0.5", "-q", "--dry-run"];
    place.run(arguments().chain(train)).exits(0).stdout_has(" <0.").stdout_has("<: at most");
    let written = ["--scheme=tensor-train", "--energy=0.5", "-q", "--json", "--out=train.safetensors"];
    let worst =
        place.run(arguments().chain(written)).exits(0).json()["totals"]["worst_error"]["relative_error"]
            .clone();
    let worst = worst.as_f64().expect("an error");
    for (limit, code) in [(worst + 1e-4, 0), (worst - 1e-4, 3)] {
        place.run(arguments().chain(train).chain([format!("--max-error={limit}").as_str()])).exits(code);
    }
}

#[test]
fn every_rank_rule_is_for_tensors_too() {
    let (place, dense) = (Place::new(), fixture("resnet20-cifar10.safetensors"));
    let layer = ["--target=layer2.1.conv1", "-q", "--json", "--overwrite", "--out=out.safetensors"];
    let run = |flags: &[&str]| {
        let flags = flags.iter().copied();
        place.run([dense.as_str()].into_iter().chain(layer).chain(flags)).exits(0).json()
    };
    for (scheme, ranks) in [("tucker", "9,7"), ("tensor-train", "5,6"), ("cp", "20")] {
        let scheme_flag = format!("--scheme={scheme}");
        let report = run(&[&scheme_flag, &format!("--rank={ranks}")]);
        let found = &layers(&report)[0];
        let of_each = found["ranks"].as_array().map_or_else(
            || found["rank"].to_string(),
            |ranks| ranks.iter().map(ToString::to_string).collect::<Vec<String>>().join(","),
        );
        assert_eq!(of_each, ranks);
        let report = run(&[&scheme_flag, "--keep=0.98"]);
        let keep = report["totals"]["keep"].as_f64().expect("a part");
        assert!(keep <= 0.98 && keep > 0.978, "{scheme}: {keep}");
        let report = run(&[&scheme_flag, "--energy=0.7", "--round-to=2"]);
        let found = &layers(&report)[0];
        assert_eq!(found["rank"].as_u64().map(|rank| rank % 2), Some(0), "{found}");
        if scheme == "cp" {
            assert!(found["relative_error"].as_f64().is_some_and(|error| error <= 0.3f64.sqrt()), "{found}");
        }
    }
    for pairs in ["3", "8x4,2x2,2x4"] {
        let report = run(&["--scheme=tensor-train", "--pairs", pairs, "--layer-keep=0.5"]);
        assert_eq!(layers(&report)[0]["ranks"].as_array().map(Vec::len), Some(3), "{report}");
        place.run(["verify", "out.safetensors", "--against", &dense, "-q"]).exits(0).stdout_has("all hold");
    }
}

#[test]
fn inspect_compares_formats() {
    let (place, dense) = (Place::new(), fixture("tiny-resnet.safetensors"));
    let run = place.run(["inspect", &dense, "--formats", "--report", "formats.html", "-q"]).exits(0);
    let run = run.stdout_has("tensor-train").stdout_has("errors to expect");
    drop(run);
    let page = place.text("formats.html");
    assert!(page.contains("layer3.0.conv2") && page.contains("<svg") && page.contains("tucker"));
    let report = place.run(["inspect", &dense, "--formats", "--json", "-q"]).exits(0).json();
    let conv =
        layers(&report).into_iter().find(|layer| layer["layer"] == "layer3.0.conv2").expect("the layer");
    let schemes: Vec<&str> = conv["formats"]
        .as_array()
        .expect("formats")
        .iter()
        .filter_map(|format| format["scheme"].as_str())
        .collect();
    assert_eq!(schemes, ["spatial", "channel", "tucker", "cp", "tensor-train"]);
    // A kernel of one axis is split one way only.
    let report = place.run(["inspect", &silero(), "--formats", "--json", "-q"]).exits(0).json();
    for layer in layers(&report) {
        let Some(formats) = layer["formats"].as_array() else { continue };
        let schemes: Vec<&str> = formats.iter().filter_map(|format| format["scheme"].as_str()).collect();
        let different: std::collections::BTreeSet<&str> = schemes.iter().copied().collect();
        assert_eq!(schemes.len(), different.len(), "{schemes:?}");
    }
}

#[test]
fn what_does_not_go_together_is_refused() {
    let (place, dense) = (Place::new(), fixture("tiny-resnet.safetensors"));
    place
        .run(["inspect", &dense, "--formats", "--pairs=3x3", "-q"])
        .exits(1)
        .stderr_has("the pairs fit none of the layers");
    let cases: [(i32, &[&str], &str); 14] = [
        (1, &["--rank=2", "--scheme=auto", "--pairs=3x3"], "pairs fit none of the layers that they are for"),
        (2, &["--rank=2", "--scheme=auto", "--method=whitened"], "leave the calibration and its method out"),
        (1, &["--keep=0.5", "--scheme=auto", "--memory-limit=100KB"], "memory"),
        (2, &["--rank=2", "--objective=macs"], "it needs scheme `auto`"),
        (2, &["--rank=2", "--pairs=3"], "they need scheme `tensor-train`, `tucker` or `auto`"),
        (2, &["--rank=2,3"], "they need scheme `tucker` or `tensor-train`"),
        (
            1,
            &["--rank=2,3,4", "--scheme=tucker"],
            "found 3 ranks, expected 1, or 2 for a tensor of the modes [",
        ),
        (1, &["--rank=999,2", "--scheme=tucker"], "ranks (999, 2) exceed the largest possible ranks ("),
        (1, &["--rank=2", "--scheme=tucker", "--pairs=3"], "as tucker has its own axes"),
        (
            1,
            &["--rank=2", "--scheme=tensor-train", "--pairs=1", "--target=linear"],
            "`linear.weight` can't be factored: number of pairs: found 1, expected 2 to 7",
        ),
        (1, &["--rank=2", "--scheme=tensor-train", "--pairs=3x5,7x2"], "do not make up"),
        (2, &["--rank=2", "--scheme=deep"], "scheme `deep`"),
        (2, &["--rank=2", "--scheme=tensor-train", "--pairs=3y5"], "pairs such as 8x4,8x16"),
        (2, &["--rank=2,0", "--scheme=tucker"], "invalid value '2,0'"),
    ];
    for (code, flags, message) in cases {
        let arguments =
            [dense.as_str(), "--out=out.safetensors", "-q"].into_iter().chain(flags.iter().copied());
        place.run(arguments).exits(code).stderr_has(message);
        assert!(!place.join("out.safetensors").exists());
    }
}

#[test]
fn tensors_are_trained_and_collapsed() {
    let scene = Scene::new();
    for scheme in TENSORS {
        let flags = ["finetune", "dense.safetensors", "--layer-keep=0.5", "--scheme", scheme];
        let whole = format!("{scheme}-whole");
        scene.trains(&[&flags[..], &["--epochs=2"]].concat(), &whole);
        let report: Value =
            serde_json::from_str(&scene.place.text(&format!("{whole}/report.json"))).expect("JSON");
        let norms = report["epochs"][2]["layers"].as_array().expect("layers").clone();
        assert!(
            report["layers"].as_array().is_some_and(|all| all.iter().any(|layer| layer["scheme"] == scheme))
        );
        assert!(norms.iter().all(|layer| layer["norm"].as_f64().is_some_and(|norm| norm > 0.0)), "{norms:?}");
        let collapsed = format!("{scheme}-collapsed");
        scene.trains(&[&flags[..], &["--epochs=2", "--save=collapsed"]].concat(), &collapsed);
        let loss = |folder: &str| scene.evaluated(&format!("{folder}/model.safetensors"));
        let (factored, dense) = (loss(&whole), loss(&collapsed));
        assert_eq!(factored["accuracy"], dense["accuracy"], "{scheme}");
        // from scratch, each factor at random
        let scratch = format!("{scheme}-scratch");
        let flags = ["train", "--arch=resnet8", "--layer-keep=0.5", "--allocate=uniform", "--scheme", scheme];
        scene.trains(
            &[&flags[..], &["--init=default", "--epochs=1", "--factor-decay=weight"]].concat(),
            &scratch,
        );
    }
}
