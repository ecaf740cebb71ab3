//! The tokenizer of a GGUF file as Hugging Face's `tokenizer.json`.

mod byte_level;
mod error;
mod pieces;
mod vocabulary;

use crate::checkpoint::GgufFile;
pub use error::GgufTokenizerError;
use serde_json::{Map, Value, json};
use std::str::FromStr as _;
use tokenizers::Tokenizer;
use vocabulary::Vocabulary;

/// A tokenizer's two files, made from what a GGUF file says of it.
///
/// | `tokenizer.ggml.model` | becomes |
/// | --- | --- |
/// | `gpt2` | byte-pair encoding of bytes, texts split as `tokenizer.ggml.pre` says |
/// | `llama` | byte-pair encoding of SentencePiece's pieces, whose merges follow from their scores |
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GgufTokenizer {
    /// `tokenizer.json`.
    pub tokenizer: Value,
    /// `tokenizer_config.json`: special tokens, the chat template.
    pub config: Value,
    /// How many tokens there are.
    pub tokens: usize,
}

impl GgufTokenizer {
    /// Makes the files, and reads the first as it will be read.
    ///
    /// # Errors
    ///
    /// - [`GgufTokenizerError`]: a file without tokens, of a kind that is not known here, or with tokens that contradict each other
    pub fn of(file: &GgufFile) -> Result<Self, GgufTokenizerError> {
        let vocabulary = Vocabulary::of(file)?;
        let parts = match file.text_if("tokenizer.ggml.model")? {
            None => return Err(GgufTokenizerError::None { path: file.path().to_owned() }),
            Some("gpt2") => byte_level::parts(file, &vocabulary)?,
            Some("llama") => pieces::parts(file, &vocabulary)?,
            Some(other) => {
                return Err(GgufTokenizerError::Unknown {
                    path: file.path().to_owned(),
                    key: "tokenizer.ggml.model",
                    found: other.to_owned(),
                    expected: "gpt2 or llama".to_owned(),
                });
            }
        };
        let tokenizer = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": vocabulary.added_tokens(),
            "normalizer": parts.normalizer,
            "pre_tokenizer": parts.splitter,
            "post_processor": post_processor(file, &vocabulary, &parts)?,
            "decoder": parts.decoder,
            "model": parts.model,
        });
        if let Err(error) = Tokenizer::from_str(&tokenizer.to_string()) {
            return Err(vocabulary.refuse(error.to_string()));
        }
        Ok(Self { tokenizer, config: config(file, &vocabulary)?, tokens: vocabulary.len() })
    }
}

/// What a kind of tokenizer has where.
struct Parts {
    normalizer: Value,
    splitter: Value,
    decoder: Value,
    /// What comes after the model, before special tokens.
    processor: Option<Value>,
    model: Value,
    /// Whether a text begins with a special token where the file doesn't say so.
    begins: bool,
}

/// Which special tokens stand around a text.
fn post_processor(
    file: &GgufFile,
    vocabulary: &Vocabulary,
    parts: &Parts,
) -> Result<Value, GgufTokenizerError> {
    let flag = |name: &str| file.flag_if(&format!("tokenizer.ggml.add_{name}_token"));
    let (begins, ends) = (flag("bos")?.unwrap_or(parts.begins), flag("eos")?.unwrap_or(false));
    let [begin, end] = [("bos", begins), ("eos", ends)]
        .map(|(name, wanted)| if wanted { vocabulary.special(file, name) } else { Ok(None) });
    let (begin, end) = (begin?, end?);
    if begin.is_none() && end.is_none() {
        return Ok(parts.processor.clone().unwrap_or(Value::Null));
    }
    let around = |id: &str, kind: u32| -> Vec<Value> {
        let special = |token: &Option<(u64, String)>| {
            token.as_ref().map(|(_, text)| json!({"SpecialToken": {"id": text, "type_id": kind}}))
        };
        let text = Some(json!({"Sequence": {"id": id, "type_id": kind}}));
        [special(&begin), text, special(&end)].into_iter().flatten().collect()
    };
    let tokens: Map<String, Value> = [&begin, &end]
        .into_iter()
        .flatten()
        .map(|(id, text)| (text.clone(), json!({"id": text, "ids": [id], "tokens": [text]})))
        .collect();
    let pair = [around("A", 0), around("B", 1)].concat();
    let template = json!({
        "type": "TemplateProcessing",
        "single": around("A", 0),
        "pair": pair,
        "special_tokens": tokens,
    });
    Ok(match &parts.processor {
        Some(first) => json!({"type": "Sequence", "processors": [first, template]}),
        None => template,
    })
}

/// What `tokenizer_config.json` says.
fn config(file: &GgufFile, vocabulary: &Vocabulary) -> Result<Value, GgufTokenizerError> {
    let mut config = Map::new();
    for (key, name) in
        [("bos_token", "bos"), ("eos_token", "eos"), ("unk_token", "unknown"), ("pad_token", "padding")]
    {
        if let Some((_, text)) = vocabulary.special(file, name)? {
            config.insert(key.to_owned(), json!(text));
        }
    }
    if let Some(template) = file.text_if("tokenizer.chat_template")? {
        config.insert("chat_template".to_owned(), json!(template));
    }
    config.insert("clean_up_tokenization_spaces".to_owned(), json!(false));
    if let Some(architecture) = file.text_if("general.architecture")?
        && let Some(longest) = file.count_if(&format!("{architecture}.context_length"))?
    {
        config.insert("model_max_length".to_owned(), json!(longest));
    }
    config.insert("tokenizer_class".to_owned(), json!("PreTrainedTokenizerFast"));
    Ok(Value::Object(config))
}
