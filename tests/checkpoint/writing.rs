//! The bytes that are written: layout, shards, headers, and that other readers take them.

use std::{collections::BTreeMap, fs, path::Path};

use fnl::checkpoint::{
    Checkpoint, Dtype, ModuleRecord, OutputError, OutputOptions, OutputTensor, Record, Staging,
};

use crate::fixture::{folder, message, names, output};

/// Bytes that depend on the name.
fn contents(tensor: &OutputTensor) -> Vec<u8> {
    let bits: usize = tensor.shape.iter().product::<usize>() * tensor.dtype.bitsize();
    let seed = tensor.name.bytes().fold(7u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte));
    (0..bits / 8).map(|index| seed.wrapping_add(index as u8)).collect()
}

fn write_all(options: &OutputOptions, tensors: &[OutputTensor], record: Option<&str>) {
    let staging = Staging::create(options, tensors).unwrap();
    for tensor in tensors {
        staging.write(&tensor.name, &contents(tensor)).unwrap();
    }
    staging.publish(record).unwrap();
}

fn check_all(path: &Path, tensors: &[OutputTensor]) {
    let checkpoint = Checkpoint::open_path(path).unwrap();
    assert_eq!(checkpoint.tensors().len(), tensors.len());
    for tensor in tensors {
        let entry = checkpoint.get(&tensor.name).unwrap();
        assert_eq!((entry.dtype, &entry.shape), (tensor.dtype, &tensor.shape));
        assert_eq!(*checkpoint.bytes(entry).unwrap(), contents(tensor)[..], "{}", tensor.name);
    }
}

fn record() -> Record {
    let module = ModuleRecord {
        kind: "linear".to_owned(),
        scheme: "matrix".to_owned(),
        rank: 2,
        shape: vec![8, 8],
        dtype: "F32".to_owned(),
        relative_error: 0.125,
        ..ModuleRecord::default()
    };
    Record {
        version: 1,
        tool: "fnl test".to_owned(),
        modules: [("fc \"quoted\"".to_owned(), module)].into(),
        converted: [].into(),
        recalibrated: vec!["bn.running_mean".to_owned()],
        config: [].into(),
        recipe: serde_json::json!({"z": [1, {"y": 2, "b": 3}], "a": null}),
    }
}

#[test]
fn every_dtype_is_aligned_and_reads_back() {
    let folder = folder();
    let path = folder.path().join("x.safetensors");
    let tensors = [
        output("flag", Dtype::BOOL, &[3]),
        output("nibble", Dtype::F4, &[2]),
        output("half", Dtype::BF16, &[5]),
        output("empty", Dtype::F32, &[0, 4]),
        output("single", Dtype::F32, &[3]),
        output("double", Dtype::F64, &[]),
        output("count", Dtype::I64, &[1]),
        output("byte", Dtype::U8, &[1]),
        output("complex", Dtype::C64, &[1]),
        output("ünïcode \"name\"\n", Dtype::F16, &[1, 1]),
    ];
    write_all(&OutputOptions::file(&path), &tensors, None);
    check_all(&path, &tensors);
    let checkpoint = Checkpoint::open_path(&path).unwrap();
    for entry in checkpoint.tensors() {
        let width = (entry.dtype.bitsize() as u64 / 8).max(1);
        assert!(entry.start.is_multiple_of(width), "{} starts at {}", entry.name, entry.start);
    }
    let bytes = fs::read(&path).unwrap();
    let reference = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    for tensor in &tensors {
        assert_eq!(reference.tensor(&tensor.name).unwrap().data(), contents(tensor));
    }
}

#[test]
fn the_header_is_exactly_this() {
    let folder = folder();
    let path = folder.path().join("x.safetensors");
    let mut options = OutputOptions::file(&path);
    options.metadata = [("b".to_owned(), "2".to_owned()), ("a".to_owned(), "1".to_owned())].into();
    options.metadata.insert("factorization".to_owned(), "of the input".to_owned());
    options.reserve = 40;
    let tensors = [output("b", Dtype::U8, &[2]), output("w", Dtype::F32, &[1, 1])];
    write_all(&options, &tensors, Some("{\"r\":1}"));
    let bytes = fs::read(&path).unwrap();
    let json = concat!(
        r#"{"__metadata__":{"a":"1","b":"2","factorization":"{\"r\":1}","format":"pt"},"#,
        r#""w":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]},"#,
        r#""b":{"dtype":"U8","shape":[2],"data_offsets":[4,6]}}"#
    );
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let text = std::str::from_utf8(&bytes[8..8 + length]).unwrap();
    assert_eq!(text.trim_end_matches(' '), json);
    // 129 bytes without the record, 40 reserved, up to a multiple of 8.
    let without = json.len() - r#""factorization":"{\"r\":1}","#.len();
    assert_eq!(length, (without + 40).next_multiple_of(8));
    assert_eq!(bytes.len(), 8 + length + 6);
}

