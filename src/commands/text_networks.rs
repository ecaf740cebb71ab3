//! Networks for text, opened and made ready for what they are to learn.

use super::CommandError;
use super::text_samples::known_classes;
use crate::checkpoint::{Checkpoint, Record, Source};
use crate::layers::{Builder, Execution, State};
use crate::models::{EncoderFamily, Task, TextConfig, TextNetwork, TranslationConfig};
use candle_core::Device;
use serde_json::{Map, Value, json};

/// A checkpoint's configuration, as it is written and as it is meant.
pub(super) fn config(checkpoint: &Checkpoint) -> Result<(&Value, TextConfig), CommandError> {
    let json = config_json(checkpoint)?;
    Ok((json, TextConfig::from_json(json)?))
}

/// A checkpoint's config.json.
pub(super) fn config_json(checkpoint: &Checkpoint) -> Result<&Value, CommandError> {
    checkpoint.config().ok_or_else(|| {
        let root = checkpoint.root().display();
        let found = if checkpoint.is_directory() { "has no config.json" } else { "is a file" };
        let needed =
            "networks for text are opened from a checkpoint's folder, with config.json and tokenizer.json";
        CommandError::Unfit { problems: vec![format!("{needed}: `{root}` {found}")] }
    })
}

/// The configuration of a checkpoint that translates, as it is written and as it is meant.
pub(super) fn translation_config(
    checkpoint: &Checkpoint,
) -> Result<(&Value, TranslationConfig), CommandError> {
    let json = config_json(checkpoint)?;
    let config = TranslationConfig::from_json(json)?;
    if !config.shared {
        let problem = "one tokenizer.json has no separate vocabularies for source and target".to_owned();
        return Err(CommandError::Unfit { problems: vec![problem] });
    }
    Ok((json, config))
}

/// A checkpoint's configuration and its network, as they are.
pub(super) fn open(source: &Source, device: &Device) -> Result<(Value, State, TextNetwork), CommandError> {
    let checkpoint = Checkpoint::open(source)?;
    let (json, config) = config(&checkpoint)?;
    let json = json.clone();
    let state = State::read(&checkpoint)?;
    let network = build(&config, &state, Task::AsItIs, Execution::Auto, device)?;
    Ok((json, state, network))
}

/// The network of tensors.
pub(super) fn build(
    config: &TextConfig,
    state: &State,
    task: Task,
    execution: Execution,
    device: &Device,
) -> Result<TextNetwork, CommandError> {
    let builder = Builder::new(state, device).with_execution(execution);
    Ok(TextNetwork::build(config, &builder, task, device)?)
}

/// An encoder that tells classes apart: what its checkpoint lacks for it is made, at random.
pub(super) struct Classifying {
    pub(super) state: State,
    pub(super) record: Option<Record>,
    pub(super) json: Value,
    pub(super) config: TextConfig,
}

