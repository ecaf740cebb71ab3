//! Runs that are killed, interrupted, or lose their disk: the final name holds nothing, the old, or the new.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::harness::{Content, Place, linears, snapshot};

type Folder = BTreeMap<PathBuf, Content>;

/// A checkpoint of some megabytes, and what runs on it give.
struct Scene {
    place: Place,
    old: Folder,
    new: Folder,
    run_time: Duration,
}

const OLD: &str = "--rank=12";
const NEW: &str = "--rank=24";

impl Scene {
    fn new() -> Self {
        let place = Place::new();
        place.write("in.safetensors", linears(24, 192));
        std::fs::create_dir(place.join("work")).expect("a folder");
        place.run(["in.safetensors", OLD, "--out=old/", "-q"]).exits(0);
        let run_time = (0..3)
            .map(|number| {
                let start = Instant::now();
                place.run(["in.safetensors", NEW, &format!("--out=new{number}/"), "-q"]).exits(0);
                start.elapsed()
            })
            // The least, so that kills come in time when the machine is less busy later.
            .min()
            .unwrap_or_default();
        let (old, new) = (snapshot(&place.join("old")), snapshot(&place.join("new0")));
        assert_ne!(old, new);
        assert_eq!(new, snapshot(&place.join("new1")), "equal inputs give equal bytes");
        Self { place, old, new, run_time }
    }

    fn start(&self, overwrite: bool) -> Child {
        let mut command = self.place.command(["in.safetensors", NEW, "--out=work/out/"]);
        if overwrite {
            command.arg("--overwrite");
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a start")
    }

    /// A fresh target, or one that holds the old content.
    fn prepare(&self, overwrite: bool) {
        let _ = std::fs::remove_dir_all(self.place.join("work/out"));
        if overwrite {
            crate::harness::copy_folder(&self.place.join("old"), &self.place.join("work/out"));
        }
    }

    /// What the final name holds; `None` where it doesn't exist.
    fn target(&self) -> Option<Folder> {
        let path = self.place.join("work/out");
        std::fs::symlink_metadata(&path).is_ok().then(|| snapshot(&path))
    }

    /// Everything beside the final name.
    fn leftovers(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.place.join("work")).expect("a folder");
        entries.flatten().map(|entry| entry.path()).filter(|path| !path.ends_with("out")).collect()
    }

    /// Whether the final name holds the old content (or nothing), or the complete new one.
    fn is_new(&self, overwrite: bool, moment: Duration) -> bool {
        match self.target() {
            Some(found) if found == self.new => true,
            Some(found) if overwrite && found == self.old => false,
            None if !overwrite => false,
            Some(found) => panic!("after {moment:?} the final name holds {:?}", found.keys()),
            None => panic!("after {moment:?} the final name is gone"),
        }
    }
}

/// Fifty moments, half with a fresh target and half over an old one.
#[test]
fn killed_at_any_moment_the_final_name_is_whole() {
    let scene = Scene::new();
    let mut random = ChaCha8Rng::seed_from_u64(50);
    let mut killed = 0;
    let mut staged = 0;
    for number in 0..50 {
        let overwrite = number % 2 == 1;
        scene.prepare(overwrite);
        let moment = scene.run_time.mul_f64(random.random_range(0.0..1.0));
        let mut child = scene.start(overwrite);
        sleep(moment);
        child.kill().expect("a kill");
        let status = child.wait().expect("an end");
        let done = scene.is_new(overwrite, moment);
        killed += usize::from(status.code().is_none());
        staged += usize::from(!scene.leftovers().is_empty());
        // A finished run says so with the complete content.
        assert!(done || status.code().is_none(), "after {moment:?}: {status}, and nothing new");
        // The next run has no trouble with what is left, and takes it away.
        let mut again = vec!["in.safetensors", NEW, "--out=work/out/", "-q"];
        again.extend((overwrite || done).then_some("--overwrite"));
        // Up to three kills pile up before a run clears what all of them left.
        if number % 3 == 0 || number == 49 {
            let run = scene.place.run(again).exits(0);
            assert_eq!(scene.target().as_ref(), Some(&scene.new), "after {moment:?}");
            let left = scene.leftovers();
            if !left.is_empty() {
                run.fail(&format!("after {moment:?} there is {left:?}"));
            }
        }
    }
    assert!(killed >= 25, "only {killed} of 50 runs were killed before they were done");
    assert!(staged >= 10, "only {staged} of 50 kills came while something was being written");
}

