//! Files and folders written: shards, targets of either kind, and what comes back from a collapse.

use std::collections::BTreeMap;
use std::path::Path;

use crate::harness::{Place, fixture, header, shapes, silero};

/// Every tensor of a folder: its shape and bytes, read through the index where there is one.
fn tensors(folder: &Path) -> BTreeMap<String, (serde_json::Value, Vec<u8>)> {
    let read = |name: &str| std::fs::read(folder.join(name)).expect("a file of the folder");
    let mut files = vec!["model.safetensors".to_owned()];
    if let Ok(index) = std::fs::read(folder.join("model.safetensors.index.json")) {
        let index: serde_json::Value = serde_json::from_slice(&index).expect("an index");
        let map = index["weight_map"].as_object().expect("a map").clone();
        files = map.values().map(|shard| shard.as_str().expect("a name").to_owned()).collect();
        files.sort();
        files.dedup();
        let total: usize =
            files.iter().map(|file| read(file)).map(|bytes| bytes.len() - header(&bytes).1).sum();
        assert_eq!(index["metadata"]["total_size"], total, "the index says how many bytes the tensors have");
        for (tensor, shard) in &map {
            assert!(
                shapes(&read(shard.as_str().expect("a name"))).contains_key(tensor),
                "{tensor} is not in {shard}"
            );
        }
        let held: usize = files.iter().map(|file| shapes(&read(file)).len()).sum();
        assert_eq!(map.len(), held, "the index knows every tensor");
    }
    let mut found = BTreeMap::new();
    for file in files {
        let bytes = read(&file);
        let (header, start) = header(&bytes);
        for (name, tensor) in
            header.as_object().expect("a header").iter().filter(|(name, _)| *name != "__metadata__")
        {
            let offsets: [usize; 2] =
                serde_json::from_value(tensor["data_offsets"].clone()).expect("offsets");
            let data = bytes[start + offsets[0]..start + offsets[1]].to_vec();
            let described = serde_json::json!([tensor["dtype"], tensor["shape"]]);
            assert!(found.insert(name.clone(), (described, data)).is_none(), "{name} twice");
        }
    }
    found
}

/// Equal names, types, shapes and bytes; names what differs, and not its thousand bytes.
#[track_caller]
fn assert_same<T: PartialEq>(left: &BTreeMap<String, T>, right: &BTreeMap<String, T>) {
    let names: std::collections::BTreeSet<&String> = left.keys().chain(right.keys()).collect();
    let differ: Vec<_> = names.into_iter().filter(|name| left.get(*name) != right.get(*name)).collect();
    assert!(differ.is_empty(), "these differ: {differ:?}");
}

#[test]
fn shards_hold_what_one_file_holds() {
    let place = Place::new();
    let llama = fixture("tiny-llama");
    place.run([&llama, "--rank=8", "--out=one", "-q"]).exits(0);
    place
        .run([&llama, "--rank=8", "--out=many", "--max-shard-size=10KB", "-q"])
        .exits(0)
        .stdout_has("written to many");
    let many = place.names();
    let shards: Vec<_> = many
        .iter()
        .filter(|name| name.starts_with("many") && name.extension().is_some_and(|end| end == "safetensors"))
        .collect();
    assert!(shards.len() >= 4, "{many:?}");
    for (number, shard) in shards.iter().enumerate() {
        let name = format!("many/model-{:05}-of-{:05}.safetensors", number + 1, shards.len());
        assert_eq!(shard.display().to_string(), name);
        let bytes = place.read(&name);
        let (head, start) = header(&bytes);
        assert!(
            bytes.len() - start <= 10_000 || shapes(&bytes).len() == 1,
            "{name} has {} bytes of tensors",
            bytes.len() - start
        );
        assert_eq!(head["__metadata__"]["format"], "pt");
        let record: serde_json::Value =
            serde_json::from_str(head["__metadata__"]["factorization"].as_str().expect("a record"))
                .expect("JSON");
        assert_eq!(record["modules"]["model.layers.0.mlp.up_proj"]["rank"], 8);
    }
    assert!(!place.join("one/model.safetensors.index.json").exists());
    assert_same(&tensors(&place.join("one")), &tensors(&place.join("many")));
    for name in ["tokenizer.json", "generation_config.json"] {
        assert_eq!(
            place.read(&format!("many/{name}")),
            std::fs::read(format!("{llama}/{name}")).expect("a side file")
        );
    }
    let config: serde_json::Value = serde_json::from_slice(&place.read("many/config.json")).expect("JSON");
    assert_eq!(config["factorization"]["modules"]["model.layers.0.mlp.up_proj"]["rank"], 8);

    // And back, in shards and in one file.
    place.run(["collapse", "many", "--out=back", "--max-shard-size=10KB", "-q"]).exits(0);
    place.run(["collapse", "one", "--out=whole", "-q"]).exits(0);
    assert!(place.join("back/model.safetensors.index.json").exists());
    assert!(place.join("whole/model.safetensors").exists());
    let dense = tensors(Path::new(&llama));
    let back = tensors(&place.join("back"));
    assert_same(&back, &tensors(&place.join("whole")));
    let described =
        |all: &BTreeMap<String, (serde_json::Value, Vec<u8>)>| -> Vec<(String, serde_json::Value)> {
            all.iter().map(|(name, (shape, _))| (name.clone(), shape.clone())).collect()
        };
    assert_eq!(described(&back), described(&dense), "names, shapes and dtypes of the dense checkpoint");
    assert_eq!(back["lm_head.weight"], dense["lm_head.weight"]);
    assert_ne!(back["model.layers.0.mlp.up_proj.weight"].1, dense["model.layers.0.mlp.up_proj.weight"].1);
    assert_eq!(
        place.text("back/config.json"),
        std::fs::read_to_string(format!("{llama}/config.json")).expect("a config")
    );
    assert!(!place.join("back/report.json").exists());
}