#[test]
fn the_size_does_not_depend_on_the_errors_found() {
    let folder = folder();
    let tensors = [output("w", Dtype::F32, &[4])];
    let sizes: Vec<u64> = [0.0, 0.1, 1.0 / 3.0, 5e-324, 2.225_073_858_507_201_4e-308]
        .into_iter()
        .enumerate()
        .map(|(index, relative_error)| {
            let mut record = record();
            let options = OutputOptions {
                reserve: record.reserve(),
                ..OutputOptions::file(&folder.path().join(index.to_string()))
            };
            for module in record.modules.values_mut() {
                module.relative_error = relative_error;
            }
            write_all(&options, &tensors, Some(&record.to_json()));
            let checkpoint = Checkpoint::open_path(&options.target).unwrap();
            assert_eq!(checkpoint.record(), Some(&record));
            fs::metadata(&options.target).unwrap().len()
        })
        .collect();
    assert!(sizes.iter().all(|&size| size == sizes[0]), "{sizes:?}");
}

#[test]
fn a_record_beyond_the_reserve_is_refused_and_nothing_published() {
    let folder = folder();
    let path = folder.path().join("x.safetensors");
    let tensors = [output("w", Dtype::U8, &[1])];
    let staging = Staging::create(&OutputOptions::file(&path), &tensors).unwrap();
    staging.write("w", &[1]).unwrap();
    let error = staging.publish(Some(&record().to_json())).unwrap_err();
    assert!(matches!(error, OutputError::RecordTooLong { .. }), "{error}");
    assert_eq!(names(folder.path()), [""; 0]);
}

#[test]
fn bytes_do_not_depend_on_the_order_of_writing_or_the_threads() {
    let folder = folder();
    let tensors: Vec<OutputTensor> =
        (0..40).map(|index| output(&format!("w{index}"), Dtype::F16, &[index + 1, 100])).collect();
    let written = |name: &str, threads: usize| {
        let options = OutputOptions {
            max_shard_bytes: 50_000,
            metadata: (0..9).map(|key| (format!("key{key}"), "value".to_owned())).collect(),
            reserve: record().reserve(),
            ..OutputOptions::directory(&folder.path().join(name))
        };
        let staging = Staging::create(&options, &tensors).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let (staging, tensors) = (&staging, &tensors);
                scope.spawn(move || {
                    for tensor in tensors.iter().rev().skip(thread).step_by(threads) {
                        staging.write(&tensor.name, &contents(tensor)).unwrap();
                    }
                });
            }
        });
        staging.add_file(Path::new("sub/extra.json"), b"{}").unwrap();
        staging.publish(Some(&record().to_json())).unwrap();
        check_all(&options.target, &tensors);
        let files = names(&options.target);
        files
            .into_iter()
            .filter(|file| file != "sub")
            .map(|file| (file.clone(), fs::read(options.target.join(file)).unwrap()))
            .collect::<BTreeMap<_, _>>()
    };
    let one = written("one", 1);
    assert_eq!(one, written("two", 1));
    assert_eq!(one, written("four", 4));
}

#[test]
fn shards_are_filled_in_order_and_no_larger_than_asked() {
    let folder = folder();
    let target = folder.path().join("out");
    let options = OutputOptions { max_shard_bytes: 10, ..OutputOptions::directory(&target) };
    let tensors = [
        output("a", Dtype::U8, &[6]),
        output("b", Dtype::U8, &[4]),
        output("large", Dtype::U8, &[25]),
        output("c", Dtype::U8, &[1]),
        output("none", Dtype::U8, &[0]),
        output("d", Dtype::U8, &[10]),
    ];
    let staging = Staging::create(&options, &tensors).unwrap();
    for tensor in &tensors {
        staging.write(&tensor.name, &contents(tensor)).unwrap();
    }
    let shard = |number: usize| format!("model-0000{number}-of-00004.safetensors");
    let published = staging.publish(None).unwrap();
    let mut expected: Vec<_> = (1..=4).map(|number| target.join(shard(number))).collect();
    expected.push(target.join("model.safetensors.index.json"));
    assert_eq!(published, expected);
    let index = fs::read_to_string(target.join("model.safetensors.index.json")).unwrap();
    let [one, two, three, four] = [1, 2, 3, 4].map(shard);
    assert_eq!(
        index,
        format!(
            "{{\n  \"metadata\": {{\n    \"total_size\": 46\n  }},\n  \"weight_map\": {{\n    \"a\": \"{one}\",\n    \"b\": \
             \"{one}\",\n    \"c\": \"{three}\",\n    \"d\": \"{four}\",\n    \"large\": \"{two}\",\n    \"none\": \
             \"{three}\"\n  }}\n}}\n"
        )
    );
    check_all(&target, &tensors);
    for number in 1..=4 {
        let bytes = fs::read(target.join(shard(number))).unwrap();
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!(header.metadata().as_ref().unwrap()["format"], "pt");
        assert!(header.data_len() <= 10 || header.offset_keys() == ["large"]);
    }
}

