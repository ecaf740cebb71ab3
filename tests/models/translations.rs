//! Encoder-decoders against transformers', recorded by `torch_translation.py`.

use crate::recorded::{relative_error, text_state};
use candle_core::{DType, Device, Result, Tensor};
use fnl::layers::operations::Dropouts;
use fnl::layers::{Node, Role, State, Tape};
use fnl::models::{LengthLimit, SearchOptions, Tokens, TranslationConfig, TranslationNetwork};
use fnl::train::CrossEntropy;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Recorded {
    name: String,
    config: Value,
    tensors: Vec<(String, Vec<usize>)>,
    encoded: Vec<f64>,
    logits: Vec<f64>,
    searches: Vec<Search>,
}

#[derive(Deserialize)]
struct Search {
    beams: usize,
    length_penalty: f64,
    early: bool,
    translations: Vec<Vec<u32>>,
    scores: Vec<Option<f64>>,
}

fn recorded() -> Vec<Recorded> {
    serde_json::from_str(include_str!("torch_translation.json")).unwrap()
}

const SOURCES: [&[u32]; 3] = [&[7, 3, 44, 12, 9, 30, 21, 0], &[5, 48, 8, 0], &[33, 0]];
const TARGETS: [&[u32]; 3] = [&[4, 17, 2, 39, 6], &[11, 28, 36, 1, 9, 5, 22, 3], &[31]];
/// Those that are searched with, beside the sources.
const MORE: [&[u32]; 5] =
    [&[22, 18, 0], &[14, 6, 38, 29, 0], &[41, 2, 2, 13, 45, 0], &[10, 35, 27, 0], &[1, 16, 0]];
const LONGEST: usize = 12;
/// What is added to the end token's bias.
const END: f64 = 1.2;

fn sources() -> Tokens {
    Tokens::new(&SOURCES.map(<[u32]>::to_vec)).unwrap()
}

impl Recorded {
    fn config(&self) -> TranslationConfig {
        TranslationConfig::from_json(&self.config).unwrap()
    }

    fn state(&self, dtype: DType) -> State {
        let mut state = text_state(&self.tensors, DType::F64);
        let bias = state.tensors.get_mut("final_logits_bias").unwrap();
        let mut values = bias.tensor().unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        values[self.config().end as usize] += END;
        let count = values.len();
        *bias = fnl::layers::Stored::new(Tensor::from_vec(values, (1, count), &Device::Cpu).unwrap());
        for stored in state.tensors.values_mut() {
            *stored = fnl::layers::Stored::new(stored.tensor().unwrap().to_dtype(dtype).unwrap());
        }
        state
    }

    fn network(&self, dtype: DType) -> TranslationNetwork {
        TranslationNetwork::new(&self.config(), &self.state(dtype), &Device::Cpu)
            .unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }
}

fn every_fifth(logits: &Tensor) -> Result<Tensor> {
    let columns: Vec<u32> = (0..logits.dims()[1] as u32).step_by(5).collect();
    logits.index_select(&Tensor::new(columns, &Device::Cpu)?, 1)
}

/// The end token's bias was rounded to f32 before something was added in f64, and is rounded afterwards here.
const ROUNDED: f64 = 3e-6;

#[test]
fn logits_of_whole_targets_are_those_of_transformers() -> Result<()> {
    for recorded in recorded() {
        for (dtype, bound) in [(DType::F32, ROUNDED), (DType::F64, 3e-7)] {
            let (network, tape) = (recorded.network(dtype), Tape::inference());
            let encoded = network.encode(&tape, &sources())?;
            let error = relative_error(encoded.hidden().tensor(), &recorded.encoded)?;
            assert!(error < bound, "{}: encoded {error}", recorded.name);
            let inputs = network.inputs(&TARGETS.map(<[u32]>::to_vec))?;
            let logits = network.logits(&tape, &encoded, &inputs)?;
            let error = relative_error(&every_fifth(logits.tensor())?, &recorded.logits)?;
            assert!(error < bound, "{}: logits {error}", recorded.name);
        }
    }
    Ok(())
}

