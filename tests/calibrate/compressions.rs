//! The command line with calibration, on the smallest network that has a tokenizer.

use assert_cmd::Command;
use std::path::Path;

const NETWORK: &str = "fixtures/tiny-llama";

fn text(folder: &Path) -> String {
    let path = folder.join("text.txt");
    let lines: Vec<String> =
        (0..60).map(|i| format!("the {} of the {} is to be in it", i % 7, i * i)).collect();
    std::fs::write(&path, lines.join("\n")).unwrap();
    path.display().to_string()
}

fn compress(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::cargo_bin("compress").unwrap().args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn every_method_compresses_and_what_it_did_is_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let (file, out) = (text(folder.path()), |name: &str| folder.path().join(name).display().to_string());
    let data = format!("text:{file}");
    let statistics = out("statistics.safetensors");
    let (code, stdout, stderr) = compress(&[
        NETWORK,
        "--layer-keep",
        "0.5",
        "--calibrate",
        &data,
        "--out",
        &out("fisher"),
        "--save-statistics",
        &statistics,
    ]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("of output"), "{stdout}");
    let record = std::fs::read_to_string(folder.path().join("fisher/config.json")).unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    let recipe = &record["factorization"]["recipe"];
    assert_eq!(recipe["method"], "fisher");
    assert!(recipe["calibration"]["data"].is_string());
    for method in ["diagonal", "whitened", "fisher"] {
        let target = out(method);
        let (code, _, stderr) = compress(&[
            NETWORK,
            "--layer-keep",
            "0.5",
            "--statistics",
            &statistics,
            "--method",
            method,
            "--out",
            &target,
            "--overwrite",
            "--quiet",
        ]);
        assert_eq!(code, 0, "{stderr}");
        let (code, stdout, stderr) =
            compress(&["evaluate", &target, "--data", &data, "--max-perplexity", "1e9", "--quiet"]);
        assert_eq!(code, 0, "{stderr}");
        assert!(stdout.contains("perplexity") && stdout.contains("layers factored"), "{stdout}");
    }
    // the recipe of the first, repeated with its statistics, gives its bytes
    let again = out("again");
    let (code, _, stderr) = compress(&[
        NETWORK,
        "--recipe",
        &out("fisher"),
        "--statistics",
        &statistics,
        "--out",
        &again,
        "--quiet",
    ]);
    assert_eq!(code, 0, "{stderr}");
    let bytes = |name: &str| std::fs::read(folder.path().join(name).join("model.safetensors")).unwrap();
    assert!(bytes("again") == bytes("fisher"));
    // and the network that it was made of is asked for
    let (code, _, stderr) =
        compress(&["fixtures/tiny-gpt2", "--rank", "4", "--statistics", &statistics, "--out", &out("x")]);
    assert_eq!(code, 1);
    assert!(stderr.contains("are of another model"), "{stderr}");
}

#[test]
fn what_cannot_be_calibrated_is_refused_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let data = format!("text:{}", text(folder.path()));
    let target = folder.path().join("out").display().to_string();
    let refused = |arguments: &[&str], code: i32, expected: &str| {
        let mut all = arguments.to_vec();
        all.extend(["--out", target.as_str(), "--rank", "4"]);
        let (found, _, stderr) = compress(&all);
        assert_eq!(found, code, "{stderr}");
        assert!(stderr.contains(expected), "{stderr}");
        assert!(!Path::new(&target).exists());
    };
    refused(&["fixtures/tiny-resnet.safetensors", "--calibrate", &data], 1, "with config.json");
    refused(&["fixtures/tiny-bert", "--calibrate", &data], 1, "there is no tokenizer.json");
    refused(&["fixtures/tiny-vit", "--calibrate", &data], 1, "model type `vit`, which is not known here");
    refused(&[NETWORK, "--calibrate", "text:/nowhere"], 1, "cannot read `/nowhere`");
    refused(&[NETWORK, "--calibrate", "pages:x"], 2, "is not a format of data sets");
    refused(&[NETWORK, "--calibrate", &data, "--method", "plain"], 2, "knows nothing of data");
    refused(&[NETWORK, "--method", "whitened"], 2, "needs calibration");
    // what fails for another reason fails before the model is run
    for (arguments, expected_code, expected) in [
        (&["--target", "nothing"][..], 1, "nothing"),
        (&["--save-statistics", "/nowhere/statistics"], 1, "the folder `/nowhere` does not exist"),
        (&["--save-statistics", &format!("{target}/statistics")], 2, "lie inside the output"),
        (&["--save-statistics", &format!("{NETWORK}/config.json"), "--overwrite"], 1, "config.json"),
    ] {
        let mut all = vec![NETWORK, "--calibrate", &data, "--out", &target, "--rank", "4"];
        all.extend(arguments);
        let (code, _, stderr) = compress(&all);
        let is_expected = code == expected_code && stderr.contains(expected);
        assert!(is_expected && !stderr.contains("tokens in"), "{stderr}");
        assert!(!Path::new(&target).exists());
    }
    let dry = ["--calibrate", &data, "--dry-run", "--save-statistics", "x"];
    refused(&[&[NETWORK][..], &dry].concat(), 2, "cannot be used with");
    refused(&[NETWORK, "--calibrate", &data, "--overwrite", "--recipe", "/nowhere"], 1, "/nowhere");
    refused(&[NETWORK, "--calibration-tokens", "9"], 2, "there is no calibration");
    let empty = folder.path().join("empty.txt");
    std::fs::write(&empty, "\n").unwrap();
    let blank = format!("text:{}", empty.display());
    refused(&[NETWORK, "--calibrate", &blank], 1, "holds no text");
}

