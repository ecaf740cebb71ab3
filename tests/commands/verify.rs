//! Verification: it passes on what was written, and on nothing else.

use crate::compress::output;
use crate::files::fixture;
use crate::tree::{RUNS, run_compress, run_verify};
use safetensors::SafeTensors;
use std::path::{Path, PathBuf};

#[test]
fn every_run_holds() {
    for (name, recipe) in RUNS {
        for dtype in ["keep", "f32", "bf16"] {
            let folder = tempfile::tempdir().unwrap();
            let out = output(folder.path(), name);
            run_compress(&fixture(name), &out, &format!("dtype = \"{dtype}\"\n{recipe}"));
            let report = run_verify(&out, &fixture(name));
            assert!(report.passed(), "{name} {dtype}: {:?}", report.failures().collect::<Vec<_>>());
            assert!(!report.layers.is_empty() && report.tensors_compared > 0, "{name}");
            for layer in &report.layers {
                // The same numbers on the same machine: nothing but the sum's order could differ.
                let found = layer.found.unwrap();
                assert!((found - layer.recorded).abs() <= 1e-12, "{name}: {}: {found}", layer.layer);
            }
        }
    }
}

/// A factored tiny-bert in one file, and where a tensor's bytes lie in it.
fn factored(folder: &Path) -> PathBuf {
    let out = folder.join("out");
    run_compress(&fixture("tiny-bert"), &out, "[[rule]]\nrank = 4\n");
    out
}

fn place(file: &[u8], tensor: &str) -> std::ops::Range<usize> {
    let view = SafeTensors::deserialize(file).unwrap();
    let data = view.tensor(tensor).unwrap().data().as_ptr() as usize - file.as_ptr() as usize;
    data..data + view.tensor(tensor).unwrap().data().len()
}

/// What is wrong after a change of the bytes of the weights' file.
fn failures(change: impl FnOnce(&mut Vec<u8>)) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let out = factored(folder.path());
    let path = out.join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    change(&mut bytes);
    std::fs::write(&path, bytes).unwrap();
    let report = run_verify(&out, &fixture("tiny-bert"));
    assert_eq!(report.passed(), report.failures().next().is_none());
    report.failures().collect()
}

#[test]
fn a_changed_factor_is_found_wherever_it_lies() {
    check_flips(0x40); // the highest bit of the exponent: 2^128 times as large
}

#[test]
fn a_changed_sign_is_found_wherever_it_lies() {
    check_flips(0x80);
}

/// Flips a bit of the last byte, sign and exponent, of three elements of each factor.
fn check_flips(bit: u8) {
    for index in ["0", "1"] {
        let layer = "bert.encoder.layer.1.attention.self.key";
        let count = 4 * 32 * 4;
        for at in [3, count / 2 + 3, count - 1] {
            let failures = failures(|bytes| {
                let place = place(bytes, &format!("{layer}.{index}.weight"));
                assert_eq!(place.len(), count);
                bytes[place.start + at] ^= bit;
            });
            assert_eq!(failures.len(), 1, "{failures:?}");
            assert!(failures[0].starts_with(&format!("`{layer}`: ")), "{failures:?}");
        }
    }
}

#[test]
fn a_factor_that_is_not_a_number_does_not_hold() {
    let failures = failures(|bytes| {
        let place = place(bytes, "bert.encoder.layer.0.output.dense.0.weight");
        bytes[place.start..place.start + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert!(failures[0].starts_with("`bert.encoder.layer.0.output.dense`: "), "{failures:?}");
}

#[test]
fn a_kept_tensor_may_not_change_in_one_bit() {
    for (tensor, name) in [
        ("bert.embeddings.LayerNorm.weight", "bert.embeddings.LayerNorm.weight"),
        ("bert.embeddings.position_ids", "bert.embeddings.position_ids"),
        // The bias of a factored layer has moved, and has its old name in the message.
        ("bert.encoder.layer.0.output.dense.1.bias", "bert.encoder.layer.0.output.dense.bias"),
    ] {
        let failures = failures(|bytes| {
            let place = place(bytes, tensor);
            bytes[place.end - 8] ^= 1;
        });
        assert_eq!(failures, [format!("`{name}` differs from the dense checkpoint's")]);
    }
}

#[test]
fn an_edited_record_does_not_hold() {
    let mut edited = String::new();
    let failures = failures(|bytes| {
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header = String::from_utf8(bytes[8..8 + length].to_vec()).unwrap();
        let layer = "bert.encoder.layer.1.intermediate.dense";
        let module = header.find(&format!("{layer}\\\":{{\\\"dtype")).unwrap();
        let at =
            module + header[module..].find("relative_error\\\":0.").unwrap() + "relative_error\\\":0.".len();
        let digit = bytes[8 + at];
        // A better error than it is, by one in the second digit.
        let second = bytes[8 + at + 1];
        bytes[8 + at + 1] = if second == b'0' { b'1' } else { second - 1 };
        edited = format!("{layer} {}", digit as char);
    });
    assert_eq!(failures.len(), 1, "{edited}: {failures:?}");
    assert!(
        failures[0].starts_with("`bert.encoder.layer.1.intermediate.dense`: relative error "),
        "{failures:?}"
    );
}

#[test]
fn a_record_of_another_rank_does_not_hold() {
    let failures = failures(|bytes| {
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header = String::from_utf8(bytes[8..8 + length].to_vec()).unwrap();
        let at = header.find("\\\"rank\\\":4,").unwrap() + "\\\"rank\\\":".len();
        bytes[8 + at] = b'5';
    });
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert!(failures[0].contains(".0.weight` has shape [4, 32], expected [5, 32]"), "{failures:?}");
}

#[test]
fn another_dense_checkpoint_does_not_hold() {
    let folder = tempfile::tempdir().unwrap();
    let out = factored(folder.path());
    let report = run_verify(&out, &fixture("tiny-vit"));
    assert!(!report.passed());
    let failures: Vec<String> = report.failures().collect();
    assert!(failures.contains(&"the dense checkpoint has no `bert.embeddings.position_ids`".to_owned()));
    assert!(failures.contains(&"`vit.embeddings.cls_token` of the dense checkpoint is missing".to_owned()));
    assert!(report.layers.iter().all(|layer| layer.found.is_none() && !layer.passed));
}
