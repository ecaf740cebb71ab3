//! What a compression writes.

use crate::files::{Stored, fixture, write};
use crate::tree::{
    Loaded, RUNS, copied, distance, epsilon, expected_shapes, load, metadata, multiplied_out, norm, options,
    record, run_compress, tree, weight_files,
};
use fnl::commands::compress;
use fnl::plan::NoProgress;
use fnl::report::Check;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// A folder for a folder, a file for a file.
pub(crate) fn output(folder: &Path, name: &str) -> std::path::PathBuf {
    folder.join(if name.ends_with(".safetensors") { "out.safetensors" } else { "out" })
}

#[test]
fn chains_stand_in_the_place_of_layers_and_everything_else_is_as_it_was() {
    for (name, recipe) in RUNS {
        let folder = tempfile::tempdir().unwrap();
        let out = output(folder.path(), name);
        let report = run_compress(&fixture(name), &out, recipe);
        let (dense, factored) = (load(&fixture(name)), load(&out));
        let record = record(&out);
        let modules = record["modules"].as_object().unwrap();
        assert!(!modules.is_empty(), "{name}");
        let mut expected: BTreeMap<String, Option<Loaded>> =
            dense.iter().map(|(name, tensor)| (name.clone(), Some(tensor.clone()))).collect();
        for (layer, module) in modules {
            let weight = expected.remove(&format!("{layer}.weight")).flatten().unwrap();
            let bias = expected.remove(&format!("{layer}.bias"));
            expected.extend(bias.map(|bias| (format!("{layer}.1.bias"), bias)));
            assert_eq!(module["dtype"], weight.dtype.as_str());
            for (index, shape) in expected_shapes(module).into_iter().enumerate() {
                let factor = format!("{layer}.{index}.weight");
                assert_eq!(factored[&factor].shape, shape, "{name}: {factor}");
                assert_eq!(factored[&factor].dtype, weight.dtype, "{name}: {factor}");
                expected.insert(factor, None);
            }
        }
        assert_eq!(factored.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{name}");
        for (tensor, before) in expected {
            if let Some(before) = before {
                assert!(factored[&tensor] == before, "{name}: {tensor} changed");
            }
        }
        let elements: u64 = report.layers.iter().map(|l| l.parameters_before - l.parameters_after).sum();
        let totals = &report.totals.totals;
        assert_eq!(totals.parameters_before - totals.parameters_after, elements, "{name}");
        let bytes =
            |tensors: &BTreeMap<String, Loaded>| tensors.values().map(|t| t.bytes.len() as u64).sum::<u64>();
        assert_eq!((totals.bytes_before, totals.bytes_after), (bytes(&dense), bytes(&factored)), "{name}");
    }
}

#[test]
fn recorded_errors_are_those_of_the_files() {
    for (name, recipe) in RUNS {
        let folder = tempfile::tempdir().unwrap();
        let out = output(folder.path(), name);
        let report = run_compress(&fixture(name), &out, recipe);
        let (dense, factored) = (load(&fixture(name)), load(&out));
        let mut worst: f64 = 0.0;
        for (layer, module) in record(&out)["modules"].as_object().unwrap() {
            let (first, second) =
                (&factored[&format!("{layer}.0.weight")], &factored[&format!("{layer}.1.weight")]);
            let weight = dense[&format!("{layer}.weight")].numbers();
            let found = distance(&weight, &multiplied_out(module, first, second)) / norm(&weight);
            let recorded = module["relative_error"].as_f64().unwrap();
            // The product is taken in f32: eps sqrt(rank) of |A| |B| / |W|, which is small; 4 for both roundings.
            let allowed = 4.0 * epsilon("F32") * (module["rank"].as_f64().unwrap()).sqrt();
            assert!((found - recorded).abs() <= allowed, "{name}: {layer}: {found} against {recorded}");
            assert!(recorded > 1e-3 && recorded < 1.0, "{name}: {layer}: {recorded}");
            let reported = report.layers.iter().find(|l| l.layer == *layer).unwrap();
            assert!(same(reported.relative_error, recorded), "{name}: {layer}");
            assert_eq!(Value::from(reported.rank), module["rank"]);
            worst = worst.max(recorded);
        }
        assert!(same(Some(report.totals.worst_error.unwrap().relative_error), worst), "{name}");
    }
}

/// Whether a number is the one that was read from JSON, whose parser may miss the last bit.
fn same(number: Option<f64>, read: f64) -> bool {
    number.is_some_and(|number| (number - read).abs() <= f64::EPSILON * number)
}

#[test]
fn every_file_says_its_format_and_holds_the_record_that_config_json_holds() {
    for (name, recipe) in RUNS {
        let folder = tempfile::tempdir().unwrap();
        let out = output(folder.path(), name);
        run_compress(&fixture(name), &out, recipe);
        for file in weight_files(&out) {
            assert_eq!(metadata(&file)["format"], "pt", "{name}");
        }
        let record = record(&out);
        assert_eq!(record["version"], 1);
        assert_eq!(record["tool"], fnl::TOOL);
        if out.is_file() {
            continue;
        }
        let text = std::fs::read_to_string(out.join("config.json")).unwrap();
        let before = std::fs::read_to_string(fixture(name).join("config.json")).unwrap();
        let config: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(config["factorization"], record, "{name}");
        // Compact, keys sorted, and nothing else touched.
        let compact = metadata(&weight_files(&out)[0])["factorization"].clone();
        let rest = before.strip_suffix("\n}\n").unwrap();
        assert_eq!(text, format!("{rest},\n  \"factorization\": {compact}\n}}\n"), "{name}");
        assert_sorted(&serde_json::from_str(&compact).unwrap());
    }
}

fn assert_sorted(value: &Value) {
    match value {
        Value::Object(fields) => {
            let keys: Vec<&String> = fields.keys().collect();
            assert!(keys.is_sorted(), "{keys:?}");
            fields.values().for_each(assert_sorted);
        }
        Value::Array(items) => items.iter().for_each(assert_sorted),
        _ => {}
    }
}

#[test]
fn what_a_recipe_says_of_convolutions_is_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.safetensors");
    run_compress(&fixture("tiny-resnext.safetensors"), &out, RUNS[9].1);
    let record = record(&out);
    let module = &record["modules"]["layer2.0.conv2"];
    assert_eq!((&module["groups"], &module["scheme"]), (&Value::from(4), &Value::from("spatial")));
    assert_eq!(
        (module["stride"].to_string(), module["padding"].to_string()),
        ("[2,2]".into(), "[1,1]".into())
    );
    assert!(module.get("dilation").is_none());
    assert_eq!(record["modules"]["layer1.0.conv2"]["scheme"], "channel");
    // Nothing said: nothing recorded.
    assert!(record["modules"]["layer2.0.conv1"].get("stride").is_none());
}