#[test]
fn flags_of_other_data_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = text(folder.path());
    for (data, flags, expected) in [
        (format!("text:{file}"), &["--min-spearman", "0.5"][..], "--min-spearman says nothing of a text"),
        (format!("stsb:{file}"), &["--window", "9"], "--window says nothing of pairs of sentences"),
        (format!("stsb:{file}"), &["--batch-size", "9"], "--batch-size says nothing of text"),
        (format!("cifar10:{file}"), &["--max-perplexity", "9"], "--max-perplexity says nothing of pictures"),
    ] {
        let (code, _, stderr) = compress(&[&["evaluate", NETWORK, "--data", &data], flags].concat());
        assert!(code == 2 && stderr.contains(expected), "{stderr}");
    }
}

#[test]
fn recipes_of_calibrated_compressions_are_not_trained_by_as_if_they_were_plain() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = folder.path().join("recipe.toml");
    std::fs::write(&recipe, "method = \"whitened\"\n[[rule]]\nrank = 4\n").unwrap();
    let out = folder.path().join("run").display().to_string();
    let network = "fixtures/resnet20-cifar10.safetensors";
    let recipe = recipe.display().to_string();
    let data = folder.path().display().to_string();
    std::fs::copy("fixtures/cifar10-500/test_batch.bin", folder.path().join("test_batch.bin")).unwrap();
    for batch in 1..=5 {
        let to = folder.path().join(format!("data_batch_{batch}.bin"));
        std::fs::copy("fixtures/cifar10-500/test_batch.bin", to).unwrap();
    }
    let data = format!("cifar10:{data}");
    let (code, _, stderr) = compress(&[
        "finetune", network, "--recipe", &recipe, "--data", &data, "--epochs", "1", "--out", &out,
    ]);
    assert!(code == 2 && stderr.contains("method `whitened` needs calibration"), "{stderr}");
    assert!(!Path::new(&out).exists());
}

/// Factors for what layers see once those before them are factored are others, and repeat themselves.
#[test]
fn the_first_block_sees_what_it_saw_and_the_last_what_the_others_have_become() {
    let folder = tempfile::tempdir().unwrap();
    let data = crate::pictures::cifar10(folder.path()).to_string();
    let made = |inputs: &str, name: &str| {
        let target = folder.path().join(name);
        let (code, stdout, stderr) = compress(&[
            "fixtures/resnet20-cifar10.safetensors",
            "--keep=0.4",
            "--calibrate",
            &data,
            "--calibration-images=30",
            "--calibration-inputs",
            inputs,
            "--json",
            "--quiet",
            "--out",
            &target.display().to_string(),
        ]);
        assert_eq!(code, 0, "{stderr}");
        let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
        (std::fs::read(target).unwrap(), report["layers"].as_array().unwrap().clone())
    };
    let (dense, layers) = made("dense", "dense.safetensors");
    let (seen, _) = made("compressed", "seen.safetensors");
    assert!(seen == made("compressed", "again.safetensors").0);
    let factor = |file: &[u8], layer: &serde_json::Value| {
        let found = safetensors::SafeTensors::deserialize(file).unwrap();
        let name = format!("{}.0.weight", layer["layer"].as_str().unwrap());
        found.tensor(&name).unwrap().data().to_vec()
    };
    let (first, last) = (&layers[0], &layers[layers.len() - 1]);
    assert!(factor(&seen, first) == factor(&dense, first), "{first}");
    assert!(factor(&seen, last) != factor(&dense, last), "{last}");
}

