//! Networks out of checkpoints: dense and factored, with what is missing told at once.

use crate::recorded::{Recorded, recorded};
use candle_core::{DType, Device, Result, Tensor};
use fnl::checkpoint::{Checkpoint, Dtype, ModuleRecord};
use fnl::decompose::{Layout, Scheme};
use fnl::layers::{State, Statistics, Stored, Tape, Weight};
use fnl::models::{Architecture, ArchitectureError, Network, NetworkError};
use std::path::PathBuf;

fn network(name: &str) -> Recorded {
    recorded().into_iter().find(|recorded| recorded.name == name).unwrap()
}

/// The checkpoint with this layer replaced by its factors, and the record of it.
pub(crate) fn factor(state: &mut State, layer: &str, scheme: Scheme, rank: usize) -> Result<()> {
    let dense = state.tensors.shift_remove(&format!("{layer}.weight")).unwrap();
    let layout = if dense.shape().len() == 4 { Layout::Conv2d } else { Layout::Linear };
    let weight = Weight::factored(dense.tensor().unwrap(), layout, scheme, 1, rank)?;
    for (index, var) in weight.vars().iter().enumerate() {
        state.tensors.insert(format!("{layer}.{index}.weight"), Stored::new(var.as_detached_tensor()));
    }
    if let Some(bias) = state.tensors.shift_remove(&format!("{layer}.bias")) {
        state.tensors.insert(format!("{layer}.{}.bias", weight.vars().len() - 1), bias);
    }
    let module = ModuleRecord {
        kind: layout.name().to_owned(),
        scheme: scheme.name().to_owned(),
        rank,
        shape: dense.shape().to_vec(),
        dtype: "F32".to_owned(),
        ..ModuleRecord::default()
    };
    state.modules.insert(layer.to_owned(), module);
    Ok(())
}

/// The network's first convolutions, and a late one, each in a scheme of its own; and what is at its end.
const FACTORED: [(&str, [&str; 4]); 4] = [
    ("resnet8", ["conv1", "layer1.0.conv1", "layer3.0.conv2", "linear"]),
    ("wrn-10-1", ["conv1", "block1.layer.0.conv1", "block2.layer.0.convShortcut", "fc"]),
    ("vgg11", ["features.0", "features.4", "features.11", "classifier"]),
    ("resnet18", ["conv1", "layer1.0.conv1", "layer2.0.downsample.0", "fc"]),
];

#[test]
fn factored_checkpoints_are_detected_and_compute_what_their_collapsed_ones_do() -> Result<()> {
    for (name, layers) in FACTORED {
        let recorded = network(name);
        let mut state = recorded.state(DType::F32)?;
        let schemes = [Scheme::Channel, Scheme::Spatial, Scheme::Deep, Scheme::Matrix];
        for (layer, scheme) in layers.iter().zip(schemes) {
            factor(&mut state, layer, scheme, 3)?;
        }
        assert_eq!(Architecture::detect(&state).unwrap(), recorded.architecture());
        let factored = Network::new(&recorded.architecture(), &state, &Device::Cpu).unwrap();
        let names = |weight: &dyn Fn(&Weight) -> bool| -> Vec<String> {
            factored.layers().iter().filter(|l| weight(&l.weight)).map(|l| l.name.clone()).collect()
        };
        assert_eq!(names(&|weight| weight.chain().is_some()), layers);
        assert_eq!(
            names(&|weight| weight.chain().is_some_and(|chain| chain.ranks().largest() != 3)),
            [""; 0]
        );

        let collapsed = state.collapsed().unwrap();
        let dense = Network::new(&recorded.architecture(), &collapsed, &Device::Cpu).unwrap();
        assert!(dense.parameters().count() > factored.parameters().count());
        let (tape, images) = (Tape::inference(), recorded.run.as_ref().unwrap().images()?);
        let run = |network: &Network| -> Result<Tensor> {
            let ys = network.forward(&tape, &tape.constant(&images), Statistics::Running)?;
            Ok(ys.tensor().clone())
        };
        let (found, expected) = (run(&factored)?, run(&dense)?);
        let norm = |tensor: Tensor| tensor.sqr()?.sum_all()?.to_scalar::<f32>();
        // rounding alone: as between precisions
        assert!(norm((&found - &expected)?)?.sqrt() < 1e-4 * norm(expected)?.sqrt(), "{name}");
        // tensors under the checkpoint's names again, with nothing beside
        let names = |state: &State| state.tensors.keys().cloned().collect::<std::collections::BTreeSet<_>>();
        assert_eq!(names(&factored.state().unwrap()), names(&state));
    }
    Ok(())
}

#[test]
fn all_that_is_missing_or_left_over_is_told_at_once() -> Result<()> {
    let recorded = network("resnet8");
    let mut state = recorded.state(DType::F32)?;
    state.tensors.shift_remove("layer1.0.bn1.running_mean");
    state.tensors.shift_remove("conv1.weight");
    state.tensors["linear.weight"] = Stored::new(Tensor::zeros((7, 63), DType::F32, &Device::Cpu)?);
    state.tensors.insert("head.weight".into(), Stored::new(Tensor::zeros(3, DType::F32, &Device::Cpu)?));
    // counters are no parameters, and may stay
    let counter = Stored::Other { dtype: Dtype::I64, shape: vec![], bytes: vec![0; 8] };
    state.tensors.insert("bn1.num_batches_tracked".into(), counter);
    let NetworkError::Build(error) =
        Network::new(&recorded.architecture(), &state, &Device::Cpu).unwrap_err()
    else {
        panic!("expected what the checkpoint does not hold");
    };
    assert_eq!(
        error.problems,
        [
            "missing `conv1.weight`, shape [16, 3, 3, 3]",
            "missing `layer1.0.bn1.running_mean`, shape [16]",
            "`linear.weight` has shape [7, 63], expected [7, 64]",
        ]
    );
    assert_eq!(error.unexpected, ["`head.weight`, shape [3]"]);
    let text = error.to_string();
    assert!(text.starts_with("the checkpoint does not hold resnet8\n  missing `conv1.weight`"), "{text}");
    assert!(text.ends_with("\n  unexpected `head.weight`, shape [3]"), "{text}");
    Ok(())
}