/// Factors in F32 are not rounded on their way; those in BF16 are, which `--save collapsed` spares.
#[test]
fn a_collapsed_output_is_the_collapse_of_a_factored_one() {
    let place = Place::new();
    let bert = fixture("tiny-bert");
    place.run([&bert, "--rank=8", "--out=factored", "-q"]).exits(0);
    place.run(["collapse", "factored", "--out=two-steps", "-q"]).exits(0);
    place.run([&bert, "--rank=8", "--out=one-step", "--save=collapsed", "-q"]).exits(0);
    assert_same(&tensors(&place.join("one-step")), &tensors(&place.join("two-steps")));
    assert_eq!(place.text("one-step/config.json"), place.text("two-steps/config.json"));
}

#[test]
fn a_file_becomes_a_file_or_a_folder() {
    let place = Place::new();
    place
        .run([&silero(), "--rank=8", "--out=file.safetensors", "-q"])
        .exits(0)
        .stdout_has("written to file.safetensors");
    place.run([&silero(), "--rank=8", "--out=folder/", "-q"]).exits(0);
    assert_eq!(place.read("folder/model.safetensors"), place.read("file.safetensors"));
    let report: serde_json::Value = serde_json::from_slice(&place.read("folder/report.json")).expect("JSON");
    assert_eq!(report["layers"][0]["layer"], "conv1");
    let written: Vec<String> = place.names().iter().map(|name| name.display().to_string()).collect();
    assert_eq!(written, ["file.safetensors", "folder", "folder/model.safetensors", "folder/report.json"]);
    let tensors = shapes(&place.read("file.safetensors"));
    assert_eq!(tensors["conv4.0.weight"], [8, 64, 3]);
    assert_eq!(tensors["conv4.1.weight"], [128, 8, 1]);
    assert_eq!(tensors["conv4.1.bias"], [128]);
    assert!(!tensors.contains_key("conv4.weight") && !tensors.contains_key("conv4.bias"));

    place.run(["collapse", "file.safetensors", "--out=back.safetensors", "-q"]).exits(0);
    place.run(["collapse", "folder", "--out=back", "-q"]).exits(0);
    place.run(["collapse", "file.safetensors", "--out=backs/", "-q"]).exits(0);
    assert_eq!(place.read("back/model.safetensors"), place.read("back.safetensors"));
    assert_eq!(place.read("backs/model.safetensors"), place.read("back.safetensors"));
    assert_eq!(
        shapes(&place.read("back.safetensors")),
        shapes(&std::fs::read(silero()).expect("the fixture"))
    );
    let (head, _) = header(&place.read("back.safetensors"));
    assert!(head["__metadata__"].get("factorization").is_none(), "{head}");
}

#[test]
fn an_overwritten_folder_keeps_nothing_of_the_old() {
    let place = Place::new();
    let bert = fixture("tiny-bert");
    place.run([&bert, "--rank=8", "--out=out", "--max-shard-size=10KB", "-q"]).exits(0);
    place.write("out/README.md", "stale");
    place.run([&bert, "--rank=4", "--out=out", "--overwrite", "-q"]).exits(0);
    place.run([&bert, "--rank=4", "--out=fresh", "-q"]).exits(0);
    assert_eq!(crate::harness::snapshot(&place.join("out")), crate::harness::snapshot(&place.join("fresh")));
}

#[test]
fn copies_of_the_weights_in_other_formats_are_left_out_and_named() {
    let place = Place::new();
    crate::harness::copy_folder(fixture("tiny-bert").as_ref(), &place.join("in"));
    for name in ["pytorch_model.bin", "tf_model.h5", "flax_model.msgpack", "onnx/model.onnx"] {
        place.write(&format!("in/{name}"), "weights");
    }
    place.write("in/1_Pooling/config.json", "{}");
    let run = place.run(["in", "--rank=4", "--out=out", "--json", "-q"]).exits(0);
    let left_out = run.json()["files_left_out"].clone();
    assert_eq!(left_out.as_array().map(Vec::len), Some(4), "{left_out}");
    for name in ["pytorch_model.bin", "tf_model.h5", "flax_model.msgpack", "onnx/model.onnx"] {
        assert!(left_out.as_array().expect("names").contains(&name.into()), "{left_out}");
        assert!(!place.join(&format!("out/{name}")).exists());
    }
    assert_eq!(place.text("out/1_Pooling/config.json"), "{}");
    assert!(place.text("out/README.md").starts_with(&place.text("in/README.md")));
    assert!(place.text("out/README.md").contains("13 layers of this checkpoint were replaced"));
}
