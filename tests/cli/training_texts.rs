//! Networks for text, from the command line to the folder that other tools read.

use crate::harness::{Place, fixture};
use fnl::checkpoint::OutputOptions;
use fnl::layers::Builder;
use fnl::models::{Task, TextConfig, TextNetwork};
use serde_json::{Value, json};

const WORDS: [&str; 12] =
    ["the", "cat", "dog", "sat", "ran", "is", "good", "bad", "fine", "poor", "on", "mat"];

/// A folder with a small BERT without head, whose tokenizer knows a dozen words.
fn encoder(place: &Place, name: &str) {
    encoder_of(place, name, 12, &[]);
}

/// The same of this width, and with a head for these classes where there are any.
fn encoder_of(place: &Place, name: &str, width: usize, classes: &[&str]) {
    let labels: serde_json::Map<String, Value> =
        classes.iter().enumerate().map(|(index, class)| (index.to_string(), json!(class))).collect();
    let mut config = json!({
        "model_type": "bert", "architectures": ["BertModel"], "vocab_size": 17, "hidden_size": width,
        "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 20, "hidden_act": "gelu",
        "max_position_embeddings": 16, "type_vocab_size": 2
    });
    let task = if classes.is_empty() { Task::AsItIs } else { Task::Classification };
    if !classes.is_empty() {
        config["id2label"] = Value::Object(labels);
    }
    let builder = Builder::fresh(1, &candle_core::Device::Cpu).with_deviation(0.3);
    let parsed = TextConfig::from_json(&config).unwrap();
    let network = TextNetwork::build(&parsed, &builder, task, &candle_core::Device::Cpu).unwrap();
    let mut state = network.state().unwrap();
    if classes.is_empty() {
        // As Hugging Face writes a model without head.
        state.tensors =
            state.tensors.into_iter().map(|(name, stored)| (name.replace("bert.", ""), stored)).collect();
    }
    let folder = place.join(name);
    std::fs::create_dir_all(&folder).unwrap();
    state.write(&OutputOptions::file(&folder.join("model.safetensors")), None).unwrap();
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
    let vocabulary: serde_json::Map<String, Value> =
        special.iter().chain(&WORDS).enumerate().map(|(id, word)| ((*word).to_owned(), json!(id))).collect();
    let added: Vec<Value> = special
        .iter()
        .enumerate()
        .map(|(id, text)| {
            json!({"id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": true})
        })
        .collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                       {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]},
                               "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]}}
        },
        "decoder": null, "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"}
    });
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    std::fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
}

fn sentence(i: usize, good: bool) -> String {
    let animal = ["cat", "dog"][i % 2];
    let what = if good { ["good", "fine"] } else { ["bad", "poor"] }[i / 2 % 2];
    format!("the {animal} {} {what}", ["is", "ran", "sat"][i % 3])
}

/// Training and test files of every format.
fn data(place: &Place) {
    std::fs::create_dir_all(place.join("data")).unwrap();
    let write = |name: &str, lines: Vec<String>| {
        std::fs::write(place.join("data").join(name), lines.join("\n")).unwrap();
    };
    for (split, count) in [("train", 40), ("dev", 12)] {
        write(
            &format!("{split}.tsv"),
            (0..count)
                .map(|i| format!("{}\t{}", sentence(i, i % 4 < 2), if i % 4 < 2 { "up" } else { "down" }))
                .collect(),
        );
        write(
            &format!("{split}.csv"),
            (0..count)
                .map(|i| {
                    let same = i % 4 < 2;
                    format!(
                        "{},{},{}",
                        sentence(i, true),
                        sentence(i + 1, same),
                        if same { 5 } else { i % 3 }
                    )
                })
                .collect(),
        );
        let name = if split == "dev" { "valid" } else { split };
        write(&format!("{name}.txt"), (0..count).map(|i| sentence(i, i % 3 == 0)).collect());
    }
}

