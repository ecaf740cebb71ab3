//! Every way in which a directory's files can contradict each other.

use std::path::Path;

use fnl::checkpoint::Checkpoint;

use crate::fixture::{bytes_file, folder, message, put, refusal};

const ONE: &str = "model-00001-of-00002.safetensors";
const TWO: &str = "model-00002-of-00002.safetensors";

/// Two shards with `a`, `b` and `c`, and an index with these entries.
fn sharded(folder: &Path, entries: &[(&str, &str)]) {
    put(folder, ONE, bytes_file(&[("a", 1), ("b", 2)], ""));
    put(folder, TWO, bytes_file(&[("c", 3)], ""));
    index(folder, entries);
}

fn index(folder: &Path, entries: &[(&str, &str)]) {
    let map: Vec<String> = entries.iter().map(|(name, shard)| format!("\"{name}\":\"{shard}\"")).collect();
    let text = format!("{{\"metadata\":{{\"total_size\":6}},\"weight_map\":{{{}}}}}", map.join(","));
    put(folder, "model.safetensors.index.json", text);
}

fn said(folder: &Path) -> String {
    let text = message(&refusal(folder), folder);
    let start = "`DIR/model.safetensors.index.json` is not a valid checkpoint: ";
    text.strip_prefix(start).unwrap_or_else(|| panic!("{text}")).to_owned()
}

#[test]
fn a_sound_index_opens() {
    let folder = folder();
    sharded(folder.path(), &[("a", ONE), ("b", ONE), ("c", TWO)]);
    let checkpoint = Checkpoint::open_path(folder.path()).unwrap();
    assert_eq!(checkpoint.files(), [folder.path().join(ONE), folder.path().join(TWO)]);
    assert_eq!(*checkpoint.bytes(checkpoint.get("c").unwrap()).unwrap(), [0, 1, 2]);
}

#[test]
fn index_naming_a_missing_shard() {
    let folder = folder();
    sharded(
        folder.path(),
        &[("a", ONE), ("b", ONE), ("c", TWO), ("d", "gone.safetensors"), ("e", "gone.safetensors")],
    );
    assert_eq!(said(folder.path()), "the shard `gone.safetensors` is missing, 2 tensors should be in it");
    assert_eq!(refusal(folder.path()).hint().unwrap(), "fetch the missing shards and run again");
}

#[test]
fn index_naming_a_tensor_that_its_shard_lacks() {
    let folder = folder();
    sharded(folder.path(), &[("a", ONE), ("b", TWO), ("c", TWO), ("d", TWO)]);
    assert_eq!(
        said(folder.path()),
        format!(
            "2 problems\n  - tensor `b` should be in `{TWO}`, found in `{ONE}`\n  - tensor `d` should be in `{TWO}`, it \
             is in no shard"
        )
    );
}

#[test]
fn shard_with_a_tensor_that_the_index_does_not_know() {
    let folder = folder();
    sharded(folder.path(), &[("a", ONE), ("c", TWO)]);
    assert_eq!(said(folder.path()), format!("tensor `b` in `{ONE}` is not in the index"));
}

#[test]
fn name_in_two_shards() {
    let folder = folder();
    sharded(folder.path(), &[("a", ONE), ("b", ONE), ("c", TWO)]);
    put(folder.path(), TWO, bytes_file(&[("c", 3), ("a", 4)], ""));
    assert_eq!(said(folder.path()), format!("tensor `a` is in `{ONE}` and in `{TWO}`"));
    // Without an index as well.
    std::fs::remove_file(folder.path().join("model.safetensors.index.json")).unwrap();
    assert_eq!(
        message(&refusal(folder.path()), folder.path()),
        format!("`DIR` is not a valid checkpoint: tensor `a` is in `{ONE}` and in `{TWO}`")
    );
}

#[test]
fn name_twice_in_the_index() {
    let folder = folder();
    sharded(folder.path(), &[("a", ONE), ("b", ONE), ("c", TWO), ("a", TWO)]);
    assert_eq!(said(folder.path()), format!("tensor `a` is in `{ONE}` and in `{TWO}`"));
    index(folder.path(), &[("a", ONE), ("b", ONE), ("c", TWO), ("a", ONE)]);
    assert_eq!(said(folder.path()), "tensor `a` is described twice");
}

#[test]
fn index_that_leads_out_of_the_folder() {
    for shard in ["../x.safetensors", "/etc/passwd", "a/../../x.safetensors", "", "..\\\\x.safetensors"] {
        let folder = folder();
        sharded(folder.path(), &[("a", ONE), ("b", ONE), ("c", TWO), ("d", shard)]);
        let plain = shard.replace("\\\\", "\\");
        assert_eq!(
            said(folder.path()),
            format!("the shard `{plain}` is not the name of a file in this folder")
        );
    }
}

