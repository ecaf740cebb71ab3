//! What training and evaluation refuse: how it is said, and that nothing is lost.

use crate::harness::{Place, fixture, header, raw, snapshot};
use crate::training_scene::{Scene, dense, number, records};

const TUNED: [&str; 4] = ["finetune", "dense.safetensors", "--rank-ratio=0.5", "--epochs=1"];

/// The command with a flag or two more, refused.
#[track_caller]
fn refuses(scene: &Scene, code: i32, command: &[&str], out: &str) -> crate::harness::Run {
    scene.place.refuses(code, Scene::arguments(command, out))
}

#[test]
fn a_run_that_was_begun_differently_is_not_resumed() {
    let scene = Scene::new();
    scene.trains(&TUNED, "run");
    dense(&scene.place.join("other.safetensors"), "resnet8", 10, 2);
    let hint = "\nhint: resume with the options of the beginning, or begin anew with --overwrite\n";
    let resumes = |flags: &[&str], expected: &[&str]| {
        let command = [&TUNED[..], &["--resume"], flags].concat();
        let run = refuses(&scene, 1, &command, "run");
        let mut run = run.stderr_has("error: the run in `run` was begun differently: ").stderr_has(hint);
        for part in expected {
            run = run.stderr_has(part);
        }
    };
    resumes(&["--lr=0.5"], &["`options.learning_rate` was 0.02, now it is 0.5"]);
    resumes(&["--seed=3"], &["`options.seed` was 0, now it is 3"]);
    resumes(
        &["--seed=3", "--average=0.9"],
        &["`options.seed` was 0, now it is 3", "`options.average` was null, now it is 0.9"],
    );
    resumes(&["--optimizer=adamw"], &["`options.optimizer.kind` was \"sgd\", now it is \"adamw\""]);
    resumes(&["--train-limit=50"], &["`options.train_limit` was null, now it is 50", "`train_data` was "]);
    resumes(&["--teacher=dense.safetensors"], &["`teacher` was null, now it is "]);

    let other = ["finetune", "other.safetensors", "--rank-ratio=0.5", "--epochs=1", "--resume"];
    refuses(&scene, 1, &other, "run")
        .stderr_has("differently: `checkpoint` was \"")
        .stderr_has(", now it is \"");
    let recipe = ["finetune", "dense.safetensors", "--rank-ratio=0.25", "--epochs=1", "--resume"];
    refuses(&scene, 1, &recipe, "run").stderr_has("`recipe.").stderr_has("now it is");
    let plain = ["finetune", "dense.safetensors", "--epochs=1", "--resume"];
    refuses(&scene, 1, &plain, "run").stderr_has("`recipe").stderr_has("now it is null");
    let scratch = ["train", "--arch=resnet8", "--rank-ratio=0.5", "--epochs=1", "--resume"];
    refuses(&scene, 1, &scratch, "run").stderr_has("`command` was \"finetune\", now it is \"train\"");

    scene.place.write("data/data_batch_3.bin", records(99, 12));
    let resume = [&TUNED[..], &["--resume"]].concat();
    refuses(&scene, 1, &resume, "run").stderr_has("differently: `train_data` was \"cifar10-train-60-");
}

#[test]
fn a_state_that_is_missing_or_damaged_is_not_resumed() {
    let scene = Scene::new();
    let resume = [&TUNED[..], &["--resume"]].concat();
    let run = refuses(&scene, 1, &resume, "run");
    run.stderr_has("error: `run/checkpoints/state.safetensors` can't be resumed: there is no state")
        .stderr_has("\nhint: begin the run anew");

    scene.trains(&TUNED, "run");
    let state = "run/checkpoints/state.safetensors";
    let good = scene.place.read(state);
    scene.place.write(state, &good[..good.len() - 100]);
    refuses(&scene, 1, &resume, "run")
        .stderr_has("state.safetensors` is not a valid checkpoint: the file is tr");
    let (mut head, start) = header(&good);
    let text = head["__metadata__"]["training"].as_str().expect("a position").to_owned();
    for (damaged, problem) in [
        (text.replace("\"epoch\"", "\"epic\""), "its position cannot be read: "),
        ("no JSON".to_owned(), "can't be resumed: "),
        ("\"text\"".to_owned(), "the run in `run` was begun differently: "),
    ] {
        head["__metadata__"]["training"] = damaged.into();
        scene.place.write(state, raw(&head.to_string(), &good[start..]));
        refuses(&scene, 1, &resume, "run").stderr_has(problem);
    }
    let (mut head, start) = header(&good);
    let tensor = head["model.conv1.weight"].take();
    head.as_object_mut().expect("a header").remove("model.conv1.weight");
    head["model.conv2.weight"] = tensor;
    scene.place.write(state, raw(&head.to_string(), &good[start..]));
    let run = refuses(&scene, 1, &resume, "run");
    run.stderr_has("state.safetensors` can't be resumed: the saved state lacks the parameter `conv1.weight`");
}