#[test]
fn a_record_that_does_not_fit_is_told_with_what_is_missing() -> Result<()> {
    let recorded = network("resnet8");
    let mut state = recorded.state(DType::F32)?;
    factor(&mut state, "layer1.0.conv1", Scheme::Spatial, 3)?;
    factor(&mut state, "linear", Scheme::Matrix, 3)?;
    state.modules.get_mut("layer1.0.conv1").unwrap().groups = Some(2);
    state.modules.get_mut("linear").unwrap().scheme = "spatial".to_owned();
    state.tensors.shift_remove("layer1.0.conv1.1.weight");
    let error = Network::new(&recorded.architecture(), &state, &Device::Cpu).unwrap_err().to_string();
    for problem in [
        "`layer1.0.conv1` is recorded with 2 groups, expected 1",
        "missing `layer1.0.conv1.1.weight`, shape [16, 3, 3, 1]",
        "`linear` is recorded with scheme `spatial`, which a linear cannot have",
    ] {
        assert!(error.contains(problem), "{error}");
    }
    Ok(())
}

#[test]
fn other_networks_are_not_taken_for_known_ones() -> Result<()> {
    let reason = |state: &State| match Architecture::detect(state) {
        Err(ArchitectureError::Undetected { reason }) => reason,
        found => panic!("{found:?}"),
    };
    assert!(reason(&State::default()).contains("`linear`, `fc` or `classifier`"));
    // one block too many in the last stage of a large one
    let mut state = network("resnet18").state(DType::F32)?;
    for name in state.tensors.keys().filter(|name| name.starts_with("layer4.1.")).cloned().collect::<Vec<_>>()
    {
        let tensor = state.tensors[&name].clone();
        state.tensors.insert(name.replace("layer4.1.", "layer4.2."), tensor);
    }
    assert!(reason(&state).starts_with("its blocks are not those"));
    Ok(())
}

#[test]
fn names_are_those_that_are_printed() {
    for name in ["resnet20", "resnet110", "resnet32x2", "wrn-28-10", "vgg16", "resnet18", "resnet50"] {
        assert_eq!(name.parse::<Architecture>().unwrap().to_string(), name);
    }
    for name in [
        "resnet",
        "resnet21",
        "resnet2",
        "resnet20x0",
        "resnet18x2",
        "wrn-28",
        "wrn-27-10",
        "vgg12",
        "vgg",
        "",
    ] {
        let error = name.parse::<Architecture>().unwrap_err();
        assert_eq!(error, ArchitectureError::Unknown { name: name.to_owned() });
    }
}

#[test]
fn fresh_weights_depend_on_seed_and_name_alone() {
    let fresh = |name: &str, seed| {
        let network = Network::fresh(&name.parse().unwrap(), seed, &Device::Cpu).unwrap();
        network.parameters().snapshot().unwrap()
    };
    let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (small, large) = (fresh("resnet8", 3), fresh("resnet14", 3));
    for (name, tensor) in &small {
        assert_eq!(values(tensor), values(&large[name]), "{name}");
    }
    let weight = "layer3.0.conv2.weight";
    assert_ne!(values(&small[weight]), values(&fresh("resnet8", 4)[weight]));
    // normal with variance 2 / fan_in: the mean of n squares is off by sqrt(2 / n), here thrice that
    let squares: Vec<f64> = values(&small[weight]).iter().map(|x| f64::from(*x).powi(2)).collect();
    let (n, fan_in) = (squares.len() as f64, 64.0 * 9.0);
    let variance = squares.iter().sum::<f64>() / n;
    assert!((variance * fan_in / 2.0 - 1.0).abs() < 3.0 * (2.0 / n).sqrt(), "{variance}");
}

#[test]
#[ignore = "needs FNL_DATA"]
fn trained_checkpoints_are_told_and_built() {
    let data = PathBuf::from(std::env::var_os("FNL_DATA").expect("FNL_DATA: the folder of data"));
    for (name, count) in [("resnet20", 269_722), ("resnet56", 853_018)] {
        let path = data.join(format!("checkpoints/{name}-cifar10.safetensors"));
        let state = State::read(&Checkpoint::open_path(&path).unwrap()).unwrap();
        let architecture = Architecture::detect(&state).unwrap();
        assert_eq!((architecture.to_string().as_str(), architecture.classes), (name, 10));
        let network = Network::new(&architecture, &state, &Device::Cpu).unwrap();
        assert_eq!(network.parameters().count(), count);
        // multiply-adds of He et al., table 6: 40.8 and 125.5 millions
        let millions = network.multiply_adds([32, 32], 1).unwrap() as f64 / 1e6;
        assert!((millions - if count < 300_000 { 40.8 } else { 125.7 }).abs() < 0.5, "{millions}");
    }
}