#[test]
fn index_that_is_not_json_or_lacks_the_map() {
    let folder = folder();
    put(folder.path(), "model.safetensors.index.json", "{\n  oops");
    assert_eq!(
        message(&refusal(folder.path()), folder.path()),
        "`DIR/model.safetensors.index.json` is not a valid index, line 2, column 3: key must be a string"
    );
    put(folder.path(), "model.safetensors.index.json", "{\"metadata\": {}}");
    let text = refusal(folder.path()).to_string();
    assert!(text.ends_with("line 1, column 16: missing field `weight_map`"), "{text}");
}

#[test]
fn several_files_without_an_index() {
    let folder = folder();
    put(folder.path(), "a.safetensors", bytes_file(&[("a", 1)], ""));
    put(folder.path(), "b.safetensors", bytes_file(&[("b", 1)], ""));
    let error = refusal(folder.path());
    assert_eq!(
        message(&error, folder.path()),
        "`DIR` has several safetensors files and no index (`a.safetensors`, `b.safetensors`)"
    );
    assert_eq!(error.hint().unwrap(), "name one of the files instead of the directory");
}

#[test]
fn numbered_shards_without_an_index() {
    let folder = folder();
    put(folder.path(), ONE, bytes_file(&[("a", 1)], ""));
    let missing = message(&refusal(folder.path()), folder.path());
    assert_eq!(missing, format!("`DIR` lacks the shard `{TWO}`"));
    put(folder.path(), TWO, bytes_file(&[("b", 1)], ""));
    let checkpoint = Checkpoint::open_path(folder.path()).unwrap();
    let names: Vec<&str> = checkpoint.tensors().iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    // A count that no folder has must not be worked off.
    let absurd = crate::fixture::folder();
    put(absurd.path(), "model-00001-of-99999999999999.safetensors", bytes_file(&[("a", 1)], ""));
    let text = refusal(absurd.path()).to_string();
    assert!(text.contains("lacks the shard `model-00002-of-99999999999999.safetensors`"), "{text}");
    assert!(text.ends_with("and 96 more"), "{text}");
}

#[test]
fn pickled_weights_only() {
    let folder = folder();
    put(folder.path(), "config.json", "{}");
    put(folder.path(), "pytorch_model.bin", "PK\x03\x04");
    let error = refusal(folder.path());
    assert_eq!(
        message(&error, folder.path()),
        "`DIR` has weights in other formats only (`pytorch_model.bin`), expected safetensors"
    );
    let hint = error.hint().unwrap();
    assert_eq!(hint.lines().count(), 4);
    assert!(hint.contains("pytorch_model.bin\", map_location=\"cpu\", weights_only=True)"), "{hint}");
}

#[test]
fn no_weights_at_all() {
    let folder = folder();
    put(folder.path(), "config.json", "{}");
    assert_eq!(message(&refusal(folder.path()), folder.path()), "`DIR` has no safetensors file");
}

#[test]
fn config_that_is_not_an_object() {
    let folder = folder();
    put(folder.path(), "model.safetensors", bytes_file(&[("a", 1)], ""));
    put(folder.path(), "config.json", "{\n\"a\": }");
    assert_eq!(
        message(&refusal(folder.path()), folder.path()),
        "`DIR/config.json` is not valid JSON, line 2, column 6: expected value"
    );
    put(folder.path(), "config.json", "[]");
    assert_eq!(
        message(&refusal(folder.path()), folder.path()),
        "`DIR/config.json` is not valid JSON, line 1, column 1: expected an object"
    );
}

#[test]
fn records_that_disagree_or_are_of_another_version() {
    let folder = folder();
    let record = |version: u32| {
        format!(
            r#"{{"factorization":"{{\"version\":{version},\"tool\":\"t\",\"modules\":{{}},\"recipe\":{{}}}}"}}"#
        )
    };
    sharded(folder.path(), &[("a", ONE), ("b", ONE), ("c", TWO)]);
    put(folder.path(), TWO, bytes_file(&[("c", 3)], &record(1)));
    let error = refusal(folder.path());
    assert_eq!(
        message(&error, folder.path()),
        format!("`DIR/{ONE}` and `DIR/{TWO}` have different factorization records")
    );
    let single = put(folder.path(), "single.safetensors", bytes_file(&[("c", 3)], &record(2)));
    let error = refusal(&single);
    assert_eq!(
        message(&error, folder.path()),
        "cannot use the factorization record of `DIR/single.safetensors`"
    );
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(cause, "the factorization record has version 2, expected 1");
    assert_eq!(error.hint().unwrap(), "a newer version of this program wrote it: update");
}