/// A step so large that what follows is no number; everything before it stays.
#[test]
fn a_loss_that_is_no_number_stops_training() {
    let scene = Scene::new();
    for (out, flags) in [("each", &["--save-every=1"][..]), ("epochs", &[])] {
        let huge = ["finetune", "dense.safetensors", "--epochs=3", "--lr=1e30", "--schedule=constant"];
        let command = [&huge[..], flags].concat();
        let run = scene.place.run(Scene::arguments(&command, out)).exits(1).stdout_is_empty();
        let run = run.stderr_has(" became ").stderr_has(" of epoch 1, with learning rate 1e30\n");
        run.stderr_has("hint: the last state before it is kept; a smaller --learning-rate");
        for file in ["best", "last"] {
            let report = scene.evaluated(&format!("{out}/checkpoints/{file}.safetensors"));
            assert!(number(&report, "loss").is_finite());
        }
        let bytes = scene.place.read(&format!("{out}/checkpoints/state.safetensors"));
        let (head, start) = header(&bytes);
        for (name, tensor) in head.as_object().expect("a header") {
            if tensor["dtype"] == "F32" {
                let range = crate::harness::range_of(&bytes, name);
                assert!(range.start >= start);
                let elements = bytes[range].chunks(4).map(|x| f32::from_le_bytes([x[0], x[1], x[2], x[3]]));
                assert!(elements.into_iter().all(f32::is_finite), "{out}: {name}");
            }
        }
        assert!(!scene.place.join(&format!("{out}/model.safetensors")).exists());
    }
}

#[test]
fn accuracy_that_is_asked_for() {
    let scene = Scene::new();
    let command = [&TUNED[..], &["--min-accuracy=1", "--json"]].concat();
    let run = scene.place.run(Scene::arguments(&command, "run")).exits(3);
    let report = run.json();
    assert_eq!(report["checks"][0]["passed"], false);
    let run = run.stderr_has("check failed: ");
    assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
    assert!(scene.place.join("run/model.safetensors").exists(), "the result is there all the same");

    let evaluate = ["evaluate", "run/model.safetensors", "--data=cifar10:data", "-q", "--json"];
    let measured = scene.place.run([&evaluate[..], &["--min-accuracy=1"]].concat()).exits(3).json();
    assert_eq!(measured["checks"][0]["check"], report["checks"][0]["check"]);
    let accuracy = number(&measured, "accuracy").max(1e-9);
    scene
        .place
        .run([&evaluate[..], &[&format!("--min-accuracy={accuracy}")]].concat())
        .exits(i32::from(number(&measured, "accuracy") == 0.0) * 3);
}

