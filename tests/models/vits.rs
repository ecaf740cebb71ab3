//! Transformers for pictures against transformers', recorded by `torch_vit.py`.

use crate::checkpoints::factor;
use crate::recorded::{number, relative_error, text_state};
use candle_core::{DType, Device, Result, Tensor};
use fnl::decompose::Scheme;
use fnl::layers::{Node, State, Statistics, Tape};
use fnl::models::{Architecture, Family, Network, VitConfig};
use fnl::train::CrossEntropy;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Recorded {
    name: String,
    config: Value,
    tensors: Vec<(String, Vec<usize>)>,
    logits: Vec<f64>,
}

fn recorded() -> Vec<Recorded> {
    serde_json::from_str(include_str!("torch_vit.json")).unwrap()
}

const PICTURES: usize = 3;

impl Recorded {
    fn state(&self, dtype: DType) -> State {
        text_state(&self.tensors, dtype)
    }

    fn architecture(&self) -> Architecture {
        Architecture::from_config(&self.config, &self.state(DType::F32)).unwrap().unwrap()
    }

    fn network(&self, dtype: DType) -> Network {
        Network::new(&self.architecture(), &self.state(dtype), &Device::Cpu)
            .unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    fn pictures(&self, dtype: DType) -> Result<Tensor> {
        let Family::Vit(config) = self.architecture().family else { panic!("no transformer") };
        let shape = (PICTURES, self.architecture().channels, config.image, config.image);
        let count = shape.0 * shape.1 * shape.2 * shape.3;
        let values: Vec<f32> = (0..count).map(|index| number(1000, index) as f32).collect();
        Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(dtype)
    }

    fn logits(&self, network: &Network, tape: &Tape, dtype: DType) -> Result<Node> {
        network.forward(tape, &tape.constant(&self.pictures(dtype)?), Statistics::Running)
    }
}

#[test]
fn logits_are_those_of_transformers() -> Result<()> {
    for recorded in recorded() {
        // f32 rounds at 6e-8; where the rest is f64, transformers' softmax is of f32
        for (dtype, bound) in [(DType::F32, 3e-6), (DType::F64, 3e-7)] {
            let network = recorded.network(dtype);
            let logits = recorded.logits(&network, &Tape::inference(), dtype)?;
            let error = relative_error(logits.tensor(), &recorded.logits)?;
            assert!(error < bound, "{} in {dtype:?}: {error}", recorded.name);
        }
    }
    Ok(())
}

#[test]
fn gradients_are_those_of_compositions_in_f64() -> Result<()> {
    for recorded in recorded() {
        let (network, wide) = (recorded.network(DType::F32), recorded.network(DType::F64));
        let labels = [1, 0, 2];
        let tape = Tape::training();
        let logits = recorded.logits(&network, &tape, DType::F32)?;
        let loss = tape.apply(CrossEntropy::new(&labels, 0.0), &[&logits])?;
        let found = tape.backward(&loss)?;
        let tape = Tape::candle();
        let logits = recorded.logits(&wide, &tape, DType::F64)?;
        let loss = tape.apply(CrossEntropy::new(&labels, 0.0), &[&logits])?;
        let expected = tape.backward(&loss)?;
        let mut compared = 0;
        for (name, parameter) in network.parameters().trained() {
            if name.ends_with("key.bias") {
                continue; // zero but for rounding: the softmax takes off what is the same for all keys
            }
            let wide = wide.parameters().get(name).unwrap();
            let (Some(found), Some(expected)) = (found.get(parameter.var()), expected.get(wide.var())) else {
                panic!("{}: `{name}` has no gradient", recorded.name);
            };
            let error = relative_error(found, &expected.flatten_all()?.to_vec1::<f64>()?)?;
            assert!(error < 2e-5, "{}: `{name}` {error}", recorded.name);
            compared += 1;
        }
        assert!(compared >= 34);
    }
    Ok(())
}

#[test]
fn factored_layers_compute_what_collapsed_ones_do() -> Result<()> {
    let recorded = &recorded()[0];
    let mut state = recorded.state(DType::F32);
    for (layer, scheme) in [
        ("vit.embeddings.patch_embeddings.projection", Scheme::Channel),
        ("vit.encoder.layer.0.attention.attention.query", Scheme::Matrix),
        ("vit.encoder.layer.1.output.dense", Scheme::Matrix),
    ] {
        factor(&mut state, layer, scheme, 5)?;
    }
    let logits = |state: &State| {
        let network = Network::new(&recorded.architecture(), state, &Device::Cpu).unwrap();
        recorded.logits(&network, &Tape::inference(), DType::F32)
    };
    let expected = logits(&state.collapsed().unwrap())?.tensor().to_dtype(DType::F64)?.flatten_all()?;
    let error = relative_error(logits(&state)?.tensor(), &expected.to_vec1::<f64>()?)?;
    assert!(error < 3e-6, "{error}");
    // and are not what the dense ones compute
    assert!(relative_error(logits(&state)?.tensor(), &recorded.logits)? > 1e-3);
    Ok(())
}

#[test]
fn architectures_are_told_by_configurations_names_and_tensors() -> Result<()> {
    let usual = &recorded()[0];
    let architecture = usual.architecture();
    assert_eq!(architecture.to_string(), "vit-d16-l2-h4-i24-p4-s12");
    assert_eq!((architecture.classes, architecture.channels), (5, 3));
    let exotic = recorded()[1].architecture();
    assert_eq!(exotic.to_string(), "vit-d16-l2-h2-i24-p6-s14-relu-nobias-eps1e-3");
    let named: Architecture = exotic.to_string().parse().unwrap();
    assert_eq!(named.fitted_to(&recorded()[1].state(DType::F32)), exotic);
    // Heads are not seen in tensors: those of published networks are 64 wide, and this one's are not.
    let error = Architecture::detect(&usual.state(DType::F32)).unwrap_err();
    assert!(error.to_string().contains("do not show its heads"), "{error}");
    let published = VitConfig::new([128, 1, 2, 32, 4, 16]);
    let published = Architecture { family: Family::Vit(published), classes: 7, channels: 3 };
    let fresh = Network::fresh(&published, 0, &Device::Cpu).unwrap();
    assert_eq!(Architecture::detect(&fresh.state()?).unwrap(), published);
    let values = fresh.parameters().get("vit.encoder.layer.0.output.dense.weight").unwrap().var();
    let variance = values.sqr()?.mean_all()?.to_scalar::<f32>()?;
    assert!((variance.sqrt() - 0.02).abs() < 0.001, "{variance}");
    assert_eq!(Architecture::from_config(&json!({"model_type": "resnet"}), &State::default()).unwrap(), None);
    Ok(())
}

#[test]
fn what_does_not_fit_is_refused() -> Result<()> {
    let recorded = &recorded()[0];
    let network = recorded.network(DType::F32);
    let tape = Tape::inference();
    let large = tape.constant(&Tensor::zeros((1, 3, 16, 16), DType::F32, &Device::Cpu)?);
    let error = network.forward(&tape, &large, Statistics::Running).unwrap_err().to_string();
    assert!(error.contains("pictures of [3, 16, 16], expected [3, 12, 12]"), "{error}");
    let refused = |key: &str, value: Value| {
        let mut config = recorded.config.clone();
        config[key] = value;
        Architecture::from_config(&config, &State::default()).unwrap_err().to_string()
    };
    assert!(refused("num_attention_heads", 3.into()).contains("a width of 16 cannot have 3 heads"));
    assert!(refused("patch_size", 13.into()).contains("pictures of 12 pixels have no patches of 13"));
    let mut headless = recorded.state(DType::F32);
    headless.tensors.retain(|name, _| !name.starts_with("classifier"));
    let error = Architecture::detect(&headless).unwrap_err().to_string();
    assert!(error.contains("there is no `classifier`"), "{error}");
    Ok(())
}
