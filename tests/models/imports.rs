//! Networks out of GGUF files: what they compute is what transformers recorded of the checkpoints they were made of.

use crate::gguf::{self, Entries};
use crate::recorded::relative_error;
use crate::texts::{Text, recorded, tokens};
use candle_core::quantized::gguf_file::Value as Entry;
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Result, Tensor};
use fnl::checkpoint::{Checkpoint, GgufFile};
use fnl::commands::{GenerateOptions, ImportOptions, generate, import};
use fnl::data::{GgufTokenizer, TextTokenizer};
use fnl::layers::{State, Tape};
use fnl::models::{GgufModel, TextConfig, TextNetwork};
use fnl::train::Unheard;
use std::ops::ControlFlow;
use std::path::Path;
use std::str::FromStr as _;
use tokenizers::Tokenizer;

fn texts<S: AsRef<str>>(texts: impl IntoIterator<Item = S>) -> Entry {
    Entry::Array(texts.into_iter().map(|one| gguf::text(one.as_ref())).collect())
}

/// A small tokenizer of bytes that joins the letters of `hello`, and digits, one token for each row of an embedding.
fn tokenizer(splitter: &str, rows: usize) -> Entries {
    let pieces = [
        "<s>", "</s>", "h", "e", "l", "o", "Ġ", "1", "2", "3", "4", "he", "ll", "hell", "hello", "12", "123",
        "1234",
    ];
    let mut tokens: Vec<String> = pieces.map(str::to_owned).to_vec();
    let mut kinds = vec![Entry::I32(3); 2];
    kinds.resize(tokens.len(), Entry::I32(1));
    while tokens.len() < rows {
        tokens.push(format!("[PAD{}]", tokens.len()));
        kinds.push(Entry::I32(5));
    }
    [
        ("model", gguf::text("gpt2")),
        ("pre", gguf::text(splitter)),
        ("tokens", texts(tokens)),
        ("token_type", Entry::Array(kinds)),
        ("merges", texts(["h e", "l l", "he ll", "hell o", "1 2", "12 3", "123 4"])),
        ("bos_token_id", Entry::U32(0)),
        ("eos_token_id", Entry::U32(1)),
    ]
    .into_iter()
    .map(|(key, value)| (format!("tokenizer.ggml.{key}"), value))
    .collect()
}

fn made(name: &str) -> (Text, Entries, Vec<(String, QTensor)>) {
    let text = recorded().into_iter().find(|text| text.name == name).unwrap();
    let mut entries = gguf::entries(&text.config);
    let splitter = if name.starts_with("qwen") { "qwen2" } else { "gpt-2" };
    entries.extend(tokenizer(splitter, 50));
    let tensors = gguf::tensors(&text.config, &text.state(DType::F32), GgmlDType::F32);
    (text, entries, tensors)
}

/// The message and hint with which a file is refused, its folder left out.
fn refusal(path: &Path) -> String {
    let out = path.with_extension("out");
    let error = import(&ImportOptions::new(path.to_owned(), out.clone()), &Unheard).unwrap_err();
    assert!(!out.exists());
    let folder = path.parent().unwrap().display().to_string();
    format!("{error}; {}", error.hint().unwrap_or_default()).replace(&format!("{folder}/"), "")
}

#[test]
fn imported_networks_compute_what_transformers_does() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for name in ["gpt2", "llama", "mistral", "qwen2", "qwen3"] {
        let (text, entries, tensors) = made(name);
        let (path, out) = (folder.path().join(format!("{name}.gguf")), folder.path().join(name));
        gguf::write(&path, &entries, &tensors);
        let report = import(&ImportOptions::new(path, out.clone()), &Unheard).unwrap();
        assert_eq!((report.tensors, report.tokenizer.tokens), (tensors.len(), 50), "{name}");
        let checkpoint = Checkpoint::open_path(&out).unwrap();
        let config = TextConfig::from_json(checkpoint.config().unwrap()).unwrap();
        let network = TextNetwork::new(&config, &State::read(&checkpoint).unwrap(), &Device::Cpu).unwrap();
        let hidden = network.hidden(&Tape::inference(), &tokens())?;
        let error = relative_error(hidden.tensor(), &text.hidden)?;
        assert!(error < 3e-6, "{name}: {error}");
        let tokenizer = TextTokenizer::open(&out, 100).unwrap();
        let ids = tokenizer.encode(&["hello hel".to_owned()]).unwrap();
        assert_eq!(ids, [vec![14, 6, 11, 4]], "{name}");
        assert_eq!(tokenizer.decode(&ids[0]).unwrap(), "hello hel");
    }
    Ok(())
}