/// The same where the output is a file, which another system call replaces.
#[test]
fn killed_while_a_file_is_replaced_it_is_whole() {
    let place = Place::new();
    place.write("in.safetensors", linears(12, 192));
    place.run(["in.safetensors", OLD, "--out=old.safetensors", "-q"]).exits(0);
    let start = Instant::now();
    place.run(["in.safetensors", NEW, "--out=new.safetensors", "-q"]).exits(0);
    let run_time = start.elapsed();
    let (old, new) = (place.read("old.safetensors"), place.read("new.safetensors"));
    std::fs::create_dir(place.join("work")).expect("a folder");
    let mut random = ChaCha8Rng::seed_from_u64(9);
    let arguments = ["in.safetensors", NEW, "--out=work/out.safetensors", "--overwrite", "-q"];
    for _ in 0..10 {
        place.write("work/out.safetensors", &old);
        let moment = run_time.mul_f64(random.random_range(0.0..1.0));
        let mut child =
            place.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a start");
        sleep(moment);
        child.kill().expect("a kill");
        child.wait().expect("an end");
        let found = place.read("work/out.safetensors");
        assert!(found == old || found == new, "after {moment:?} there are {} other bytes", found.len());
    }
    place.run(arguments).exits(0);
    assert_eq!(snapshot(&place.join("work")), Folder::from([("out.safetensors".into(), Content::File(new))]));
}

#[cfg(unix)]
fn signal(name: &str, child: &Child) {
    let status =
        Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status().expect("kill");
    assert!(status.success(), "the child is still ours to signal");
}

/// Sends a signal at some moments of a run; returns how many runs it stopped.
#[cfg(unix)]
fn interrupt(scene: &Scene, name: &str, seed: u64, count: usize) -> usize {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut stopped = 0;
    for number in 0..count {
        let overwrite = number % 2 == 1;
        scene.prepare(overwrite);
        let moment = scene.run_time.mul_f64(random.random_range(0.0..1.0));
        let child = scene.start(overwrite);
        sleep(moment);
        signal(name, &child);
        let output = child.wait_with_output().expect("an end");
        let stderr = String::from_utf8_lossy(&output.stderr);
        let new = scene.is_new(overwrite, moment);
        assert!(scene.leftovers().is_empty(), "after {moment:?}: {:?}", scene.leftovers());
        assert!(!stderr.contains("panic"), "after {moment:?}: {stderr}");
        match output.status.code() {
            Some(0) => assert!(new, "after {moment:?} it was done, and there is nothing new"),
            Some(130) => {
                stopped += 1;
                assert!(stderr.contains("interrupted"), "after {moment:?}: {stderr}");
            }
            // Before the handler is there, the signal itself ends the process.
            None => assert!(!new && stderr.is_empty(), "after {moment:?}: {stderr}"),
            code => panic!("after {moment:?}: {code:?}, {stderr}"),
        }
    }
    stopped
}

#[cfg(unix)]
#[test]
fn an_interrupt_leaves_nothing_behind() {
    let scene = Scene::new();
    let stopped = interrupt(&scene, "INT", 7, 12) + interrupt(&scene, "TERM", 8, 4);
    assert!(stopped >= 5, "only {stopped} of 16 runs were stopped");
}

/// From the rename on there is nothing to take back: the run is done, whatever comes then.
#[cfg(target_os = "linux")]
#[test]
fn an_interrupt_after_the_end_does_not_deny_it() {
    let scene = Scene::new();
    for _ in 0..40 {
        scene.prepare(false);
        let child = scene.start(false);
        while !scene.place.join("work/out").exists() {
            std::hint::spin_loop();
        }
        signal("INT", &child);
        let output = child.wait_with_output().expect("an end");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(scene.target().as_ref(), Some(&scene.new));
        assert!(!stderr.contains("nothing was written"), "{:?}, {stderr}", output.status);
        assert!(scene.leftovers().is_empty(), "{:?}", scene.leftovers());
    }
}

/// Stops a run as soon as its staging folder is there, so that what follows happens in the middle of it.
#[cfg(target_os = "linux")]
fn start_and_freeze(mut command: Command, folder: &Path) -> Child {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a start");
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let staged = std::fs::read_dir(folder).expect("a folder").flatten().any(|entry| {
            let file = entry.path().join("content/model.safetensors");
            std::fs::metadata(file).is_ok_and(|file| file.len() > 0)
        });
        if staged {
            break;
        }
        assert!(Instant::now() < deadline, "nothing was staged");
        sleep(Duration::from_micros(200));
    }
    signal("STOP", &child);
    child
}

/// A small file system of its own, unmounted at the end.
#[cfg(target_os = "linux")]
struct Mount(PathBuf);

