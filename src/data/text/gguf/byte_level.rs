use super::Parts;
use super::error::GgufTokenizerError;
use super::vocabulary::Vocabulary;
use crate::checkpoint::{GgufFile, GgufValue};
use serde_json::{Value, json};
use std::collections::HashSet;

/// Llama 3's: English contractions, words with what stands before them, at most three digits, punctuation, spaces.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Qwen2's: the same with one digit.
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Byte-pair encoding of the bytes of a text: GPT-2's and all that follow it.
pub(super) fn parts(file: &GgufFile, vocabulary: &Vocabulary) -> Result<Parts, GgufTokenizerError> {
    let byte_level = |regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": regex});
    let split = |regex: &str| {
        let split =
            json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
        json!({"type": "Sequence", "pretokenizers": [split, byte_level(false)]})
    };
    let key = "tokenizer.ggml.pre";
    let gpt2 = file.text("general.architecture")? == "gpt2";
    let named = file.text_if(key)?.unwrap_or(if gpt2 { "gpt-2" } else { "not said" });
    let llama3 = ["llama-bpe", "llama3", "llama-v3", "dbrx", "smaug-bpe"].contains(&named);
    let splitter = match named {
        "gpt-2" => byte_level(true),
        "smollm" | "starcoder" | "refact" => {
            let digits = json!({"type": "Digits", "individual_digits": true});
            json!({"type": "Sequence", "pretokenizers": [digits, byte_level(true)]})
        }
        _ if llama3 => split(LLAMA3),
        "qwen2" | "deepseek-r1-qwen" => split(QWEN2),
        other => {
            return Err(GgufTokenizerError::Unknown {
                path: file.path().to_owned(),
                key,
                found: other.to_owned(),
                expected:
                    "gpt-2, smollm, starcoder, refact, llama-bpe, dbrx, smaug-bpe, qwen2 or deepseek-r1-qwen"
                        .to_owned(),
            });
        }
    };
    let qwen = matches!(named, "qwen2" | "deepseek-r1-qwen");
    Ok(Parts {
        normalizer: if qwen { json!({"type": "NFC"}) } else { Value::Null },
        splitter,
        decoder: byte_level(true),
        processor: Some(
            json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true}),
        ),
        model: json!({
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            // words that are tokens as they are stay whole, whatever their merges
            "ignore_merges": llama3,
            "vocab": vocabulary.to_json(),
            "merges": merges(file, vocabulary)?,
        }),
        begins: llama3,
    })
}

/// Which tokens become one, the first first.
fn merges(file: &GgufFile, vocabulary: &Vocabulary) -> Result<Vec<[String; 2]>, GgufTokenizerError> {
    let known: HashSet<&str> = vocabulary.present().map(|(_, (text, _))| text.as_str()).collect();
    let pairs = file.list("tokenizer.ggml.merges", GgufValue::as_text)?;
    let pair = |text: &str| {
        // a space separates two tokens, which have none: bytes below 33 are written as other characters
        let parts =
            text.split_once(' ').filter(|(left, right)| known.contains(left) && known.contains(right));
        let (left, right) = parts
            .ok_or_else(|| vocabulary.refuse(format!("the merge `{text}` is not of two of its tokens")))?;
        Ok([left.to_owned(), right.to_owned()])
    };
    pairs.into_iter().map(pair).collect()
}
