//! Options of a run from a file, which every run leaves in its folder; and what is printed where.

use std::process::Stdio;

use crate::harness::run;
use crate::training_scene::Scene;

#[test]
fn the_options_of_a_run_repeat_it() {
    let scene = Scene::new();
    let same = |one: &str, other: &str| {
        let [one, other] = [one, other].map(|out| scene.place.read(&format!("{out}/model.safetensors")));
        one == other
    };
    let flags: &[&[&str]] = &[
        &[
            "finetune",
            "dense.safetensors",
            "--target=layer*.*.conv1",
            "--rank-ratio=0.5",
            "--ignore=layer3.**",
        ],
        &[
            "--optimizer=adamw",
            "--lr=0.003",
            "--schedule=linear",
            "--warmup-steps=3",
            "--seed=9223372036854775807",
        ],
        &[
            "--teacher=dense.safetensors",
            "--temperature=3",
            "--teacher-weight=0.5",
            "--average=0.9",
            "--clip=2",
        ],
        &["--prune-keep=0.7", "--prune-until=0.5", "--accumulate=2", "--label-smoothing=0.1", "--no-augment"],
        &[
            "--factor-decay=weight",
            "--frobenius-decay=0.01",
            "--weight-decay=0.02",
            "--decay-all",
            "--recalibrate",
        ],
        &["--train-limit=40", "--test-limit=20", "--result=best", "--save-every=3", "--epochs=2"],
    ];
    let flags: Vec<&str> = flags.concat();
    scene.trains(&flags, "one");
    scene.place.run(["finetune", "--options=one/options.toml", "--out=two", "-q"]).exits(0);
    assert!(same("one", "two"), "the same options give the same bytes");
    assert_eq!(scene.metrics("one"), scene.metrics("two"));
    let text = scene.place.text("two/options.toml").replace("out = \"two\"", "out = \"one\"");
    assert_eq!(text, scene.place.text("one/options.toml"));
    // In its own folder, with nothing but the file.
    scene.place.run(["finetune", "--options=one/options.toml", "--resume", "-q"]).exits(0);
    scene
        .place
        .refuses(1, ["finetune", "--options=one/options.toml"])
        .stderr_has("`one` holds a run already");

    let scratch =
        ["train", "--arch=resnet8", "--scheme=deep", "--init=default", "--epochs=1", "--save=collapsed"];
    scene.trains(&scratch, "deep");
    scene.place.run(["train", "--options=deep/options.toml", "--out=deeper", "-q"]).exits(0);
    assert!(same("deep", "deeper"));
    assert!(scene.place.text("deep/options.toml").contains("arch = \"resnet8\""));
}

#[test]
fn flags_override_the_file_and_leave_the_rest() {
    let scene = Scene::new();
    let text = "checkpoint = 'dense.safetensors'\ndata = 'cifar10:data'\nteacher = 'dense.safetensors'\n\
                [training]\nepochs = 1\nbatch_size = 8\nlearning_rate = 0.01\n\
                optimizer = { kind = 'sgd', momentum = 0.5, nesterov = true }\n\
                pruning = { keep = 0.8, schedule = { kind = 'gradual', begin = 0.25, end = 0.5, every_steps = 2 } }\n\
                [[recipe.rule]]\nrank_ratio = 0.5\n";
    scene.place.write("run.toml", text);
    let flags = ["--lr=0.005", "--optimizer=sgd", "--prune-keep=0.9", "--temperature=2", "--out=run", "-q"];
    let usual = ["finetune", "--options=run.toml"];
    scene.place.run([&usual[..], &flags].concat()).exits(0);
    let kept: toml::Table = scene.place.text("run/options.toml").parse().expect("TOML");
    let training = kept["training"].as_table().expect("a table");
    assert_eq!(training["learning_rate"].as_float(), Some(0.005));
    assert_eq!(training["epochs"].as_integer(), Some(1));
    // What neither says is as usual in fine-tuning.
    assert_eq!(training["schedule"]["kind"].as_str(), Some("cosine"));
    assert_eq!(training["optimizer"]["momentum"].as_float(), Some(0.5));
    assert_eq!(training["pruning"]["keep"].as_float(), Some(0.9));
    assert_eq!(training["pruning"]["schedule"]["every_steps"].as_integer(), Some(2));
    assert_eq!(training["distillation"]["temperature"].as_float(), Some(2.0));
    assert_eq!(training["distillation"]["weight"].as_float(), Some(0.9));
    assert_eq!(kept["data"].as_str(), Some("cifar10:data"));
    // Another optimizer starts from its own numbers.
    let adamw = [&usual[..], &["--optimizer=adamw", "--out=adamw", "-q"]].concat();
    scene.place.run(adamw).exits(0);
    assert!(scene.place.text("adamw/options.toml").contains("kind = \"adamw\""));
}