#[cfg(target_os = "linux")]
impl Mount {
    fn new(path: PathBuf, options: &str) -> Self {
        std::fs::create_dir(&path).expect("a folder");
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(&path)
            .status()
            .expect("mount");
        assert!(status.success(), "mounting needs root");
        Self(path)
    }

    fn names(&self) -> Vec<PathBuf> {
        snapshot(&self.0).into_keys().collect()
    }
}

#[cfg(target_os = "linux")]
impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "needs root to mount a small tmpfs"]
fn a_full_disk_is_refused_up_front() {
    let place = Place::new();
    place.write("in.safetensors", linears(24, 192));
    let disk = Mount::new(place.join("disk"), "size=256k");
    for out in ["--out=disk/out/", "--out=disk/out.safetensors"] {
        let run = place.run(["in.safetensors", NEW, out]).exits(1).stdout_is_empty();
        let run = run
            .stderr_has("error: no space in `")
            .stderr_has(": the output needs ")
            .stderr_has(" 256 KiB free\n");
        // No layer was factored for nothing.
        run.stderr_has("\nhint: free some space or write to another disk\n");
        assert!(disk.names().is_empty(), "{:?}", disk.names());
    }
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "needs root to mount a small tmpfs"]
fn space_that_vanishes_during_a_run_leaves_the_old_content() {
    let place = Place::new();
    place.write("in.safetensors", linears(24, 192));
    let disk = Mount::new(place.join("disk"), "size=4m");
    place.run(["in.safetensors", OLD, "--out=disk/out/", "-q"]).exits(0);
    let old = snapshot(&place.join("disk/out"));
    let command =
        place.command(["in.safetensors", NEW, "--out=disk/out/", "--overwrite", "-q", "--threads=1"]);
    let child = start_and_freeze(command, &disk.0);
    let filler = place.join("disk/filler");
    std::fs::write(&filler, vec![1u8; 8 << 20]).expect_err("the disk is full");
    signal("CONT", &child);
    let output = child.wait_with_output().expect("an end");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(output.stdout.is_empty());
    assert!(
        stderr.starts_with("error: cannot write `") && stderr.contains("No space left on device"),
        "{stderr}"
    );
    assert!(stderr.ends_with("hint: free some space or write to another disk\n"), "{stderr}");
    std::fs::remove_file(filler).expect("the filler");
    assert_eq!(snapshot(&place.join("disk/out")), old);
    let beside: Vec<_> =
        std::fs::read_dir(&disk.0).expect("the disk").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(beside, ["out"], "nothing is left");
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "needs root to mount a small tmpfs"]
fn what_a_killed_run_left_does_not_take_the_next_one_its_space() {
    let place = Place::new();
    place.write("in.safetensors", linears(24, 192));
    let disk = Mount::new(place.join("disk"), "size=1400k");
    let command = place.command(["in.safetensors", NEW, "--out=disk/out/", "-q", "--threads=1"]);
    let mut child = start_and_freeze(command, &disk.0);
    child.kill().expect("a kill");
    child.wait().expect("an end");
    assert!(!disk.names().is_empty());
    place.run(["in.safetensors", NEW, "--out=disk/out/", "-q"]).exits(0);
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "needs root to mount a read-only tmpfs"]
fn a_read_only_disk_is_refused_before_work_begins() {
    let place = Place::new();
    place.write("in.safetensors", linears(2, 64));
    let disk = Mount::new(place.join("disk"), "size=4m");
    place.run(["in.safetensors", "--rank=8", "--out=disk/out/", "-q"]).exits(0);
    let status = Command::new("mount").args(["-o", "remount,ro"]).arg(&disk.0).status().expect("mount");
    assert!(status.success());
    for arguments in [
        ["in.safetensors", "--rank=4", "--out=disk/out/", "--overwrite"],
        ["in.safetensors", "--rank=4", "--out=disk/fresh.safetensors", "-q"],
    ] {
        place
            .refuses(1, arguments)
            .stderr_has("error: the folder `")
            .stderr_has("disk` is not writable: Read-only file system");
    }
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "needs root to mount a read-only tmpfs"]
fn a_page_that_cannot_be_written_is_told_before_the_output_is() {
    let place = Place::new();
    place.write("in.safetensors", linears(2, 64));
    let _disk = Mount::new(place.join("disk"), "size=1m,ro");
    place
        .refuses(1, ["in.safetensors", "--rank=8", "--out=out.safetensors", "--report=disk/page.html"])
        .stderr("error: can't write to `disk`: read-only filesystem or storage medium\n");
}
