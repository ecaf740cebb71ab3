//! Networks and folders that are not as most are: shared weights, scales of heads, grouped kernels, odd configurations.

use crate::harness::{Place, checkpoint, copy_folder, elements, fixture, header, raw};
use serde_json::{Value, json};
use std::path::Path;

/// Names and kinds of what is factored, by `--dry-run`.
fn factored(place: &Place, input: &str) -> Vec<String> {
    let report = place.run([input, "--rank=4", "--dry-run", "--json", "-q"]).exits(0).json();
    let layers = report["layers"].as_array().expect("layers");
    layers.iter().filter_map(|layer| layer["layer"].as_str().map(str::to_owned)).collect()
}

#[test]
fn a_weight_shared_by_layers_of_both_orders_is_factored_for_each() {
    let place = Place::new();
    for (rows, columns) in [(24, 24), (32, 16)] {
        let shared = elements(1, rows, columns);
        // A bias as long as the second axis shows layers that are stored transposed.
        let tensors = [
            ("q.lin.weight", &[rows, columns][..], shared.clone()),
            ("x.c_proj.weight", &[rows, columns], shared),
            ("x.c_proj.bias", &[columns], vec![0.0; columns]),
            ("h.0.attn.c_attn.weight", &[24, 72], elements(2, 24, 72)),
            ("h.0.attn.c_attn.bias", &[72], vec![0.0; 72]),
        ];
        place.write("dense.safetensors", checkpoint(&tensors));
        let factor = ["dense.safetensors", "--rank=6", "--target=**", "--overwrite", "-q"];
        place.run(factor.iter().chain(&["--out=factored.safetensors"])).exits(0);
        let verify = ["verify", "factored.safetensors", "--against=dense.safetensors", "-q"];
        place.run(verify).exits(0).stdout_has("x.c_proj");
        place
            .run(["collapse", "factored.safetensors", "--out=one.safetensors", "--overwrite", "-q"])
            .exits(0);
        place.run(factor.iter().chain(&["--out=two.safetensors", "--save=collapsed"])).exits(0);
        let data = |name: &str| {
            let bytes = place.read(name);
            let (_, start) = header(&bytes);
            let (chunks, _) = bytes[start..].as_chunks::<4>();
            chunks.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect::<Vec<f32>>()
        };
        let (one, two) = (data("one.safetensors"), data("two.safetensors"));
        assert!(one.iter().zip(&two).all(|(x, y)| (x - y).abs() < 1e-4), "{rows} x {columns}");
    }
}

#[test]
fn scales_and_kernels_that_have_no_factors_stay_as_they_are() {
    let place = Place::new();
    let kernel = |seed: u64, shape: &[usize]| elements(seed, shape[0], shape[1..].iter().product());
    let tensors: Vec<(&str, Vec<usize>)> = vec![
        ("stem.conv.weight", vec![24, 3, 3, 3]),
        ("s1.b1.conv1.conv.weight", vec![24, 24, 1, 1]),
        ("s1.b1.conv2.conv.weight", vec![24, 8, 3, 3]),
        ("s1.b1.se.fc1.weight", vec![8, 24, 1, 1]),
        ("s1.b1.se.fc2.weight", vec![24, 8, 1, 1]),
        ("s1.b1.conv3.conv.weight", vec![24, 24, 1, 1]),
        ("neck.reassemble_stage.layers.0.resize.weight", vec![24, 24, 4, 4]),
        ("layers.0.q_norm.weight", vec![24, 32]),
        ("layers.0.experts.up", vec![4, 24, 32]),
    ];
    let made: Vec<(&str, &[usize], Vec<f32>)> = tensors
        .iter()
        .zip(0u64..)
        .map(|((name, shape), seed)| (*name, shape.as_slice(), kernel(seed, shape)))
        .collect();
    place.write("net.safetensors", checkpoint(&made));
    assert_eq!(
        factored(&place, "net.safetensors"),
        ["s1.b1.conv1.conv", "s1.b1.conv3.conv", "s1.b1.se.fc1", "s1.b1.se.fc2"]
    );
    let run = place.run(["net.safetensors", "--rank=4", "--dry-run", "--json", "-q"]).exits(0).json();
    let reasons: Vec<(&str, &str)> = run["dense"]
        .as_array()
        .expect("what is left dense")
        .iter()
        .filter_map(|dense| Some((dense["layer"].as_str()?, dense["reason"].as_str()?)))
        .collect();
    for expected in [
        ("s1.b1.conv2.conv", "unknown_groups"),
        ("neck.reassemble_stage.layers.0.resize", "transposed_convolution"),
        ("layers.0.experts.up", "many_axes"),
    ] {
        assert!(reasons.contains(&expected), "{reasons:?}");
    }
    // Of quantized weights it is said that they are.
    let head = json!({"a.weight": {"dtype": "I8", "shape": [16, 16], "data_offsets": [0, 256]}});
    place.write("int8.safetensors", raw(&head.to_string(), &[1; 256]));
    let run = place.run(["int8.safetensors", "--rank=4", "--dry-run", "-q"]).exits(0);
    run.stdout_has("quantized").stdout_has("1 left dense").stderr_has("warning: no layer is factored");
}

