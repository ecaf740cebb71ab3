//! What an open checkpoint tells, and what it costs.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use fnl::checkpoint::{Checkpoint, Dtype, OutputOptions, Source, Staging};

use crate::fixture::{bytes_file, file, folder, output, put};

#[test]
fn tensors_come_in_natural_order_with_their_places() {
    let folder = folder();
    let bytes = bytes_file(&[("h.10.w", 2), ("h.2.w", 3), ("a", 1)], "");
    let path = put(folder.path(), "x.safetensors", &bytes);
    let checkpoint = Checkpoint::open_path(&path).unwrap();
    let names: Vec<&str> = checkpoint.tensors().iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(names, ["a", "h.2.w", "h.10.w"]);
    let entry = checkpoint.get("h.2.w").unwrap();
    assert_eq!((entry.dtype, entry.shape.as_slice(), entry.len, entry.file), (Dtype::U8, &[3][..], 3, 0));
    assert_eq!(entry.start as usize, bytes.len() - 4);
    assert_eq!(*checkpoint.bytes(entry).unwrap(), [2, 3, 4]);
    assert_eq!(checkpoint.get("h.3.w"), None);
    assert!(!checkpoint.is_directory());
    assert_eq!(checkpoint.source(), &Source::Path(path));
}

#[test]
fn scalars_and_empty_tensors_are_tensors() {
    let folder = folder();
    let json = r#"{"s":{"dtype":"U8","shape":[],"data_offsets":[0,1]},"z":{"dtype":"F32","shape":[0,3],"data_offsets":[1,1]}}"#;
    let path = put(folder.path(), "x.safetensors", file(json, &[7]));
    let checkpoint = Checkpoint::open_path(&path).unwrap();
    assert_eq!(checkpoint.get("s").unwrap().elements(), 1);
    assert_eq!(*checkpoint.bytes(checkpoint.get("s").unwrap()).unwrap(), [7]);
    let empty = checkpoint.get("z").unwrap();
    assert_eq!((empty.elements(), empty.len), (0, 0));
    assert_eq!(*checkpoint.bytes(empty).unwrap(), [0u8; 0]);
}

#[test]
fn a_header_may_list_tensors_in_any_order_and_have_more_fields() {
    let folder = folder();
    let json = r#"{"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3],"more":{}},"__metadata__":null,"a":{"shape":[2],"data_offsets":[0,2],"dtype":"U8"}}   "#;
    let path = put(folder.path(), "x.safetensors", file(json, &[1, 2, 3]));
    let checkpoint = Checkpoint::open_path(&path).unwrap();
    assert_eq!(*checkpoint.bytes(checkpoint.get("b").unwrap()).unwrap(), [3]);
    // The reference reader agrees that this file is sound.
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(safetensors::SafeTensors::deserialize(&bytes).unwrap().tensor("b").unwrap().data(), [3]);
}

#[test]
fn metadata_are_merged_without_the_record() {
    let folder = folder();
    let first = r#"{"format":"pt","who":"one"}"#;
    let second = r#"{"format":"pt","who":"two","more":"x"}"#;
    put(folder.path(), "model-00001-of-00002.safetensors", bytes_file(&[("a", 1)], first));
    put(folder.path(), "model-00002-of-00002.safetensors", bytes_file(&[("b", 1)], second));
    let checkpoint = Checkpoint::open_path(folder.path()).unwrap();
    let expected = [("format", "pt"), ("more", "x"), ("who", "one")];
    let expected: BTreeMap<String, String> =
        expected.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    assert_eq!(checkpoint.metadata(), &expected);
    assert_eq!(checkpoint.record(), None);
}