impl Classifying {
    pub(super) fn new(
        mut state: State,
        mut record: Option<Record>,
        json: &Value,
        classes: &[String],
        seed: u64,
    ) -> Result<Self, CommandError> {
        let known = known_classes(json);
        let mut json = json.clone();
        let config = TextConfig::from_json(&json)?;
        let TextConfig::Encoder(encoder) = &config else {
            let problem = "classes are learned by encoders".to_owned();
            return Err(CommandError::Unfit { problems: vec![problem] });
        };
        let (prefix, architecture) = match encoder.family {
            EncoderFamily::Bert => ("bert", "BertForSequenceClassification"),
            EncoderFamily::Roberta => ("roberta", "RobertaForSequenceClassification"),
            EncoderFamily::DistilBert => ("distilbert", "DistilBertForSequenceClassification"),
            EncoderFamily::Albert => ("albert", "AlbertForSequenceClassification"),
        };
        // A model without head has no prefix, one with a head has it.
        if state.tensors.keys().any(|name| name.starts_with("embeddings.")) {
            state = state.prefixed(prefix);
            record = record.map(|record| record.prefixed(prefix));
        }
        if let Some(keys) = json.as_object_mut() {
            let numbered = classes.iter().enumerate();
            let names: Map<String, Value> =
                numbered.clone().map(|(index, name)| (index.to_string(), json!(name))).collect();
            let numbers: Map<String, Value> =
                numbered.map(|(index, name)| (name.clone(), json!(index))).collect();
            keys.insert("architectures".to_owned(), json!([architecture]));
            keys.insert("id2label".to_owned(), Value::Object(names));
            keys.insert("label2id".to_owned(), Value::Object(numbers));
            keys.insert("problem_type".to_owned(), json!("single_label_classification"));
            keys.shift_remove("num_labels");
        }
        let config = TextConfig::from_json(&json)?;
        let fresh = TextNetwork::fresh(&config, Task::Classification, seed, &Device::Cpu)?.state()?;
        // A head for other classes says nothing of these.
        if known != classes {
            let own = format!("{prefix}.");
            state.tensors.retain(|name, _| name.starts_with(&own) || !is_of_classes(name));
            state.modules.retain(|name, _| name.starts_with(&own) || !is_of_classes(name));
            if let Some(record) = &mut record {
                record.modules.retain(|name, _| name.starts_with(&own) || !is_of_classes(name));
            }
        }
        for (name, tensor) in fresh.tensors {
            let module = name.rsplit_once('.').map_or("", |(module, _)| module);
            let head =
                !name.starts_with(&format!("{prefix}.")) || name.starts_with(&format!("{prefix}.pooler"));
            if head && !state.modules.contains_key(module) && !state.tensors.contains_key(&name) {
                state.tensors.insert(name, tensor);
            }
        }
        Ok(Self { state, record, json, config })
    }
}

/// Whether a tensor or a module belongs to a head for classes, of any of the families.
fn is_of_classes(name: &str) -> bool {
    ["classifier", "pre_classifier"].iter().any(|head| name.split('.').next() == Some(head))
}

/// Tied tensors: a copy that a checkpoint may hold, and what it is a copy of.
const TIED: [(&str, &str); 13] = [
    ("lm_head.weight", "transformer.wte.weight"),
    ("lm_head.weight", "wte.weight"),
    ("lm_head.weight", "model.embed_tokens.weight"),
    ("lm_head.weight", "model.shared.weight"),
    ("model.encoder.embed_tokens.weight", "model.shared.weight"),
    ("model.decoder.embed_tokens.weight", "model.shared.weight"),
    ("lm_head.decoder.weight", "roberta.embeddings.word_embeddings.weight"),
    ("cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"),
    ("predictions.decoder.weight", "albert.embeddings.word_embeddings.weight"),
    ("vocab_projector.weight", "distilbert.embeddings.word_embeddings.weight"),
    ("cls.predictions.decoder.bias", "cls.predictions.bias"),
    ("lm_head.decoder.bias", "lm_head.bias"),
    ("predictions.decoder.bias", "predictions.bias"),
];

/// Removes copies of tied tensors that lie beside them: training would move on one of them alone, and transformers ties
/// what is missing.
pub(super) fn without_copies(state: &mut State, json: &Value) {
    let usual = !matches!(
        json.get("model_type").and_then(Value::as_str),
        Some("llama" | "mistral" | "qwen2" | "qwen3")
    );
    if !json.get("tie_word_embeddings").and_then(Value::as_bool).unwrap_or(usual) {
        return;
    }
    for (copy, owner) in TIED {
        let of = |name: &str| state.tensors.get(name).and_then(|stored| stored.tensor()).cloned();
        let (Some(one), Some(other)) = (of(copy), of(owner)) else { continue };
        let equal = one.dims() == other.dims()
            && one
                .sub(&other)
                .and_then(|difference| difference.abs()?.sum_all()?.to_scalar::<f32>())
                .is_ok_and(|distance| distance == 0.0);
        if equal {
            state.tensors.shift_remove(copy);
        }
    }
}
