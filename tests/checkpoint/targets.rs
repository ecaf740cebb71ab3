//! Where an output may not go, said before anything is created.

use std::{
    fs,
    path::{Path, PathBuf},
};

use fnl::checkpoint::{OutputError, OutputOptions, Staging};

use crate::fixture::{bytes_file, folder, message, names, put};

fn said(options: &OutputOptions, inputs: &[PathBuf], folder: &Path) -> String {
    let before = names(folder);
    let error = Staging::check(options, inputs, &[]).unwrap_err();
    assert_eq!(names(folder), before);
    message(&error, folder)
}

#[test]
fn output_that_exists() {
    let folder = folder();
    let file = put(folder.path(), "x.safetensors", "old");
    let options = OutputOptions::file(&file);
    assert_eq!(said(&options, &[], folder.path()), "`DIR/x.safetensors` exists");
    let hint = Staging::check(&options, &[], &[]).unwrap_err().hint().unwrap();
    assert_eq!(hint, "`--overwrite` replaces it once the new content is complete");
    Staging::check(&OutputOptions { overwrite: true, ..options }, &[], &[]).unwrap();
    let directory = folder.path().join("out");
    fs::create_dir(&directory).unwrap();
    // There is nothing to lose in an empty one.
    Staging::check(&OutputOptions::directory(&directory), &[], &[]).unwrap();
    put(&directory, "model.safetensors", bytes_file(&[("a", 1)], ""));
    assert_eq!(said(&OutputOptions::directory(&directory), &[], folder.path()), "`DIR/out` exists");
}

#[test]
fn output_of_the_other_kind() {
    let folder = folder();
    let file = put(folder.path(), "x", "old");
    let mut options = OutputOptions::directory(&file);
    options.overwrite = true;
    assert_eq!(said(&options, &[], folder.path()), "`DIR/x` is a file, expected a directory or nothing");
    let mut options = OutputOptions::file(folder.path());
    options.overwrite = true;
    assert_eq!(said(&options, &[], folder.path()), "`DIR` is a directory, expected a file or nothing");
    #[cfg(target_os = "linux")]
    {
        let mut options = OutputOptions::file(Path::new("/dev/null"));
        options.overwrite = true;
        assert_eq!(said(&options, &[], folder.path()), "`/dev/null` is neither a file nor a directory");
    }
}

#[test]
fn directory_of_something_else_is_not_overwritten() {
    let folder = folder();
    let target = folder.path().join("home");
    put(&target, "thesis.tex", "years of work");
    let mut options = OutputOptions { overwrite: true, ..OutputOptions::directory(&target) };
    let foreign = "`DIR/home` has files that the output would not have: `thesis.tex`";
    assert_eq!(said(&options, &[], folder.path()), foreign);
    // What any output may have is one's own only beside weights, and without them it is not.
    let notes = folder.path().join("notes");
    put(&notes, "README.md", "of a project");
    let replaced = OutputOptions { overwrite: true, ..OutputOptions::directory(&notes) };
    assert_eq!(
        said(&replaced, &[], folder.path()),
        "`DIR/notes` has files that the output would not have: `README.md`"
    );
    // A checkpoint beside them does not make them one's own.
    put(&target, "model.safetensors", bytes_file(&[("a", 1)], ""));
    assert_eq!(said(&options, &[], folder.path()), foreign);
    for name in
        ["model-00001-of-00002.safetensors", "model.safetensors.index.json", "config.json", "report.json"]
    {
        put(&target, name, "of an output");
    }
    assert_eq!(said(&options, &[], folder.path()), foreign);
    for name in ["code/main.py", "code/model.safetensors", "model-of-mine.safetensors", "zebra"] {
        put(&target, name, "work");
    }
    assert_eq!(
        said(&options, &[], folder.path()),
        "`DIR/home` has files that the output would not have: `code/main.py`, `code/model.safetensors`, \
         `model-of-mine.safetensors` and 2 more"
    );
    options.side_files =
        ["thesis.tex", "code/main.py", "code/model.safetensors", "model-of-mine.safetensors", "zebra"]
            .map(PathBuf::from)
            .to_vec();
    Staging::check(&options, &[], &[]).unwrap();
}