#[test]
fn targets_token_by_token_have_the_logits_of_whole_ones() -> Result<()> {
    for recorded in recorded() {
        let (network, tape) = (recorded.network(DType::F32), Tape::inference());
        // the first source is left behind, the third's target is doubled and one of them dropped again
        let targets = vec![vec![11, 28, 36], vec![31, 7, 8]];
        let encoded = network.encode(&tape, &Tokens::new(&[SOURCES[1].to_vec(), SOURCES[2].to_vec()])?)?;
        let whole = network.logits(&tape, &encoded, &network.inputs(&targets)?)?;
        let encoded = network.encode(&tape, &sources())?;
        let mut kept = network.begin(&tape, &encoded)?;
        let start = network.config().start;
        let mut rows = vec![network.step(&tape, &[start; 3], &mut kept)?.tensor().narrow(0, 1, 2)?];
        kept.select(&[vec![], vec![0], vec![0, 0]])?;
        assert_eq!(kept.hypotheses(), [1, 2]);
        let logits = network.step(&tape, &[11, 5, 31], &mut kept)?;
        rows.push(logits.tensor().index_select(&Tensor::new(&[0u32, 2], &Device::Cpu)?, 0)?);
        kept.select(&[vec![0], vec![1]])?;
        for (&one, &other) in targets[0].iter().zip(&targets[1]).skip(1) {
            rows.push(network.step(&tape, &[one, other], &mut kept)?.tensor().clone());
        }
        // (tokens, sources, vocabulary) -> (sources, tokens, vocabulary)
        let found = Tensor::stack(&rows, 0)?.transpose(0, 1)?.flatten(0, 1)?;
        let whole = whole.tensor().to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
        let error = relative_error(&found, &whole)?;
        assert!(error < 1e-6, "{}: {error}", recorded.name);
        assert!(kept.select(&[vec![1], vec![0]]).is_err() && kept.select(&[vec![0]]).is_err());
        assert!(network.step(&tape, &[1], &mut kept).is_err());
    }
    Ok(())
}

#[test]
fn searches_find_what_transformers_finds() -> Result<()> {
    for recorded in recorded() {
        let network = recorded.network(DType::F32);
        let all: Vec<Vec<u32>> = SOURCES.iter().chain(&MORE).map(|source| source.to_vec()).collect();
        for search in &recorded.searches {
            let mut options = SearchOptions::default();
            options.beams = search.beams;
            options.length_penalty = search.length_penalty;
            options.early_stopping = search.early;
            options.longest = LengthLimit { factor: 0.0, plus: LONGEST };
            let found = network.translate(&Tokens::new(&all)?, &options)?;
            let case =
                format!("{}, {} beams, penalty {}", recorded.name, search.beams, search.length_penalty);
            for (index, translation) in found.iter().enumerate() {
                assert_eq!(translation.tokens, search.translations[index], "{case}: {index}");
                if let Some(score) = search.scores[index] {
                    assert!(
                        (translation.score - score).abs() < 1e-4,
                        "{case}: {} {score}",
                        translation.score
                    );
                }
                // alone as in company
                let alone = network.translate(&Tokens::new(&all[index..=index])?, &options)?;
                assert_eq!(alone[0].tokens, translation.tokens, "{case}: {index}");
            }
        }
    }
    Ok(())
}

/// The loss of the targets' tokens, some elements left out of the computation.
fn loss(network: &TranslationNetwork, tape: &Tape, rate: f64) -> Result<Node> {
    let (targets, dropouts) = (TARGETS.map(<[u32]>::to_vec), Dropouts::new(rate, 11));
    let encoded = network.encode_dropped(tape, &sources(), Some(&dropouts))?;
    let logits = network.logits_dropped(tape, &encoded, &network.inputs(&targets)?, Some(&dropouts))?;
    tape.apply(CrossEntropy::new(&network.labels(&targets), 0.1), &[&logits])
}

