use super::error::TextError;
use super::tokenizer::TextTokenizer;
use std::path::Path;
use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, Tokenizer};

/// The special tokens of tokenizers that are learned: padding, end and unknown, in this order from 0 on.
pub const SPECIAL_TOKENS: [&str; 3] = ["<pad>", "</s>", "<unk>"];
/// What stands for a token that is hidden, of tokenizers that are learned for networks that find it again.
pub const MASK_TOKEN: &str = "<mask>";

impl TextTokenizer {
    /// Learns pairs of bytes that come often together from texts, until there are `size` tokens, [`SPECIAL_TOKENS`] and all
    /// single bytes among them. Every text can be split, and the end token is put behind it.
    ///
    /// # Determinism
    ///
    /// What is learned depends on the texts and the size alone.
    ///
    /// # Errors
    ///
    /// - [`TextError::Vocabulary`] when it has not room for single bytes, or the texts do not give so many tokens
    ///
    /// # Reference
    ///
    /// Sennrich, Haddow, Birch, "Neural Machine Translation of Rare Words with Subword Units", 2016; on bytes: Radford et al.,
    /// "Language Models are Unsupervised Multitask Learners", 2019, section 2.2.
    ///
    /// # Examples
    ///
    /// ```
    /// use fnl::data::TextTokenizer;
    ///
    /// let texts: Vec<String> = ["ein Hund rennt", "ein Mann rennt"].map(String::from).to_vec();
    /// let tokenizer = TextTokenizer::learn(&texts, 265)?;
    /// let tokens = tokenizer.encode(&["ein Hund".to_owned()])?.remove(0);
    /// assert_eq!(tokens.last(), Some(&1)); // the end token
    /// assert_eq!(tokenizer.decode(&tokens)?.trim_start(), "ein Hund");
    /// # Ok::<(), fnl::data::TextError>(())
    /// ```
    pub fn learn(texts: &[String], size: usize) -> Result<Self, TextError> {
        Self::learn_with(texts, size, &[])
    }

    /// The same with more special tokens, such as [`MASK_TOKEN`], after [`SPECIAL_TOKENS`].
    ///
    /// # Errors
    ///
    /// - as [`TextTokenizer::learn`]
    pub fn learn_with(texts: &[String], size: usize, more: &[&str]) -> Result<Self, TextError> {
        let least = SPECIAL_TOKENS.len() + more.len() + ByteLevel::alphabet().len();
        let refuse = |found: usize, problem: String| TextError::Vocabulary { size: found, problem };
        if size < least {
            return Err(refuse(size, format!("single bytes and special tokens alone are {least}")));
        }
        let broken = |error: tokenizers::Error| refuse(size, error.to_string());
        let special: Vec<AddedToken> =
            SPECIAL_TOKENS.iter().chain(more).map(|&token| AddedToken::from(token, true)).collect();
        let trainer = BpeTrainer::builder()
            .show_progress(false)
            .vocab_size(size)
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .special_tokens(special)
            .build();
        let mut inner = Tokenizer::new(BPE::default());
        // A space before the first word makes it the same token as inside of a text.
        let bytes = ByteLevel::new(true, false, true);
        inner.with_pre_tokenizer(Some(bytes)).with_decoder(Some(bytes));
        let mut trainer = TrainerWrapper::BpeTrainer(trainer);
        inner.train(&mut trainer, texts.iter().map(String::as_str)).map_err(broken)?;
        let found = inner.get_vocab_size(true);
        if found < size {
            let problem = format!("the texts give {found} tokens");
            return Err(refuse(size, problem));
        }
        let end = SPECIAL_TOKENS[1];
        let template = TemplateProcessing::builder()
            .try_single(format!("$A {end}"))
            .map(|builder| builder.special_tokens(vec![(end, 1)]).build())
            .map_err(|error| refuse(size, error))?
            .map_err(|error| refuse(size, error.to_string()))?;
        inner.with_post_processor(Some(template));
        Ok(Self::over(inner, Path::new("tokenizer.json")))
    }
}
