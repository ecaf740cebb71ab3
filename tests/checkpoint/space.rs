//! Full and read-only disks: small ones of memory, which only root can mount.

use std::{path::Path, process::Command};

use fnl::checkpoint::{Dtype, OutputError, OutputOptions, Staging};

use crate::fixture::{bytes_file, folder, message, names, output, put};

/// A disk of memory on a folder, while this lives.
struct Disk<'a>(&'a Path);

impl<'a> Disk<'a> {
    fn mount(folder: &'a Path, options: &str) -> Self {
        let mut command = Command::new("mount");
        let status = command.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(folder).status();
        assert!(status.is_ok_and(|status| status.success()), "mount failed");
        Self(folder)
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

#[test]
#[ignore = "needs root to mount a small tmpfs"]
fn a_full_disk_keeps_the_old_content() {
    let folder = folder();
    let disk = Disk::mount(folder.path(), "size=1m");
    let target = put(folder.path(), "x.safetensors", bytes_file(&[("old", 3)], ""));
    let before = std::fs::read(&target).unwrap();
    let options = OutputOptions { overwrite: true, ..OutputOptions::file(&target) };
    let tensors = [output("w", Dtype::U8, &[2 << 20])];
    let checked = Staging::check(&options, &[], &tensors).unwrap_err();
    assert_eq!(
        message(&checked, folder.path()),
        "no space in `DIR`: the output needs 2.0 MiB, 1020 KiB free"
    );
    // Unchecked, it shows before the first byte is computed.
    let created = Staging::create(&options, &tensors).unwrap_err();
    match &created {
        OutputError::Write { source, .. } => {
            assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(created.hint().unwrap(), "free some space or write to another disk");
    assert_eq!(names(folder.path()), ["x.safetensors"]);

    // The tensors fit, and a side file doesn't.
    let directory = OutputOptions::directory(&folder.path().join("out"));
    let staging = Staging::create(&directory, &[output("w", Dtype::U8, &[900 << 10])]).unwrap();
    staging.write("w", &vec![1; 900 << 10]).unwrap();
    let full = staging.add_file(Path::new("big"), &vec![1; 900 << 10]).unwrap_err();
    assert!(matches!(full, OutputError::Write { .. }), "{full}");
    drop(staging);
    assert_eq!(names(folder.path()), ["x.safetensors"]);
    assert_eq!(std::fs::read(&target).unwrap(), before);
    drop(disk);
}

#[test]
#[ignore = "needs root to mount a small tmpfs"]
fn a_read_only_disk_is_refused_up_front() {
    let folder = folder();
    let _disk = Disk::mount(folder.path(), "size=1m,ro");
    let options = OutputOptions::file(&folder.path().join("x.safetensors"));
    for error in [
        Staging::check(&options, &[], &[]).unwrap_err(),
        Staging::create(&options, &[]).map(drop).unwrap_err(),
    ] {
        assert_eq!(message(&error, folder.path()), "the folder `DIR` is not writable");
    }
}
