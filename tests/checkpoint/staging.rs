//! When an output appears: whole, at the end, or not at all.

use std::{fs, path::Path};

use fnl::checkpoint::{Checkpoint, Dtype, OutputError, OutputOptions, OutputTensor, Staging};

use crate::fixture::{bytes_file, folder, message, names, output, put};

fn one() -> [OutputTensor; 1] {
    [output("a", Dtype::U8, &[2])]
}

fn hidden(folder: &Path) -> usize {
    names(folder).iter().filter(|name| name.starts_with(".fnl-staging-")).count()
}

#[test]
fn nothing_has_the_final_name_before_publication() {
    let folder = folder();
    let target = folder.path().join("out");
    let staging = Staging::create(&OutputOptions::directory(&target), &one()).unwrap();
    staging.write("a", &[1, 2]).unwrap();
    assert!(!target.exists());
    assert_eq!(hidden(folder.path()), 1);
    staging.publish(None).unwrap();
    assert_eq!(names(folder.path()), ["out"]);
}

#[test]
fn dropping_removes_everything() {
    let folder = folder();
    let staging = Staging::create(&OutputOptions::directory(&folder.path().join("out")), &one()).unwrap();
    staging.write("a", &[1, 2]).unwrap();
    staging.add_file(Path::new("sub/x"), b"x").unwrap();
    drop(staging);
    assert_eq!(names(folder.path()), [""; 0]);
}

#[test]
fn overwriting_keeps_the_old_until_the_new_is_complete() {
    let folder = folder();
    let old = |target: &Path| Checkpoint::open_path(target).unwrap().tensors()[0].name.clone();
    let directory = folder.path().join("out");
    put(&directory, "model.safetensors", bytes_file(&[("old", 3)], ""));
    put(&directory, "README.md", "of the old one");
    let file = put(folder.path(), "x.safetensors", bytes_file(&[("old", 3)], ""));
    for options in [OutputOptions::directory(&directory), OutputOptions::file(&file)] {
        let options = OutputOptions { overwrite: true, ..options };
        let staging = Staging::create(&options, &one()).unwrap();
        staging.write("a", &[1, 2]).unwrap();
        assert_eq!(old(&options.target), "old");
        drop(staging);
        assert_eq!(old(&options.target), "old");

        let staging = Staging::create(&options, &one()).unwrap();
        assert!(matches!(staging.publish(None), Err(OutputError::Unwritten { .. })));
        assert_eq!(old(&options.target), "old");

        let staging = Staging::create(&options, &one()).unwrap();
        staging.write("a", &[1, 2]).unwrap();
        staging.publish(None).unwrap();
        assert_eq!(old(&options.target), "a");
    }
    assert_eq!(names(folder.path()), ["out", "x.safetensors"]);
    assert_eq!(names(&directory), ["model.safetensors"]);
}

#[cfg(unix)]
#[test]
fn a_replaced_directory_stays_as_private_as_it_was() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = folder();
    let target = folder.path().join("out");
    fs::create_dir(&target).unwrap();
    fs::set_permissions(&target, fs::Permissions::from_mode(0o700)).unwrap();
    for overwrite in [false, true] {
        let options = OutputOptions { overwrite, ..OutputOptions::directory(&target) };
        let staging = Staging::create(&options, &one()).unwrap();
        staging.write("a", &[1, 2]).unwrap();
        staging.publish(None).unwrap();
        assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(names(&target), ["model.safetensors"]);
    }
}

#[test]
fn a_name_taken_meanwhile_is_not_replaced() {
    let folder = folder();
    for as_directory in [false, true] {
        let target = folder.path().join(format!("out-{as_directory}"));
        let options = OutputOptions { as_directory, ..OutputOptions::file(&target) };
        let staging = Staging::create(&options, &one()).unwrap();
        staging.write("a", &[1, 2]).unwrap();
        if as_directory {
            put(&target, "theirs", "theirs");
        } else {
            fs::write(&target, "theirs").unwrap();
        }
        let error = staging.publish(None).unwrap_err();
        assert_eq!(message(&error, folder.path()), format!("`DIR/out-{as_directory}` exists"));
        let theirs = if as_directory { target.join("theirs") } else { target };
        assert_eq!(fs::read_to_string(theirs).unwrap(), "theirs");
    }
    assert_eq!(hidden(folder.path()), 0);
}

