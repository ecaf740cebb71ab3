//! A training step of ResNet-20 and of an encoder, and what Frobenius decay costs.
//!
//! ```console
//! $ cargo bench --bench training
//! $ FNL_DEVICE=cuda cargo bench --features cuda --bench training -- step
//! ```

use candle_core::{Device, Tensor, Var};
use divan::Bencher;
use fnl::commands::{CompressOptions, DeviceName, compress};
use fnl::data::Batch;
use fnl::decompose::{Layout, Scheme};
use fnl::layers::{State, Weight, keep_freed_memory};
use fnl::models::{Architecture, Network, Task, TextConfig, TextNetwork, Tokens};
use fnl::plan::{NoProgress, RankRule, Recipe, Rule};
use fnl::train::{Classifier, TextBatch, TextLearner, TextTargets, Trainer, TrainingOptions};
use std::fmt;

fn main() {
    keep_freed_memory();
    divan::main();
}

/// The processor, or what `FNL_DEVICE` says.
fn device() -> Device {
    let name = std::env::var("FNL_DEVICE").unwrap_or_else(|_| "cpu".to_owned());
    name.parse::<DeviceName>().unwrap().open().unwrap()
}

/// A network of this rank ratio, dense where it is 0, and whether its products are in bf16.
#[derive(Clone, Copy)]
struct Case(f64, bool);

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.0, if self.1 { " bf16" } else { "" })
    }
}

/// Dense, a quarter and a ninth of full rank; on a GPU in bf16 too.
fn cases() -> Vec<Case> {
    let types = if device().is_cpu() { &[false][..] } else { &[false, true] };
    types.iter().flat_map(|&bf16| [0.0, 0.25, 0.111].map(|ratio| Case(ratio, bf16))).collect()
}

/// Dense tensors with the layers that are factored by default at this rank ratio.
fn factored(dense: &State, ratio: f64) -> State {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) =
        (folder.path().join("dense.safetensors"), folder.path().join("factored.safetensors"));
    dense.write(&fnl::checkpoint::OutputOptions::file(&input), None).unwrap();
    let mut recipe = Recipe::default();
    recipe.rules.push(Rule::new(RankRule::RankRatio(ratio)));
    let mut options = CompressOptions::new(input.to_str().unwrap().parse().unwrap(), recipe);
    options.output = Some(output.clone());
    compress(&options, &NoProgress).unwrap();
    State::read(&fnl::checkpoint::Checkpoint::open_path(&output).unwrap()).unwrap()
}

/// ResNet-20 with random weights, its convolutions but the first of this rank ratio; 0 is the dense network.
fn network(ratio: f64, device: &Device) -> Network {
    let architecture: Architecture = "resnet20".parse().unwrap();
    let dense = Network::fresh(&architecture, 0, device).unwrap();
    if ratio == 0.0 {
        return dense;
    }
    let state = factored(&dense.state().unwrap(), ratio);
    Network::new(&architecture, &state, device).unwrap()
}

/// Batch 128, SGD with momentum.
#[divan::bench(args = cases(), sample_count = 10, sample_size = 1)]
fn resnet20_step(bencher: Bencher<'_, '_>, Case(ratio, bf16): Case) {
    let device = device();
    let mut options = TrainingOptions::default();
    options.learning_rate = 0.01;
    options.bf16 = bf16;
    let learner = Classifier::new(network(ratio, &device), None, &device);
    let mut trainer = Trainer::new(learner, &options, 1_000_000, &device).unwrap();
    let images = Tensor::randn(0f32, 1.0, (128, 3, 32, 32), &Device::Cpu).unwrap();
    let labels = Tensor::from_vec((0..128u32).map(|i| i % 10).collect(), 128, &Device::Cpu).unwrap();
    let batch = [Batch { images, labels, index: 0 }];
    for _ in 0..3 {
        trainer.step(&batch).unwrap();
    }
    bencher.bench_local(|| trainer.step(&batch).unwrap());
}

/// An encoder of six layers of width 384 on 32 sequences of 128 tokens, AdamW. What stands for a loss is the distance of
/// its vectors from others.
#[divan::bench(args = cases(), sample_count = 10, sample_size = 1)]
fn encoder_step(bencher: Bencher<'_, '_>, Case(ratio, bf16): Case) {
    let device = device();
    // The smallest vocabulary: PyTorch's has no embedding.
    let config = serde_json::json!({
        "model_type": "bert", "vocab_size": 2, "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12,
        "intermediate_size": 1536, "hidden_act": "gelu", "max_position_embeddings": 128, "type_vocab_size": 1
    });
    let config = TextConfig::from_json(&config).unwrap();
    let mut network = TextNetwork::fresh(&config, Task::AsItIs, 0, &device).unwrap();
    if ratio > 0.0 {
        let state = factored(&network.state().unwrap(), ratio);
        network = TextNetwork::new(&config, &state, &device).unwrap();
    }
    let sequences: Vec<Vec<u32>> = (0..32).map(|i| (0..128).map(|j| (i * j + i) % 2).collect()).collect();
    let tokens = Tokens::new(&sequences).unwrap();
    // Scores of pairs: no teacher runs beside it.
    let batch = [TextBatch { tokens, targets: TextTargets::Scores(vec![0.5; 16]) }];
    let mut options = TrainingOptions::text();
    options.bf16 = bf16;
    let learner = TextLearner::new(network, None, &device);
    let mut trainer = Trainer::new(learner, &options, 1_000_000, &device).unwrap();
    for _ in 0..3 {
        trainer.step(&batch).unwrap();
    }
    bencher.bench_local(|| trainer.step(&batch).unwrap());
}

/// Rows, columns and rank of a factored weight.
const SHAPES: [(usize, usize, usize); 4] =
    [(64 * 3, 64 * 3, 21), (384, 384, 96), (1536, 384, 96), (3072, 768, 192)];

fn weight((rows, cols, rank): (usize, usize, usize)) -> Weight {
    let dense = Tensor::randn(0f32, 0.02, (rows, cols), &Device::Cpu).unwrap();
    Weight::factored(&dense, Layout::Linear, Scheme::Matrix, 1, rank).unwrap()
}

/// Gradients of `|A B|^2 / 2` in closed form.
#[divan::bench(args = SHAPES)]
fn frobenius_closed_form(bencher: Bencher<'_, '_>, shape: (usize, usize, usize)) {
    let weight = weight(shape);
    let chain = weight.chain().unwrap();
    bencher.bench_local(|| chain.frobenius_gradients().unwrap());
}

/// The same gradients by forming the product: `grad_A = (A B) Bt`, `grad_B = At (A B)`.
#[divan::bench(args = SHAPES)]
fn frobenius_through_product(bencher: Bencher<'_, '_>, shape: (usize, usize, usize)) {
    let weight = weight(shape);
    let [b, a]: [Var; 2] = weight.chain().unwrap().factors().to_vec().try_into().unwrap();
    let (a, b) = (a.as_detached_tensor(), b.as_detached_tensor());
    bencher.bench_local(|| {
        let product = a.matmul(&b).unwrap();
        (product.matmul(&b.t().unwrap()).unwrap(), a.t().unwrap().matmul(&product).unwrap())
    });
}