#[test]
fn a_head_that_is_the_embedding_again_is_tied() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let (_, entries, mut tensors) = made("gpt2");
    let words = tensors.iter().find(|(name, _)| name == "token_embd.weight").unwrap();
    let words = words.1.dequantize(&Device::Cpu).unwrap();
    for (factor, tied) in [(1.0, true), (1.5, false)] {
        tensors.retain(|(name, _)| name != "output.weight");
        let head = QTensor::quantize(&(&words * factor).unwrap(), GgmlDType::F32).unwrap();
        tensors.push(("output.weight".to_owned(), head));
        gguf::write(&path, &entries, &tensors);
        let model = GgufModel::of(&GgufFile::open(&path).unwrap()).unwrap();
        assert_eq!(model.config["tie_word_embeddings"], tied);
        assert_eq!(model.tensors.iter().any(|tensor| tensor.name == "lm_head.weight"), !tied);
    }
}

#[test]
fn blocks_are_multiplied_out_as_they_were_quantized() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let values: Vec<f32> = (0..512).map(|at| crate::recorded::number(3, at) as f32).collect();
    let tensor = Tensor::from_vec(values.clone(), (2, 256), &Device::Cpu).unwrap();
    // half a step of the scale, of numbers from -1 to 1; blocks of Q2_K have the coarsest
    for (block, name, most) in [
        (GgmlDType::F32, "F32", 0.0),
        (GgmlDType::BF16, "BF16", 1.0 / 256.0),
        (GgmlDType::Q8_0, "Q8_0", 0.5 / 127.0 + 1e-3),
        (GgmlDType::Q4_1, "Q4_1", 1.0 / 15.0 + 2e-3),
        (GgmlDType::Q5_0, "Q5_0", 1.0 / 16.0 + 2e-3),
        (GgmlDType::Q6K, "Q6_K", 0.05),
        (GgmlDType::Q4K, "Q4_K", 0.12),
        (GgmlDType::Q2K, "Q2_K", 0.6),
    ] {
        let quantized = QTensor::quantize(&tensor, block).unwrap();
        let expected = quantized.dequantize(&Device::Cpu).unwrap().flatten_all().unwrap().to_vec1::<f32>();
        gguf::write(&path, &Vec::new(), &[("w".to_owned(), quantized)]);
        let file = GgufFile::open(&path).unwrap();
        let stored = file.tensor("w").unwrap();
        assert_eq!((stored.block.to_string().as_str(), &stored.shape[..]), (name, &[2, 256][..]));
        let found = file.read(stored).unwrap();
        assert_eq!(found, expected.unwrap(), "{name}");
        let worst = found.iter().zip(&values).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
        assert!(worst <= most, "{name}: {worst}");
    }
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let (_, entries, mut tensors) = made("llama");
    tensors.truncate(3);
    gguf::write(&path, &entries, &tensors);
    let whole = std::fs::read(&path).unwrap();
    // what is behind the last tensor only fills up
    let end = whole.len() - 31;
    for length in (0..300).chain((300..end).step_by(37)).chain([end]) {
        std::fs::write(&path, &whole[..length]).unwrap();
        let error = GgufFile::open(&path).unwrap_err().to_string();
        let expected = if length < 8 { "not a GGUF file" } else { "is cut off" };
        assert!(error.contains(expected), "{length} bytes: {error}");
    }
}

