//! Element types: what is converted, what is not, and the way back.

use crate::files::{Stored, fixture, folder};
use crate::tree::{
    chain, distance, epsilon, load, multiplied_out, norm, record, run_collapse, run_compress, run_verify,
    tree, try_compress,
};
use half::{bf16, f16};
use std::path::Path;

#[test]
fn narrower_types_come_back_with_their_names_and_rounded_numbers() {
    for (dtype, name, said) in [("bf16", "BF16", "bfloat16"), ("f16", "F16", "float16")] {
        let work = tempfile::tempdir().unwrap();
        let (factored, collapsed) = (work.path().join("f"), work.path().join("c"));
        let input = fixture("tiny-bert");
        run_compress(&input, &factored, &format!("dtype = \"{dtype}\"\n[[rule]]\nlayer_keep = 0.5\n"));
        let tensors = load(&factored);
        for (tensor, loaded) in &tensors {
            let expected = if tensor.ends_with("position_ids") { "I64" } else { name };
            assert_eq!(loaded.dtype, expected, "{tensor}");
        }
        let config = std::fs::read_to_string(factored.join("config.json")).unwrap();
        assert!(config.contains(&format!("\"dtype\": \"{said}\"")), "{config}");
        // Kept numbers are rounded once, to nearest.
        let dense = load(&input);
        let bias = dense["bert.embeddings.LayerNorm.bias"].numbers();
        let round =
            |x: f64| if dtype == "f16" { f16::from_f64(x).to_f64() } else { bf16::from_f64(x).to_f64() };
        let rounded: Vec<f64> = bias.iter().copied().map(round).collect();
        assert_eq!(tensors["bert.embeddings.LayerNorm.bias"].numbers(), rounded);

        run_collapse(&factored, &collapsed);
        let again = load(&collapsed);
        assert_eq!(again.keys().collect::<Vec<_>>(), dense.keys().collect::<Vec<_>>());
        for (tensor, before) in &dense {
            assert_eq!(
                (&again[tensor].dtype, &again[tensor].shape),
                (&before.dtype, &before.shape),
                "{tensor}"
            );
        }
        assert_eq!(again["bert.embeddings.LayerNorm.bias"].numbers(), rounded);
        assert_eq!(tree(&collapsed)[Path::new("config.json")], tree(&input)[Path::new("config.json")]);
        // Factors are rounded; their product is not rounded again.
        for (layer, module) in record(&factored)["modules"].as_object().unwrap() {
            let links = ["0", "1"].map(|index| &tensors[&format!("{layer}.{index}.weight")]);
            let exact = multiplied_out(module, links[0], links[1]);
            let found = again[&format!("{layer}.weight")].numbers();
            let allowed = 2.0 * epsilon("F32") * module["rank"].as_f64().unwrap().sqrt() * norm(&exact);
            assert!(distance(&found, &exact) <= allowed, "{layer}: {:e}", distance(&found, &exact));
        }
    }
}

#[test]
fn wider_types_come_back_bit_for_bit_where_nothing_was_factored() {
    for name in ["tiny-llama", "tiny-gpt2"] {
        let work = tempfile::tempdir().unwrap();
        let (factored, collapsed) = (work.path().join("f"), work.path().join("c"));
        run_compress(&fixture(name), &factored, "dtype = \"f32\"\n[[rule]]\nrank = 5\n");
        let (dense, wide) = (load(&fixture(name)), load(&factored));
        for (tensor, loaded) in &wide {
            // A causal mask is a buffer: nobody trains it, and nobody converts it.
            let mask = tensor.ends_with(".attn.bias");
            assert_eq!(loaded.dtype, if mask { "F16" } else { "F32" }, "{tensor}");
            if let Some(before) = dense.get(tensor) {
                assert_eq!(loaded.numbers(), before.numbers(), "{tensor}");
            }
        }
        run_collapse(&factored, &collapsed);
        let (again, record) = (load(&collapsed), record(&factored));
        for (tensor, before) in &dense {
            let layer = tensor.strip_suffix(".weight").unwrap_or(tensor);
            if record["modules"].get(layer).is_some() {
                assert_eq!(
                    (&again[tensor].dtype, &again[tensor].shape),
                    (&before.dtype, &before.shape),
                    "{tensor}"
                );
            } else {
                assert!(again[tensor] == *before, "{tensor}");
            }
        }
        assert_eq!(
            tree(&collapsed)[Path::new("config.json")],
            tree(&fixture(name))[Path::new("config.json")]
        );
    }
}

