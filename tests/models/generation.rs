//! Texts that language models continue.

use crate::texts::recorded;
use candle_core::{DType, Result};
use fnl::layers::Tape;
use fnl::models::{Generation, Sampler, Sampling, TextNetwork, Tokens};

const PROMPT: [u32; 3] = [7, 3, 44];

fn continued(network: &TextNetwork, sampling: Sampling, count: usize) -> Result<Vec<u32>> {
    let mut generation = Generation::new(network, &PROMPT, Sampler::new(sampling))?;
    (0..count).map(|_| generation.step()).collect()
}

fn drawn(seed: u64) -> Sampling {
    let mut sampling = Sampling::default();
    (sampling.temperature, sampling.seed) = (1.0, seed);
    sampling
}

#[test]
fn kept_keys_and_values_give_the_tokens_that_are_likeliest_without_them() -> Result<()> {
    let mut tried = 0;
    for text in recorded() {
        let network = text.network(DType::F32);
        if !network.is_causal() {
            assert!(Generation::new(&network, &PROMPT, Sampler::new(Sampling::default())).is_err());
            continue;
        }
        let mut tokens = PROMPT.to_vec();
        for _ in 0..20 {
            let tape = Tape::inference();
            let hidden = network.hidden(&tape, &Tokens::new(std::slice::from_ref(&tokens))?)?;
            let scores = network.vocabulary_logits(&tape, &hidden)?.tensor().to_vec2::<f32>()?;
            let last = scores.last().unwrap();
            let best = (0..last.len()).max_by(|&one, &other| last[one].total_cmp(&last[other])).unwrap();
            tokens.push(best as u32);
        }
        assert_eq!(continued(&network, Sampling::default(), 20)?, tokens[3..], "{}", text.name);
        tried += 1;
    }
    assert_eq!(tried, 6);
    Ok(())
}

#[test]
fn a_seed_gives_one_text() -> Result<()> {
    let text = recorded().into_iter().find(|text| text.name == "llama").unwrap();
    let network = text.network(DType::F32);
    let likeliest = continued(&network, Sampling::default(), 20)?;
    let first = continued(&network, drawn(1), 20)?;
    assert_eq!(first, continued(&network, drawn(1), 20)?);
    assert_ne!(first, continued(&network, drawn(2), 20)?);
    assert_ne!(first, likeliest);
    let mut narrow = drawn(1);
    narrow.top_k = Some(1);
    assert_eq!(continued(&network, narrow, 20)?, likeliest);
    (narrow.top_k, narrow.top_p) = (None, Some(1e-9));
    assert_eq!(continued(&network, narrow, 20)?, likeliest);
    Ok(())
}

#[test]
fn texts_end_where_the_network_does() -> Result<()> {
    let text = recorded().into_iter().find(|text| text.name == "gpt2").unwrap();
    let network = text.network(DType::F32);
    // 32 positions: the last of 30 further tokens is not read any more
    assert_eq!(continued(&network, Sampling::default(), 30)?.len(), 30);
    let error = continued(&network, Sampling::default(), 31).unwrap_err().to_string();
    assert!(error.contains("33 tokens, and this network takes at most 32"), "{error}");
    for prompt in [&[][..], &[1; 33], &[50]] {
        assert!(Generation::new(&network, prompt, Sampler::new(Sampling::default())).is_err(), "{prompt:?}");
    }
    Ok(())
}

#[test]
fn draws_have_the_probabilities_that_are_left() -> Result<()> {
    // 0.5, 0.25, 0.125, 0.125
    let scores = [0.0f32, -2f32.ln(), -4f32.ln(), -4f32.ln()];
    let counts = |change: fn(&mut Sampling)| -> Result<[usize; 4]> {
        let mut sampling = drawn(5);
        change(&mut sampling);
        let mut sampler = Sampler::new(sampling);
        let mut counts = [0; 4];
        for _ in 0..8000 {
            counts[sampler.choose(&scores)? as usize] += 1;
        }
        Ok(counts)
    };
    // expected counts; four standard deviations of 8000 draws are at most 179
    for (found, expected) in [
        (counts(|_| {})?, [4000, 2000, 1000, 1000]),
        (counts(|sampling| sampling.top_p = Some(0.6))?, [5333, 2667, 0, 0]),
        (counts(|sampling| sampling.top_k = Some(3))?, [4571, 2286, 1143, 0]),
        (counts(|sampling| sampling.temperature = 0.5)?, [5818, 1455, 364, 364]),
    ] {
        for (found, expected) in found.into_iter().zip(expected) {
            assert!(found.abs_diff(expected) < 180 && (expected > 0 || found == 0), "{found}, {expected}");
        }
    }
    assert!(Sampler::new(drawn(0)).choose(&[0.0, f32::NAN]).is_err());
    assert!(Sampler::new(drawn(0)).choose(&[]).is_err());
    Ok(())
}

#[test]
fn samplings_out_of_range_are_refused() {
    let change: [fn(&mut Sampling); 5] = [
        |sampling| sampling.temperature = -1.0,
        |sampling| sampling.temperature = f64::NAN,
        |sampling| sampling.top_k = Some(0),
        |sampling| sampling.top_p = Some(7.0),
        |sampling| sampling.top_p = Some(f64::NAN),
    ];
    for change in change {
        let mut sampling = drawn(1);
        change(&mut sampling);
        assert!(Sampler::new(sampling).choose(&[0.5, 1.0]).is_err(), "{sampling:?}");
    }
}