#[test]
fn what_is_wrong_in_a_file_is_named_with_its_line() {
    let scene = Scene::new();
    let refused = |code: i32, text: &str, expected: &str| {
        scene.place.write("run.toml", text);
        let arguments =
            ["finetune", "dense.safetensors", "--options=run.toml", "--data=cifar10:data", "--out=run"];
        scene.place.refuses(code, arguments).stderr_has(expected);
    };
    refused(
        1,
        "epoch = 3\n",
        "error: options `run.toml`: line 1, column 1: unknown field `epoch`, expected one of",
    );
    refused(
        1,
        "\n[training]\nepochs = 3\nlearningrate = 1\n",
        "line 4, column 1: unknown field `learningrate`",
    );
    refused(1, "[training]\nepochs = 'three'\n", "line 2, column 10: invalid type: string \"three\"");
    refused(1, "data = 'cifar10'\n", "line 1, column 8: `cifar10` does not say its format");
    refused(1, "arch = 'resnet9'\n", "`resnet9` is no architecture");
    refused(1, "device = 'gpu'\n", "expected `cpu`, `cuda` or `cuda:N`");
    refused(1, "epochs =\n", "options `run.toml`: line 1, column 9: ");
    refused(1, "[[recipe.rule]]\nrank = 0\n", "rank is 0, expected at least 1");
    refused(
        2,
        "[training]\nbatch_size = 0\nclip = -1.0\n",
        "error: `batch_size` is 0, expected at least 1; `clip` is -1",
    );
    refused(
        2,
        "[training]\ntrain_limit = 0\ntest_limit = 0\n",
        "error: `train_limit` is 0, expected at least 1; `test_limit` is 0, expected at least 1",
    );
    refused(1, "[training]\ndistillation = { weight = 0.5 }\n", "no teacher is named");
    scene
        .place
        .refuses(1, ["finetune", "--options=none.toml"])
        .stderr_has("error: can't read `none.toml`: No such");
    scene.place.write("run.toml", "[training]\nepochs = 1\n");
    let needed = "is needed, as a flag or in the options file\nhint: `compress finetune --help`";
    let arguments = ["finetune", "dense.safetensors", "--options=run.toml"];
    scene.place.refuses(2, arguments).stderr_has("error: --data ").stderr_has(needed);
    scene.place.refuses(2, ["finetune", "--options=run.toml"]).stderr_has("error: no checkpoint is named");
}