#[test]
fn convolutional_networks_are_run_over_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let data = crate::pictures::cifar10(folder.path()).to_string();
    let out = |name: &str| folder.path().join(name).display().to_string();
    let network = "fixtures/resnet20-cifar10.safetensors";
    let statistics = out("statistics.safetensors");
    let (code, stdout, stderr) = compress(&[
        network,
        "--keep",
        "0.4",
        "--calibrate",
        &data,
        "--calibration-images",
        "30",
        "--save-statistics",
        &statistics,
        "--out",
        &out("first.safetensors"),
    ]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stderr.contains("30 images in") || stderr.contains("30/30"), "{stderr}");
    assert!(stdout.contains("of output") && stdout.contains("of it calibration"), "{stdout}");
    let again = |flags: &[&str], name: &str| {
        let target = out(name);
        let given = ["--keep", "0.4", "--statistics", &statistics, "--out", &target, "--json", "--quiet"];
        compress(&[&[network][..], &given, flags].concat())
    };
    let (code, _, stderr) = again(&[], "second.safetensors");
    assert_eq!(code, 0, "{stderr}");
    let bytes = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    // Statistics say what they are of where nothing else does.
    assert!(bytes("first.safetensors") == bytes("second.safetensors"));
    let recipe = out("first.safetensors");
    let (code, stdout, stderr) = compress(&[
        network,
        "--recipe",
        &recipe,
        "--calibrate",
        &data,
        "--out",
        &out("third.safetensors"),
        "--json",
        "--quiet",
    ]);
    assert_eq!(code, 0, "{stderr}");
    assert!(bytes("first.safetensors") == bytes("third.safetensors"));
    let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["recipe"]["calibration"]["samples"], 30);
    assert!(report["totals"]["calibration_secs"].as_f64().unwrap() > 0.0);
    let layers = report["layers"].as_array().unwrap();
    assert!(layers.iter().all(|layer| layer["scheme"] == "spatial" && layer["output_error"].is_f64()));
    let (code, _, stderr) = again(&["--calibration-inputs", "compressed"], "refused.safetensors");
    assert!(code == 2 && stderr.contains("they need --calibrate DATA"), "{stderr}");
    for (flags, code, expected) in [
        (&["--calibrate", &data, "--calibration-images", "31"][..], 1, "of another choice of samples"),
        (&["--calibrate", &data, "--calibration-tokens", "31"], 2, "says nothing of pictures"),
        (&["--calibrate", "text:x", "--calibration-images", "31"], 2, "says nothing of texts"),
        (&["--calibrate", "cifar10:/nowhere"], 1, "/nowhere"),
    ] {
        let (found, _, stderr) = again(flags, "refused.safetensors");
        assert!(found == code && stderr.contains(expected), "{stderr}");
        assert!(!folder.path().join("refused.safetensors").exists());
    }
    let (code, _, stderr) = compress(&[
        "fixtures/tiny-resnext.safetensors",
        "--rank",
        "2",
        "--calibrate",
        &data,
        "--out",
        &out("refused.safetensors"),
    ]);
    assert!(code == 1 && stderr.contains("can't be run over pictures"), "{stderr}");
    // Collapsed, by channels and with statistics of batch normalization estimated anew, it is a network as before.
    let collapsed = out("collapsed.safetensors");
    let flags = ["--save", "collapsed", "--conv-scheme", "channel", "--recalibrate", &data];
    let (code, _, stderr) = compress(
        &[
            &[network, "--layer-keep", "0.4", "--statistics", &statistics, "--out", &collapsed][..],
            &["--method", "whitened", "--quiet"],
            &flags,
        ]
        .concat(),
    );
    assert_eq!(code, 0, "{stderr}");
    let (code, stdout, stderr) = compress(&["evaluate", &collapsed, "--data", &data, "--quiet"]);
    assert!(code == 0 && stdout.contains("resnet20, dense"), "{stdout}{stderr}");
}
