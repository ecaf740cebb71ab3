//! `compress evaluate` on parallel texts: report, checks and refusals.

use crate::harness::Place;
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