/// One line for each epoch, and nothing that a terminal alone understands.
#[test]
fn without_a_terminal_epochs_are_lines() {
    let scene = Scene::new();
    let mut arguments =
        Scene::arguments(&["finetune", "dense.safetensors", "--rank-ratio=0.5", "--epochs=3"], "run");
    arguments.retain(|argument| argument != "-q");
    let loud = scene.place.run(&arguments).exits(0);
    let epochs: Vec<&str> = loud.stderr.lines().filter(|line| line.starts_with("epoch ")).collect();
    assert_eq!(epochs.len(), 3, "{}", loud.stderr);
    for (index, line) in epochs.iter().enumerate() {
        let expected = format!("epoch {}/3: loss ", index + 1);
        assert!(
            line.starts_with(&expected) && line.contains(" %; test loss ") && line.ends_with(" s"),
            "{line}"
        );
    }
    assert_eq!(loud.stderr.lines().filter(|line| line.starts_with("before training: test loss ")).count(), 1);
    assert!(
        loud.stderr.lines().any(|line| line.starts_with("factors ") && line.ends_with("frobenius 0.0001"))
    );
    assert!(!loud.stderr.contains('\u{1b}') && !loud.stdout.contains('\u{1b}'));
    let run = loud.stdout_has("trained parameters, ").stdout_has("3 epochs, 24 steps, 180 images in ");
    run.stdout_has("written to run\n");
    scene.place.run(["evaluate", "run/model.safetensors", "--data=cifar10:data"]).exits(0).stderr("");
}

#[test]
fn a_document_is_all_that_stdout_gets() {
    let scene = Scene::new();
    let command = ["finetune", "dense.safetensors", "--rank-ratio=0.5", "--epochs=1", "--json"];
    let mut arguments = Scene::arguments(&command, "run");
    arguments.retain(|argument| argument != "-q");
    let loud = scene.place.run(&arguments).exits(0);
    let document = loud.json();
    assert_eq!(document["command"], "finetune");
    let stored: serde_json::Value =
        serde_json::from_slice(&scene.place.read("run/report.json")).expect("JSON");
    assert_eq!(document, stored);
    assert!(loud.stderr.contains("epoch 1/1: "), "{}", loud.stderr);
    let trained = scene.trains(&["train", "--arch=resnet8", "--epochs=0", "--json"], "scratch").stderr("");
    assert_eq!(trained.json()["command"], "train");
    let evaluated = scene.place.run(["evaluate", "run/model.safetensors", "--data=cifar10:data", "--json"]);
    assert_eq!(evaluated.exits(0).json()["command"], "evaluate");
}

#[test]
fn a_reader_that_goes_away_is_not_an_error() {
    let scene = Scene::new();
    for command in [
        &["train", "--arch=resnet8", "--epochs=0"][..],
        &["finetune", "dense.safetensors", "--epochs=0", "--json"],
    ] {
        let mut child = scene
            .place
            .command(Scene::arguments(command, command[0]))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a start");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("an end");
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stderr.is_empty());
        assert!(scene.place.join(&format!("{}/report.html", command[0])).exists());
    }
    // Nor is a stderr that nobody reads a reason to stop.
    let mut arguments = Scene::arguments(&["train", "--arch=resnet8", "--epochs=1"], "unread");
    arguments.retain(|argument| argument != "-q");
    let mut command = scene.place.command(arguments);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("a start");
    drop(child.stderr.take());
    assert_eq!(child.wait().expect("an end").code(), Some(0));
    assert!(run(scene.place.command(["inspect", "unread/model.safetensors", "-q"])).code == Some(0));
}

/// Factors are trained, and multiplied out at the end.
#[test]
fn a_recipe_says_how_the_result_is_saved() {
    let scene = Scene::new();
    scene.place.write("recipe.toml", "save = \"collapsed\"\n[[rule]]\nrank_ratio = 0.25\n");
    let command = ["finetune", "dense.safetensors", "--recipe=recipe.toml", "--epochs=1"];
    scene.trains(&command, "collapsed");
    let dense = crate::harness::shapes(&scene.place.read("dense.safetensors"));
    let shapes = |name: &str| crate::harness::shapes(&scene.place.read(name));
    assert_eq!(shapes("collapsed/model.safetensors"), dense);
    assert!(shapes("collapsed/checkpoints/last.safetensors").contains_key("layer1.0.conv1.0.weight"));
    scene.trains(&[&command[..], &["--save=factored"]].concat(), "factored");
    assert!(shapes("factored/model.safetensors").contains_key("layer1.0.conv1.0.weight"));
}
