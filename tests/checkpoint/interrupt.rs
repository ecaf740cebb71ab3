//! Runs that end in the middle: interrupted, or killed. Each is a process of its own: this binary, asked for one
//! test, with the folder in its environment.

use std::{
    env,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use fnl::checkpoint::{Checkpoint, Dtype, OutputError, OutputOptions, Staging, abandon_all};
use rand::{Rng, SeedableRng};

use crate::fixture::{bytes_file, folder, names, output, put};

const FOLDER: &str = "FNL_TEST_FOLDER";

/// The folder of a test that runs as the child of another; `None` in the usual run.
fn own_folder() -> Option<PathBuf> {
    env::var_os(FOLDER).map(PathBuf::from)
}

fn start(test: &str, folder: &Path) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads", "1"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits until a child has said so.
fn wait_for(child: &mut Child, word: &str) {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains(word)), "the child never said `{word}`");
}

#[test]
fn as_child_write_and_wait() {
    let Some(folder) = own_folder() else { return };
    let target = folder.join("out");
    let options = OutputOptions { overwrite: true, ..OutputOptions::directory(&target) };
    let staging = Staging::create(&options, &[output("new", Dtype::U8, &[100])]).unwrap();
    staging.add_file(Path::new("a/b"), b"x").unwrap();
    println!("\nwriting");
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_killed_run_keeps_the_old_content_and_the_next_run_cleans_up() {
    let folder = folder();
    put(folder.path(), "out/model.safetensors", bytes_file(&[("old", 3)], ""));
    let mut child = start("interrupt::as_child_write_and_wait", folder.path());
    wait_for(&mut child, "writing");
    assert_eq!(names(folder.path()).len(), 2);

    // Another run meanwhile: the lock of the first is held.
    drop(Staging::create(&OutputOptions::file(&folder.path().join("x")), &[]).unwrap());
    assert_eq!(names(folder.path()).len(), 2);

    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(names(folder.path()).len(), 2);
    assert!(Checkpoint::open_path(&folder.path().join("out")).unwrap().get("old").is_some());
    drop(Staging::create(&OutputOptions::file(&folder.path().join("x")), &[]).unwrap());
    assert_eq!(names(folder.path()), ["out"]);
}

#[test]
fn as_child_publish_again_and_again() {
    let Some(folder) = own_folder() else { return };
    let tensors = [output("a", Dtype::U8, &[20_000]), output("b", Dtype::U8, &[20_000])];
    println!("\nwriting");
    for round in 0u8.. {
        let round = round % 250;
        for options in [
            OutputOptions::directory(&folder.join("out")),
            OutputOptions::file(&folder.join("x.safetensors")),
        ] {
            let options = OutputOptions { overwrite: true, max_shard_bytes: 20_000, ..options };
            let staging = Staging::create(&options, &tensors).unwrap();
            staging.write("a", &vec![round; 20_000]).unwrap();
            staging.write("b", &vec![round; 20_000]).unwrap();
            staging.publish(None).unwrap();
        }
    }
}

#[test]
fn killed_at_random_moments_a_final_name_has_the_whole_of_one_run() {
    let folder = folder();
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(50);
    for _ in 0..50 {
        let mut child = start("interrupt::as_child_publish_again_and_again", folder.path());
        wait_for(&mut child, "writing");
        std::thread::sleep(Duration::from_micros(random.random_range(0..40_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        for target in ["out", "x.safetensors"] {
            let target = folder.path().join(target);
            if !target.exists() {
                continue;
            }
            let checkpoint = Checkpoint::open_path(&target).unwrap();
            let first = checkpoint.bytes(checkpoint.get("a").unwrap()).unwrap();
            let second = checkpoint.bytes(checkpoint.get("b").unwrap()).unwrap();
            assert!(first.iter().chain(second.iter()).all(|byte| *byte == first[0]));
            assert_eq!((first.len(), second.len()), (20_000, 20_000));
        }
    }
    drop(Staging::create(&OutputOptions::file(&folder.path().join("y")), &[]).unwrap());
    assert_eq!(names(folder.path()), ["out", "x.safetensors"]);
}

#[test]
fn as_child_abandon() {
    let Some(folder) = own_folder() else { return };
    let tensors: Vec<_> = (0..1000).map(|index| output(&format!("w{index}"), Dtype::U8, &[10_000])).collect();
    let first = Staging::create(&OutputOptions::directory(&folder.join("first")), &tensors).unwrap();
    let second = Staging::create(&OutputOptions::file(&folder.join("second")), &tensors[..1]).unwrap();
    let done = Staging::create(&OutputOptions::file(&folder.join("done")), &tensors[..1]).unwrap();
    done.write("w0", &[1; 10_000]).unwrap();
    done.publish(None).unwrap();
    std::thread::scope(|scope| {
        let (started, wait) = std::sync::mpsc::channel();
        let first = &first;
        let writer = scope.spawn(move || {
            for index in 0.. {
                match first.write(&format!("w{index}"), &[1; 10_000]) {
                    Ok(()) => started.send(()).unwrap(),
                    Err(error) => return error,
                }
            }
            unreachable!()
        });
        wait.recv().unwrap();
        abandon_all();
        let error = writer.join().unwrap();
        assert!(matches!(error, OutputError::Abandoned | OutputError::UnknownTensor { .. }), "{error}");
    });
    assert_eq!(names(&folder), ["done"]);
    assert_eq!(second.write("w0", &[1; 10_000]).unwrap_err().to_string(), "interrupted: nothing is written");
    assert!(matches!(second.add_file(Path::new("x"), b""), Err(OutputError::SideFile { .. })));
    assert!(matches!(first.add_file(Path::new("x"), b""), Err(OutputError::Abandoned)));
    assert!(matches!(first.publish(None), Err(OutputError::Abandoned)));
    let late = Staging::create(&OutputOptions::file(&folder.join("late")), &[]);
    assert!(matches!(late, Err(OutputError::Abandoned)));
    assert_eq!(names(&folder), ["done"]);
    println!("\nabandoned");
}

#[test]
fn an_interrupted_run_leaves_nothing_behind() {
    let folder = folder();
    let output = start("interrupt::as_child_abandon", folder.path()).wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("abandoned"), "{text}");
    assert_eq!(names(folder.path()), ["done"]);
}