#[cfg(unix)]
#[test]
fn a_link_to_the_old_output_leads_to_the_new_one() {
    let folder = folder();
    let real = folder.path().join("real");
    put(&real, "model.safetensors", bytes_file(&[("old", 3)], ""));
    let link = folder.path().join("link");
    std::os::unix::fs::symlink("real", &link).unwrap();
    let options = OutputOptions { overwrite: true, ..OutputOptions::directory(&link) };
    let staging = Staging::create(&options, &one()).unwrap();
    staging.write("a", &[1, 2]).unwrap();
    staging.publish(None).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(Checkpoint::open_path(&real).unwrap().tensors()[0].name, "a");
}

#[test]
fn what_a_killed_run_left_is_removed_and_what_it_put_aside_comes_back() {
    let folder = folder();
    // Killed early, before there was a lock.
    fs::create_dir(folder.path().join(".fnl-staging-1-0")).unwrap();
    // Killed while writing.
    put(folder.path(), ".fnl-staging-1-1/lock", "");
    put(folder.path(), ".fnl-staging-1-1/content/model.safetensors", "half");
    // Killed between the two renames of a replacement.
    put(folder.path(), ".fnl-staging-1-2/lock", "");
    put(folder.path(), ".fnl-staging-1-2/content/model.safetensors", "new");
    put(folder.path(), ".fnl-staging-1-2/old/out/model.safetensors", "old");
    // Killed after both.
    put(folder.path(), ".fnl-staging-1-3/lock", "");
    put(folder.path(), ".fnl-staging-1-3/old/done/model.safetensors", "old");
    put(folder.path(), "done/model.safetensors", "new");
    // Not ours.
    put(folder.path(), ".fnl-staging-notes", "x");
    put(folder.path(), ".fnl-staging-1-2x/lock", "");

    drop(Staging::create(&OutputOptions::file(&folder.path().join("x")), &[]).unwrap());
    assert_eq!(names(folder.path()), [".fnl-staging-1-2x", ".fnl-staging-notes", "done", "out"]);
    assert_eq!(fs::read_to_string(folder.path().join("out/model.safetensors")).unwrap(), "old");
    assert_eq!(fs::read_to_string(folder.path().join("done/model.safetensors")).unwrap(), "new");
}

#[test]
fn a_running_neighbour_is_left_alone() {
    let folder = folder();
    let first = Staging::create(&OutputOptions::file(&folder.path().join("first")), &one()).unwrap();
    first.write("a", &[1, 2]).unwrap();
    let second = Staging::create(&OutputOptions::file(&folder.path().join("second")), &one()).unwrap();
    second.write("a", &[3, 4]).unwrap();
    second.publish(None).unwrap();
    first.publish(None).unwrap();
    assert_eq!(names(folder.path()), ["first", "second"]);
}

#[test]
fn many_runs_in_one_folder_do_not_disturb_each_other() {
    let folder = folder();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let folder = folder.path();
            scope.spawn(move || {
                for round in 0..50 {
                    let target = folder.join(format!("{thread}-{round}"));
                    let staging = Staging::create(&OutputOptions::directory(&target), &one()).unwrap();
                    staging.write("a", &[thread, round]).unwrap();
                    staging.publish(None).unwrap();
                    let checkpoint = Checkpoint::open_path(&target).unwrap();
                    assert_eq!(*checkpoint.bytes(&checkpoint.tensors()[0]).unwrap(), [thread, round]);
                }
            });
        }
    });
    assert_eq!(names(folder.path()).len(), 200);
}