/// The fixture with some of its config.json changed.
fn llama(place: &Place, name: &str, change: impl FnOnce(&mut Value)) {
    copy_folder(Path::new(&fixture("tiny-llama")), &place.join(name));
    let mut config: Value =
        serde_json::from_slice(&place.read(&format!("{name}/config.json"))).expect("JSON");
    change(&mut config);
    place.write(&format!("{name}/config.json"), config.to_string());
}

#[test]
fn a_config_beyond_its_checkpoint_is_refused_in_no_time() {
    let place = Place::new();
    place.write("text", "a text to be measured on, some words long");
    for (key, value) in [
        ("vocab_size", json!(2_147_483_648_u64)),
        ("num_hidden_layers", json!(2_147_483_648_u64)),
        ("intermediate_size", json!(1_u64 << 40)),
        ("hidden_size", json!(1_u64 << 63)),
        ("head_dim", json!(1_u64 << 63)),
        ("num_attention_heads", json!(1_u64 << 40)),
    ] {
        llama(&place, key, |config| config[key] = value);
        place.refuses(1, ["evaluate", key, "--data=text:text", "-q"]);
        place.refuses(1, ["heads", key, "--output-value=0.5", "--out=narrow", "-q"]);
    }
}

#[test]
fn numbers_that_python_writes_are_read_and_stay() {
    let place = Place::new();
    llama(&place, "net", |_| ());
    let text = place.text("net/config.json");
    let odd =
        text.trim_end().strip_suffix('}').expect("an object").to_owned() + ", \"limits\": [-Infinity, NaN]}";
    place.write("net/config.json", &odd);
    place.run(["net", "--rank=4", "--out=factored", "-q"]).exits(0);
    assert!(
        place.text("factored/config.json").contains("\"limits\": [-Infinity, NaN],\n  \"factorization\": ")
    );
    place.run(["collapse", "factored", "--out=dense", "-q"]).exits(0);
    assert_eq!(place.text("dense/config.json"), odd);
}

#[test]
fn files_beside_the_weights_are_copied_whatever_they_are() {
    let place = Place::new();
    llama(&place, "m/net", |_| ());
    place.write("m/net/README.md", b"caf\xe9\n");
    place.write("m/net/checkpoint-500/trainer_state.json", "{}");
    place.write("m/net/checkpoint-500/model.safetensors", checkpoint(&[("a", &[1], vec![0.0])]));
    #[cfg(unix)]
    {
        place.write("m/net/a\\b.txt", "text");
        place.write("m/other.txt", "no part of it");
        std::os::unix::fs::symlink("..", place.join("m/net/up")).expect("a link");
    }
    place.run(["m/net", "--rank=4", "--out=m/factored", "-q"]).exits(0);
    assert_eq!(place.read("m/factored/README.md"), b"caf\xe9\n");
    assert!(!place.join("m/factored/checkpoint-500").exists());
    #[cfg(unix)]
    {
        assert_eq!(place.text("m/factored/a\\b.txt"), "text");
        assert!(!place.join("m/factored/up").exists());
    }
}

#[test]
fn what_calibration_cannot_measure_is_no_calibration() {
    let place = Place::new();
    llama(&place, "net", |_| ());
    let norm = "model.layers.0.input_layernorm.weight";
    let index: Value = serde_json::from_slice(&place.read("net/model.safetensors.index.json")).expect("JSON");
    let shard = format!("net/{}", index["weight_map"][norm].as_str().expect("a shard"));
    let mut bytes = place.read(&shard);
    // In every type all ones are no number.
    let range = crate::harness::range_of(&bytes, norm);
    bytes[range].fill(0xff);
    place.write(&shard, bytes);
    place.write("text", "a text to be measured on, some words long");
    let run = place.refuses(1, ["net", "--layer-keep=0.5", "--calibrate=text:text", "--out=out", "-q"]);
    run.stderr_has("are not finite");
    place.write("recipe.toml", "[calibration]\nsamples = 0\ninput_damping = -1.0\n[[rule]]\nkeep = 0.5\n");
    let run = place.refuses(1, ["net", "--recipe=recipe.toml", "--out=out", "-q"]);
    run.stderr_has("samples is 0").stderr_has("input_damping is -1");
}

