//! Convolutional networks and pictures.

use candle_core::Device;
use fnl::calibrate::{CalibrationProgress, CalibrationRun, Damping, Statistics, calibrate_images};
use fnl::checkpoint::Checkpoint;
use fnl::data::{DataSource, Format, ImageDataset, Loader, LoaderOptions, Split};
use fnl::decompose::{Layout, Method, Metric, Scheme, Unfolding, factor, factor_in, spectrum_in};
use fnl::layers::{State, Weight};
use fnl::linalg::SvdOptions;
use fnl::models::{Architecture, Network};
use fnl::plan::{NoProgress, Plan, PlanOptions, Recipe};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

const NETWORK: &str = "fixtures/resnet20-cifar10.safetensors";

struct Unheard;

impl CalibrationProgress for Unheard {
    fn ran(&self, _samples: usize) {}
}

/// A folder of CIFAR-10 with ten of the fixture's pictures in each of its batches.
pub(crate) fn cifar10(folder: &Path) -> DataSource {
    let records = std::fs::read("fixtures/cifar10-500/test_batch.bin").unwrap();
    let ten = |batch: usize| &records[batch * 10 * 3073..(batch + 1) * 10 * 3073];
    for batch in 1..=5 {
        std::fs::write(folder.join(format!("data_batch_{batch}.bin")), ten(batch)).unwrap();
    }
    std::fs::write(folder.join("test_batch.bin"), ten(0)).unwrap();
    DataSource { format: Format::Cifar10, path: folder.to_owned() }
}

fn run(network: &Network, batch_size: usize, gradients: bool, threads: usize) -> Statistics {
    let folder = tempfile::tempdir().unwrap();
    let dataset = ImageDataset::open(&cifar10(folder.path()), Split::Train).unwrap();
    let mut options = LoaderOptions::new(batch_size);
    options.shuffle = true;
    let loader = Loader::new(Arc::new(dataset), options).unwrap();
    let mut run = CalibrationRun::new(&Unheard);
    (run.gradients, run.seed, run.threads) = (gradients, 3, threads);
    calibrate_images(network, &loader, 42, &run).unwrap()
}

fn trained() -> Network {
    let checkpoint = Checkpoint::open_path(Path::new(NETWORK)).unwrap();
    let state = State::read(&checkpoint).unwrap();
    Network::new(&Architecture::detect(&state).unwrap(), &state, &Device::Cpu).unwrap()
}

/// The squared error of a kernel's stand-in in a metric, whose patches are those of any scheme.
fn squared(metric: &Metric, kernel: &[f32], again: &[f32], shape: &[usize]) -> f64 {
    let patches = Unfolding::new(Layout::Conv2d, Scheme::Channel, shape, 1).unwrap();
    let error: Vec<f32> = kernel.iter().zip(again).map(|(x, y)| x - y).collect();
    spectrum_in(metric, &error, &patches, 1).unwrap().norm_squared()
}

