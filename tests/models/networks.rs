//! Networks have PyTorch's names and shapes, and compute what it computes.

use crate::recorded::{Recorded, recorded, relative_error, weights};
use candle_core::{DType, Device, Result};
use fnl::layers::operations::{Product, Reshape};
use fnl::layers::{Statistics, Tape};
use fnl::models::{Architecture, Network};
use std::collections::BTreeMap;

#[test]
fn names_and_shapes_are_torchs() {
    for network in recorded() {
        let fresh = Network::fresh(&network.architecture(), 0, &Device::Cpu).unwrap();
        let found: BTreeMap<String, Vec<usize>> =
            fresh.parameters().iter().map(|(name, p)| (name.to_owned(), p.var().dims().to_vec())).collect();
        assert_eq!(found, network.tensors.into_iter().collect(), "{}", network.name);
        let detected = Architecture::detect(&fresh.state().unwrap()).unwrap();
        assert_eq!((detected, detected.to_string()), (*fresh.architecture(), network.name));
    }
}

/// How far results may be off PyTorch's in f64.
struct Allowed {
    outputs: f64,
    gradients: f64,
}

/// Candle's operations in f64: rounding of 1e-16, which normalization over sixteen numbers and fifty layers makes larger
/// by 1e5 at most; gradients are recorded with ten digits.
const WIDE: Allowed = Allowed { outputs: 1e-10, gradients: 1e-8 };
/// The loops in f32. Where a rectifier's input is nearer to zero than the rounding, its gradient is another one:
/// PyTorch's own gradients in f32 are off those in f64 by up to 8e-3 here.
const NARROW: Allowed = Allowed { outputs: 1e-4, gradients: 0.1 };

fn computes_what_torch_computes(name: &str) -> Result<()> {
    let network = recorded().into_iter().find(|recorded| recorded.name == name).unwrap();
    compare(&network, DType::F64, Tape::candle, &WIDE)?;
    compare(&network, DType::F32, Tape::training, &NARROW)
}

fn compare(network: &Recorded, dtype: DType, tape: fn() -> Tape, allowed: &Allowed) -> Result<()> {
    let name = &network.name;
    let run = network.run.as_ref().unwrap();
    let built = Network::new(&network.architecture(), &network.state(dtype)?, &Device::Cpu).unwrap();
    let images = run.images()?.to_dtype(dtype)?;

    let inference = Tape::inference();
    let logits = built.forward(&inference, &inference.constant(&images), Statistics::Running)?;
    let error = relative_error(logits.tensor(), &run.evaluated)?;
    assert!(error < allowed.outputs, "{name} in {dtype:?}, evaluated: {error:e}");

    let tape = tape();
    let logits = built.forward(&tape, &tape.constant(&images), Statistics::Batch { momentum: 0.1 })?;
    let error = relative_error(logits.tensor(), &run.trained)?;
    assert!(error < allowed.outputs, "{name} in {dtype:?}, trained: {error:e}");

    // the sum of logits times weights, as a product of one row and one column
    let count = logits.tensor().elem_count();
    let row = tape.apply(Reshape::new(&[1, count]), &[&logits])?;
    let weights = tape.constant(&weights()?.reshape((1, count))?.to_dtype(dtype)?);
    let loss = tape.apply(Product::new(false), &[&row, &weights])?;
    let gradients = tape.backward(&loss)?;
    let var = |name: &str| built.parameters().get(name).unwrap().var();
    for (tensor, expected) in &run.gradients {
        let error = relative_error(gradients.get(var(tensor)).unwrap(), expected)?;
        assert!(error < allowed.gradients, "{name} in {dtype:?}, gradient of {tensor}: {error:e}");
    }
    for (tensor, expected) in &run.followed {
        let error = relative_error(var(tensor), expected)?;
        // recorded with ten digits
        assert!(error < allowed.outputs.max(1e-9), "{name} in {dtype:?}, {tensor}: {error:e}");
    }
    for (tensor, parameter) in built.parameters().trained() {
        assert!(gradients.get(parameter.var()).is_some(), "{name} in {dtype:?}, gradient of {tensor}");
    }
    Ok(())
}

#[test]
fn small_residual_networks_compute_what_torchs_do() -> Result<()> {
    computes_what_torch_computes("resnet8")?;
    computes_what_torch_computes("resnet14x2")
}

#[test]
fn wide_residual_networks_compute_what_torchs_do() -> Result<()> {
    computes_what_torch_computes("wrn-10-1")?;
    computes_what_torch_computes("wrn-16-2")
}

#[test]
fn plain_networks_compute_what_torchs_do() -> Result<()> {
    computes_what_torch_computes("vgg11")
}

#[test]
fn residual_networks_compute_what_torchs_do() -> Result<()> {
    computes_what_torch_computes("resnet18")?;
    computes_what_torch_computes("resnet50")
}
