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
        let refuse = |problem: String| TextError::Tokenizer { path: folder.to_owned(), problem };
        let path = folder.join("tokenizer.json");
        if !path.is_file() {
            return Err(refuse("there is no tokenizer.json".to_owned()));
        }
        let mut inner = Tokenizer::from_file(&path).map_err(|error| refuse(error.to_string()))?;
        inner.with_padding(None);
        let truncation = TruncationParams { max_length: longest, ..TruncationParams::default() };
        inner.with_truncation(Some(truncation)).map_err(|error| refuse(error.to_string()))?;
        Ok(Self { inner, path: folder.to_owned() })
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

    /// The text of tokens, without special ones.
    ///
    /// # Errors
    ///
    /// - [`TextError::Tokenizer`] when they are none
    pub fn decode(&self, tokens: &[u32]) -> Result<String, TextError> {
        self.inner.decode(tokens, true).map_err(|error| self.refuse(&error))
    }

    /// How many tokens there are, special ones counted.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.inner.get_vocab_size(true)
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
