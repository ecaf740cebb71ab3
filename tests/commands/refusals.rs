//! What is refused leaves nothing behind and says where it went wrong.

use crate::files::{Stored, fixture, folder};
use crate::tree::{chain, copied, options, run_compress, tree, try_compress};
use fnl::checkpoint::OutputError;
use fnl::commands::{CollapseOptions, CommandError, VerifyOptions, collapse, compress, verify};
use fnl::plan::{Limits, NoProgress, PlanError};
use std::path::Path;

fn with_bad(bad: f32) -> tempfile::TempDir {
    let mut kernel = Stored::random("conv2.weight", &[16, 8, 3, 3], 2);
    let at = ((5 * 8 + 6) * 3 + 2) * 3 + 1;
    kernel.bytes[4 * at..4 * at + 4].copy_from_slice(&bad.to_le_bytes());
    folder(&[Stored::random("conv1.weight", &[8, 3, 3, 3], 1), kernel], None)
}

#[test]
fn a_weight_that_is_not_a_number_is_named_with_its_index() {
    for (recipe, bad, shown) in [
        ("[[rule]]\nrank = 3\n", f32::NAN, "NaN"),
        ("conv_scheme = \"channel\"\n[[rule]]\nrank = 3\n", f32::INFINITY, "inf"),
        ("[[rule]]\nenergy = 0.5\n", f32::NEG_INFINITY, "-inf"),
        ("allocate = \"spectral\"\n[[rule]]\nkeep = 0.5\n", f32::NAN, "NaN"),
        ("save = \"collapsed\"\n[[rule]]\nrank = 3\n", f32::NAN, "NaN"),
    ] {
        let work = tempfile::tempdir().unwrap();
        let error = try_compress(with_bad(bad).path(), &work.path().join("out"), recipe).unwrap_err();
        let message = chain(&error);
        assert!(message.contains("`conv2.weight`"), "{recipe}: {message}");
        assert!(
            message.contains(&format!("element [5, 6, 2, 1] of the weight is {shown}")),
            "{recipe}: {message}"
        );
        assert!(tree(work.path()).is_empty(), "{recipe}");
        assert_eq!(std::fs::read_dir(work.path()).unwrap().count(), 0, "{recipe}");
    }
}

#[test]
fn a_failed_run_leaves_the_previous_output() {
    let work = tempfile::tempdir().unwrap();
    let out = work.path().join("out");
    run_compress(&fixture("tiny-vit"), &out, "[[rule]]\nrank = 3\n");
    let before = tree(&out);
    let mut options = options(with_bad(f32::NAN).path(), &out, "[[rule]]\nrank = 3\n");
    options.overwrite = true;
    compress(&options, &NoProgress).unwrap_err();
    assert!(tree(&out) == before);
    assert_eq!(std::fs::read_dir(work.path()).unwrap().count(), 1);
}

#[test]
fn an_overwritten_output_holds_nothing_of_the_old_one() {
    let work = tempfile::tempdir().unwrap();
    let (out, fresh) = (work.path().join("out"), work.path().join("fresh"));
    run_compress(&fixture("tiny-bert"), &out, "max_shard_bytes = 9000\n[[rule]]\nrank = 3\n");
    let mut options = options(&fixture("tiny-vit"), &out, "[[rule]]\nrank = 3\n");
    options.overwrite = true;
    compress(&options, &NoProgress).unwrap();
    run_compress(&fixture("tiny-vit"), &fresh, "[[rule]]\nrank = 3\n");
    crate::tree::assert_same_tree(&out, &fresh);
}

#[test]
fn a_memory_limit_that_one_layer_exceeds_names_it() {
    let work = tempfile::tempdir().unwrap();
    let mut options = options(&fixture("tiny-vit"), &work.path().join("out"), "[[rule]]\nrank = 3\n");
    options.limits = Limits::new(2, Some(10_000));
    let error = compress(&options, &NoProgress).unwrap_err();
    let CommandError::Plan(PlanError::Memory { tensor, needed, limit: 10_000 }) = &error else {
        panic!("{error}")
    };
    assert!(*needed > 10_000);
    assert_eq!(tensor, "vit.encoder.layer.0.attention.attention.key.weight");
    assert!(error.hint().unwrap().contains("--memory-limit"));
    assert!(tree(work.path()).is_empty());
}

#[test]
fn an_output_in_the_way_of_anything_is_refused() {
    let input = copied(&fixture("tiny-vit"));
    let before = tree(input.path());
    let recipe = "[[rule]]\nrank = 3\n";
    let refused = |out: &Path| match try_compress(input.path(), out, recipe) {
        Err(CommandError::Output(error)) => error,
        other => panic!("{}: {other:?}", out.display()),
    };
    assert!(matches!(refused(&input.path().join("inside")), OutputError::InsideInput { .. }));
    assert!(matches!(refused(input.path()), OutputError::IsInput { .. } | OutputError::Exists { .. }));
    let work = tempfile::tempdir().unwrap();
    assert!(matches!(refused(&work.path().join("missing/out")), OutputError::ParentMissing { .. }));
    std::fs::write(work.path().join("taken"), "something").unwrap();
    assert!(matches!(
        refused(&work.path().join("taken")),
        OutputError::Exists { .. } | OutputError::IsFile { .. }
    ));
    assert_eq!(std::fs::read(work.path().join("taken")).unwrap(), b"something");
    assert!(tree(input.path()) == before);
}

#[test]
fn a_factored_checkpoint_is_not_factored_again() {
    let work = tempfile::tempdir().unwrap();
    let out = work.path().join("out");
    run_compress(&fixture("tiny-vit"), &out, "[[rule]]\nrank = 3\n");
    let error = try_compress(&out, &work.path().join("again"), "[[rule]]\nrank = 2\n").unwrap_err();
    let CommandError::Plan(PlanError::AlreadyFactored { modules: 12, .. }) = error else { panic!("{error}") };
    assert!(!work.path().join("again").exists());
}

#[test]
fn a_dense_checkpoint_is_neither_collapsed_nor_verified() {
    let work = tempfile::tempdir().unwrap();
    let dense = fixture("tiny-vit");
    let options = CollapseOptions::new(dense.as_path().into(), work.path().join("out"));
    let error = collapse(&options, &NoProgress).unwrap_err();
    assert!(matches!(error, CommandError::NotFactored { .. }), "{error}");
    assert!(tree(work.path()).is_empty());
    let options = VerifyOptions::new(dense.as_path().into(), dense.as_path().into());
    assert!(matches!(verify(&options, &NoProgress), Err(CommandError::NotFactored { .. })));
}

#[test]
fn no_output_is_an_error_unless_nothing_would_be_written() {
    let mut options = options(&fixture("tiny-vit"), Path::new("unused"), "[[rule]]\nrank = 3\n");
    options.output = None;
    assert!(matches!(compress(&options, &NoProgress), Err(CommandError::NoOutput)));
    options.dry_run = true;
    let report = compress(&options, &NoProgress).unwrap();
    assert!(report.dry_run && report.output.is_none());
    assert_eq!(report.layers.len(), 12);
}