#[test]
fn wrong_usage_exits_with_2() {
    let scene = Scene::new();
    let usage = |arguments: &[&str], expected: &str| {
        let run = refuses(&scene, 2, arguments, "run").stderr_has(expected);
        assert!(run.stderr.lines().count() > 1, "{}", run.stderr);
    };
    let tune = |flags: &[&'static str]| [&["finetune", "dense.safetensors"][..], flags].concat();
    let rules = "one of --rank, --rank-ratio, --energy, --keep, --layer-keep is needed\nhint: `compress finetune --help`";
    usage(&tune(&["--target=layer1.*.conv1"]), &format!("error: the selected layers get no rank: {rules}"));
    usage(&tune(&["--scheme=channel"]), &format!("error: the selected layers get no rank: {rules}"));
    usage(&tune(&["--round-to=8"]), &format!("error: no rank is given: {rules}"));
    usage(
        &tune(&["--scheme=deep", "--energy=0.9"]),
        "--scheme deep takes its rank from --rank or --rank-ratio",
    );
    usage(&tune(&["--rank=4", "--keep=0.5"]), "cannot be used with");
    usage(&tune(&["--optimizer=adam"]), "invalid value 'adam' for '--optimizer <NAME>'");
    usage(&tune(&["--schedule=cosin"]), "'--schedule <NAME>'");
    usage(&tune(&["--resume", "--overwrite"]), "cannot be used with");
    usage(&tune(&["--lr=-1"]), "'--learning-rate <F>': expected a number from 0 up");
    usage(&tune(&["--lr", "-1"]), "'--learning-rate <F>': expected a number from 0 up");
    usage(&tune(&["--epochs=-1"]), "'--epochs <N>'");
    usage(&tune(&["--batch-size=0"]), "'--batch-size <N>': expected a whole number from 1 up");
    usage(&tune(&["--save-every=0"]), "'--save-every <N>'");
    usage(&tune(&["--seed=18446744073709551615"]), "'--seed <N>'");
    usage(&tune(&["--average=1"]), "error: `average` is 1, expected above 0 and below 1\nhint: ");
    usage(&tune(&["--label-smoothing=1.5"]), "`label_smoothing` is 1.5, expected at least 0 and below 1");
    usage(&tune(&["--momentum=1.5"]), "momentum 1.5 is not ");
    usage(&tune(&["--momentum=0.5", "--optimizer=adamw"]), "--momentum and --nesterov are sgd's");
    usage(&tune(&["--temperature=2"]), "--teacher is needed");
    usage(&tune(&["--prune-until=0.5"]), "--prune-keep is needed");
    usage(&tune(&["--device=gpu"]), "expected `cpu`, `cuda` or `cuda:N`");
    usage(&tune(&["--min-accuracy=90"]), "expected a number above 0 and at most 1");
    usage(&["train"], "error: no architecture is named: --arch is needed\nhint: `compress train --help`");
    usage(&["train", "--arch=resnet21"], "`resnet21` is no architecture");
    usage(&["train", "--arch=resnet8x99999999999"], "`resnet8x99999999999` is no architecture");
    usage(&["train", "--arch=wrn-6000000004-1"], "`wrn-6000000004-1` is no architecture");
    usage(
        &["train", "--arch=resnet8", "--init=default"],
        "--init is about factors, and no layer gets a rank",
    );
    let place = &scene.place;
    place.refuses(2, ["finetune", "dense.safetensors", "--out=run"]).stderr_has("--data <DATA>");
    place.refuses(2, ["finetune", "dense.safetensors", "--data=cifar10:data"]).stderr_has("--out <DIR>");
    place.refuses(2, ["finetune", "--data=cifar10:data", "--out=run"]).stderr_has("<CHECKPOINT>");
    place.refuses(2, ["evaluate", "dense.safetensors"]).stderr_has("--data <DATA>");
    let format = "`cifar` is not a format of data sets, expected cifar10, cifar100, mnist,";
    place.refuses(2, ["evaluate", "dense.safetensors", "--data=cifar:data"]).stderr_has(format);
    place
        .refuses(2, ["train", "--arch=resnet8", "--data=data", "--out=run"])
        .stderr_has("does not say its format");
    place
        .refuses(2, ["evaluate", "dense.safetensors", "--data=cifar10:data", "--limit", "-3"])
        .stderr_has("'--limit <N>': expected a whole number from 1 up");
}

#[test]
fn data_that_do_not_fit_are_refused() {
    let scene = Scene::new();
    dense(&scene.place.join("hundred.safetensors"), "resnet8", 100, 1);
    let classes = "error: the data has 10 classes, the network 100\n";
    refuses(&scene, 1, &["finetune", "hundred.safetensors", "--rank-ratio=0.5"], "run").stderr(classes);
    let evaluate = |checkpoint: &str, data: &str| {
        scene.place.refuses(1, ["evaluate", checkpoint, &format!("--data={data}"), "-q"])
    };
    evaluate("hundred.safetensors", "cifar10:data").stderr(classes);
    refuses(&scene, 1, &[&TUNED[..], &["--teacher=hundred.safetensors"]].concat(), "run").stderr_has(classes);

    let idx = |dims: &[u32], count: usize| {
        let mut bytes = vec![0, 0, 8, dims.len() as u8];
        bytes.extend(dims.iter().flat_map(|dim| dim.to_be_bytes()));
        bytes.extend((0..count).map(|index| (index % 10) as u8));
        bytes
    };
    for split in ["train", "t10k"] {
        scene.place.write(&format!("digits/{split}-images-idx3-ubyte"), idx(&[10, 28, 28], 7840));
        scene.place.write(&format!("digits/{split}-labels-idx1-ubyte"), idx(&[10], 10));
    }
    let channels = "the data's pictures have 1 channels, the network takes 3";
    evaluate("dense.safetensors", "mnist:digits").stderr_has(channels);
    // Five times halved, 28 pixels are none.
    let small = ["train", "--arch=vgg11", "--data=mnist:digits", "--out=run", "-q"];
    scene.place.refuses(1, small).stderr_has("error: `vgg11` does not take pictures of 28 x 28: a kernel ");

    evaluate("dense.safetensors", "cifar10:nowhere")
        .stderr("error: the folder `nowhere` of the data set does not exist\n");
    std::fs::remove_file(scene.place.join("data/data_batch_4.bin")).expect("a file");
    refuses(&scene, 1, &TUNED, "run")
        .stderr_has("error: the train split of cifar10 lacks `data_batch_4.bin` (looked in `data`");
    scene.place.write("data/data_batch_4.bin", &records(4, 2)[..4000]);
    refuses(&scene, 1, &TUNED, "run").stderr_has("`data/data_batch_4.bin` has the wrong size: expected ");
}

#[test]
fn a_checkpoint_of_another_kind_is_refused() {
    let scene = Scene::new();
    let bert = fixture("tiny-bert");
    let error = "error: the architecture cannot be told from the checkpoint's names: there is no ";
    let hint = "\nhint: name it with --arch, a teacher's with --teacher-arch: resnet20 to resnet110";
    let run = refuses(&scene, 1, &["finetune", &bert, "--rank-ratio=0.5"], "run");
    // Before a layer is factored for nothing.
    run.stderr_has(error).stderr_has(hint).stderr_lacks("factored");
    scene.place.refuses(1, ["evaluate", &bert, "--data=cifar10:data"]).stderr_has(error).stderr_has(hint);
    let named = ["evaluate", &bert, "--data=cifar10:data", "--arch=resnet8"];
    scene.place.refuses(1, named).stderr_has("missing `conv1.weight`");
    let other = ["evaluate", "dense.safetensors", "--data=cifar10:data", "--arch=resnet14"];
    scene.place.refuses(1, other).stderr_has("missing `layer1.1.conv1.weight`");
    scene
        .place
        .refuses(1, ["evaluate", "nothing.safetensors", "--data=cifar10:data"])
        .stderr_has("`nothing.sa");

    scene.trains(&TUNED, "run");
    let twice = ["finetune", "run/model.safetensors", "--rank=2"];
    let run = refuses(&scene, 1, &twice, "again")
        .stderr_has("error: `run/model.safetensors` is factored already, in ");
    run.stderr_has("it takes no rank");
    // As it is, it trains on.
    scene.trains(&["finetune", "run/model.safetensors", "--epochs=1"], "again");
    let before = &scene.epochs("again")[0];
    assert_eq!(before["test_accuracy"], scene.epochs("run")[1]["test_accuracy"]);
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_gpu_needs_a_build_for_it() {
    let scene = Scene::new();
    let error = "error: `cuda:0` needs a program built with `--features cuda`\n";
    refuses(&scene, 1, &[&TUNED[..], &["--device=cuda"]].concat(), "run").stderr(error);
    let evaluate = ["evaluate", "dense.safetensors", "--data=cifar10:data", "--device=cuda:0"];
    scene.place.refuses(1, evaluate).stderr(error);
    let mut traced = scene.place.command(evaluate);
    traced.env("RUST_BACKTRACE", "1");
    crate::harness::run(traced).exits(1).stderr(error);
}

#[test]
fn what_is_no_run_is_never_replaced() {
    let scene = Scene::new();
    scene.place.write("mine/thesis.txt", "years of work");
    scene.place.write("file", "a file");
    for flags in [&[][..], &["--overwrite"], &["--resume"]] {
        let command = [&TUNED[..], flags].concat();
        let hint = "hint: name a folder of its own: only what a run wrote is ever replaced\n";
        refuses(&scene, 1, &command, "mine")
            .stderr(&format!("error: `mine` is not empty, and holds no run\n{hint}"));
        refuses(&scene, 1, &command, "file")
            .stderr("error: `file` is a file, expected a folder for the run\n");
        refuses(&scene, 1, &command, "file/run")
            .stderr("error: `file` is a file, expected a folder for the run\n");
    }
    scene.trains(&TUNED, "run");
    let taken = "error: `run` holds a run already\nhint: --resume continues it, --overwrite replaces it\n";
    refuses(&scene, 1, &TUNED, "run").stderr(taken);
    // What a run did not write stays when it is replaced.
    scene.place.write("run/notes.txt", "mine");
    scene.trains(&[&TUNED[..], &["--overwrite", "--seed=1"]].concat(), "run");
    assert_eq!(scene.place.text("run/notes.txt"), "mine");
    assert_eq!(scene.epochs("run").len(), 2);
    let events = |name: &std::path::PathBuf| name.to_string_lossy().contains("tfevents");
    assert_eq!(scene.place.names().iter().filter(|name| events(name)).count(), 1);

    // A run that would remove what it reads.
    for flags in [&["run/model.safetensors"][..], &["dense.safetensors", "--teacher=run/model.safetensors"]] {
        let command = [&["finetune"][..], flags, &["--epochs=1", "--overwrite"]].concat();
        let run = refuses(&scene, 1, &command, "./run/");
        run.stderr_has(
            "error: the input `run/model.safetensors` lies in `./run/`, whose run is to be replaced",
        );
    }
    // What is refused late leaves the earlier run as it was.
    let before = snapshot(&scene.place.join("run"));
    let command = [&TUNED[..], &["--overwrite", "--prune-keep=0.001"]].concat();
    refuses(&scene, 1, &command, "run").stderr_has("pruning cannot keep 0.001 of all parameters");
    assert_eq!(snapshot(&scene.place.join("run")), before);
}

#[test]
fn a_run_does_not_lie_among_pictures() {
    let scene = Scene::new();
    let picture = image::RgbImage::from_fn(32, 32, |x, y| image::Rgb([x as u8 * 7, y as u8 * 7, 9]));
    for folder in ["train/cat", "train/dog", "val/cat", "val/dog"] {
        std::fs::create_dir_all(scene.place.join(&format!("pets/{folder}"))).expect("a folder");
        picture.save(scene.place.join(&format!("pets/{folder}/1.png"))).expect("a picture");
    }
    let train = ["train", "--arch=resnet8", "--data=images:pets", "-q", "--epochs=0"];
    let run = |out: &'static str| [&train[..], &[out]].concat();
    scene.place.refuses(1, run("--out=pets/train/run")).stderr_has("lies among the pictures of the data set");
    scene.place.run(run("--out=pets/run")).exits(0);
}

/// Root may write everywhere.
#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_written_is_refused_before_work_begins() {
    use std::os::unix::fs::PermissionsExt as _;
    let scene = Scene::new();
    let closed = scene.place.join("closed");
    std::fs::create_dir(&closed).expect("a folder");
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o555)).expect("permissions");
    if tempfile::tempfile_in(&closed).is_err() {
        let run =
            refuses(&scene, 1, &TUNED, "closed/run").stderr_has("error: the folder `closed` is not writable");
        run.stderr_lacks("factored");
    }
    let nowhere = Place::new();
    nowhere.write("file", "");
    refuses(&scene, 1, &TUNED, &format!("{}/a/b", nowhere.join("file").display())).stderr_has("file");
}
