//! Texts as networks learn from them and are measured on them.

use super::CommandError;
use crate::data::{
    ParallelSource, TextFormat, TextSource, TextTokenizer, class_names, read_labelled, read_pairs, windows,
};
use crate::models::{Head, TextConfig, TranslationConfig, labels};
use crate::train::{Masking, TextAim, TextSample, TranslationPairs};
use serde_json::Value;
use std::path::Path;

/// The largest score of a pair of sentences.
const BEST_SCORE: f64 = 5.0;

/// What a network with this head learns from data of this format.
pub(super) fn aim(
    format: TextFormat,
    head: Head,
    config: &TextConfig,
    tokenizer: &TextTokenizer,
) -> Result<TextAim, CommandError> {
    let causal = !matches!(config, TextConfig::Encoder(_));
    let refuse = |problem: &str| CommandError::Unfit { problems: vec![problem.to_owned()] };
    Ok(match format {
        TextFormat::Stsb => TextAim::Similarity,
        TextFormat::Sst2 | TextFormat::Classes if causal => {
            return Err(refuse("classes are learned by networks that read in both directions, such as BERT"));
        }
        TextFormat::Sst2 | TextFormat::Classes => TextAim::Classes,
        TextFormat::Text if causal => TextAim::NextToken,
        TextFormat::Text if head == Head::Vocabulary => TextAim::MaskedToken(masking(config, tokenizer)?),
        TextFormat::Text => TextAim::Vectors,
    })
}

/// How tokens are hidden, for a tokenizer that has a token for it.
pub(super) fn masking(config: &TextConfig, tokenizer: &TextTokenizer) -> Result<Masking, CommandError> {
    let Some(mask) = ["[MASK]", "<mask>"].iter().find_map(|text| tokenizer.token(text)) else {
        let problem =
            "the tokenizer has no token that hides others, [MASK] or <mask>: an encoder learns texts by finding hidden tokens again"
                .to_owned();
        return Err(CommandError::Unfit { problems: vec![problem] });
    };
    Ok(Masking { mask, special: tokenizer.special_tokens(), vocabulary: config.vocabulary() })
}

/// The names of the classes of a training file, in order.
pub(super) fn classes(path: &Path) -> Result<Vec<String>, CommandError> {
    let names = class_names(&read_labelled(path)?);
    if names.len() < 2 {
        let problem = format!("`{}` has one class, expected two or more", path.display());
        return Err(CommandError::Unfit { problems: vec![problem] });
    }
    Ok(names)
}

/// The number of a class by its name, or as it is where names are no numbers themselves.
fn class(known: &[String], name: &str) -> Option<usize> {
    let number = |name: &str| name.parse::<usize>().ok();
    let by_number = || {
        let named = known.iter().all(|known| number(known).is_none());
        number(name).filter(|&number| named && number < known.len())
    };
    known.iter().position(|known| known == name).or_else(by_number)
}

/// The names of the classes that a configuration knows, in order; numbered as Hugging Face does where it only counts them.
pub(super) fn known_classes(json: &Value) -> Vec<String> {
    let classes = json.get("id2label").and_then(Value::as_object);
    let mut names: Vec<(usize, String)> = classes
        .into_iter()
        .flatten()
        .filter_map(|(number, name)| Some((number.parse().ok()?, name.as_str()?.to_owned())))
        .collect();
    names.sort_unstable();
    if names.is_empty() {
        // What is refused was refused with the configuration.
        let count = labels(json).unwrap_or(2);
        return (0..count).map(|number| format!("LABEL_{number}")).collect();
    }
    names.into_iter().map(|(_, name)| name).collect()
}

/// Sentences and their translations, as a network takes them: sources end with the end token, and the network puts it behind
/// targets.
pub(super) fn translation_pairs(
    data: &ParallelSource,
    train: bool,
    limit: Option<usize>,
    config: &TranslationConfig,
    tokenizer: &TextTokenizer,
) -> Result<TranslationPairs, CommandError> {
    let mut pairs = data.pairs(train)?;
    pairs.truncate(limit.unwrap_or(usize::MAX));
    let (sources, references): (Vec<String>, Vec<String>) =
        pairs.into_iter().map(|[source, target]| (source, target)).unzip();
    let bare = |tokens: Vec<u32>| {
        let (mut tokens, _) = ended(tokens, config);
        tokens.pop();
        tokens
    };
    let sources =
        translation_sources(&sources, config, tokenizer)?.into_iter().map(|(tokens, _)| tokens).collect();
    let targets: Vec<Vec<u32>> = tokenizer.encode(&references)?.into_iter().map(bare).collect();
    known_tokens(&targets, config)?;
    Ok(TranslationPairs { sources, targets, references })
}

/// Sentences as a network that translates takes them, and whether they had to be cut.
pub(super) fn translation_sources(
    texts: &[String],
    config: &TranslationConfig,
    tokenizer: &TextTokenizer,
) -> Result<Vec<(Vec<u32>, bool)>, CommandError> {
    let tokens = tokenizer.encode(texts)?;
    known_tokens(&tokens, config)?;
    Ok(tokens.into_iter().map(|tokens| ended(tokens, config)).collect())
}

