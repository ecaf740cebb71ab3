//! Heads of attention, balanced and narrowed, on every kind of network that has them.

use candle_core::{DType, Device, Tensor};
use fnl::checkpoint::{Checkpoint, OutputOptions};
use fnl::commands::{HeadsOptions, heads};
use fnl::layers::{Builder, HeadProductKind, State, Stored, Tape};
use fnl::models::{Task, TextConfig, TextNetwork, Tokens};
use fnl::plan::NoProgress;
use serde_json::{Value, json};
use std::path::Path;

fn configs() -> [Value; 4] {
    let sizes = json!({"vocab_size": 60, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 4,
                       "intermediate_size": 20, "max_position_embeddings": 16, "type_vocab_size": 2,
                       "num_key_value_heads": 2, "rms_norm_eps": 1e-6});
    let of = |kind: &str, activation: &str| {
        let mut config = sizes.clone();
        config["model_type"] = json!(kind);
        config["hidden_act"] = json!(activation);
        config
    };
    let gpt2 = json!({"model_type": "gpt2", "vocab_size": 60, "n_embd": 12, "n_layer": 2, "n_head": 4, "n_positions": 16,
                      "activation_function": "gelu_new"});
    [of("bert", "gelu"), gpt2, of("llama", "silu"), of("qwen2", "silu")]
}

/// A folder with a network whose biases are not zero.
fn write(folder: &Path, config: &Value) {
    let parsed = TextConfig::from_json(config).unwrap();
    let builder = Builder::fresh(3, &Device::Cpu).with_deviation(0.3);
    let network = TextNetwork::build(&parsed, &builder, Task::AsItIs, &Device::Cpu).unwrap();
    let mut state = network.state().unwrap();
    for (index, (name, stored)) in state.tensors.iter_mut().enumerate() {
        if let (true, Stored::Floating { tensor, .. }) = (name.rsplit('.').next() == Some("bias"), stored) {
            let count = tensor.elem_count();
            let values: Vec<f32> = (0..count).map(|i| ((5 * i + index) % 7) as f32 / 7.0 - 0.4).collect();
            *tensor = Tensor::from_vec(values, count, &Device::Cpu).unwrap();
        }
    }
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    state.write(&OutputOptions::file(&folder.join("model.safetensors")), None).unwrap();
}

fn open(folder: &Path) -> TextNetwork {
    let checkpoint = Checkpoint::open_path(folder).unwrap();
    let config = TextConfig::from_json(checkpoint.config().unwrap()).unwrap();
    TextNetwork::new(&config, &State::read(&checkpoint).unwrap(), &Device::Cpu).unwrap()
}

