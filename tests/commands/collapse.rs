//! Collapsed checkpoints: dense ones again.

use crate::compress::output;
use crate::files::{Stored, fixture, folder};
use crate::tree::{
    RUNS, distance, epsilon, load, metadata, multiplied_out, norm, record, run_collapse, run_compress, tree,
    weight_files,
};
use std::path::Path;

#[test]
fn names_shapes_and_types_are_the_originals_whichever_way_it_went() {
    for (name, recipe) in RUNS {
        let folder = tempfile::tempdir().unwrap();
        let [factored, collapsed, direct] =
            ["f", "c", "d"].map(|part| output(&folder.path().join(part), name));
        for part in ["f", "c", "d"] {
            std::fs::create_dir(folder.path().join(part)).unwrap();
        }
        run_compress(&fixture(name), &factored, recipe);
        run_collapse(&factored, &collapsed);
        let report = run_compress(&fixture(name), &direct, &format!("save = \"collapsed\"\n{recipe}"));
        assert_eq!(report.totals.totals.parameters_after, report.totals.totals.parameters_before);
        let record = record(&factored);
        let modules = record["modules"].as_object().unwrap();
        let (dense, factors) = (load(&fixture(name)), load(&factored));
        let (collapsed, direct) = (load(&collapsed), load(&direct));
        assert_eq!(collapsed.keys().collect::<Vec<_>>(), dense.keys().collect::<Vec<_>>(), "{name}");
        assert_eq!(direct.keys().collect::<Vec<_>>(), dense.keys().collect::<Vec<_>>(), "{name}");
        for (tensor, before) in &dense {
            let (one, other) = (&collapsed[tensor], &direct[tensor]);
            assert_eq!((&one.shape, &one.dtype), (&before.shape, &before.dtype), "{name}: {tensor}");
            assert_eq!((&other.shape, &other.dtype), (&before.shape, &before.dtype), "{name}: {tensor}");
            let Some(module) = tensor.strip_suffix(".weight").and_then(|layer| modules.get(layer)) else {
                assert!(one == before && other == before, "{name}: {tensor} changed");
                continue;
            };
            let layer = tensor.strip_suffix(".weight").unwrap();
            let links = ["0", "1"].map(|index| &factors[&format!("{layer}.{index}.weight")]);
            let exact = multiplied_out(module, links[0], links[1]);
            let (one, other, before) = (one.numbers(), other.numbers(), before.numbers());
            let rank = module["rank"].as_f64().unwrap();
            // The product of the stored factors in f32, rounded once more to the dense type; |A| |B| is at most
            // sqrt(rank) |W|.
            let own = epsilon(module["dtype"].as_str().unwrap());
            let allowed = (2.0 * epsilon("F32") * rank.sqrt() + own) * norm(&before);
            assert!(distance(&one, &exact) <= allowed, "{name}: {tensor}: {:e}", distance(&one, &exact));
            // Directly, the factors are not rounded on the way; eps / 2 for each of the two, elementwise.
            let allowed = (2.0 * epsilon("F32") + 2.0 * own) * rank.sqrt() * norm(&before);
            assert!(distance(&one, &other) <= allowed, "{name}: {tensor}: {:e}", distance(&one, &other));
            assert!(distance(&one, &before) > allowed, "{name}: {tensor} is approximated");
        }
    }
}

#[test]
fn no_trace_of_the_factors_is_left() {
    for (name, recipe) in RUNS.into_iter().filter(|(name, _)| !name.ends_with(".safetensors")) {
        let folder = tempfile::tempdir().unwrap();
        let [factored, collapsed, direct] = ["f", "c", "d"].map(|part| folder.path().join(part));
        run_compress(&fixture(name), &factored, recipe);
        run_collapse(&factored, &collapsed);
        run_compress(&fixture(name), &direct, &format!("save = \"collapsed\"\n{recipe}"));
        let before = tree(&fixture(name));
        for out in [&collapsed, &direct] {
            let after = tree(out);
            assert_eq!(after[Path::new("config.json")], before[Path::new("config.json")], "{name}");
            for file in weight_files(out) {
                let metadata = metadata(&file);
                assert_eq!(metadata.keys().collect::<Vec<_>>(), ["format"], "{name}");
            }
            for (path, bytes) in &before {
                let weights = path.to_string_lossy().contains("model")
                    && path.to_string_lossy().contains("safetensors");
                let card = out == &direct && path == Path::new("README.md");
                if !weights && !card {
                    assert!(after[path] == *bytes, "{name}: {}", path.display());
                }
            }
        }
        assert!(!collapsed.join("report.json").exists(), "{name}");
        assert!(fnl::checkpoint::Checkpoint::open_path(&collapsed).unwrap().record().is_none());
    }
}