#[test]
fn config_keeps_the_order_of_its_keys() {
    let folder = folder();
    put(folder.path(), "model.safetensors", bytes_file(&[("a", 1)], ""));
    put(folder.path(), "config.json", r#"{"z": 1, "a": {"y": 2, "b": 3}}"#);
    let checkpoint = Checkpoint::open_path(folder.path()).unwrap();
    assert_eq!(checkpoint.config().unwrap().to_string(), r#"{"z":1,"a":{"y":2,"b":3}}"#);
    assert!(checkpoint.is_directory());
}

#[test]
fn a_directory_may_name_its_only_file_as_it_likes() {
    let folder = folder();
    put(folder.path(), "diffusion_pytorch_model.safetensors", bytes_file(&[("a", 1)], ""));
    assert_eq!(Checkpoint::open_path(folder.path()).unwrap().tensors().len(), 1);
    // `model.safetensors` goes first, and the other is then a further copy.
    put(folder.path(), "model.safetensors", bytes_file(&[("a", 1), ("b", 1)], ""));
    let checkpoint = Checkpoint::open_path(folder.path()).unwrap();
    assert_eq!(checkpoint.tensors().len(), 2);
    assert_eq!(
        checkpoint.side_files().unwrap().skipped,
        [PathBuf::from("diffusion_pytorch_model.safetensors")]
    );
}

#[test]
fn side_files_are_listed_and_further_copies_of_the_weights_apart() {
    let folder = folder();
    for name in [
        "config.json",
        "tokenizer.json",
        "vocab.txt",
        "1_Pooling/config.json",
        "2_Dense/model.safetensors",
        "2_Dense/pytorch_model.bin",
        "3_Dense/pytorch_model.bin",
        "onnx/model.onnx",
        "openvino/openvino_model.bin",
        "openvino/openvino_model.xml",
        "pytorch_model.bin",
        "tf_model.h5",
        "flax_model.msgpack",
        "model.fp16.safetensors",
        ".git/config",
        ".cache/huggingface/x",
    ] {
        put(
            folder.path(),
            name,
            if Path::new(name).extension().is_some_and(|end| end == "json") { "{}" } else { "x" },
        );
    }
    put(folder.path(), "model.safetensors", bytes_file(&[("a", 1)], ""));
    let listed = |folder: &Path| {
        let files = Checkpoint::open_path(folder).unwrap().side_files().unwrap();
        let text = |paths: Vec<PathBuf>| -> Vec<String> {
            paths.iter().map(|path| path.display().to_string()).collect()
        };
        (text(files.copied), text(files.skipped))
    };
    let (copied, skipped) = listed(folder.path());
    let always = ["1_Pooling/config.json", "2_Dense/model.safetensors"];
    assert_eq!(copied, [&always[..], &["config.json", "tokenizer.json", "vocab.txt"]].concat());
    assert!(skipped.contains(&"3_Dense/pytorch_model.bin".to_owned()));
    // Where the model has parts, what is a part's only copy stays.
    put(folder.path(), "modules.json", "[]");
    let (copied, skipped) = listed(folder.path());
    assert!(copied.contains(&"3_Dense/pytorch_model.bin".to_owned()));
    assert_eq!(
        skipped,
        [
            "2_Dense/pytorch_model.bin",
            "flax_model.msgpack",
            "model.fp16.safetensors",
            "onnx/model.onnx",
            "openvino/openvino_model.bin",
            "openvino/openvino_model.xml",
            "pytorch_model.bin",
            "tf_model.h5"
        ]
    );
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_loops_are_not() {
    let folder = folder();
    let blobs = crate::fixture::folder();
    let blob = put(blobs.path(), "blob", bytes_file(&[("a", 3)], ""));
    let text = put(blobs.path(), "text", "vocabulary");
    std::os::unix::fs::symlink(blob, folder.path().join("model.safetensors")).unwrap();
    std::os::unix::fs::symlink(text, folder.path().join("vocab.txt")).unwrap();
    std::os::unix::fs::symlink(folder.path(), folder.path().join("again")).unwrap();
    let checkpoint = Checkpoint::open_path(folder.path()).unwrap();
    assert_eq!(*checkpoint.bytes(&checkpoint.tensors()[0]).unwrap(), [0, 1, 2]);
    assert_eq!(checkpoint.side_files().unwrap().copied, [PathBuf::from("vocab.txt")]);
}

#[test]
fn a_file_cut_short_after_opening_is_an_error() {
    let folder = folder();
    let bytes = bytes_file(&[("a", 1), ("b", 5000)], "");
    let path = put(folder.path(), "x.safetensors", &bytes);
    let checkpoint = Checkpoint::open_path(&path).unwrap();
    let shorter = bytes.len() - 1;
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(shorter as u64).unwrap();
    let error = checkpoint.bytes(checkpoint.get("b").unwrap()).unwrap_err().to_string();
    let expected =
        format!("changed while it was read: expected at least {} bytes, found {shorter}", bytes.len());
    assert!(error.ends_with(&expected), "{error}");
    assert_eq!(checkpoint.bytes(checkpoint.get("a").unwrap()).unwrap().len(), 1);
}

/// Resident memory of this process, in bytes.
#[cfg(target_os = "linux")]
fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = text.lines().find(|line| line.starts_with("Rss:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[cfg(target_os = "linux")]
#[test]
fn memory_is_bounded_by_the_tensors_held() {
    const SIZE: usize = 32 << 20;
    const COUNT: usize = 8;
    let folder = folder();
    let path = folder.path().join("x.safetensors");
    let tensors: Vec<_> = (0..COUNT).map(|i| output(&format!("w{i}"), Dtype::U8, &[SIZE])).collect();
    let staging = Staging::create(&OutputOptions::file(&path), &tensors).unwrap();
    for tensor in &tensors {
        staging.write(&tensor.name, &vec![1; SIZE]).unwrap();
    }
    staging.publish(None).unwrap();

    let checkpoint = Checkpoint::open_path(&path).unwrap();
    let before = resident_bytes();
    let mut most = 0;
    for entry in checkpoint.tensors() {
        let bytes = checkpoint.bytes(entry).unwrap();
        assert_eq!(bytes.iter().map(|&byte| u64::from(byte)).sum::<u64>(), SIZE as u64);
        most = most.max(resident_bytes().saturating_sub(before));
    }
    // One tensor, and room for what other tests of this process hold meanwhile; all would be 256 MiB.
    assert!(most < 4 * SIZE as u64, "{most} bytes more were resident");
}

#[test]
fn several_threads_read_one_checkpoint() {
    fn shared<T: Send + Sync>(value: T) -> T {
        value
    }
    let folder = folder();
    let names: Vec<String> = (0..64).map(|index| format!("w{index}")).collect();
    let sizes: Vec<(&str, usize)> = names.iter().map(|name| (name.as_str(), 1000)).collect();
    let path = put(folder.path(), "x.safetensors", bytes_file(&sizes, ""));
    let checkpoint = shared(Checkpoint::open_path(&path).unwrap());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for (index, name) in names.iter().enumerate() {
                    let bytes = checkpoint.bytes(checkpoint.get(name).unwrap()).unwrap();
                    assert_eq!(bytes[0], (index * 1000 % 251) as u8);
                }
            });
        }
    });
}

