//! Every way in which a file can be bad, and what is said about it.

use fnl::checkpoint::{CheckpointError, Problem};

use crate::fixture::{bytes_file, file, folder, message, put, refusal};

/// Opens a bad file and returns what follows "is not a valid checkpoint: ".
fn said(bytes: &[u8]) -> String {
    let folder = folder();
    let path = put(folder.path(), "x.safetensors", bytes);
    let text = message(&refusal(&path), folder.path());
    let start = "`DIR/x.safetensors` is not a valid checkpoint: ";
    text.strip_prefix(start).unwrap_or_else(|| panic!("{text}")).to_owned()
}

fn tensor(dtype: &str, shape: &str, start: u64, end: u64) -> String {
    format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{start},{end}]}}"#)
}

#[test]
fn shorter_than_the_length_of_a_header() {
    for size in 0..8 {
        let expected = format!(
            "a file of {size} bytes is too short, expected at least the 8 bytes of the header's length"
        );
        assert_eq!(said(&vec![1; size]), expected);
    }
}

#[test]
fn header_beyond_the_file() {
    let mut bytes = 100u64.to_le_bytes().to_vec();
    bytes.extend_from_slice(b"{}");
    assert_eq!(said(&bytes), "the header should be 100 bytes long, found 2 bytes after its length");
    assert_eq!(
        said(&u64::MAX.to_le_bytes()),
        "no safetensors file: its first 8 bytes say that the header is 18446744073709551615 bytes long, expected at most 100000000"
    );
}

#[test]
fn header_of_more_than_100_mb() {
    let folder = folder();
    let path = put(folder.path(), "x.safetensors", 100_000_001u64.to_le_bytes());
    // Sparse: nothing of this is on disk.
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(200_000_000).unwrap();
    let text = refusal(&path).to_string();
    assert!(
        text.ends_with("say that the header is 100000001 bytes long, expected at most 100000000"),
        "{text}"
    );
}

#[test]
fn every_truncation_of_a_sound_file() {
    let whole = bytes_file(&[("a", 3), ("b", 5)], "");
    let header = whole.len() - 8;
    for length in 0..whole.len() {
        let text = said(&whole[..length]);
        if length < 8 {
            assert!(text.contains("too short"), "{text}");
        } else if length < header {
            assert!(text.contains("the header should be"), "{text}");
        } else {
            let expected =
                format!("the file is truncated: expected 8 bytes of data, found {}", length - header);
            assert_eq!(text, expected);
        }
    }
}