/// Factors and collapses a small checkpoint with this config, and returns what config.json is then.
fn config_after(config: &str, recipe: &str) -> String {
    let layers = layers();
    let kept = Stored::random("norm.weight", &[16], 3);
    config_of(&[layers[0].clone(), layers[1].clone(), kept], config, recipe)
}

fn layers() -> [Stored; 2] {
    [Stored::random("fc1.weight", &[24, 16], 1), Stored::random("fc2.weight", &[16, 24], 2)]
}

fn config_of(tensors: &[Stored], config: &str, recipe: &str) -> String {
    let input = folder(tensors, Some(config));
    let work = tempfile::tempdir().unwrap();
    let (factored, collapsed) = (work.path().join("f"), work.path().join("c"));
    run_compress(input.path(), &factored, recipe);
    let with: serde_json::Value =
        serde_json::from_slice(&std::fs::read(factored.join("config.json")).unwrap()).unwrap();
    assert_eq!(with["factorization"]["version"], 1, "{config}");
    run_collapse(&factored, &collapsed);
    std::fs::read_to_string(collapsed.join("config.json")).unwrap()
}

#[test]
fn indented_configs_come_back_letter_for_letter() {
    for config in [
        "{\n  \"a\": 1e-05,\n  \"b\": [1, 2]\n}\n",
        "{\n  \"a\": 1\n}",
        "{\n    \"model_type\": \"x\",\n    \"nested\": {\"factorization\": null}\n}\n",
    ] {
        assert_eq!(config_after(config, "[[rule]]\nrank = 3\n"), config);
    }
}

#[test]
fn other_configs_come_back_letter_for_letter() {
    for config in
        ["{\"a\":1,\"b\":{}}", "{}", "{ \"a\": 1 }\n", "{\n\t\"a\": 1\n\n}\n", "{\r\n  \"a\": 1\r\n}\r\n"]
    {
        assert_eq!(config_after(config, "[[rule]]\nrank = 3\n"), config);
    }
}

#[test]
fn the_element_type_comes_back_where_every_parameter_is_factored() {
    let config = "{\n  \"torch_dtype\": \"float32\"\n}\n";
    assert_eq!(config_of(&layers(), config, "dtype = \"bf16\"\n[[rule]]\nrank = 3\n"), config);
}

#[test]
fn the_element_type_in_a_config_is_that_of_the_files() {
    let config = "{\n  \"torch_dtype\": \"float32\",\n  \"x\": 1\n}\n";
    assert_eq!(config_after(config, "dtype = \"bf16\"\n[[rule]]\nrank = 3\n"), config);
}

#[test]
fn element_types_of_nested_configs_are_left_alone() {
    let config = "{\n  \"dtype\": \"float32\",\n  \"vision\": {\"dtype\": \"bfloat16\"}\n}\n";
    assert_eq!(config_after(config, "dtype = \"bf16\"\n[[rule]]\nrank = 3\n"), config);
}

#[test]
fn a_converted_checkpoint_without_factors_gets_its_config_back() {
    let config = "{\n  \"dtype\": \"float32\"\n}\n";
    assert_eq!(config_after(config, "dtype = \"bf16\"\n[[rule]]\nkeep = 1.0\n"), config);
}

#[test]
fn a_config_gets_back_the_type_that_it_said() {
    // A checkpoint in two types: the config names the one of most of it.
    let mut second = Stored::random("fc2.weight", &[16, 24], 2);
    second.dtype = "BF16";
    second.bytes.truncate(2 * 16 * 24);
    for half in second.bytes.chunks_mut(2) {
        half[1] = 0x3f; // between 0.5 and 2
    }
    let mut first = second.clone();
    first.name = "fc0.weight".to_owned();
    first.bytes[0] ^= 1;
    let config = "{\n  \"dtype\": \"float32\"\n}\n";
    let kept = Stored { name: "norm.weight".to_owned(), shape: vec![384], ..second.clone() };
    let tensors = [first, Stored::random("fc1.weight", &[24, 16], 1), second, kept];
    assert_eq!(config_of(&tensors, config, "dtype = \"f32\"\n[[rule]]\nrank = 3\n"), config);
}

#[test]
fn shards_are_collapsed_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let [sharded, whole, one, other] = ["s", "w", "1", "2"].map(|part| folder.path().join(part));
    run_compress(&fixture("tiny-llama"), &sharded, "max_shard_bytes = 9000\n[[rule]]\nrank = 4\n");
    run_compress(&fixture("tiny-llama"), &whole, "[[rule]]\nrank = 4\n");
    run_collapse(&sharded, &one);
    run_collapse(&whole, &other);
    assert!(load(&one) == load(&other));
}