fn hidden(network: &TextNetwork) -> Vec<f64> {
    let tokens = Tokens::new(&[vec![7, 3, 44, 12, 9], vec![5, 49, 8]]).unwrap();
    let found = network.hidden(&Tape::inference(), &tokens).unwrap();
    found.tensor().to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn distance(one: &[f64], other: &[f64]) -> f64 {
    let norm = |xs: &mut dyn Iterator<Item = f64>| xs.map(|x| x * x).sum::<f64>().sqrt();
    norm(&mut one.iter().zip(other).map(|(x, y)| x - y)) / norm(&mut one.iter().copied())
}

#[test]
fn networks_compute_the_same_at_full_width_and_run_narrower_below() {
    for config in configs() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        write(&at("dense"), &config);
        let kind = config["model_type"].as_str().unwrap();
        let turned = ["llama", "qwen2"].contains(&kind);
        let dense = open(&at("dense"));
        let narrowed = |name: &str, query_key: Option<f64>, output_value: Option<f64>| {
            let source = at("dense").display().to_string().parse().unwrap();
            let mut options = HeadsOptions::new(source, at(name));
            (options.query_key, options.output_value) = (query_key.filter(|_| !turned), output_value);
            (heads(&options, &NoProgress).unwrap(), open(&at(name)))
        };
        let (report, same) = narrowed("same", Some(1.0), Some(1.0));
        assert!(report.products.iter().all(|product| product.relative_error < 1e-6), "{kind}");
        assert_eq!(report.parameters_before, report.parameters_after);
        let off = distance(&hidden(&dense), &hidden(&same));
        assert!(off < 1e-5, "{kind}: {off}");
        // balanced: norms of both sides are equal, and the products are what they were
        for (before, after) in dense.products().iter().zip(same.products()) {
            let norms = [(before, &dense), (after, &same)].map(|(p, net)| p.norms(net.parameters()).unwrap());
            if before.kind == HeadProductKind::OutputValue {
                assert!(norms[0].iter().zip(&norms[1]).all(|(x, y)| (x - y).abs() < 1e-4 * x), "{norms:?}");
            }
        }
        let (report, narrow) = narrowed("narrow", Some(2.0 / 3.0), Some(1.0 / 3.0));
        assert!(report.parameters_after < report.parameters_before, "{kind}");
        for product in narrow.products() {
            let rank = if product.kind == HeadProductKind::QueryKey { 2 } else { 1 };
            assert!(product.width == rank || turned && product.width == 3, "{kind}: {product:?}");
        }
        let off = distance(&hidden(&dense), &hidden(&narrow));
        assert!(off > 1e-3 && off < 2.0, "{kind}: {off}");
        // what was narrowed can be narrowed and balanced again
        let source = at("narrow").display().to_string().parse().unwrap();
        let mut options = HeadsOptions::new(source, at("again"));
        options.output_value = Some(1.0);
        heads(&options, &NoProgress).unwrap();
        let off = distance(&hidden(&narrow), &hidden(&open(&at("again"))));
        assert!(off < 1e-5, "{kind}: {off}");
    }
}

/// The narrowed products against truncated singular value decompositions of the products themselves.
#[test]
fn narrowed_products_are_nearest() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    write(&at("dense"), &configs()[0]);
    let mut options = HeadsOptions::new(at("dense").display().to_string().parse().unwrap(), at("narrow"));
    options.output_value = Some(1.0 / 3.0);
    let report = heads(&options, &NoProgress).unwrap();
    let part = |folder: &str, name: &str| {
        let state = State::read(&Checkpoint::open_path(&at(folder)).unwrap()).unwrap();
        let prefix = "bert.encoder.layer.0.attention";
        let tensor = state.tensors[&format!("{prefix}.{name}.weight")].tensor().unwrap().clone();
        tensor.to_dtype(DType::F64).unwrap()
    };
    let (mut norm, mut tail) = (0.0, 0.0);
    for head in 0..4 {
        let product = |folder: &str, width: usize| {
            let output = part(folder, "output.dense").narrow(1, head * width, width).unwrap();
            let value = part(folder, "self.value").narrow(0, head * width, width).unwrap();
            output.contiguous().unwrap().matmul(&value.contiguous().unwrap()).unwrap()
        };
        let (dense, narrow) = (product("dense", 3), product("narrow", 1));
        let off = (&dense - narrow).unwrap().sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap();
        let values = dense.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let matrix = faer::MatRef::from_row_major_slice(&values, 12, 12);
        let spectrum = fnl::linalg::spectrum(matrix, 1).unwrap();
        assert!((off - spectrum.tail_squared(1)).abs() < 1e-5 * spectrum.norm_squared());
        (norm, tail) = (norm + spectrum.norm_squared(), tail + spectrum.tail_squared(1));
    }
    let first = report.products.iter().find(|product| product.attention.ends_with("layer.0")).unwrap();
    assert!((first.relative_error - (tail / norm).sqrt()).abs() < 1e-5, "{first:?}");
}

#[test]
fn what_cannot_be_narrowed_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    write(&at("llama"), &configs()[2]);
    let options = |query_key, output_value| {
        let mut options = HeadsOptions::new(at("llama").display().to_string().parse().unwrap(), at("out"));
        (options.query_key, options.output_value) = (query_key, output_value);
        options
    };
    let refused = |options: &HeadsOptions| heads(options, &NoProgress).unwrap_err().to_string();
    assert!(refused(&options(None, None)).contains("--query-key"));
    assert!(
        refused(&options(Some(0.5), None))
            .contains("positions turn them; outputs and values can be, with --output-value alone")
    );
    assert!(!at("out").exists());
}