#[test]
fn every_layer_of_a_trained_network_loses_less_than_by_its_weights_alone() {
    let network = trained();
    let statistics = run(&network, 16, true, 2);
    assert_eq!((statistics.samples, statistics.tokens), (42, 42));
    let options = SvdOptions::default();
    for method in [Method::Diagonal, Method::Whitened, Method::Fisher] {
        let metrics = statistics.metrics(method, Damping::default());
        // 19 convolutions and the head
        assert_eq!(metrics.len(), 20);
        for layer in network.layers() {
            let Weight::Dense(weight) = &layer.weight else { panic!("{} is factored", layer.name) };
            let shape = weight.dims();
            let kernel = weight.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let metric = &metrics[&layer.name];
            let schemes: &[(Layout, Scheme)] = match shape.len() {
                2 => &[(Layout::Linear, Scheme::Matrix)],
                _ => &[(Layout::Conv2d, Scheme::Spatial), (Layout::Conv2d, Scheme::Channel)],
            };
            for &(layout, scheme) in schemes {
                let unfolding = Unfolding::new(layout, scheme, shape, 1).unwrap();
                let rank = unfolding.max_rank() / 3;
                let factored = factor_in(metric, &kernel, &unfolding, rank, &options).unwrap();
                if layout == Layout::Linear {
                    continue;
                }
                let whole = squared(metric, &kernel, &vec![0.0; kernel.len()], shape);
                let error = |factored: &fnl::decompose::Factored<f32>| {
                    squared(metric, &kernel, &unfolding.collapse(&factored.factors, 1).unwrap(), shape)
                };
                let plain = error(&factor(&kernel, &unfolding, rank, &options).unwrap());
                let (found, told) = (error(&factored), factored.relative_error.powi(2) * whole);
                let case = format!("{} {scheme} {}", layer.name, method.name());
                assert!(found < plain, "{case}: {found} of {plain}");
                // Factors are rounded to f32.
                assert!((found - told).abs() < 1e-4 * told + 1e-9 * whole, "{case}: {found}, told {told}");
                if method == Method::Whitened {
                    assert!(found < 0.8 * plain, "{case}: {found} of {plain}");
                }
            }
        }
    }
}

#[test]
fn sums_do_not_depend_on_threads_and_layers_with_one_input_share_it() {
    let network = trained();
    let one = run(&network, 16, true, 1);
    assert!(one == run(&network, 16, true, 3));
    let rows = |layer: &str| one.input(layer).unwrap().rows();
    let width = |layer: &str| one.input(layer).unwrap().width();
    // Every position counts, the ones that were left out by those that stand for them.
    assert_eq!((rows("layer1.0.conv1"), width("layer1.0.conv1")), (42 * 1024, 16 * 9));
    assert_eq!((rows("layer3.1.conv2"), width("layer3.1.conv2")), (42 * 64, 64 * 9));
    assert_eq!((rows("linear"), width("linear")), (42, 64));
    // A network whose shortcuts project cuts one input into different patches.
    let wide = Network::fresh(&"wrn-10-1".parse().unwrap(), 1, &Device::Cpu).unwrap();
    let found = run(&wide, 16, false, 2);
    for layer in wide.layers() {
        let Weight::Dense(weight) = &layer.weight else { panic!("{} is factored", layer.name) };
        let inner: usize = weight.dims()[1..].iter().product();
        assert_eq!(found.input(&layer.name).unwrap().width(), inner, "{}", layer.name);
    }
    assert!(!found.has_gradients());
}

#[test]
fn convolutions_in_groups_are_factored_by_their_weights_alone() {
    let checkpoint = Checkpoint::open_path(Path::new("fixtures/tiny-resnext.safetensors")).unwrap();
    let recipe =
        "method = \"whitened\"\n[[rule]]\nrank = 2\n[[convolution]]\nlayers = [\"**.conv2\"]\ngroups = 4\n";
    let recipe = Recipe::parse_toml(recipe).unwrap();
    let plan = |metrics: &BTreeMap<String, Metric>| {
        Plan::in_metrics(&checkpoint, &recipe, &PlanOptions::default(), metrics, &NoProgress).unwrap()
    };
    let metric = |shape: &[usize]| {
        let scales: Vec<f64> = (1..=shape[1..].iter().product()).map(|at: usize| at as f64).collect();
        Metric::diagonal(&scales)
    };
    let layers = plan(&BTreeMap::new()).layers;
    let metrics = layers.iter().map(|layer| (layer.layer.clone(), metric(layer.format.shape()))).collect();
    let (mut alone, mut near) = (0, 0);
    for layer in plan(&metrics).layers {
        let grouped = layer.format.groups() > 1;
        assert_eq!(layer.metric.is_none(), grouped, "{}", layer.layer);
        if grouped { alone += 1 } else { near += 1 }
    }
    assert!(alone > 0 && near > 0, "{alone} {near}");
}
