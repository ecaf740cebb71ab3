//! Runs that are killed or interrupted, and go on as if they had not been.

use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::harness::snapshot;
use crate::training_scene::{Scene, number};

/// Eight epochs of eight batches, the last of which has half as many pictures.
const EPOCHS: &str = "--epochs=8";

fn start(scene: &Scene, arguments: &[String]) -> Child {
    let mut command = scene.place.command(arguments);
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("a start")
}

/// Waits until the state in the folder has come this far; false if the run ended before.
fn reaches(scene: &Scene, child: &mut Child, out: &str, step: u64) -> bool {
    let deadline = Instant::now() + Duration::from_secs(60);
    while scene.position(out).is_none_or(|position| position["step"].as_u64() < Some(step)) {
        if child.try_wait().expect("a child").is_some() {
            return false;
        }
        assert!(Instant::now() < deadline, "step {step} was not reached");
        sleep(Duration::from_millis(1));
    }
    true
}

/// Kills a run again and again, resumes it to its end, and compares it with one that was left alone.
#[track_caller]
fn survives_kills(name: &str, flags: &[&str], save_every: &str) {
    factored_survives_kills(name, "--rank-ratio=0.5", flags, save_every);
}

/// The same with ranks by this rule.
#[track_caller]
fn factored_survives_kills(name: &str, ranks: &str, flags: &[&str], save_every: &str) {
    let scene = Scene::new();
    let command = [&["finetune", "dense.safetensors", ranks, EPOCHS, save_every][..], flags].concat();
    scene.trains(&command, "whole");
    let steps = scene.epochs("whole").last().expect("an epoch")["step"].as_u64().expect("a step");
    let mut random = ChaCha8Rng::seed_from_u64(steps + name.len() as u64);
    // The first kill may come before there is anything to resume.
    let mut targets = vec![0];
    targets.extend((0..4).map(|_| random.random_range(1..steps)));
    targets.sort_unstable();
    let (mut kills, mut amid) = (0, 0);
    for target in targets {
        let mut arguments = Scene::arguments(&command, "killed");
        let resumed = scene.position("killed").is_some();
        arguments.extend(resumed.then(|| "--resume".to_owned()));
        arguments.extend((!resumed && kills > 0).then(|| "--overwrite".to_owned()));
        let mut child = start(&scene, &arguments);
        if target == 0 || reaches(&scene, &mut child, "killed", target) {
            sleep(Duration::from_millis(random.random_range(0..40)));
        }
        let _ = child.kill();
        let ended = child.wait_with_output().expect("an end");
        let stderr = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.code().is_none_or(|code| code == 0), "{name}: {:?} {stderr}", ended.status);
        kills += usize::from(ended.status.code().is_none());
        amid +=
            usize::from(scene.position("killed").is_some_and(|position| number(&position, "batch") > 0.0));
        // What is there is whole.
        for file in ["best", "last"] {
            let path = format!("killed/checkpoints/{file}.safetensors");
            if scene.place.join(&path).exists() {
                scene.evaluated(&path);
            }
        }
    }
    assert!(kills >= 3 && amid >= 1, "{name}: {kills} kills, {amid} of them between two epochs' ends");
    let going_on = [&command[..], &["--resume"]].concat();
    scene.trains(&going_on, "killed");
    for file in ["model", "checkpoints/best", "checkpoints/last"] {
        let [whole, killed] =
            ["whole", "killed"].map(|out| scene.place.read(&format!("{out}/{file}.safetensors")));
        assert!(whole == killed, "{name}: {file}.safetensors differs");
    }
    let (whole, killed) = (scene.metrics("whole"), scene.metrics("killed"));
    for (one, other) in whole.iter().zip(&killed) {
        assert_eq!(one, other, "{name}");
    }
    assert_eq!(whole.len(), killed.len(), "{name}");
    // Nothing is left of what was being written.
    let hidden = |name: &std::path::PathBuf| name.to_string_lossy().contains("/.");
    let left: Vec<_> = scene.place.names().into_iter().filter(hidden).collect();
    assert!(left.is_empty(), "{name}: {left:?}");
}

#[test]
fn momentum_and_augmentation_survive_kills() {
    survives_kills("momentum", &["--momentum=0.9", "--nesterov", "--clip=5"], "--save-every=1");
}

#[test]
fn tensors_survive_kills() {
    for scheme in ["tucker", "cp", "tensor-train"] {
        factored_survives_kills(scheme, "--layer-keep=0.5", &["--scheme", scheme], "--save-every=5");
    }
}

#[test]
fn adamw_and_averages_survive_kills() {
    let flags = ["--optimizer=adamw", "--lr=0.002", "--average=0.95", "--warmup-steps=5"];
    survives_kills("adamw", &flags, "--save-every=2");
}

#[test]
fn pruning_at_once_survives_kills() {
    survives_kills("pruning", &["--prune-keep=0.5"], "--save-every=2");
}

#[test]
fn gradual_pruning_survives_kills() {
    survives_kills("gradual", &["--prune-keep=0.4", "--prune-until=0.8"], "--save-every=1");
}

