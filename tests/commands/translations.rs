//! A network that translates, from a vocabulary and training to its BLEU, dense and factored.

use candle_core::Device;
use fnl::checkpoint::{OutputOptions, Source};
use fnl::commands::{CompressOptions, EvaluateTranslationOptions, compress, evaluate_translation};
use fnl::data::{PairBatches, TextTokenizer};
use fnl::layers::Tape;
use fnl::models::{Tokens, TranslationConfig, TranslationNetwork};
use fnl::plan::{NoProgress, RankRule, Recipe, Rule};
use fnl::report::{EvaluateTextReport, TextMeasure};
use fnl::train::{
    AdamWOptions, CrossEntropy, DecayTable, GradientSum, OptimizerOptions, TranslationEvaluation, Unheard,
    Update,
};
use indexmap::IndexMap;
use std::fs;
use std::path::Path;

/// Sentences of three words, and what they are in the other language.
fn pairs() -> [Vec<String>; 2] {
    let words = |sentence: [&str; 3]| sentence.join(" ") + ".";
    let (mut sources, mut targets) = (Vec::new(), Vec::new());
    for (who, wer) in [("Ein Hund", "A dog"), ("Eine Katze", "A cat"), ("Das Kind", "The child")] {
        for (what, was) in [("rennt", "runs"), ("schläft", "sleeps")] {
            for (how, wie) in [("im Park", "in the park"), ("zu Hause", "at home")] {
                sources.push(words([who, what, how]));
                targets.push(words([wer, was, wie]));
            }
        }
    }
    [sources, targets]
}

/// Trains a small network until it knows the pairs, and keeps it in a folder.
fn trained(folder: &Path) -> candle_core::Result<()> {
    let [sources, targets] = pairs();
    let tokenizer = TextTokenizer::learn(&[sources.clone(), targets.clone()].concat(), 300).unwrap();
    let config = TranslationConfig {
        width: 32,
        heads: [2; 2],
        inner: [64; 2],
        layers: [1; 2],
        ..TranslationConfig::small(300)
    };
    let network = TranslationNetwork::fresh(&config, 3, &Device::Cpu).unwrap();
    let sources = tokenizer.encode(&sources).unwrap();
    let bare = |mut tokens: Vec<u32>| {
        tokens.pop();
        tokens
    };
    let targets: Vec<Vec<u32>> = tokenizer.encode(&targets).unwrap().into_iter().map(bare).collect();
    let lengths: Vec<[usize; 2]> =
        sources.iter().zip(&targets).map(|(s, t)| [s.len(), t.len() + 1]).collect();
    let batches = PairBatches::new(&lengths, 60, 0);
    assert!(batches.per_epoch() > 1);
    let mut optimizer = OptimizerOptions::AdamW(AdamWOptions::default()).build().unwrap();
    for epoch in 0..60 {
        for batch in batches.epoch(epoch) {
            let of = |all: &[Vec<u32>]| batch.iter().map(|&index| all[index].clone()).collect::<Vec<_>>();
            let (sources, targets) = (of(&sources), of(&targets));
            let tape = Tape::training();
            let encoded = network.encode(&tape, &Tokens::new(&sources)?)?;
            let logits = network.logits(&tape, &encoded, &network.inputs(&targets)?)?;
            let loss = tape.apply(CrossEntropy::new(&network.labels(&targets), 0.1), &[&logits])?;
            let mut gradients = GradientSum::new();
            gradients.add(network.parameters(), &tape.backward(&loss)?, 1.0)?;
            let (decay, frobenius) = (DecayTable::new(), IndexMap::default());
            let update =
                Update { gradients: &gradients, decay: &decay, frobenius: &frobenius, learning_rate: 3e-3 };
            optimizer.step(network.parameters(), &update)?;
        }
    }
    fs::create_dir(folder).unwrap();
    network.state()?.write(&OutputOptions::file(&folder.join("model.safetensors")), None).unwrap();
    fs::write(folder.join("config.json"), config.to_json().to_string()).unwrap();
    fs::write(folder.join("tokenizer.json"), tokenizer.to_json().unwrap()).unwrap();
    Ok(())
}

fn measured(folder: &Path, data: &str, beams: usize) -> (EvaluateTextReport, TranslationEvaluation) {
    let mut options = EvaluateTranslationOptions::new(Source::Path(folder.to_owned()), data.parse().unwrap());
    options.search.beams = beams;
    options.min_bleu = Some(99.0);
    let report = evaluate_translation(&options, &Unheard).unwrap();
    let TextMeasure::Translation(found) = report.measured else { panic!("no translation: {report:?}") };
    (report, found)
}

#[test]
fn a_network_that_learned_sentences_translates_them_dense_and_factored() {
    let scratch = tempfile::tempdir().unwrap();
    let [dense, factored] = ["dense", "factored"].map(|name| scratch.path().join(name));
    trained(&dense).unwrap();
    let [sources, targets] = pairs();
    for (name, lines) in [("val.de", &sources), ("val.en", &targets)] {
        fs::write(scratch.path().join(name), lines.join("\n")).unwrap();
    }
    let place = scratch.path().display();
    let data = format!("parallel:{place}/{{split}}.de,{place}/{{split}}.en");
    let (report, found) = measured(&dense, &data, 4);
    assert!(found.bleu > 99.9 && report.passed(), "{found:?}");
    assert_eq!((found.sentences, found.beams), (12, 4));
    // smoothed labels keep a tenth for other tokens
    assert!(found.perplexity > 1.05 && found.perplexity < 1.5 && found.accuracy > 0.99, "{found:?}");
    assert!(measured(&dense, &data, 1).1.bleu > 99.9);
    assert!(
        report.to_text().contains("BLEU           100.00, 100.0/100.0/100.0/100.0"),
        "{}",
        report.to_text()
    );

    let mut recipe = Recipe::default();
    recipe.rules.push(Rule::new(RankRule::Rank(2)));
    let mut options = CompressOptions::new(Source::Path(dense), recipe);
    options.output = Some(factored.clone());
    compress(&options, &NoProgress).unwrap();
    let (report, less) = measured(&factored, &data, 4);
    assert!(report.network.factored_layers >= 12 && report.network.parameters < 20_000, "{report:?}");
    assert!(less.loss > found.loss + 0.1 && less.bleu < found.bleu && !report.passed(), "{less:?}");
}