/// A seeded matrix in f64, with digits that f32 has no room for.
fn wide(name: &str, shape: [usize; 2], seed: u64) -> Stored {
    let coarse = Stored::random(name, &shape, seed);
    let fine = Stored::random(name, &shape, seed + 1000);
    let numbers = |stored: &Stored| -> Vec<f64> {
        stored.bytes.chunks(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect()
    };
    let bytes = numbers(&coarse)
        .iter()
        .zip(numbers(&fine))
        .flat_map(|(coarse, fine)| (coarse + 1e-9 * fine).to_le_bytes())
        .collect();
    Stored::new(name, "F64", &shape, bytes)
}

#[test]
fn double_precision_is_computed_in_double_precision() {
    let input = folder(&[wide("fc1.weight", [40, 30], 1), wide("fc2.weight", [30, 40], 2)], None);
    let work = tempfile::tempdir().unwrap();
    let (factored, collapsed) = (work.path().join("f"), work.path().join("c"));
    run_compress(input.path(), &factored, "[[rule]]\nrank = 17\n");
    let (dense, tensors, record) = (load(input.path()), load(&factored), record(&factored));
    for layer in ["fc1", "fc2"] {
        let module = &record["modules"][layer];
        let links = ["0", "1"].map(|index| &tensors[&format!("{layer}.{index}.weight")]);
        assert_eq!((links[0].dtype.as_str(), links[1].dtype.as_str()), ("F64", "F64"));
        let weight = dense[&format!("{layer}.weight")].numbers();
        let found = distance(&weight, &multiplied_out(module, links[0], links[1])) / norm(&weight);
        // 16 eps sqrt(size) of f64, nine digits below what f32 would leave.
        let allowed = 16.0 * f64::EPSILON * 1200f64.sqrt();
        let recorded = module["relative_error"].as_f64().unwrap();
        assert!((found - recorded).abs() <= allowed, "{layer}: {found} {recorded}");
    }
    assert!(run_verify(&factored, input.path()).passed());
    run_collapse(&factored, &collapsed);
    for (name, loaded) in load(&collapsed) {
        assert_eq!((&loaded.dtype, &loaded.shape), (&dense[&name].dtype, &dense[&name].shape));
    }

    let narrow = work.path().join("narrow");
    run_compress(input.path(), &narrow, "dtype = \"f32\"\n[[rule]]\nrank = 17\n");
    assert!(load(&narrow).values().all(|loaded| loaded.dtype == "F32"));
    assert!(run_verify(&narrow, input.path()).passed());
    let again = work.path().join("again");
    run_collapse(&narrow, &again);
    assert!(load(&again).values().all(|loaded| loaded.dtype == "F64"));
}

#[test]
fn other_types_pass_through_byte_for_byte() {
    let tensors = [
        Stored::random("fc1.weight", &[24, 16], 1),
        Stored::random("fc2.weight", &[16, 24], 2),
        Stored::new("a.weight", "I8", &[8, 8], (0..64).map(|i| i * 3).collect()),
        Stored::new("b.weight", "F8_E4M3", &[4, 8], (0..32).map(|i| i * 7).collect()),
        Stored::new("c.weight", "U8", &[3, 5], (0..15).collect()),
        Stored::new("mask", "BOOL", &[7], vec![1, 0, 1, 1, 0, 0, 1]),
        Stored::new("temperature", "F32", &[], 0.7f32.to_le_bytes().to_vec()),
        Stored::new("empty.weight", "F32", &[0, 8], Vec::new()),
        Stored::new("counter", "I64", &[], 3910i64.to_le_bytes().to_vec()),
        Stored::new(
            "odd.weight",
            "F32",
            &[2, 2, 2, 2, 2],
            [0.1f32; 32].iter().flat_map(|x| x.to_le_bytes()).collect(),
        ),
    ];
    let input = folder(&tensors, None);
    for recipe in ["[[rule]]\nrank = 3\n", "save = \"collapsed\"\n[[rule]]\nrank = 3\n"] {
        let work = tempfile::tempdir().unwrap();
        let out = work.path().join("out");
        let report = run_compress(input.path(), &out, recipe);
        assert_eq!(report.layers.len(), 2);
        let after = load(&out);
        for tensor in &tensors[2..] {
            let loaded = &after[&tensor.name];
            assert_eq!(
                (loaded.dtype.as_str(), &loaded.shape),
                (tensor.dtype, &tensor.shape),
                "{}",
                tensor.name
            );
            assert_eq!(loaded.bytes, tensor.bytes, "{}", tensor.name);
        }
    }
    // A conversion is of parameters in the types that are computed with.
    let work = tempfile::tempdir().unwrap();
    let out = work.path().join("out");
    run_compress(input.path(), &out, "dtype = \"bf16\"\n[[rule]]\nrank = 3\n");
    let after = load(&out);
    for tensor in &tensors[2..7] {
        assert_eq!(after[&tensor.name].bytes, tensor.bytes, "{}", tensor.name);
    }
    assert_eq!(after["odd.weight"].dtype, "BF16");
    assert!(run_verify(&out, input.path()).passed());
    let again = work.path().join("again");
    run_collapse(&out, &again);
    for (name, loaded) in load(&again) {
        let before = tensors.iter().find(|tensor| tensor.name == name).unwrap();
        assert_eq!((loaded.dtype.as_str(), &loaded.shape), (before.dtype, &before.shape), "{name}");
    }
}

#[test]
fn a_number_too_large_for_half_precision_is_named() {
    let mut norm = vec![1.0f32; 8];
    norm[5] = 70_000.0;
    let input =
        folder(&[Stored::random("fc.weight", &[24, 16], 1), Stored::f32("norm.weight", &[8], &norm)], None);
    let work = tempfile::tempdir().unwrap();
    let out = work.path().join("out");
    let error = try_compress(input.path(), &out, "dtype = \"f16\"\n[[rule]]\nrank = 3\n").unwrap_err();
    assert_eq!(
        chain(&error),
        "`norm.weight` can't be converted: element 5 is 7e4, too large for F16, which ends at 6.5504e4"
    );
    assert_eq!(error.hint().as_deref(), Some("BF16 takes half the space of F32 as well, and reaches as far"));
    assert!(tree(work.path()).is_empty());
}

/// A rank-one weight `(24, 16)`: its largest element fits no half precision, and neither do its factors, about `1e5`.
fn huge() -> tempfile::TempDir {
    let scale: Vec<f32> = (0..24 * 16).map(|at| 1e10 * (1.0 + (at / 16) as f32 / 24.0)).collect();
    folder(&[Stored::f32("fc1.weight", &[24, 16], &scale)], None)
}

#[test]
fn a_factor_too_large_for_half_precision_leaves_nothing_behind() {
    let work = tempfile::tempdir().unwrap();
    let error =
        try_compress(huge().path(), &work.path().join("out"), "dtype = \"f16\"\n[[rule]]\nrank = 1\n");
    let message = chain(&error.unwrap_err());
    assert!(message.starts_with("`fc1.") && message.contains("too large for F16"), "{message}");
    assert!(tree(work.path()).is_empty());
}

#[test]
fn a_factor_too_large_for_half_precision_is_named() {
    let work = tempfile::tempdir().unwrap();
    let error =
        try_compress(huge().path(), &work.path().join("out"), "dtype = \"f16\"\n[[rule]]\nrank = 1\n");
    let message = chain(&error.unwrap_err());
    assert!(message.starts_with("`fc1.0.weight` can't be converted: element 0 is "), "{message}");
}