#[test]
fn both_uses_of_a_tied_weight_get_the_same_factors() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    run_compress(&fixture("tiny-bert"), &out, RUNS[1].1);
    let tensors = load(&out);
    let of = |name: &str| tensors[name].clone();
    // A lookup table (vocabulary, r) is a linear layer's second weight; (d, r) is its first, transposed.
    assert_eq!(of("bert.embeddings.word_embeddings.0.weight"), of("cls.predictions.decoder.1.weight"));
    let (table, linear) =
        (of("bert.embeddings.word_embeddings.1.weight"), of("cls.predictions.decoder.0.weight"));
    assert_eq!((&table.shape[..], &linear.shape[..]), (&[32, 9][..], &[9, 32][..]));
    for row in 0..32 {
        for col in 0..9 {
            let (at, across) = (4 * (row * 9 + col), 4 * (col * 32 + row));
            assert_eq!(table.bytes[at..at + 4], linear.bytes[across..across + 4]);
        }
    }
    let record = record(&out);
    assert_eq!(record["modules"]["cls.predictions.decoder"]["kind"], "linear");
    assert_eq!(
        record["modules"]["cls.predictions.decoder"]["tied_with"][0],
        "bert.embeddings.word_embeddings.weight"
    );
}

#[test]
fn side_files_are_copied_and_pickled_duplicates_are_not() {
    let input = copied(&fixture("tiny-bert"));
    let add = |path: &str, text: &str| {
        let path = input.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let pickled = ["pytorch_model.bin", "tf_model.h5", "flax_model.msgpack", "weights.pt", "onnx/model.onnx"];
    for path in pickled {
        add(path, "weights once more");
    }
    let others = ["1_Pooling/config.json", "special_tokens_map.json", "nested/deep/notes.txt", "merges.txt"];
    for path in others {
        add(path, &format!("{{\"a file\": \"{path}\"}}"));
    }
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let report = run_compress(input.path(), &out, "[[rule]]\nrank = 4\n");
    let (before, after) = (tree(input.path()), tree(&out));
    for path in others.into_iter().chain(["vocab.txt", "tokenizer_config.json"]) {
        assert_eq!(after[Path::new(path)], before[Path::new(path)], "{path}");
    }
    let mut left_out = report.files_left_out.clone();
    left_out.sort();
    let mut expected = pickled.map(str::to_owned).to_vec();
    expected.sort();
    assert_eq!(left_out, expected);
    let mut names: Vec<String> = after.keys().map(|path| path.display().to_string()).collect();
    names.sort();
    let mut expected: Vec<&str> = others.to_vec();
    expected.extend([
        "README.md",
        "config.json",
        "model.safetensors",
        "report.json",
        "tokenizer_config.json",
        "vocab.txt",
    ]);
    expected.sort_unstable();
    assert_eq!(names, expected);
    assert_eq!(tree(input.path()), before, "the input is as it was");
}

#[test]
fn the_report_in_the_folder_is_the_report() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let report = run_compress(&fixture("tiny-llama"), &out, "[[rule]]\nrank = 4\n");
    let json: Value = serde_json::from_slice(&std::fs::read(out.join("report.json")).unwrap()).unwrap();
    assert_eq!(json["schema_version"], fnl::report::SCHEMA_VERSION);
    assert_eq!((json["command"].as_str(), json["dry_run"].as_bool()), (Some("compress"), Some(false)));
    let layers = json["layers"].as_array().unwrap();
    assert_eq!(layers.len(), report.layers.len());
    for (written, layer) in layers.iter().zip(&report.layers) {
        assert_eq!(written["layer"], layer.layer.as_str());
        assert!(same(layer.relative_error, written["relative_error"].as_f64().unwrap()));
        assert_eq!(written["parameters_after"], layer.parameters_after);
    }
    assert_eq!(json["totals"]["parameters_after"], report.totals.totals.parameters_after);
    assert_eq!(json["tensors"].as_array().unwrap().len(), load(&fixture("tiny-llama")).len());
    assert_eq!(json["recipe"], record(&out)["recipe"]);
}