#[test]
fn a_changed_element_type_does_not_hold() {
    let place = Place::new();
    let tensors = [("a.weight", &[16, 16][..], elements(1, 16, 16)), ("b.bias", &[16], vec![0.1; 16])];
    place.write("dense.safetensors", checkpoint(&tensors));
    place.run(["dense.safetensors", "--rank=4", "--out=factored.safetensors", "-q"]).exits(0);
    let verify = ["verify", "factored.safetensors", "--against=dense.safetensors", "-q"];
    place.run(verify).exits(0);
    // The same numbers as F64, in both files.
    let wide = |name: &str| {
        let bytes = place.read(name);
        let (mut head, start) = header(&bytes);
        let (mut data, mut end) = (Vec::new(), 0);
        let names: Vec<String> = head.as_object().expect("an object").keys().cloned().collect();
        for name in names.iter().filter(|name| *name != "__metadata__") {
            let at = |i: usize| head[name]["data_offsets"][i].as_u64().expect("an offset") as usize;
            let mut part = bytes[start + at(0)..start + at(1)].to_vec();
            if name == "b.bias" {
                let (chunks, _) = part.as_chunks::<4>();
                part = chunks.iter().flat_map(|x| f64::from(f32::from_le_bytes(*x)).to_le_bytes()).collect();
                head[name]["dtype"] = json!("F64");
            }
            head[name]["data_offsets"] = json!([end, end + part.len()]);
            end += part.len();
            data.extend(part);
        }
        place.write(name, raw(&head.to_string(), &data));
    };
    wide("factored.safetensors");
    place.run(verify).exits(3).stderr_has("`b.bias` was F64 as the record says, and is F32");
}

#[test]
fn recalibrated_statistics_hold_as_the_record_says() {
    let scene = crate::training_scene::Scene::new();
    let factor =
        ["dense.safetensors", "--rank=4", "--recalibrate=cifar10:data", "--out=factored.safetensors", "-q"];
    scene.place.run(factor).exits(0);
    scene.place.run(["verify", "factored.safetensors", "--against=dense.safetensors", "-q"]).exits(0);
}

#[test]
fn a_recorded_size_that_no_weight_has_is_refused() {
    let place = Place::new();
    for scheme in ["spatial", "tucker"] {
        let module = json!({"kind": "conv2d", "scheme": scheme, "rank": 2, "ranks": if scheme == "tucker" { vec![2, 2] } else { vec![] },
            "shape": [1_u64 << 40, 1_u64 << 40, 1_u64 << 40, 1_u64 << 40], "dtype": "F32", "relative_error": 0.5});
        let record =
            json!({"version": 1, "tool": "fnl", "modules": {"a": module}, "recipe": {"rule": [{"rank": 2}]}});
        let head = json!({"__metadata__": {"factorization": record.to_string()},
            "a.0.weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}});
        place.write("bad.safetensors", raw(&head.to_string(), &[0; 4]));
        for command in
            [&["inspect", "bad.safetensors"][..], &["collapse", "bad.safetensors", "--out=out.safetensors"]]
        {
            place.refuses(1, command.iter().chain(&["-q"])).stderr_has("no weight is as large");
        }
    }
}

#[test]
fn names_do_nothing_to_a_terminal() {
    let place = Place::new();
    place.write("odd.safetensors", checkpoint(&[("a\u{1b}[31m\nb.weight", &[16, 16], elements(1, 16, 16))]));
    let run = place.run(["odd.safetensors", "--rank=4", "--out=out.safetensors"]).exits(0);
    let run = run.stdout_has("a\\u{1b}[31m\\nb").stderr_has("a\\u{1b}[31m\\nb");
    assert!(!run.stdout.contains('\u{1b}') && !run.stderr.contains('\u{1b}'));
}

#[test]
fn pages_replace_no_weights_and_no_devices() {
    let place = Place::new();
    place.write("blobs/w", std::fs::read(fixture("tiny-bert/model.safetensors")).expect("a fixture"));
    place.write("snapshot/config.json", std::fs::read(fixture("tiny-bert/config.json")).expect("a fixture"));
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("../blobs/w", place.join("snapshot/model.safetensors")).expect("a link");
        let page = ["snapshot", "--rank=4", "--out=out", "--overwrite", "-q", "--report"];
        let run = place.refuses(1, page.iter().chain(&["blobs/w"]));
        run.stderr_has("would change the input");
        place.refuses(1, page.iter().chain(&["/dev/null"])).stderr_has("would replace what is no file");
    }
}

#[test]
fn a_run_inside_of_its_checkpoint_is_refused() {
    let scene = crate::training_scene::Scene::new();
    scene.place.write("net/model.safetensors", scene.place.read("dense.safetensors"));
    let command = ["finetune", "net", "--rank-ratio=0.5", "--epochs=0", "--data=cifar10:data", "-q"];
    let run = scene.place.refuses(1, command.iter().chain(&["--out=net/run"]));
    run.stderr_has("`net/run` lies inside the input `net`, which is never changed");
}
