use super::error::TextError;
use std::fmt;
use std::path::{Path, PathBuf};
use tokenizers::{Tokenizer, TruncationParams};

/// Text into tokens and back, as a checkpoint's `tokenizer.json` says.
pub struct TextTokenizer {
    inner: Tokenizer,
    path: PathBuf,
}

impl fmt::Debug for TextTokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let vocabulary = self.inner.get_vocab_size(true);
        f.debug_struct("TextTokenizer")
            .field("path", &self.path)
            .field("vocabulary", &vocabulary)
            .finish_non_exhaustive()
    }
}

impl TextTokenizer {
    /// Reads the `tokenizer.json` of a checkpoint's folder. Texts are cut to `longest` tokens, special ones counted, and not
    /// padded.
    ///
    /// # Errors
    ///
    /// - [`TextError::Tokenizer`] when there is none, or it is broken
    pub fn open(folder: &Path, longest: usize) -> Result<Self, TextError> {
        let path = folder.join("tokenizer.json");
        if !path.is_file() {
            let problem = "there is no tokenizer.json".to_owned();
            return Err(TextError::Tokenizer { path: folder.to_owned(), problem });
        }
        let file = std::fs::read(&path).map_err(TextError::read(&path))?;
        Self::from_bytes(&file, folder)?.with_longest(longest)
    }

    /// Reads a `tokenizer.json`, under this name in what is told of it. Texts are not padded, and not cut.
    ///
    /// # Errors
    ///
    /// - [`TextError::Tokenizer`] when it is broken
    pub fn from_bytes(file: &[u8], name: &Path) -> Result<Self, TextError> {
        let refuse = |error: tokenizers::Error| TextError::Tokenizer {
            path: name.to_owned(),
            problem: error.to_string(),
        };
        let mut inner = Tokenizer::from_bytes(file).map_err(refuse)?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(refuse)?;
        Ok(Self { inner, path: name.to_owned() })
    }

    /// A tokenizer that is at hand, under this name in what is told of it.
    pub(super) fn over(inner: Tokenizer, path: &Path) -> Self {
        Self { inner, path: path.to_owned() }
    }

    /// The same tokenizer, texts cut to `longest` tokens, special ones counted.
    ///
    /// # Errors
    ///
    /// - [`TextError::Tokenizer`] when the special tokens alone are more
    pub fn with_longest(mut self, longest: usize) -> Result<Self, TextError> {
        let truncation = TruncationParams { max_length: longest, ..TruncationParams::default() };
        match self.inner.with_truncation(Some(truncation)) {
            Ok(_) => Ok(self),
            Err(error) => Err(TextError::Tokenizer { path: self.path, problem: error.to_string() }),
        }
    }

    /// The tokenizer as `tokenizer.json` holds it.
    ///
    /// # Errors
    ///
    /// - [`TextError::Tokenizer`] when it cannot be written down
    pub fn to_json(&self) -> Result<String, TextError> {
        self.inner.to_string(true).map_err(|error| self.refuse(&error))
    }

    /// Tokens that there are.
    #[must_use]
    pub fn vocabulary(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The tokens of each text, with the special ones that the model expects.
    ///
    /// # Errors
    ///
    /// - [`TextError::Tokenizer`] when a text cannot be split
    pub fn encode(&self, texts: &[String]) -> Result<Vec<Vec<u32>>, TextError> {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let encoded = self.inner.encode_batch_fast(texts, true);
        let encoded = encoded.map_err(|error| self.refuse(&error))?;
        Ok(encoded.into_iter().map(|encoding| encoding.get_ids().to_vec()).collect())
    }

    /// The tokens of a text that is to be gone on with: special ones before it, none behind it.
    ///
    /// # Errors
    ///
    /// - [`TextError::Tokenizer`] when it cannot be split
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let own = self.encode_all(text)?;
        let mut whole = self.encode(&[text.to_owned()])?.concat();
        let begins = (0..=whole.len().saturating_sub(own.len())).find(|&at| whole[at..].starts_with(&own));
        if let Some(at) = begins {
            whole.truncate(at + own.len());
        }
        Ok(whole)
    }

    /// All tokens of a long text, without special ones and not cut.
    ///
    /// # Errors
    ///
    /// - [`TextError::Tokenizer`] when it cannot be split
    pub fn encode_all(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let mut inner = self.inner.clone();
        inner.with_truncation(None).map_err(|error| self.refuse(&error))?;
        let encoded = inner.encode_fast(text, false).map_err(|error| self.refuse(&error))?;
        Ok(encoded.get_ids().to_vec())
    }

    /// The text of tokens, without special ones and what is no token.
    ///
    /// # Errors
    ///
    /// - [`TextError::Tokenizer`]: a decoder that fails
    pub fn decode(&self, tokens: &[u32]) -> Result<String, TextError> {
        self.inner.decode(tokens, true).map_err(|error| self.refuse(&error))
    }

    /// Tokens that stand for no text, in order.
    #[must_use]
    pub fn special_tokens(&self) -> Vec<u32> {
        let added = self.inner.get_added_tokens_decoder();
        let mut special: Vec<u32> =
            added.into_iter().filter(|(_, token)| token.special).map(|(id, _)| id).collect();
        special.sort_unstable();
        special
    }

    fn refuse(&self, problem: &tokenizers::Error) -> TextError {
        TextError::Tokenizer { path: self.path.clone(), problem: problem.to_string() }
    }

    /// The token of this text in the vocabulary.
    #[must_use]
    pub fn token(&self, text: &str) -> Option<u32> {
        self.inner.token_to_id(text)
    }
}