#[test]
fn a_model_card_keeps_its_front_matter_and_text() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    run_compress(&fixture("tiny-bert"), &out, "[[rule]]\nrank = 4\n");
    let before = std::fs::read_to_string(fixture("tiny-bert").join("README.md")).unwrap();
    let after = std::fs::read_to_string(out.join("README.md")).unwrap();
    assert!(before.starts_with("---\n"));
    let section = after.strip_prefix(before.as_str()).expect("the card is as it was, then the section");
    assert!(
        section.contains("13 layers of this checkpoint were replaced by factors (13 matrix) with "),
        "{section}"
    );
}

#[test]
fn a_large_output_is_split_and_indexed() {
    for (name, most) in [("tiny-llama", 20_000u64), ("tiny-bert", 9_000), ("tiny-gpt2", 1)] {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        run_compress(&fixture(name), &out, &format!("max_shard_bytes = {most}\n[[rule]]\nrank = 4\n"));
        let files = weight_files(&out);
        assert!(files.len() > 1, "{name}");
        let index: Value =
            serde_json::from_slice(&std::fs::read(out.join("model.safetensors.index.json")).unwrap())
                .unwrap();
        let map = index["weight_map"].as_object().unwrap();
        let mut total = 0;
        let mut seen = 0;
        for (number, file) in files.iter().enumerate() {
            let file_name = file.file_name().unwrap().to_str().unwrap();
            assert_eq!(file_name, format!("model-{:05}-of-{:05}.safetensors", number + 1, files.len()));
            let tensors = load(file);
            let bytes: u64 = tensors.values().map(|t| t.bytes.len() as u64).sum();
            assert!(bytes <= most || tensors.len() == 1, "{name}: {file_name} has {bytes} bytes");
            total += bytes;
            seen += tensors.len();
            for tensor in tensors.keys() {
                assert_eq!(map[tensor], file_name, "{name}: {tensor}");
            }
        }
        assert_eq!(seen, map.len(), "{name}");
        assert_eq!(index["metadata"]["total_size"], total, "{name}");
        // The same tensors as in one file.
        let whole = folder.path().join("whole");
        run_compress(&fixture(name), &whole, "[[rule]]\nrank = 4\n");
        assert_eq!(weight_files(&whole).len(), 1);
        assert!(load(&whole) == load(&out), "{name}");
        assert!(!whole.join("model.safetensors.index.json").exists());
        record(&out);
    }
}