#[test]
fn gradients_are_those_of_compositions_in_f64() -> Result<()> {
    for (recorded, rate) in recorded().iter().zip([0.0, 0.3, 0.1]) {
        let (network, wide) = (recorded.network(DType::F32), recorded.network(DType::F64));
        let tape = Tape::training();
        let found = loss(&network, &tape, rate)?;
        // Something is left out where it is asked for.
        let whole = loss(&network, &Tape::inference(), 0.0)?;
        let difference = (whole.tensor() - found.tensor())?.abs()?.to_scalar::<f32>()?;
        assert_eq!(difference > 1e-4, rate > 0.0, "{}: {difference}", recorded.name);
        let found = tape.backward(&found)?;
        let tape = Tape::candle();
        let expected = loss(&wide, &tape, rate)?;
        let expected = tape.backward(&expected)?;
        let mut compared = 0;
        for (name, parameter) in network.parameters().trained() {
            let wide = wide.parameters().get(name).unwrap();
            let (Some(found), Some(expected)) = (found.get(parameter.var()), expected.get(wide.var())) else {
                panic!("{}: `{name}` has no gradient", recorded.name);
            };
            if name.ends_with("k_proj.bias") {
                continue; // zero but for rounding: the softmax takes off what is the same for all keys
            }
            let expected = expected.flatten_all()?.to_vec1::<f64>()?;
            let error = relative_error(found, &expected)?;
            assert!(error < 2e-5, "{}: `{name}` {error}", recorded.name);
            compared += 1;
        }
        assert!(compared > 70);
        assert_eq!(network.parameters().get("final_logits_bias").unwrap().role(), Role::Statistic);
    }
    Ok(())
}

#[test]
fn fresh_networks_start_as_fairseq_has_it_and_differ_by_seed_alone() -> Result<()> {
    let config = TranslationConfig { layers: [1, 2], ..TranslationConfig::small(500) };
    let build = |seed| TranslationNetwork::fresh(&config, seed, &Device::Cpu).unwrap();
    let network = build(1);
    let variance = |name: &str| -> Result<f64> {
        let values = network.parameters().get(name).unwrap().var().flatten_all()?.to_dtype(DType::F64)?;
        values.sqr()?.mean_all()?.to_scalar::<f64>()
    };
    // of tens of thousands of numbers: a deviation of the variance of 2 % is more than four of its own
    for (name, expected) in [
        ("model.shared.weight", 1.0 / 256.0),
        ("model.encoder.layers.0.fc1.weight", 2.0 / 768.0),
        ("model.decoder.layers.1.encoder_attn.q_proj.weight", 1.0 / 512.0),
        ("model.decoder.layers.1.encoder_attn.out_proj.weight", 2.0 / 512.0),
        ("model.decoder.layers.0.self_attn.v_proj.bias", 0.0),
        ("model.decoder.layers.0.final_layer_norm.weight", 1.0),
        ("final_logits_bias", 0.0),
    ] {
        let found = variance(name)?;
        assert!((found - expected).abs() <= 0.02 * expected, "{name}: {found} for {expected}");
    }
    let values = |network: &TranslationNetwork| {
        let name = "model.encoder.layers.0.fc2.weight";
        network.parameters().get(name).unwrap().var().flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    assert_eq!(values(&network), values(&build(1)));
    assert_ne!(values(&network), values(&build(2)));
    // What it holds is read again under Hugging Face's names.
    let again = TranslationNetwork::new(&config, &network.state()?, &Device::Cpu).unwrap();
    assert_eq!(values(&network), values(&again));
    Ok(())
}

#[test]
fn what_does_not_fit_is_refused() {
    let recorded = &recorded()[0];
    let network = recorded.network(DType::F32);
    let long = Tokens::new(&[vec![1; 33]]).unwrap();
    let error = network.encode(&Tape::inference(), &long).unwrap_err().to_string();
    assert!(error.contains("takes at most 32"), "{error}");
    let refused = |key: &str, value: Value| {
        let mut config = recorded.config.clone();
        config[key] = value;
        TranslationConfig::from_json(&config).unwrap_err().to_string()
    };
    for (key, value, part) in [
        ("model_type", "bart".into(), "`bart`"),
        ("normalize_before", true.into(), "normalize_before is true, expected false"),
        ("eos_token_id", 50.into(), "eos_token_id is 50, beyond a vocabulary of 50 tokens"),
        ("eos_token_id", 49.into(), "49 is both pad_token_id and eos_token_id"),
        ("decoder_attention_heads", 3.into(), "a width of 16 cannot have 3 heads"),
        ("d_model", Value::Null, "config.json: "),
    ] {
        let error = refused(key, value);
        assert!(error.contains(part), "{key}: {error}");
    }
}
