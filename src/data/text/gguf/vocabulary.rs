use super::error::GgufTokenizerError;
use crate::checkpoint::{GgufFile, GgufValue};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::path::PathBuf;

/// What a token is for, as llama.cpp numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A piece of text.
    Normal,
    /// What stands for what there is no token for.
    Unknown,
    /// A special token, left out of texts.
    Control,
    /// A whole that is never split, and is text.
    Whole,
    /// No text gives it.
    Unused,
    /// One byte, written `<0x0A>`.
    Byte,
}

/// The tokens of a GGUF file.
pub(super) struct Vocabulary {
    path: PathBuf,
    tokens: Vec<(String, Kind)>,
}

impl Vocabulary {
    pub(super) fn of(file: &GgufFile) -> Result<Self, GgufTokenizerError> {
        let key = "tokenizer.ggml.tokens";
        if !file.metadata().contains_key(key) {
            return Err(GgufTokenizerError::None { path: file.path().to_owned() });
        }
        let texts = file.list(key, GgufValue::as_text)?;
        let key = "tokenizer.ggml.token_type";
        let kinds = if file.metadata().contains_key(key) {
            file.list(key, GgufValue::as_count)?
        } else {
            vec![1; texts.len()]
        };
        let path = file.path().to_owned();
        if kinds.len() != texts.len() {
            let problem = format!("{} tokens have {} types", texts.len(), kinds.len());
            return Err(GgufTokenizerError::Broken { path, problem });
        }
        let kind = |number| match number {
            2 => Kind::Unknown,
            3 => Kind::Control,
            4 => Kind::Whole,
            5 => Kind::Unused,
            6 => Kind::Byte,
            _ => Kind::Normal,
        };
        let tokens = texts.into_iter().zip(kinds).map(|(text, number)| (text.to_owned(), kind(number)));
        let vocabulary = Self { path, tokens: tokens.collect() };
        let mut seen = HashMap::new();
        for (id, (text, _)) in vocabulary.present() {
            if let Some(other) = seen.insert(text, id) {
                return Err(vocabulary.refuse(format!("tokens {other} and {id} are both `{text}`")));
            }
        }
        Ok(vocabulary)
    }

    pub(super) fn refuse(&self, problem: String) -> GgufTokenizerError {
        GgufTokenizerError::Broken { path: self.path.clone(), problem }
    }

    /// All tokens, those included that only make the number of rows a round one.
    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// The tokens that stand for something, by number; llama.cpp fills up with `[PAD0]`, `[PAD1]`, ...
    pub(super) fn present(&self) -> impl Iterator<Item = (usize, &(String, Kind))> {
        let fills = |(text, kind): &(String, Kind)| *kind == Kind::Unused && text.starts_with("[PAD");
        self.tokens.iter().enumerate().filter(move |(_, token)| !fills(token))
    }

    /// From texts to numbers, as `tokenizer.json` has it.
    pub(super) fn to_json(&self) -> Value {
        let ids: Map<String, Value> =
            self.present().map(|(id, (text, _))| (text.clone(), json!(id))).collect();
        Value::Object(ids)
    }

    /// Tokens that are looked for in a text before it is split.
    pub(super) fn added_tokens(&self) -> Vec<Value> {
        let added = |kind: Kind| matches!(kind, Kind::Control | Kind::Whole | Kind::Unknown);
        self.present()
            .filter(|(_, (_, kind))| added(*kind))
            .map(|(id, (text, kind))| {
                json!({
                    "id": id,
                    "content": text,
                    "single_word": false,
                    "lstrip": false,
                    "rstrip": false,
                    "normalized": false,
                    "special": *kind != Kind::Whole,
                })
            })
            .collect()
    }

    /// The token that the file gives this part: `bos`, `eos`, `unknown`, `padding`.
    pub(super) fn special(
        &self,
        file: &GgufFile,
        name: &str,
    ) -> Result<Option<(u64, String)>, GgufTokenizerError> {
        let key = format!("tokenizer.ggml.{name}_token_id");
        let Some(id) = file.count_if(&key)? else { return Ok(None) };
        match usize::try_from(id).ok().and_then(|id| self.tokens.get(id)) {
            Some((text, _)) => Ok(Some((id, text.clone()))),
            None => Err(self.refuse(format!("`{key}` is {id}, and there are {} tokens", self.len()))),
        }
    }
}