#[test]
fn sources_as_they_are_typed() {
    let hub = |repository: &str, revision: &str| Source::Hub {
        repository: repository.to_owned(),
        revision: revision.to_owned(),
    };
    assert_eq!("hf://gpt2".parse(), Ok(hub("gpt2", "main")));
    assert_eq!("hf://a/b@refs/pr/5".parse(), Ok(hub("a/b", "refs/pr/5")));
    assert_eq!(hub("a/b", "main").to_string(), "hf://a/b");
    assert_eq!("./hf".parse(), Ok(Source::Path("./hf".into())));
    let refused = |typed: &str| typed.parse::<Source>().unwrap_err().to_string();
    for typed in ["hf://", "hf:///b", "hf://a/b/c", "hf://../b", "hf://a/..", "hf://a b", "hf://@main"] {
        let expected =
            format!("`{typed}` names no repository, expected `hf://org/name` or `hf://org/name@revision`");
        assert_eq!(refused(typed), expected);
    }
    assert_eq!(
        refused("hf://a/b@../../x"),
        "`hf://a/b@../../x` has the malformed revision `../../x`, expected a branch, a tag or a commit"
    );
    assert_eq!(refused(""), "the name of a checkpoint is empty");
    let address = "https://huggingface.co/a/b/tree/main".parse::<Source>().unwrap_err();
    assert_eq!(address.hint().unwrap(), "write hf://a/b");
}