#[test]
fn what_is_not_known_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let (_, entries, tensors) = made("llama");
    let with = |key: &str, value: Option<Entry>| {
        let mut entries: Entries = entries.iter().filter(|(other, _)| other != key).cloned().collect();
        entries.extend(value.map(|value| (key.to_owned(), value)));
        gguf::write(&path, &entries, &tensors);
        refusal(&path)
    };
    for (key, value, expected) in [
        (
            "general.architecture",
            Some(gguf::text("mamba")),
            "`model.gguf` is a model of the architecture `mamba`, which is not known here; known are llama, qwen2, qwen3 and gpt2",
        ),
        ("general.architecture", None, "`model.gguf` does not say `general.architecture`"),
        (
            "general.alignment",
            Some(Entry::U32(0)),
            "`general.alignment` is no such number, expected a multiple of 8",
        ),
        ("split.count", Some(Entry::U16(3)), "is one of 3 files that hold a model together; merge them"),
        (
            "llama.block_count",
            Some(Entry::U32(4_000_000)),
            "`llama.block_count` is 4000000, expected a number from 1 to 21",
        ),
        (
            "llama.block_count",
            Some(gguf::text("2")),
            "`llama.block_count` is a text, expected a whole number from 0 up",
        ),
        ("llama.expert_count", Some(Entry::U32(8)), "`llama.expert_count` is 8, expected no experts"),
        ("llama.rope.dimension_count", Some(Entry::U32(2)), "expected 4, as wide as a head"),
        (
            "llama.rope.scaling.type",
            Some(gguf::text("yarn")),
            "rope type is yarn, expected default, linear or llama3",
        ),
        (
            "llama.feed_forward_length",
            Some(Entry::U32(25)),
            "`blk.0.ffn_gate.weight` is of shape [24, 16], expected [25, 16]",
        ),
        (
            "tokenizer.ggml.model",
            Some(gguf::text("t5")),
            "tokenizer.ggml.model is `t5`, expected gpt2 or llama; --tokenizer",
        ),
        (
            "tokenizer.ggml.pre",
            Some(gguf::text("tekken")),
            "tokenizer.ggml.pre is `tekken`, expected gpt-2, smollm",
        ),
        ("tokenizer.ggml.tokens", None, "`model.gguf` holds no tokenizer"),
        ("tokenizer.ggml.merges", Some(texts(["h x"])), "the merge `h x` is not of two of its tokens"),
        (
            "tokenizer.ggml.eos_token_id",
            Some(Entry::U32(99)),
            "`tokenizer.ggml.eos_token_id` is 99, and there are 50 tokens",
        ),
    ] {
        let found = with(key, value);
        assert!(found.contains(expected), "{key}: {found}");
    }
    let mut fewer: Vec<(String, QTensor)> = made("llama").2;
    fewer.retain(|(name, _)| name != "blk.1.attn_k.weight");
    let spare = Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
    fewer.push(("blk.1.attn_sinks".to_owned(), QTensor::quantize(&spare, GgmlDType::F32).unwrap()));
    gguf::write(&path, &entries, &fewer);
    assert_eq!(
        refusal(&path),
        "the tensors of `model.gguf` do not fit: missing `blk.1.attn_k.weight`, shape [8, 16]; \
         unexpected `blk.1.attn_sinks`, shape [2, 3]; "
    );
    // the type of a tensor's blocks stands behind its axes
    gguf::write(&path, &Vec::new(), &[("w".to_owned(), QTensor::quantize(&spare, GgmlDType::F32).unwrap())]);
    let mut bytes = std::fs::read(&path).unwrap();
    let kind = 4 + 4 + 8 + 8 + 8 + 1 + 4 + 16;
    bytes[kind] = 20;
    std::fs::write(&path, &bytes).unwrap();
    let found = refusal(&path);
    assert!(
        found.contains("has blocks of type IQ4_NL, which is not known here: 1 tensors, the first is `w`"),
        "{found}"
    );
    bytes[4] = 9;
    std::fs::write(&path, &bytes).unwrap();
    assert!(refusal(&path).contains("is version 9, expected version 2 or 3"));
}

