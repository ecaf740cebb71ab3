use super::Parts;
use super::error::GgufTokenizerError;
use super::vocabulary::{Kind, Vocabulary};
use crate::checkpoint::{GgufFile, GgufValue};
use serde_json::{Value, json};
use std::collections::HashMap;

/// What SentencePiece writes for a space.
const SPACE: &str = "\u{2581}";

/// Byte-pair encoding of SentencePiece's pieces: Llama 2's and Mistral's.
pub(super) fn parts(file: &GgufFile, vocabulary: &Vocabulary) -> Result<Parts, GgufTokenizerError> {
    let prefixed = file.flag_if("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    let prefix = prefixed.then(|| json!({"type": "Prepend", "prepend": SPACE}));
    let spaces = json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE});
    let normalizers: Vec<Value> = prefix.into_iter().chain([spaces]).collect();
    let strip = prefixed.then(|| json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    let decoders: Vec<Value> = [
        json!({"type": "Replace", "pattern": {"String": SPACE}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ]
    .into_iter()
    .chain(strip)
    .collect();
    let unknown =
        vocabulary.present().find(|(_, (_, kind))| *kind == Kind::Unknown).map(|(_, (text, _))| text);
    let bytes = vocabulary.present().any(|(_, (_, kind))| *kind == Kind::Byte);
    Ok(Parts {
        normalizer: json!({"type": "Sequence", "normalizers": normalizers}),
        splitter: Value::Null,
        decoder: json!({"type": "Sequence", "decoders": decoders}),
        processor: None,
        model: json!({
            "type": "BPE",
            "dropout": null,
            "unk_token": unknown,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": true,
            "byte_fallback": bytes,
            "ignore_merges": false,
            "vocab": vocabulary.to_json(),
            "merges": merges(file, vocabulary)?,
        }),
        begins: true,
    })
}

/// Which pieces become one, the first first.
///
/// SentencePiece joins whichever two neighbours make the piece of the highest score, so every way in which a piece is two
/// others is a merge, of the rank of its score.
fn merges(file: &GgufFile, vocabulary: &Vocabulary) -> Result<Vec<[String; 2]>, GgufTokenizerError> {
    let scores = file.list("tokenizer.ggml.scores", GgufValue::as_number)?;
    if scores.len() != vocabulary.len() {
        return Err(vocabulary.refuse(format!("{} tokens have {} scores", vocabulary.len(), scores.len())));
    }
    let pieces: HashMap<&str, usize> = vocabulary
        .present()
        .filter(|(_, (_, kind))| matches!(kind, Kind::Normal | Kind::Whole | Kind::Unused))
        .map(|(id, (text, _))| (text.as_str(), id))
        .collect();
    let mut found: Vec<(f64, usize, [usize; 2], [&str; 2])> = Vec::new();
    for (&piece, &id) in &pieces {
        for (at, _) in piece.char_indices().skip(1) {
            let (left, right) = piece.split_at(at);
            if let (Some(&first), Some(&second)) = (pieces.get(left), pieces.get(right)) {
                found.push((scores[id], id, [first, second], [left, right]));
            }
        }
    }
    // pieces are numbered by their score, but for those that were added
    found.sort_by(|one, other| other.0.total_cmp(&one.0).then((one.1, one.2).cmp(&(other.1, other.2))));
    Ok(found.into_iter().map(|(_, _, _, pair)| pair.map(str::to_owned)).collect())
}