#[test]
fn one_shard_has_no_index() {
    let folder = folder();
    let target = folder.path().join("out");
    let tensors = [output("a", Dtype::U8, &[6])];
    write_all(&OutputOptions::directory(&target), &tensors, None);
    assert_eq!(names(&target), ["model.safetensors"]);
    // No tensors at all are a checkpoint too.
    let empty = folder.path().join("empty.safetensors");
    write_all(&OutputOptions::file(&empty), &[], None);
    assert_eq!(Checkpoint::open_path(&empty).unwrap().tensors(), []);
}

#[test]
fn tensors_are_copied_byte_for_byte() {
    let folder = folder();
    let (first, second) = (folder.path().join("a.safetensors"), folder.path().join("out"));
    let tensors = [
        output("large", Dtype::I8, &[3_000_001]),
        output("small", Dtype::F8_E4M3, &[3]),
        output("empty", Dtype::F32, &[0]),
    ];
    write_all(&OutputOptions::file(&first), &tensors, None);
    let checkpoint = Checkpoint::open_path(&first).unwrap();
    let staging = Staging::create(&OutputOptions::directory(&second), &tensors).unwrap();
    for entry in checkpoint.tensors() {
        staging.copy(&entry.name, &checkpoint, entry).unwrap();
    }
    staging.publish(None).unwrap();
    check_all(&second, &tensors);
}

#[test]
fn what_is_announced_is_written_once_and_whole() {
    let folder = folder();
    let tensors =
        [output("a", Dtype::F32, &[2]), output("b", Dtype::F32, &[1]), output("c", Dtype::F32, &[1])];
    let staging = Staging::create(&OutputOptions::file(&folder.path().join("x")), &tensors).unwrap();
    let said = |result: Result<(), OutputError>| result.unwrap_err().to_string();
    assert_eq!(said(staging.write("z", &[])), "tensor `z` is not part of the output");
    assert_eq!(said(staging.write("a", &[0; 4])), "tensor `a` expected 8 bytes, found 4");
    staging.write("a", &[0; 8]).unwrap();
    assert_eq!(said(staging.write("a", &[0; 8])), "tensor `a` is written already");
    assert_eq!(staging.publish(None).unwrap_err().to_string(), "2 tensors are not written, the first is `b`");
    assert_eq!(names(folder.path()), [""; 0]);
}

#[test]
fn layouts_that_no_reader_would_take_are_refused() {
    let folder = folder();
    let options = OutputOptions::file(&folder.path().join("x"));
    let said = |tensors: &[OutputTensor]| Staging::check(&options, &[], tensors).unwrap_err().to_string();
    let twice = [output("a", Dtype::U8, &[1]), output("a", Dtype::U8, &[2])];
    assert_eq!(said(&twice), "tensor `a` would be written twice under one name");
    assert_eq!(
        said(&[output("__metadata__", Dtype::U8, &[1])]),
        "tensor `__metadata__` has a name that safetensors reserves"
    );
    assert_eq!(
        said(&[output("w", Dtype::F64, &[usize::MAX, 2])]),
        format!("tensor `w` of shape [{}, 2], F64, has no size in whole bytes below 2^63", usize::MAX)
    );
    let reserved = OutputOptions { reserve: 100_000_000, ..options.clone() };
    let error = Staging::check(&reserved, &[], &[]).unwrap_err().to_string();
    assert!(error.ends_with("expected at most 100000000"), "{error}");
}

#[test]
fn side_files_of_a_directory() {
    let folder = folder();
    let target = folder.path().join("out");
    let staging =
        Staging::create(&OutputOptions::directory(&target), &[output("a", Dtype::U8, &[1])]).unwrap();
    staging.write("a", &[9]).unwrap();
    let source = crate::fixture::put(folder.path(), "source.txt", "copied");
    staging.copy_file(Path::new("config.json"), &source).unwrap();
    staging.copy_file(Path::new("a/b/deep.txt"), &source).unwrap();
    // The last one stays.
    staging.add_file(Path::new("config.json"), b"{\"new\": 1}").unwrap();
    for path in ["../x", "/x", "a/../../x", "", "model.safetensors"] {
        let error = staging.add_file(Path::new(path), b"x").unwrap_err();
        assert!(matches!(error, OutputError::SideFile { .. }), "{path}: {error}");
    }
    let missing = staging.copy_file(Path::new("y"), &folder.path().join("nothing")).unwrap_err();
    assert_eq!(message(&missing, folder.path()), "`DIR/nothing` does not exist");
    let published = staging.publish(None).unwrap();
    let relative: Vec<_> = published.iter().map(|path| path.strip_prefix(&target).unwrap()).collect();
    assert_eq!(relative, ["model.safetensors", "a/b/deep.txt", "config.json"].map(Path::new));
    assert_eq!(fs::read_to_string(target.join("config.json")).unwrap(), "{\"new\": 1}");
    assert_eq!(fs::read_to_string(target.join("a/b/deep.txt")).unwrap(), "copied");

    let file = folder.path().join("x.safetensors");
    let staging = Staging::create(&OutputOptions::file(&file), &[]).unwrap();
    let error = staging.add_file(Path::new("config.json"), b"{}").unwrap_err().to_string();
    assert_eq!(error, "`config.json` can not be a side file of the output: the output is a single file");
}