/// The tokens of a text, by a tokenizer made from these entries.
fn split(folder: &Path, entries: Entries, text: &str) -> Vec<String> {
    let path = folder.join("tokenizer.gguf");
    let architecture = ("general.architecture".to_owned(), gguf::text("llama"));
    gguf::write(&path, &[vec![architecture], entries].concat(), &[]);
    let made = GgufTokenizer::of(&GgufFile::open(&path).unwrap()).unwrap();
    let tokenizer = Tokenizer::from_str(&made.tokenizer.to_string()).unwrap();
    tokenizer.encode(text, true).unwrap().get_tokens().to_vec()
}

#[test]
fn digits_are_split_as_each_kind_of_tokenizer_does() {
    let folder = tempfile::tempdir().unwrap();
    for (splitter, expected) in [
        ("gpt-2", &["hello", "1234"][..]),
        ("smollm", &["hello", "1", "2", "3", "4"]),
        ("qwen2", &["hello", "1", "2", "3", "4"]),
        // which begins with its first token too
        ("llama-bpe", &["<s>", "hello", "123", "4"]),
    ] {
        assert_eq!(split(folder.path(), tokenizer(splitter, 18), "hello1234"), expected, "{splitter}");
    }
}

#[test]
fn pieces_are_joined_by_their_scores() {
    let folder = tempfile::tempdir().unwrap();
    let pieces: [(&str, i32, f32); 13] = [
        ("<unk>", 2, 0.0),
        ("<s>", 3, 0.0),
        ("</s>", 3, 0.0),
        ("<0x0A>", 6, 0.0),
        ("ab", 1, -1.0),
        ("bc", 1, -2.0),
        ("\u{2581}a", 1, -3.0),
        ("abc", 1, -4.0),
        ("\u{2581}abc", 1, -5.0),
        ("\u{2581}", 1, -6.0),
        ("a", 1, -7.0),
        ("b", 1, -8.0),
        ("c", 1, -9.0),
    ];
    let entries: Entries = [
        ("model", gguf::text("llama")),
        ("tokens", texts(pieces.iter().map(|piece| piece.0))),
        ("token_type", Entry::Array(pieces.iter().map(|piece| Entry::I32(piece.1)).collect())),
        ("scores", Entry::Array(pieces.iter().map(|piece| Entry::F32(piece.2)).collect())),
        ("bos_token_id", Entry::U32(1)),
        ("eos_token_id", Entry::U32(2)),
    ]
    .into_iter()
    .map(|(key, value)| (format!("tokenizer.ggml.{key}"), value))
    .collect();
    let found = split(folder.path(), entries.clone(), "abc bc\nac");
    // `ab` has the best score of all, so `abc` is joined as `ab` + `c`, and `▁` + `abc` after it
    assert_eq!(found, ["<s>", "\u{2581}abc", "\u{2581}", "bc", "<0x0A>", "a", "c"]);
    let plain = [entries, vec![("tokenizer.ggml.add_space_prefix".to_owned(), Entry::Bool(false))]].concat();
    assert_eq!(split(folder.path(), plain, "abc"), ["<s>", "abc"]);
}

#[test]
#[ignore = "needs SmolLM2-135M-Instruct: FNL_GGUF=FILE"]
fn smollm2_speaks() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("smollm2");
    let file = std::env::var("FNL_GGUF").unwrap();
    let report = import(&ImportOptions::new(file.into(), out.clone()), &Unheard).unwrap();
    assert_eq!((report.parameters, report.tensors), (134_515_008, 272));
    let tokenizer = TextTokenizer::open(&out, 100).unwrap();
    let ids = tokenizer.encode(&["It's 1234, don't you think? Straße 你好 <|im_end|>".to_owned()]).unwrap();
    // transformers' tokenizer of the same file
    assert_eq!(
        ids[0],
        [
            1589, 506, 216, 33, 34, 35, 36, 28, 1326, 982, 346, 1510, 47, 19144, 34878, 85, 216, 18645, 250,
            48392, 138, 216, 2
        ]
    );
    let mut options = GenerateOptions::new(
        out.display().to_string().parse().unwrap(),
        "The capital of France is".to_owned(),
    );
    options.tokens = Some(8);
    let report = generate(&options, |_| ControlFlow::Continue(())).unwrap();
    // transformers' continuation
    assert!(report.text.starts_with(" Paris."), "{}", report.text);
}
