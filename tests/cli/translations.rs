//! `compress evaluate` on parallel texts: report, checks and refusals; `compress translate`.

use crate::harness::{Place, fixture, run};
use crate::training_schema::assert_schema;
use candle_core::Device;
use fnl::checkpoint::OutputOptions;
use fnl::data::TextTokenizer;
use fnl::models::{TranslationConfig, TranslationNetwork};
use std::fs;
use std::path::Path;

/// A small network with random weights, in a folder, and two files of sentences.
fn scene(folder: &Path) {
    let sentences = ["Ein Hund rennt.", "Eine Katze rennt.", "A dog runs.", "A cat runs."].map(str::to_owned);
    let tokenizer = TextTokenizer::learn(&sentences, 270).unwrap();
    let config =
        TranslationConfig { width: 16, inner: [24; 2], layers: [1; 2], ..TranslationConfig::small(270) };
    let network = TranslationNetwork::fresh(&config, 0, &Device::Cpu).unwrap();
    let model = folder.join("model");
    fs::create_dir(&model).unwrap();
    let options = OutputOptions::file(&model.join("model.safetensors"));
    network.state().unwrap().write(&options, None).unwrap();
    fs::write(model.join("config.json"), config.to_json().to_string()).unwrap();
    fs::write(model.join("tokenizer.json"), tokenizer.to_json().unwrap()).unwrap();
    fs::write(folder.join("de"), sentences[..2].join("\n")).unwrap();
    fs::write(folder.join("en"), sentences[2..].join("\n")).unwrap();
}

#[test]
fn reports_are_as_the_schema_says_and_checks_decide_the_exit_code() {
    let place = Place::new();
    scene(place.path());
    let arguments = ["evaluate", "model", "--data=parallel:de,en", "--beam=2", "--json", "-q"];
    let report = place.run(arguments).exits(0).json();
    assert_schema(&report);
    assert_eq!(report["architecture"], "marian");
    assert_eq!(report["measured"]["translation"]["beams"], 2);
    assert_eq!(report["measured"]["translation"]["sentences"], 2);
    let run = place.run(arguments.iter().chain(&["--min-bleu=99", "--max-perplexity=1"])).exits(3);
    let run = run.stderr_has("less than 99").stderr_has("more than 1");
    assert_schema(&run.json());
    place
        .run(["evaluate", "model", "--data=parallel:de,en", "--limit=1", "-q"])
        .exits(0)
        .stdout_has("BLEU  ");
}

#[test]
fn training_is_checked_by_bleu_too() {
    let place = Place::new();
    scene(place.path());
    let arguments =
        ["finetune", "model", "--data=parallel:de,en", "--test-data=parallel:de,en", "--epochs=0"];
    let checked = |least: &str, out: &str| place.run(arguments.iter().chain(&["-q", least, "--out", out]));
    checked("--min-bleu=99", "bad").exits(3).stderr_has("check failed: BLEU is ").stderr_has("less than 99");
    checked("--min-bleu=0", "good").exits(0);
    assert!(place.text("good/options.toml").contains("min_bleu = 0"));
}

#[test]
fn what_does_not_fit_is_refused() {
    let place = Place::new();
    scene(place.path());
    fs::write(place.path().join("longer"), "one\ntwo\nthree\n").unwrap();
    let refused = |arguments: &[&str], code: i32, part: &str| {
        place.run([&["evaluate", "model", "-q"], arguments].concat()).exits(code).stderr_has(part);
    };
    refused(&["--data=parallel:de"], 2, "parallel:SOURCE,TARGET");
    refused(&["--data=parallel:de,longer"], 1, "`de` has 2 lines, `longer` 3");
    refused(&["--data=parallel:de,en", "--window=9"], 2, "--window says nothing of translations");
    refused(&["--data=parallel:de,en", "--arch=resnet20"], 2, "--arch says nothing of translations");
    refused(&["--data=text:de", "--beam=2"], 2, "--beam says nothing of text");
    refused(&["--data=cifar10:de", "--min-bleu=2"], 2, "--min-bleu says nothing of pictures");
    fs::remove_file(place.path().join("model/tokenizer.json")).unwrap();
    refused(&["--data=parallel:de,en"], 1, "there is no tokenizer.json");
}

#[test]
fn every_line_has_a_translation_and_empty_ones_stay_empty() {
    let place = Place::new();
    scene(place.path());
    place.run(["model", "--rank=6", "--out=factored", "-q"]).exits(0);
    place.run(["collapse", "factored", "--out=collapsed", "-q"]).exits(0);
    let text = "Ein Hund rennt.\n\nEine Katze rennt.\n";
    fs::write(place.path().join("text"), text).unwrap();
    let said = |folder: &str| {
        let mut command = place.command(["translate", folder, "--text=-", "--beam=2"]);
        command.stdin(fs::File::open(place.path().join("text")).unwrap());
        run(command).exits(0).stderr_has("3 sentences in ").stdout
    };
    let factored = said("factored");
    assert_eq!(factored, said("collapsed"));
    let lines: Vec<&str> = factored.split('\n').collect();
    assert_eq!(
        lines.iter().map(|line| line.is_empty()).collect::<Vec<_>>(),
        [false, true, false, true],
        "{factored:?}"
    );
    let arguments =
        ["translate", "factored", "--beam=2", "--length-penalty=1", "--json", "-q", "--text", text];
    let report = place.run(arguments).exits(0).stderr("").json();
    assert_schema(&report);
    let found = report["translations"].as_array().unwrap();
    assert_eq!(found.len(), 3);
    for (translated, line) in found.iter().zip(&lines) {
        assert_eq!(translated["text"].as_str().unwrap().replace(['\n', '\r'], " "), *line);
    }
    let alone =
        place.run(["translate", "factored", "--beam=2", "--json", "-q", "--text=Ein Hund rennt."]).exits(0);
    assert_eq!(alone.json()["translations"][0], found[0]);
    // More lines than are translated together, with empty ones among them, and nothing but empty ones.
    let many: String = (0..150).map(|line| if line % 7 == 3 { "\n" } else { "Ein Hund rennt.\n" }).collect();
    fs::write(place.path().join("text"), many).unwrap();
    let expected: Vec<&str> = (0..150).map(|line| if line % 7 == 3 { "" } else { lines[0] }).collect();
    let mut command = place.command(["translate", "factored", "--text=-", "--beam=2", "-q"]);
    command.stdin(fs::File::open(place.path().join("text")).unwrap());
    assert_eq!(run(command).exits(0).stdout, expected.join("\n") + "\n");
    assert_eq!(place.run(["translate", "factored", "-q", "--text", "\n \n"]).exits(0).stdout, "\n\n");
}

#[test]
fn what_is_cut_is_said_and_what_does_not_translate_is_refused() {
    let place = Place::new();
    scene(place.path());
    let long = "Hund ".repeat(2000);
    let run = place.run(["translate", "model", "--beam=1", "-q", "--json", "--text", &long]).exits(0);
    let run = run.stderr("warning: 1 sentence longer than the network takes: cut\n");
    assert_eq!(run.json()["translations"][0]["cut"], true);
    let message = "error: config.json is of model type `llama`, expected one that translates: `marian`\n";
    place.refuses(1, ["translate", &fixture("tiny-llama"), "--text=x"]).stderr(message);
    place
        .refuses(1, ["translate", &fixture("tiny-resnet.safetensors"), "--text=x"])
        .stderr_has("config.json and tokenizer.json");
    place.refuses(2, ["translate", "model"]).stderr_has("--text");
    place.refuses(2, ["translate", "model", "--text=x", "--beam=0"]);
}