#[test]
fn a_truncated_file_is_to_be_copied_again() {
    let folder = folder();
    let path = put(
        folder.path(),
        "x.safetensors",
        file(r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#, b"abc"),
    );
    assert_eq!(refusal(&path).hint().unwrap(), "the file is incomplete: copy or download it again");
}

#[test]
fn header_that_is_not_utf8() {
    let mut bytes = 4u64.to_le_bytes().to_vec();
    bytes.extend_from_slice(b"{\"\xff\"");
    assert_eq!(said(&bytes), "the header is not UTF-8 from its byte 2 on");
}

#[test]
fn header_that_is_not_json() {
    assert_eq!(
        said(&file("{\"a\": nonsense}", b"")),
        "the header is not valid JSON, line 1, column 8, in tensor `a`: expected ident"
    );
    assert_eq!(
        said(&file("", b"")),
        "the header is not valid JSON, line 1, column 0: EOF while parsing a value"
    );
    assert_eq!(
        said(&file("{}\n}", b"")),
        "the header is not valid JSON, line 2, column 1: trailing characters"
    );
    let nested = "[".repeat(100_000);
    assert!(said(&file(&format!("{{\"a\":{nested}"), b"")).contains("in tensor `a`"));
}

#[test]
fn header_that_is_not_an_object() {
    assert_eq!(
        said(&file("[1]", b"")),
        "the header is not valid JSON, line 1, column 0: invalid type: sequence, expected an object with a \
         description of each tensor"
    );
}

#[test]
fn tensor_without_a_field_or_with_a_wrong_one() {
    let missing = said(&file(r#"{"w":{"dtype":"F32","shape":[]}}"#, b""));
    assert!(missing.ends_with("in tensor `w`: missing field `data_offsets`"), "{missing}");
    let negative = said(&file(r#"{"w":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#, b""));
    assert!(negative.ends_with("in tensor `w`: invalid value: integer `-1`, expected u64"), "{negative}");
    let three = said(&file(r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}}"#, b""));
    assert!(three.contains("in tensor `w`: "), "{three}");
    let number = said(&file(r#"{"__metadata__":{"a":1}}"#, b""));
    assert!(number.ends_with("column 22: invalid type: integer `1`, expected a string"), "{number}");
}

#[test]
fn unknown_dtype() {
    let json = format!(r#"{{"w":{}}}"#, tensor("Q4_K", "[2]", 0, 1));
    assert_eq!(said(&file(&json, b"x")), "tensor `w` has the unknown dtype `Q4_K`");
}

#[test]
fn name_or_metadata_key_twice_in_a_header() {
    let one = tensor("U8", "[1]", 0, 1);
    assert_eq!(
        said(&file(&format!(r#"{{"w":{one},"w":{}}}"#, tensor("U8", "[1]", 1, 2)), b"xy")),
        "tensor `w` is described twice"
    );
    assert_eq!(
        said(&file(&format!(r#"{{"__metadata__":{{"k":"a","k":"b"}},"w":{one}}}"#), b"x")),
        "the metadata key `k` is there twice"
    );
    let twice = format!(r#"{{"__metadata__":{{"k":"a"}},"__metadata__":{{"k":"b"}},"w":{one}}}"#);
    assert_eq!(said(&file(&twice, b"x")), "the metadata key `k` is there twice");
}

#[test]
fn shape_and_dtype_that_disagree_with_the_offsets() {
    let json = format!(r#"{{"w":{}}}"#, tensor("F32", "[2,3]", 0, 20));
    assert_eq!(
        said(&file(&json, &[0; 20])),
        "tensor `w` of shape [2, 3], F32, expected 24 bytes, found offsets for 20"
    );
}

#[test]
fn shape_beyond_any_memory() {
    for shape in ["[18446744073709551615,2]", "[4611686018427387904]", "[4294967296,4294967296,0]"] {
        let json = format!(r#"{{"w":{}}}"#, tensor("F64", shape, 0, 0));
        let text = said(&file(&json, b""));
        assert!(
            text.starts_with("tensor `w` of shape [") && text.ends_with("is too large for any file"),
            "{text}"
        );
    }
}

#[test]
fn elements_that_end_inside_a_byte() {
    let json = format!(r#"{{"w":{}}}"#, tensor("F4", "[3]", 0, 2));
    assert_eq!(said(&file(&json, b"xy")), "tensor `w` of shape [3], F4, is not a whole number of bytes");
}

#[test]
fn unordered_offsets() {
    let json = format!(r#"{{"w":{}}}"#, tensor("U8", "[4]", 8, 4));
    assert_eq!(
        said(&file(&json, &[0; 8])),
        "tensor `w` has unordered offsets: it ends at 4, before its start 8"
    );
}

#[test]
fn overlapping_tensors() {
    let json = format!(r#"{{"a":{},"b":{}}}"#, tensor("U8", "[4]", 0, 4), tensor("U8", "[4]", 2, 6));
    assert_eq!(said(&file(&json, &[0; 6])), "tensor `b` starts at 2, inside tensor `a`, which ends at 4");
    let same = format!(r#"{{"a":{},"b":{}}}"#, tensor("U8", "[4]", 0, 4), tensor("U8", "[4]", 0, 4));
    assert_eq!(said(&file(&same, &[0; 4])), "tensor `b` starts at 0, inside tensor `a`, which ends at 4");
}

#[test]
fn gap_between_tensors() {
    let json = format!(r#"{{"a":{},"b":{}}}"#, tensor("U8", "[4]", 0, 4), tensor("U8", "[4]", 6, 10));
    assert_eq!(
        said(&file(&json, &[0; 10])),
        "bytes 4 to 6 of the data, before tensor `b`, belong to no tensor"
    );
}

#[test]
fn bytes_after_the_last_tensor() {
    let json = format!(r#"{{"a":{}}}"#, tensor("U8", "[4]", 0, 4));
    assert_eq!(said(&file(&json, &[0; 9])), "5 bytes after the last tensor belong to no tensor");
    assert_eq!(said(&file("{}", &[0; 9])), "9 bytes after the last tensor belong to no tensor");
}

#[test]
fn offsets_out_of_range() {
    let json = format!(r#"{{"a":{},"b":{}}}"#, tensor("U8", "[4]", 0, 4), tensor("U8", "[4]", 100, 104));
    assert_eq!(
        said(&file(&json, &[0; 8])),
        "2 problems\n  - bytes 4 to 100 of the data, before tensor `b`, belong to no tensor\n  - tensor `b` ends at \
         byte 104 of the data, out of range: found 8 bytes"
    );
    let end = 1u64 << 60;
    let json = format!(r#"{{"a":{}}}"#, tensor("U8", &format!("[{end}]"), 0, end));
    assert_eq!(
        said(&file(&json, b"")),
        format!("the file is truncated: expected {end} bytes of data, found 0")
    );
}

#[test]
fn every_problem_is_reported_up_to_twenty() {
    let all = |count: usize| {
        let entries: Vec<String> = (0..count)
            .map(|index| format!(r#""w{index}":{}"#, tensor("X", "[1]", index as u64, index as u64 + 1)))
            .collect();
        said(&file(&format!("{{{}}}", entries.join(",")), &vec![0; count]))
    };
    let three = all(3);
    assert_eq!(
        three,
        "3 problems\n  - tensor `w0` has the unknown dtype `X`\n  - tensor `w1` has the unknown dtype `X`\n  - tensor \
         `w2` has the unknown dtype `X`"
    );
    let many = all(50);
    assert!(many.starts_with("50 problems\n") && many.ends_with("\n  - and 30 more"), "{many}");
    assert_eq!(many.lines().count(), 22);
}

#[test]
fn problems_can_be_told_apart() {
    let folder = folder();
    let path = put(folder.path(), "x.safetensors", file("{}", b"x"));
    match refusal(&path) {
        CheckpointError::Invalid { problems, .. } => {
            assert_eq!(problems.iter().collect::<Vec<_>>(), [&Problem::Trailing { excess: 1 }]);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn other_formats_are_named_with_the_way_out() {
    let folder = folder();
    let cases: [(&[u8], &str, &str); 7] = [
        (
            b"PK\x03\x04 and more than eight",
            "a zip archive, probably a pickled PyTorch checkpoint",
            "torch.load(",
        ),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "a pickled checkpoint", "torch.load("),
        (b"\x80\x05.", "a pickled checkpoint", "weights_only=True"),
        (b"GGUF\x03\0\0\0\0\0\0", "a GGUF file", "import it first: compress import"),
        (b"\x89HDF\r\n\x1a\n\0\0\0", "an HDF5 file", "from_tf=True"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid",
            "a Git LFS pointer whose contents were not fetched",
            "git lfs pull",
        ),
        (b"<!DOCTYPE html><html></html>", "a web page", "not its page"),
    ];
    for (bytes, format, hint) in cases {
        let path = put(folder.path(), "model.bin", bytes);
        let error = refusal(&path);
        assert_eq!(
            message(&error, folder.path()),
            format!("`DIR/model.bin` is {format}, expected safetensors")
        );
        assert!(error.hint().unwrap().contains(hint), "{:?}", error.hint());
    }
    // A header of 640 bytes starts with the bytes of a pickle.
    let json = format!("{:<640}", r#"{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}"#);
    let text = refusal(&put(folder.path(), "x.safetensors", file(&json, b"x"))).to_string();
    assert!(text.contains("not valid JSON"), "{text}");
}

#[test]
fn nothing_there_and_things_that_are_no_files() {
    let folder = folder();
    let error = refusal(&folder.path().join("nothing"));
    assert_eq!(message(&error, folder.path()), "`DIR/nothing` does not exist");
    let error = refusal(std::path::Path::new("sentence-transformers/all-MiniLM-L6-v2"));
    assert_eq!(
        error.hint().unwrap(),
        "if it is a repository of the hub, name it hf://sentence-transformers/all-MiniLM-L6-v2"
    );
    #[cfg(target_os = "linux")]
    assert_eq!(
        refusal(std::path::Path::new("/dev/null")).to_string(),
        "`/dev/null` is neither a file nor a directory"
    );
}
