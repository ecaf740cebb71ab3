//! A training step of ResNet-20, and what Frobenius decay costs.
//!
//! ```console
//! $ cargo bench --bench training
//! ```

use candle_core::{Device, Tensor, Var};
use divan::Bencher;
use fnl::commands::{CompressOptions, compress};
use fnl::data::Batch;
use fnl::decompose::{Layout, Scheme};
use fnl::layers::{State, Weight, keep_freed_memory};
use fnl::models::{Architecture, Network};
use fnl::plan::{NoProgress, RankRule, Recipe, Rule};
use fnl::train::{Classifier, Trainer, TrainingOptions};

fn main() {
    keep_freed_memory();
    divan::main();
}

/// ResNet-20 with random weights, its convolutions but the first of this rank ratio.
fn network(rank_ratio: Option<f64>) -> Network {
    let architecture: Architecture = "resnet20".parse().unwrap();
    let dense = Network::fresh(&architecture, 0, &Device::Cpu).unwrap();
    let Some(ratio) = rank_ratio else { return dense };
    let folder = tempfile::tempdir().unwrap();
    let (input, output) =
        (folder.path().join("dense.safetensors"), folder.path().join("factored.safetensors"));
    dense.state().unwrap().write(&fnl::checkpoint::OutputOptions::file(&input), None).unwrap();
    let mut recipe = Recipe::default();
    recipe.rules.push(Rule::new(RankRule::RankRatio(ratio)));
    let mut options = CompressOptions::new(input.to_str().unwrap().parse().unwrap(), recipe);
    options.output = Some(output.clone());
    compress(&options, &NoProgress).unwrap();
    let state = State::read(&fnl::checkpoint::Checkpoint::open_path(&output).unwrap()).unwrap();
    Network::new(&architecture, &state, &Device::Cpu).unwrap()
}

/// Batch 128, SGD with momentum; the rank ratio 0 is the dense network.
#[divan::bench(args = [0.0, 0.25, 0.111], sample_count = 10, sample_size = 1)]
fn resnet20_step(bencher: Bencher<'_, '_>, rank_ratio: f64) {
    let network = network((rank_ratio > 0.0).then_some(rank_ratio));
    let mut options = TrainingOptions::default();
    options.learning_rate = 0.01;
    let mut trainer =
        Trainer::new(Classifier::new(network, None, &Device::Cpu), &options, 1_000_000, &Device::Cpu)
            .unwrap();
    let images = Tensor::randn(0f32, 1.0, (128, 3, 32, 32), &Device::Cpu).unwrap();
    let labels = Tensor::from_vec((0..128u32).map(|i| i % 10).collect(), 128, &Device::Cpu).unwrap();
    let batch = [Batch { images, labels, index: 0 }];
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