/// A folder with `net`, a small BERT, and `data` of every format.
pub(crate) fn scene() -> Place {
    let place = Place::new();
    encoder(&place, "net");
    data(&place);
    place
}

fn finetune(place: &Place, out: &str, more: &[&str]) -> (Option<i32>, String, String) {
    let arguments =
        [&["finetune", "net", "--out", out, "--batch-size=8", "--learning-rate=0.01"][..], more].concat();
    let run = place.run(&arguments);
    (run.code, run.stdout, run.stderr)
}

#[test]
fn classes_are_learned_into_a_folder_that_is_evaluated() {
    let place = scene();
    let (code, stdout, stderr) = finetune(
        &place,
        "run",
        &["--data=classes:data", "--rank-ratio=0.5", "--epochs=12", "--min-accuracy=0.9"],
    );
    assert_eq!(code, Some(0), "{stdout} {stderr}");
    assert!(stderr.contains("accuracy"), "{stderr}");
    let config: Value = serde_json::from_str(&place.text("run/config.json")).unwrap();
    assert_eq!(config["architectures"][0], "BertForSequenceClassification");
    assert_eq!(config["id2label"], json!({"0": "down", "1": "up"}));
    assert!(config["factorization"]["modules"]["bert.encoder.layer.0.output.dense"].is_object());
    let run =
        place.run(["evaluate", "run", "--data=classes:data", "--min-accuracy=0.9", "--json", "--quiet"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    assert!(report["measured"]["classes"]["accuracy"].as_f64().unwrap() >= 0.9);
    // the result is fine-tuned on, dense after collapsing too
    let (code, _, stderr) = {
        let run = place.run([
            "finetune",
            "run",
            "--data=classes:data",
            "--epochs=1",
            "--out=more",
            "--save=collapsed",
        ]);
        (run.code, run.stdout, run.stderr)
    };
    assert_eq!(code, Some(0), "{stderr}");
    let config: Value = serde_json::from_str(&place.text("more/config.json")).unwrap();
    assert!(config.get("factorization").is_none());
    let run = place.run(["evaluate", "more", "--data=classes:data", "--min-accuracy=0.9", "--quiet"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
}

#[test]
fn similarity_is_learned_and_checked() {
    let place = scene();
    let (code, stdout, stderr) = finetune(
        &place,
        "run",
        &[
            "--data=stsb:data/train.csv",
            "--test-data=stsb:data/dev.csv",
            "--epochs=15",
            "--min-spearman=0.5",
            "--json",
        ],
    );
    assert_eq!(code, Some(0), "{stdout} {stderr}");
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["totals"]["unit"], "pairs");
    assert!(report["best"]["scores"]["spearman"].as_f64().unwrap() > 0.5, "{report}");
    assert!(report["best"].get("test_accuracy").is_none());
    let (code, ..) = finetune(
        &place,
        "other",
        &["--data=stsb:data/train.csv", "--test-data=stsb:data/dev.csv", "--epochs=0", "--min-spearman=1"],
    );
    assert_eq!(code, Some(3));
    assert!(place.text("run/report.html").contains("spearman"));
}

#[test]
fn a_text_is_learned_from_a_teacher_and_a_run_goes_on_where_it_stopped() {
    let place = scene();
    let flags = ["--data=text:data", "--rank-ratio=0.5", "--teacher=net", "--teacher-hidden=1"];
    let command = |out: &'static str, more: &[&'static str]| {
        let common =
            ["finetune", "net", "--batch-size=2", "--learning-rate=0.01", "--epochs=30", "--quiet", "--out"];
        [&common[..], &[out], &flags, more].concat()
    };
    place.run(command("whole", &[])).exits(0);
    let report: Value = serde_json::from_str(&place.text("whole/report.json")).unwrap();
    let loss = |index: usize| report["epochs"][index]["test_loss"].as_f64().unwrap();
    assert!(loss(30) < 0.5 * loss(0), "{report}");
    // a run that is killed in the middle of an epoch, and continued, ends the same
    let mut child = place.command(command("cut", &["--save-every=1"])).spawn().unwrap();
    let amid = || {
        let of = |position: &Value, name: &str| position[name].as_u64().unwrap_or(0);
        place.position("cut").is_some_and(|position| of(&position, "step") > 8 && of(&position, "batch") > 0)
    };
    while child.try_wait().unwrap().is_none() && !amid() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let _ = child.kill();
    assert!(!child.wait().unwrap().success(), "it ended before it was killed");
    place.run(command("cut", &["--save-every=1", "--resume"])).exits(0);
    assert!(place.read("cut/model.safetensors") == place.read("whole/model.safetensors"));
    let changed = ["--data=stsb:data", "--rank-ratio=0.5", "--teacher=net", "--epochs=4", "--resume"];
    let (code, _, stderr) = finetune(&place, "cut", &changed);
    assert_ne!(code, Some(0));
    assert!(stderr.contains("train_data") && stderr.contains("hidden"), "{stderr}");
}

/// A checkpoint of bf16 is trained in f32 and rounded when it is written: what a run reports is of what it wrote.
#[test]
fn what_is_reported_is_measured_on_what_is_written() {
    let place = Place::new();
    place.write("text.txt", "the quick brown fox jumps over the lazy dog and runs on\n".repeat(12));
    let tune = ["finetune", &fixture("tiny-llama"), "--data=text:text.txt", "--test-data=text:text.txt"];
    let more =
        ["--epochs=2", "--batch-size=4", "--learning-rate=0.003", "--window=32", "--out=run", "--json", "-q"];
    let trained = place.run(tune.iter().chain(&more)).exits(0).json();
    let reported = trained["epochs"][2]["scores"]["perplexity"].as_f64().expect("a perplexity");
    let evaluate = ["evaluate", "run", "--data=text:text.txt", "--window=32", "--json", "-q"];
    let found = place.run(evaluate).exits(0).json();
    let found = found["measured"]["perplexity"]["perplexity"].as_f64().expect("a perplexity");
    assert!((found / reported - 1.0).abs() < 1e-6, "{reported} is reported, {found} found");
    assert_ne!(trained["epochs"][0]["scores"]["perplexity"].as_f64(), Some(reported));
}

#[test]
fn a_head_keeps_the_order_of_its_classes_and_goes_with_other_names() {
    let place = scene();
    encoder_of(&place, "head", 12, &["up", "down"]);
    encoder_of(&place, "other", 12, &["left", "right"]);
    let run = |from: &str, out: &str, more: &[&str]| {
        place.run(
            [&["finetune", from, "--data=classes:data", "--epochs=0", "--quiet", "--out", out], more]
                .concat(),
        )
    };
    let labels = |out: &str| -> Value {
        serde_json::from_str::<Value>(&place.text(&format!("{out}/config.json"))).unwrap()["id2label"].clone()
    };
    let weight = |folder: &str| {
        let checkpoint = fnl::checkpoint::Checkpoint::open_path(&place.join(folder)).unwrap();
        checkpoint.bytes(checkpoint.get("classifier.weight").unwrap()).unwrap().to_vec()
    };
    run("head", "kept", &[]).exits(0);
    assert_eq!(labels("kept"), json!({"0": "up", "1": "down"}));
    assert!(weight("kept") == weight("head"));
    run("other", "anew", &["--seed=5"]).exits(0);
    assert_eq!(labels("anew"), json!({"0": "down", "1": "up"}));
    assert!(weight("anew") != weight("other"));
    run("head", "refused", &["--teacher=other"]).exits(1).stderr_has("left, right");
    assert!(!place.join("refused").exists());
}

#[test]
fn tables_that_are_not_what_they_seem_are_refused() {
    let place = scene();
    let row = |i: usize| format!("{},the cat sat {i}", i % 2);
    let mut rows: Vec<String> = (0..30).map(row).collect();
    rows.insert(0, "label,text".to_owned());
    rows.insert(3, "1,\"a quote that is never closed".to_owned());
    place.write("open/train.csv", rows.join("\n"));
    place.write("open/dev.csv", "label,text\n0,the cat sat\n1,\"the dog, he ran\"\n");
    let (code, _, stderr) = finetune(&place, "run", &["--data=classes:open", "--epochs=1"]);
    assert!(
        code == Some(1) && stderr.contains("line 4: a quote that is opened in this row is never closed"),
        "{stderr}"
    );
    rows.remove(3);
    place.write("open/train.csv", rows.join("\n"));
    let (code, _, stderr) = finetune(&place, "run", &["--data=classes:open", "--epochs=0"]);
    assert_eq!(code, Some(0), "{stderr}");
    place.write("high/train.csv", "the cat,the dog,50\n");
    place.write("high/dev.csv", "the cat,the dog,5\n");
    let (code, _, stderr) = finetune(&place, "other", &["--data=stsb:high", "--epochs=1"]);
    assert!(code == Some(1) && stderr.contains("expected a score from 0 to 5, found `50`"), "{stderr}");
}

#[test]
fn an_encoder_from_scratch_learns_a_tokenizer_that_hides_tokens() {
    let place = scene();
    let config = json!({
        "model_type": "bert", "hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 3,
        "intermediate_size": 20, "hidden_act": "gelu", "max_position_embeddings": 16, "type_vocab_size": 2
    });
    place.write("config.json", config.to_string());
    let train = ["train", "--data=text:data", "--config=config.json", "--vocabulary=270", "--epochs=1", "-q"];
    place.run(train.iter().chain(&["--out=run"])).exits(0).stdout_has("test perplexity: ");
    let tokenizer: Value = serde_json::from_slice(&place.read("run/tokenizer.json")).unwrap();
    assert_eq!(tokenizer["model"]["vocab"]["<mask>"], 3);
    place.run(["evaluate", "run", "--data=text:data", "-q"]).exits(0).stdout_has("perplexity ");
}

#[test]
fn what_does_not_fit_is_refused_with_what_to_do() {
    let place = scene();
    encoder_of(&place, "wide", 24, &[]);
    let refused: [(&[&str], &str); 12] = [
        (&["--data=text:data"], "--teacher"),
        (&["--data=stsb:data/train.csv"], "--test-data"),
        (&["--data=stsb:data/train.csv", "--test-data=text:data"], "not of the format"),
        (&["--data=classes:data", "--recalibrate"], "says nothing of texts"),
        (&["--data=classes:data", "--no-augment"], "--no-augment"),
        (&["--data=classes:data/train.csv", "--test-data=classes:data/dev.csv"], "found 3 columns"),
        (&["--data=classes:data", "--teacher=net"], "no head for classes"),
        (&["--data=classes:data", "--min-spearman=0.5"], "--min-spearman"),
        (&["--data=stsb:data", "--window=8"], "--window"),
        (&["--data=text:data", "--teacher=net", "--workers=2"], "--workers"),
        (&["--data=text:data", "--teacher=wide"], "vectors have 24 elements, the network's 12"),
        (&["--data=text:nowhere", "--test-data=text:data"], "cannot read `nowhere`"),
    ];
    for (flags, said) in refused {
        let (code, _, stderr) = finetune(&place, "run", flags);
        assert!(code != Some(0) && stderr.contains(said), "{flags:?}: {stderr}");
        assert!(!place.join("run").exists(), "{flags:?}");
    }
}

#[test]
fn a_recipe_that_factors_nothing_says_why() {
    let place = scene();
    let square = ["--data=classes:data", "--rank-ratio=0.5", "--target=**.query", "--epochs=0", "--quiet"];
    let (code, _, stderr) = finetune(&place, "run", &square);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains("no layer is factored: `"), "{stderr}");
    assert!(stderr.contains("query.weight`: rank 6 would not make it smaller, only up to 5"), "{stderr}");
}
