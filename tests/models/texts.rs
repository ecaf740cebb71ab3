//! Networks for text against transformers', recorded by `torch_text.py`.

use crate::recorded::{relative_error, text_state};
use candle_core::{DType, Device, Result, Tensor};
use fnl::layers::{KeyValues, Node, State, Stored, Tape};
use fnl::models::{TextConfig, TextNetwork, Tokens};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
pub(crate) struct Text {
    pub(crate) name: String,
    pub(crate) config: Value,
    tensors: Vec<(String, Vec<usize>)>,
    pub(crate) hidden: Vec<f64>,
    #[serde(default)]
    logits: Vec<f64>,
}

pub(crate) fn recorded() -> Vec<Text> {
    serde_json::from_str(include_str!("torch_text.json")).unwrap()
}

const SEQUENCES: [&[u32]; 2] = [&[7, 3, 44, 12, 9, 30, 21], &[5, 49, 8, 2]];

pub(crate) fn tokens() -> Tokens {
    Tokens::new(&SEQUENCES.map(<[u32]>::to_vec)).unwrap()
}

impl Text {
    fn config(&self) -> TextConfig {
        TextConfig::from_json(&self.config).unwrap()
    }

    pub(crate) fn state(&self, dtype: DType) -> State {
        text_state(&self.tensors, dtype)
    }

    pub(crate) fn network(&self, dtype: DType) -> TextNetwork {
        TextNetwork::new(&self.config(), &self.state(dtype), &Device::Cpu)
            .unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }
}

fn every_fifth(logits: &Node) -> Result<Tensor> {
    let columns: Vec<u32> = (0..logits.dims()[1] as u32).step_by(5).collect();
    logits.tensor().index_select(&Tensor::new(columns, &Device::Cpu)?, 1)
}

#[test]
fn hidden_states_and_logits_are_those_of_transformers() -> Result<()> {
    for text in recorded() {
        let network = text.network(DType::F32);
        let (tape, tokens) = (Tape::inference(), tokens());
        let hidden = network.hidden(&tape, &tokens)?;
        let error = relative_error(hidden.tensor(), &text.hidden)?;
        assert!(error < 3e-6, "{}: hidden states {error}", text.name);
        if text.logits.is_empty() {
            assert!(network.vocabulary_logits(&tape, &hidden).is_err());
            continue;
        }
        let logits = if text.name.ends_with("classes") {
            network.class_logits(&tape, &tokens)?.tensor().clone()
        } else {
            every_fifth(&network.vocabulary_logits(&tape, &hidden)?)?
        };
        let error = relative_error(&logits, &text.logits)?;
        assert!(error < 3e-6, "{}: logits {error}", text.name);
    }
    Ok(())
}

#[test]
fn compositions_give_what_loops_give() -> Result<()> {
    for text in recorded() {
        let network = text.network(DType::F64);
        let hidden = network.hidden(&Tape::inference(), &tokens())?;
        let error = relative_error(hidden.tensor(), &text.hidden)?;
        assert!(error < 3e-7, "{}: {error}", text.name);
    }
    Ok(())
}

#[test]
fn tokens_one_by_one_are_as_all_at_once() -> Result<()> {
    for text in recorded().iter().filter(|text| !matches!(text.config(), TextConfig::Encoder(_))) {
        let network = text.network(DType::F32);
        let width = text.hidden.len() / 11;
        let (tape, mut keep) = (Tape::inference(), KeyValues::new());
        let mut found = Vec::new();
        for part in [&SEQUENCES[0][..3], &SEQUENCES[0][3..4], &SEQUENCES[0][4..]] {
            let tokens = Tokens::new(&[part.to_vec()])?.from_position(keep.tokens());
            found.push(network.hidden_next(&tape, &tokens, &mut keep)?.tensor().clone());
        }
        let error = relative_error(&Tensor::cat(&found, 0)?, &text.hidden[..7 * width])?;
        assert!(error < 3e-6, "{}: {error}", text.name);
    }
    Ok(())
}

#[test]
fn what_does_not_fit_is_refused() {
    let text = &recorded()[0];
    let network = text.network(DType::F32);
    let long = Tokens::new(&[vec![1; 33]]).unwrap();
    let error = network.hidden(&Tape::inference(), &long).unwrap_err().to_string();
    assert!(error.contains("takes at most 32"), "{error}");
    let mut state = text.state(DType::F32);
    state.tensors.swap_remove("encoder.layer.1.output.dense.weight");
    state
        .tensors
        .insert("other".to_owned(), Stored::new(Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap()));
    let error = TextNetwork::new(&text.config(), &state, &Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("missing `encoder.layer.1.output.dense.weight`, shape [16, 24]"), "{error}");
    assert!(error.contains("unexpected `other`, shape [3]"), "{error}");
    let config = serde_json::json!({"model_type": "mamba"});
    let error = TextConfig::from_json(&config).unwrap_err();
    assert!(error.to_string().contains("`mamba`") && error.hint().unwrap().contains("qwen3"), "{error}");
    let config = serde_json::json!({"model_type": "bert", "vocab_size": 5});
    let error = TextConfig::from_json(&config).unwrap_err().to_string();
    assert!(error.contains("missing field `hidden_size`"), "{error}");
}
