//! `compress import` and `compress generate`.

use crate::gguf;
use crate::harness::{Place, fixture, run};
use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::Value as Entry;
use fnl::checkpoint::Checkpoint;
use fnl::layers::State;
use std::process::Stdio;

/// The fixture of a Llama as llama.cpp would have it, in blocks of BF16, without a tokenizer.
pub(crate) fn llama(place: &Place) {
    let checkpoint = Checkpoint::open_path(fixture("tiny-llama").as_ref()).expect("the fixture");
    let config = checkpoint.config().expect("config.json");
    let state = State::read(&checkpoint).expect("tensors");
    let mut entries = gguf::entries(config);
    entries.push(("tokenizer.ggml.eos_token_id".to_owned(), Entry::U32(2)));
    gguf::write(&place.join("llama.gguf"), &entries, &gguf::tensors(config, &state, GgmlDType::BF16));
}

#[test]
fn an_imported_checkpoint_is_the_one_that_the_file_was_made_of() {
    let (place, tokenizer) = (Place::new(), fixture("tiny-llama"));
    llama(&place);
    place
        .refuses(1, ["import", "llama.gguf", "--out=llama"])
        .stderr("error: `llama.gguf` holds no tokenizer\nhint: --tokenizer DIR takes the model's tokenizer.json from another folder\n");
    let import = ["import", "llama.gguf", "--out=llama", "--dtype=bf16", "--tokenizer", &tokenizer];
    place.run(import).exits(0).stdout_has("network        llama, ").stdout_has("16 BF16, 5 F32 tensors");
    place.refuses(1, import).stderr_has("`--overwrite` replaces it");
    let report = place.run(import.iter().chain(&["--overwrite", "--json", "-q"])).exits(0).json();
    assert_eq!((&report["command"], &report["dtype"]), (&"import".into(), &"BF16".into()));
    let [dense, imported] = [fixture("tiny-llama").into(), place.join("llama")]
        .map(|path| Checkpoint::open_path(&path).expect("one"));
    assert_eq!(dense.tensors().len(), imported.tensors().len());
    for tensor in dense.tensors() {
        let other = imported.get(&tensor.name).unwrap_or_else(|| panic!("no {}", tensor.name));
        assert_eq!((&other.shape, other.dtype), (&tensor.shape, tensor.dtype), "{}", tensor.name);
        let bytes = [dense.bytes(tensor), imported.bytes(other)].map(|bytes| bytes.expect("bytes"));
        assert!(bytes[0][..] == bytes[1][..], "{}", tensor.name);
    }
    let said = |folder: &str| place.run(["generate", folder, "--prompt=to be", "-q", "-n9"]).exits(0).stdout;
    assert_eq!(said("llama"), said(&fixture("tiny-llama")));
}

#[test]
fn other_commands_say_to_import_first() {
    let place = Place::new();
    llama(&place);
    for command in [
        &["llama.gguf", "--rank=4", "--out=small"][..],
        &["generate", "llama.gguf", "--prompt=x"],
        &["evaluate", "llama.gguf", "--data=text:x"],
        &["inspect", "llama.gguf"],
    ] {
        place.refuses(1, command).stderr(
            "error: `llama.gguf` is a GGUF file, expected safetensors\n\
             hint: import it first: compress import llama.gguf --out llama\n",
        );
    }
    place
        .refuses(1, ["import", &fixture("tiny-resnet.safetensors"), "--out=x"])
        .stderr_has("is not a GGUF file: it starts with ");
    place.refuses(1, ["import", "nothing.gguf", "--out=x"]).stderr("error: `nothing.gguf` does not exist\n");
}

#[test]
fn factored_and_collapsed_checkpoints_say_the_same() {
    let (place, dense) = (Place::new(), fixture("tiny-llama"));
    place.run([&dense, "--rank=12", "--out=factored", "-q"]).exits(0);
    place.run(["collapse", "factored", "--out=collapsed", "-q"]).exits(0);
    let generate = ["--prompt=Once upon", "--tokens=24"];
    let said = |folder: &str| {
        let run = place.run(["generate", folder].iter().chain(&generate)).exits(0);
        run.stderr_has("9 tokens of prompt in ").stderr_has(" tokens/s").stdout
    };
    assert_eq!(said("factored"), said("collapsed"));
    let report = place.run(["generate", "factored", "--json", "-q"].iter().chain(&generate)).exits(0);
    let json = report.json();
    assert_eq!(format!("{}\n", json["text"].as_str().expect("a text")), said("factored"));
    assert!(report.stderr.is_empty());
    let tokens = json["tokens"].as_array().expect("tokens").len();
    assert!(tokens == 24 && json["stop"] == "length" || tokens < 24 && json["stop"] == "end", "{json}");
}

#[test]
fn a_seed_and_a_prompt_from_stdin_give_one_text() {
    let (place, llama) = (Place::new(), fixture("tiny-llama"));
    let said = |more: &[&str]| {
        let arguments = ["generate", &llama, "--tokens=20", "--quiet"];
        place.run(arguments.iter().chain(more)).exits(0).stderr("").stdout
    };
    let drawn = ["--temperature=1.5", "--top-k=60", "--top-p=0.95"];
    let with = |seed: &'static str| said(&[&drawn[..], &["--prompt=abc", seed]].concat());
    assert_eq!(with("--seed=3"), with("--seed=3"));
    assert_ne!(with("--seed=3"), with("--seed=4"));
    place.write("prompt", "abc");
    let mut command = place.command(["generate", &llama, "--tokens=20", "-q", "--prompt=-"]);
    command.stdin(std::fs::File::open(place.join("prompt")).expect("the prompt"));
    assert_eq!(run(command).exits(0).stdout, said(&["--prompt=abc"]));
}

#[test]
fn what_continues_no_text_is_refused() {
    let (place, llama) = (Place::new(), fixture("tiny-llama"));
    let refused =
        |arguments: &[&str], code: i32| place.refuses(code, [&["generate"], arguments].concat()).stderr;
    let tiny = |name: &str| fixture(name);
    for (folder, message) in [
        ("tiny-bert", "error: `bert` reads in both directions, and continues no text\n"),
        ("tiny-gpt2", "there is no tokenizer.json\nhint: "),
        ("tiny-resnet.safetensors", "tiny-resnet.safetensors` is a file\n"),
    ] {
        let found = refused(&[&tiny(folder), "--prompt=x"], 1);
        assert!(found.contains(message), "{folder}: {found}");
    }
    let message = "error: the prompt has 4 tokens and 61 are to follow, and the network takes 64 in all\n";
    assert_eq!(refused(&[&llama, "--prompt=four", "--tokens=61"], 1), message);
    let long = format!("--prompt={}", "x".repeat(64));
    assert!(refused(&[&llama, &long], 1).contains("has 64 tokens and 1 are to follow"));
    assert!(refused(&[&llama, "--prompt=x", "--top-k=3"], 2).contains("--temperature"));
    assert!(refused(&[&llama, "--prompt=x", "--temperature=-1"], 2).contains("from 0 up"));
    assert!(refused(&[&llama], 2).contains("--prompt"));
}

#[test]
fn a_reader_that_goes_away_ends_it() {
    let (place, llama) = (Place::new(), fixture("tiny-llama"));
    let mut command = place.command(["generate", &llama, "--prompt=a", "--temperature=2", "--json"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary starts");
    drop(child.stdout.take());
    assert_eq!(child.wait().expect("an end").code(), Some(0));
}
