//! Networks for text learn from labels, from text and from a teacher.

use candle_core::{Device, Result};
use fnl::layers::Builder;
use fnl::models::{Task, TextConfig, TextNetwork};
use fnl::train::{
    DistillationOptions, Learner as _, Lessons as _, Masking, TextAim, TextLearner, TextLessons, TextSample,
    Trainer, TrainingOptions,
};
use serde_json::{Value, json};

fn bert() -> Value {
    json!({
        "model_type": "bert", "vocab_size": 60, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3,
        "intermediate_size": 20, "hidden_act": "gelu", "max_position_embeddings": 16, "type_vocab_size": 2
    })
}

fn llama() -> Value {
    json!({
        "model_type": "llama", "vocab_size": 60, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "intermediate_size": 20, "hidden_act": "silu", "max_position_embeddings": 16,
        "rms_norm_eps": 1e-6
    })
}

fn network(config: &Value, task: Task, seed: u64) -> TextNetwork {
    let config = TextConfig::from_json(config).unwrap();
    let builder = Builder::fresh(seed, &Device::Cpu).with_deviation(0.3);
    TextNetwork::build(&config, &builder, task, &Device::Cpu).unwrap()
}

/// Sequences of two kinds, of low and of high tokens, whose tokens follow each other in one way.
fn samples(count: u32, pairs: bool) -> Vec<TextSample> {
    let sequence = |i: u32, kind: u32| -> Vec<u32> {
        (0..4 + i % 5).map(|j| 5 + 25 * kind + (i + 3 * j) % 25).collect()
    };
    (0..count)
        .map(|i| {
            let kind = i % 2;
            let sequences =
                if pairs { vec![sequence(i, 0), sequence(i + 1, kind)] } else { vec![sequence(i, kind)] };
            TextSample { sequences, label: f64::from(kind) }
        })
        .collect()
}

fn options(learning_rate: f64) -> TrainingOptions {
    let mut options = TrainingOptions::text();
    options.learning_rate = learning_rate;
    options.weight_decay = 0.0;
    options
}

/// Trains for some epochs; what the loss on the test data was before and after.
fn trained(learner: TextLearner, lessons: &TextLessons, options: &TrainingOptions) -> [f64; 2] {
    let total = 40 * lessons.batches_per_epoch() as u64;
    let mut trainer = Trainer::new(learner, options, total, &Device::Cpu).unwrap();
    let loss = |learner: &TextLearner| lessons.measure(learner, &Device::Cpu, &mut |_| {}).unwrap().loss;
    let before = loss(trainer.learner());
    for epoch in 0..40 {
        for batch in lessons.epoch(epoch, 0) {
            trainer.step(&[batch.unwrap()]).unwrap();
        }
    }
    [before, loss(trainer.learner())]
}

fn masking() -> Masking {
    Masking { mask: 4, special: vec![0, 1, 2, 3, 4], vocabulary: 60 }
}

#[test]
fn every_aim_is_learned() {
    let aims = [
        (TextAim::Similarity, bert(), Task::AsItIs),
        (TextAim::Classes, bert(), Task::Classification),
        (TextAim::MaskedToken(masking()), bert(), Task::MaskedLanguage),
        (TextAim::NextToken, llama(), Task::AsItIs),
    ];
    for (aim, config, task) in aims {
        let pairs = matches!(aim, TextAim::Similarity);
        let lessons = TextLessons::new(aim, samples(48, pairs), samples(20, pairs), 16, 3);
        let learner = TextLearner::new(network(&config, task, 1), None, &Device::Cpu);
        let [before, after] = trained(learner, &lessons, &options(0.01));
        assert!(after < 0.8 * before, "{:?}: {before} before, {after} after", lessons.aim());
    }
}

#[test]
fn a_teacher_is_followed_without_labels() {
    for hidden in [0.0, 1.0] {
        let [network, teacher] = [2, 3].map(|seed| network(&bert(), Task::AsItIs, seed));
        let learner = TextLearner::new(network, Some(teacher), &Device::Cpu);
        let lessons = TextLessons::new(TextAim::Vectors, samples(48, false), samples(20, false), 16, 0);
        let mut options = options(0.01);
        let distillation = options.distillation.insert(DistillationOptions::default());
        distillation.hidden = hidden;
        let [before, after] = trained(learner, &lessons, &options);
        assert!(after < 0.5 * before, "{hidden}: {before} before, {after} after");
    }
}

#[test]
fn a_teacher_of_the_same_weights_has_nothing_to_teach() -> Result<()> {
    let cases = [
        (TextAim::Vectors, Task::AsItIs, bert()),
        (TextAim::Similarity, Task::AsItIs, bert()),
        (TextAim::Classes, Task::Classification, bert()),
        (TextAim::NextToken, Task::AsItIs, llama()),
    ];
    for (aim, task, config) in cases {
        let pairs = matches!(aim, TextAim::Similarity);
        let [network, teacher] = [1, 1].map(|seed| network(&config, task, seed));
        let learner = TextLearner::new(network, Some(teacher), &Device::Cpu);
        let lessons = TextLessons::new(aim, samples(8, pairs), samples(8, pairs), 8, 0);
        let mut options = options(0.01);
        let distillation = options.distillation.insert(DistillationOptions::default());
        (distillation.weight, distillation.hidden) = (1.0, 1.0);
        let tape = fnl::layers::Tape::training();
        let batch = lessons.epoch(0, 0).next().unwrap().unwrap();
        let found = learner.loss(&tape, &batch, &options)?;
        let loss = found.loss.tensor().to_scalar::<f32>()?;
        assert!(loss.abs() < 1e-6, "{:?}: {loss}", lessons.aim());
        let gradients = tape.backward(&found.loss)?;
        let norms =
            learner.parameters().trained().filter_map(|(_, parameter)| gradients.get(parameter.var()));
        for gradient in norms {
            let norm = gradient.sqr()?.sum_all()?.to_scalar::<f32>()?;
            assert!(norm < 1e-8, "{:?}: {norm}", lessons.aim());
        }
    }
    Ok(())
}

#[test]
fn epochs_differ_and_each_can_be_entered_anywhere() {
    let lessons =
        TextLessons::new(TextAim::MaskedToken(masking()), samples(30, false), samples(4, false), 4, 9);
    assert_eq!((lessons.batches_per_epoch(), lessons.unit()), (8, "tokens"));
    let batches = |epoch: usize, first: usize| -> Vec<_> {
        let batches = lessons.epoch(epoch, first).map(|batch| batch.unwrap());
        batches.map(|batch| (batch.tokens.ids().to_vec(), batch.targets)).collect()
    };
    let first = batches(0, 0);
    assert_eq!(first[5..], batches(0, 5)[..]);
    assert_ne!(first, batches(1, 0));
    let asked: usize = first
        .iter()
        .map(|(_, targets)| match targets {
            fnl::train::TextTargets::Tokens { tokens, .. } => tokens.len(),
            other => panic!("{other:?}"),
        })
        .sum();
    assert_eq!(asked, lessons.samples_per_epoch());
}
