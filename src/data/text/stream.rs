use super::error::TextError;
use super::tokenizer::TextTokenizer;

/// What stands for bytes that are no character, or none yet.
const REPLACEMENT: char = '\u{fffd}';

/// Tokens as they come into pieces of text, which are whole characters and together the text of all tokens.
///
/// A character may be of several tokens, and a word's space may depend on the token before it: what is given out is what a
/// token adds to the text of those before it, once no character in it is incomplete.
#[derive(Debug)]
pub struct TextStream<'a> {
    tokenizer: &'a TextTokenizer,
    /// Tokens whose text is out already, and on which that of the next depends.
    before: Vec<u32>,
    /// Tokens whose text is not.
    held: Vec<u32>,
}

impl<'a> TextStream<'a> {
    /// A stream behind these tokens, whose own text is not given out.
    #[must_use]
    pub fn new(tokenizer: &'a TextTokenizer, before: &[u32]) -> Self {
        Self { tokenizer, before: before.to_vec(), held: Vec::new() }
    }

    /// The text that this token completes; none while a character is incomplete, or for a special token.
    ///
    /// # Errors
    ///
    /// - [`TextError::Tokenizer`] for what is no token
    pub fn push(&mut self, token: u32) -> Result<String, TextError> {
        self.held.push(token);
        let added = self.added()?;
        if added.ends_with(REPLACEMENT) {
            return Ok(String::new());
        }
        if added.is_empty() {
            // a special token: the next one's space still depends on what was before
            self.before.append(&mut self.held);
        } else {
            self.before = std::mem::take(&mut self.held);
        }
        Ok(added)
    }

    /// What is left at the end: characters that stayed incomplete, as replacements.
    ///
    /// # Errors
    ///
    /// - [`TextError::Tokenizer`] for what is no token
    pub fn finish(self) -> Result<String, TextError> {
        self.added()
    }

    /// What tokens that are held add to the text before them.
    fn added(&self) -> Result<String, TextError> {
        let before = self.tokenizer.decode(&self.before)?;
        let mut tokens = self.before.clone();
        tokens.extend(&self.held);
        let all = self.tokenizer.decode(&tokens)?;
        // they begin alike, but for a character that was incomplete at the prompt's end
        Ok(all.strip_prefix(before.trim_end_matches(REPLACEMENT)).unwrap_or_default().to_owned())
    }
}