#[test]
fn a_teacher_survives_kills() {
    let flags = ["--teacher=dense.safetensors", "--temperature=2", "--optimizer=lamb", "--lr=0.01"];
    survives_kills("teacher", &flags, "--save-every=2");
}

/// Eight batches make two steps of three batches and one of two.
#[test]
fn accumulation_survives_kills() {
    survives_kills("accumulate", &["--accumulate=3"], "--save-every=1");
}

#[test]
fn a_network_from_scratch_survives_kills() {
    let scene = Scene::new();
    let command = ["train", "--arch=resnet8", "--rank=4", "--init=default", EPOCHS, "--save-every=1"];
    scene.trains(&command, "whole");
    let mut child = start(&scene, &Scene::arguments(&command, "killed"));
    assert!(reaches(&scene, &mut child, "killed", 13));
    child.kill().expect("a kill");
    child.wait().expect("an end");
    scene.trains(&[&command[..], &["--resume"]].concat(), "killed");
    assert!(scene.place.read("whole/model.safetensors") == scene.place.read("killed/model.safetensors"));
}

#[cfg(unix)]
fn signal(name: &str, child: &Child) {
    let arguments = [format!("-{name}"), child.id().to_string()];
    let status = std::process::Command::new("kill").args(arguments).status().expect("kill");
    assert!(status.success(), "the child is still ours to signal");
}

#[cfg(unix)]
#[test]
fn an_interrupt_leaves_a_state_that_resumes() {
    let scene = Scene::new();
    let command = ["finetune", "dense.safetensors", "--rank-ratio=0.5", EPOCHS];
    scene.trains(&command, "whole");
    for (round, name) in ["INT", "TERM", "INT"].into_iter().enumerate() {
        let resumed = (round > 0).then_some("--resume");
        let command: Vec<&str> = command.into_iter().chain(resumed).collect();
        let mut child = start(&scene, &Scene::arguments(&command, "stopped"));
        assert!(reaches(&scene, &mut child, "stopped", 16 * round as u64));
        signal(name, &child);
        let output = child.wait_with_output().expect("an end");
        assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(
            String::from_utf8_lossy(&output.stderr),
            "\ninterrupted: --resume continues the run in `stopped`\n"
        );
    }
    scene.trains(&[&command[..], &["--resume"]].concat(), "stopped");
    assert!(scene.place.read("whole/model.safetensors") == scene.place.read("stopped/model.safetensors"));
}

/// A run that is complete has its result written again, and nothing trained.
#[test]
fn a_complete_run_resumes_to_itself() {
    let scene = Scene::new();
    let command = ["finetune", "dense.safetensors", "--rank-ratio=0.5", "--epochs=2"];
    scene.trains(&command, "run");
    let (model, metrics) = (scene.place.read("run/model.safetensors"), scene.place.read("run/metrics.jsonl"));
    std::fs::remove_file(scene.place.join("run/model.safetensors")).expect("a file");
    std::fs::remove_file(scene.place.join("run/report.json")).expect("a file");
    let resume = [&command[..], &["--resume"]].concat();
    scene.trains(&resume, "run").stdout_has("2 epochs, 16 steps");
    assert_eq!(scene.place.read("run/model.safetensors"), model);
    assert_eq!(scene.place.read("run/metrics.jsonl"), metrics);
    assert!(scene.place.join("run/report.json").exists());
    // The form and the choice of the result are not the run: they can change.
    scene.trains(&[&resume[..], &["--save=collapsed", "--result=best"]].concat(), "run");
    assert_ne!(scene.place.read("run/model.safetensors"), model);
}

/// The folders of data and run can move, and their names are not what a run depends on.
#[test]
fn what_has_moved_resumes() {
    let scene = Scene::new();
    let command = ["finetune", "dense.safetensors", "--epochs=1"];
    scene.trains(&command, "run");
    let model = scene.place.read("run/model.safetensors");
    for (from, to) in [("data", "elsewhere"), ("run", "moved"), ("dense.safetensors", "other.safetensors")] {
        std::fs::rename(scene.place.join(from), scene.place.join(to)).expect("a new name");
    }
    let arguments =
        ["finetune", "other.safetensors", "--epochs=1", "--data=cifar10:elsewhere", "--batch-size=8"];
    scene.place.run([&arguments[..], &["--out=moved", "--resume", "-q"]].concat()).exits(0);
    assert_eq!(scene.place.read("moved/model.safetensors"), model);
}

#[test]
fn two_processes_do_not_train_in_one_folder() {
    let scene = Scene::new();
    let command = ["finetune", "dense.safetensors", EPOCHS, "--save-every=1"];
    let mut child = start(&scene, &Scene::arguments(&command, "run"));
    assert!(reaches(&scene, &mut child, "run", 1));
    #[cfg(unix)]
    signal("STOP", &child);
    let before = snapshot(&scene.place.join("run"));
    for flag in ["--resume", "--overwrite"] {
        let arguments = Scene::arguments(&[&command[..], &[flag]].concat(), "run");
        scene.place.refuses(1, arguments).stderr_has("error: another process trains in `run`\nhint: wait");
    }
    assert_eq!(snapshot(&scene.place.join("run")), before);
    child.kill().expect("a kill");
    child.wait().expect("an end");
}