#[test]
fn output_that_equals_or_lies_inside_the_input() {
    let folder = folder();
    let input = folder.path().join("in");
    let weights = put(&input, "model.safetensors", bytes_file(&[("a", 1)], ""));
    let inputs = [input.clone(), weights.clone()];
    let overwrite = |options: OutputOptions| OutputOptions { overwrite: true, ..options };
    let check = |options| said(&overwrite(options), &inputs, folder.path());
    assert_eq!(check(OutputOptions::directory(&input)), "the output `DIR/in` is the input `DIR/in`");
    assert_eq!(
        check(OutputOptions::directory(&input.join("../in/"))),
        "the output `DIR/in` is the input `DIR/in`"
    );
    assert_eq!(
        check(OutputOptions::directory(&input.join("out"))),
        "the output `DIR/in/out` lies inside the input `DIR/in`"
    );
    assert!(check(OutputOptions::file(&weights)).contains("lies inside the input"));
    // Replacing what is above the input would remove it.
    put(folder.path(), "top.safetensors", "x");
    assert_eq!(
        check(OutputOptions::directory(folder.path())),
        "the output `DIR` contains the input `DIR/in`"
    );
    let beside = overwrite(OutputOptions::file(&folder.path().join("in.safetensors")));
    Staging::check(&beside, &inputs, &[]).unwrap();
}

#[cfg(unix)]
#[test]
fn links_do_not_hide_the_input() {
    let folder = folder();
    let input = folder.path().join("in");
    let weights = put(&input, "model.safetensors", bytes_file(&[("a", 1)], ""));
    let inputs = [input.clone(), weights.clone()];
    let soft = folder.path().join("soft");
    std::os::unix::fs::symlink(&input, &soft).unwrap();
    let options = OutputOptions { overwrite: true, ..OutputOptions::directory(&soft) };
    assert_eq!(said(&options, &inputs, folder.path()), "the output `DIR/in` is the input `DIR/in`");
    let options = OutputOptions::directory(&soft.join("new"));
    assert_eq!(
        said(&options, &inputs, folder.path()),
        "the output `DIR/in/new` lies inside the input `DIR/in`"
    );
    let hard = folder.path().join("hard.safetensors");
    fs::hard_link(&weights, &hard).unwrap();
    let options = OutputOptions { overwrite: true, ..OutputOptions::file(&hard) };
    assert_eq!(
        said(&options, &inputs, folder.path()),
        "the output `DIR/hard.safetensors` is the input `DIR/in/model.safetensors`"
    );
    let nowhere = folder.path().join("nowhere");
    std::os::unix::fs::symlink(folder.path().join("gone"), &nowhere).unwrap();
    let options = OutputOptions { overwrite: true, ..OutputOptions::file(&nowhere) };
    assert_eq!(said(&options, &[], folder.path()), "`DIR/nowhere` is neither a file nor a directory");
}

#[test]
fn folder_that_is_missing_or_none() {
    let folder = folder();
    let options = OutputOptions::file(&folder.path().join("a/b/x.safetensors"));
    assert_eq!(said(&options, &[], folder.path()), "the folder `DIR/a/b` does not exist");
    put(folder.path(), "file", "x");
    let options = OutputOptions::file(&folder.path().join("file/x.safetensors"));
    assert_eq!(said(&options, &[], folder.path()), "`DIR/file` is not a folder");
    let error = Staging::check(&OutputOptions::file(Path::new("")), &[], &[]).unwrap_err();
    assert!(matches!(error, OutputError::NoName { .. }), "{error}");
}

#[test]
fn no_space_is_told_from_sizes_alone() {
    let folder = folder();
    let options = OutputOptions::file(&folder.path().join("x.safetensors"));
    let tensors = [crate::fixture::output("w", fnl::checkpoint::Dtype::U8, &[1 << 60])];
    let text = message(&Staging::check(&options, &[], &tensors).unwrap_err(), folder.path());
    assert!(text.starts_with("no space in `DIR`: the output needs 1024 PiB, "), "{text}");
    assert_eq!(names(folder.path()), [""; 0]);
}

#[test]
fn a_trailing_slash_is_no_name_of_its_own() {
    let folder = folder();
    let typed = format!("{}/out/", folder.path().display());
    let staging = Staging::create(&OutputOptions::directory(Path::new(&typed)), &[]).unwrap();
    let published = staging.publish(None).unwrap();
    assert_eq!(published.len(), 1);
    assert!(folder.path().join("out/model.safetensors").is_file());
}