/// Tokens that end with the end token, cut to what the network takes, and whether some were left out.
fn ended(mut tokens: Vec<u32>, config: &TranslationConfig) -> (Vec<u32>, bool) {
    if tokens.last() == Some(&config.end) {
        tokens.pop();
    }
    let cut = tokens.len() >= config.positions;
    tokens.truncate(config.positions - 1);
    tokens.push(config.end);
    (tokens, cut)
}

/// Refuses tokens beyond the vocabulary.
fn known_tokens(sequences: &[Vec<u32>], config: &TranslationConfig) -> Result<(), CommandError> {
    let vocabulary = config.vocabularies[0];
    if let Some(beyond) = sequences.iter().flatten().find(|&&token| token as usize >= vocabulary) {
        let problem = format!("the tokenizer gives token {beyond}, and the model knows {vocabulary}");
        return Err(CommandError::Unfit { problems: vec![problem] });
    }
    Ok(())
}

/// The classes that a network learns: those of its head in the head's order, where the data have the same names, or numbers
/// for them; the data's own otherwise.
pub(super) fn classes_for(data: Vec<String>, head: Head, json: &Value) -> Vec<String> {
    let known = known_classes(json);
    if head != Head::Classes || known.len() != data.len() {
        return data;
    }
    let same = data.iter().all(|name| known.contains(name));
    let numbered = data.iter().enumerate().all(|(index, name)| *name == index.to_string());
    if same || numbered { known } else { data }
}

/// What texts become samples by.
pub(super) struct Reading<'a> {
    pub(super) aim: &'a TextAim,
    pub(super) tokenizer: &'a TextTokenizer,
    pub(super) config: &'a TextConfig,
    /// The names of classes, where there are any.
    pub(super) classes: &'a [String],
    /// Tokens of a window, where a text is read as a whole.
    pub(super) window: usize,
}

impl Reading<'_> {
    /// The samples of a file, the first `limit` of them.
    pub(super) fn samples(
        &self,
        source: &TextSource,
        path: &Path,
        limit: Option<usize>,
    ) -> Result<Vec<TextSample>, CommandError> {
        let here = TextSource { path: path.to_owned(), format: source.format };
        let limit = limit.unwrap_or(usize::MAX);
        let single = |sequence: Vec<u32>| TextSample { sequences: vec![sequence], label: 0.0 };
        let samples: Vec<TextSample> = match self.aim {
            TextAim::Similarity => {
                let mut pairs = read_pairs(path)?;
                pairs.truncate(limit);
                let scores: Vec<f64> = pairs.iter().map(|pair| pair.score / BEST_SCORE).collect();
                let texts: Vec<String> =
                    pairs.into_iter().flat_map(|pair| [pair.first, pair.second]).collect();
                let mut sequences = self.tokenizer.encode(&texts)?.into_iter();
                let mut next = || sequences.next().unwrap_or_default();
                scores
                    .into_iter()
                    .map(|label| TextSample { sequences: vec![next(), next()], label })
                    .collect()
            }
            TextAim::Classes => {
                let mut labelled = read_labelled(path)?;
                labelled.truncate(limit);
                let class = |name: &str| class(self.classes, name);
                if let Some(other) = labelled.iter().find(|text| class(&text.label).is_none()) {
                    let (path, label, known) = (path.display(), &other.label, self.classes.join(", "));
                    let problem = format!("`{path}` has the class `{label}`, expected one of {known}");
                    return Err(CommandError::Unfit { problems: vec![problem] });
                }
                let labels: Vec<usize> = labelled.iter().filter_map(|text| class(&text.label)).collect();
                let texts: Vec<String> = labelled.into_iter().map(|text| text.text).collect();
                let sequences = self.tokenizer.encode(&texts)?.into_iter();
                let sample = |(sequence, label)| TextSample { label: label as f64, ..single(sequence) };
                sequences.zip(labels).map(sample).collect()
            }
            TextAim::NextToken => {
                let tokens = self.tokenizer.encode_all(&here.whole()?)?;
                let windows = windows(&tokens, self.window).into_iter();
                windows.filter(|window| window.len() > 1).take(limit).map(single).collect()
            }
            _ => {
                let mut texts = here.texts()?;
                texts.truncate(limit);
                let held = |sequence: &Vec<u32>| match self.aim {
                    TextAim::MaskedToken(masking) => masking.count(sequence) > 0,
                    _ => !sequence.is_empty(),
                };
                self.tokenizer.encode(&texts)?.into_iter().filter(held).map(single).collect()
            }
        };
        if samples.is_empty() {
            let within = self.window;
            let problem = format!(
                "`{}` holds no text that can be learned from or measured, in windows of {within} tokens",
                path.display()
            );
            return Err(CommandError::Unfit { problems: vec![problem] });
        }
        let vocabulary = self.config.vocabulary();
        let mut tokens = samples.iter().flat_map(|sample| sample.sequences.iter().flatten());
        if let Some(beyond) = tokens.find(|&&token| token as usize >= vocabulary) {
            let problem = format!("the tokenizer gives token {beyond}, and the model knows {vocabulary}");
            return Err(CommandError::Unfit { problems: vec![problem] });
        }
        Ok(samples)
    }
}