#[test]
fn a_file_becomes_a_folder_where_the_target_ends_in_a_slash() {
    let folder = tempfile::tempdir().unwrap();
    let mut target = folder.path().join("out").into_os_string();
    target.push("/");
    run_compress(&fixture("tiny-resnet.safetensors"), Path::new(&target), "[[rule]]\nrank = 3\n");
    let names: Vec<String> =
        tree(&folder.path().join("out")).keys().map(|p| p.display().to_string()).collect();
    assert_eq!(names, ["model.safetensors", "report.json"]);
}

#[test]
fn other_metadata_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in.safetensors");
    write(&input, &[Stored::random("fc1.weight", &[24, 16], 1), Stored::random("fc2.weight", &[16, 24], 2)]);
    // The same file with metadata of its own.
    let bytes = std::fs::read(&input).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = String::from_utf8(bytes[8..8 + length].to_vec()).unwrap();
    let header =
        header.replacen('{', "{\"__metadata__\":{\"licence\":\"none \\\" quoted\",\"step\":\"7\"},", 1);
    let mut changed = (header.len() as u64).to_le_bytes().to_vec();
    changed.extend_from_slice(header.as_bytes());
    changed.extend_from_slice(&bytes[8 + length..]);
    std::fs::write(&input, changed).unwrap();
    let out = folder.path().join("out.safetensors");
    run_compress(&input, &out, "[[rule]]\nrank = 3\n");
    let metadata = metadata(&out);
    assert_eq!((metadata["licence"].as_str(), metadata["step"].as_str()), ("none \" quoted", "7"));
    assert_eq!(metadata["format"], "pt");
    assert!(metadata.contains_key("factorization"));
}

#[test]
fn a_dry_run_foresees_the_run_and_writes_nothing() {
    for (name, recipe) in RUNS {
        let folder = tempfile::tempdir().unwrap();
        let out = output(folder.path(), name);
        let mut dry = options(&fixture(name), &out, recipe);
        dry.dry_run = true;
        dry.spectra = true;
        let foreseen = compress(&dry, &NoProgress).unwrap();
        assert!(tree(folder.path()).is_empty(), "{name}");
        let done = run_compress(&fixture(name), &out, recipe);
        assert_eq!(foreseen.totals.totals, done.totals.totals, "{name}");
        for (foreseen, done) in foreseen.layers.iter().zip(&done.layers) {
            assert_eq!((&foreseen.layer, foreseen.rank), (&done.layer, done.rank), "{name}");
            // What the spectrum promises is reached: exactly in f32, and to the rounding of two factors in
            // 16 bits, each of which may add eps / 2 of what is kept.
            let (promised, reached) = (foreseen.relative_error.unwrap(), done.relative_error.unwrap());
            let allowed = 2.0 * epsilon(done.dtype) + 4.0 * epsilon("F32") * (done.rank as f64).sqrt();
            assert!((promised - reached).abs() <= allowed, "{name}: {}: {promised} {reached}", done.layer);
        }
    }
}

#[test]
fn checks_name_the_layer_that_breaks_them() {
    let folder = tempfile::tempdir().unwrap();
    let checked = |out: &str, recipe: &str, checks: &[Check]| {
        let mut options = options(&fixture("tiny-vit"), &folder.path().join(out), recipe);
        options.checks = checks.to_vec();
        compress(&options, &NoProgress).unwrap()
    };
    let recipe = "[[rule]]\nrank = 6\n";
    let report =
        checked("one", recipe, &[Check::MaxError(0.01), Check::MaxKeep(0.99), Check::FailIfUnchanged]);
    let worst = report.totals.worst_error.as_ref().unwrap();
    assert!(!report.passed());
    assert_eq!(report.checks.iter().map(|check| check.passed).collect::<Vec<_>>(), [false, true, true]);
    assert_eq!(report.checks[0].layer.as_ref(), Some(&worst.layer));
    assert_eq!(report.checks[0].found, Some(worst.relative_error));
    assert_eq!(report.checks[1].found, Some(report.totals.keep));
    let just = [Check::MaxError(worst.relative_error), Check::MaxKeep(report.totals.keep)];
    assert!(checked("two", recipe, &just).passed());
    let unchanged = checked("three", "[[rule]]\nkeep = 1.0\n", &[Check::FailIfUnchanged]);
    assert!(!unchanged.passed());
}
