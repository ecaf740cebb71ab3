//! Small networks with random weights.

use candle_core::Device;
use fnl::layers::Builder;
use fnl::models::{Task, TextConfig, TextNetwork};
use serde_json::{Value, json};

pub(crate) fn bert() -> Value {
    json!({
        "model_type": "bert", "vocab_size": 60, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3,
        "intermediate_size": 20, "hidden_act": "gelu", "max_position_embeddings": 16, "type_vocab_size": 2
    })
}

pub(crate) fn llama() -> Value {
    json!({
        "model_type": "llama", "vocab_size": 60, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "intermediate_size": 20, "hidden_act": "silu", "max_position_embeddings": 16,
        "rms_norm_eps": 1e-6
    })
}

pub(crate) fn network(config: &Value, seed: u64) -> TextNetwork {
    let config = TextConfig::from_json(config).unwrap();
    let builder = Builder::fresh(seed, &Device::Cpu).with_deviation(0.3);
    TextNetwork::build(&config, &builder, Task::AsItIs, &Device::Cpu).unwrap()
}

pub(crate) fn sequences(count: u32) -> Vec<Vec<u32>> {
    (0..count).map(|i| (0..2 + i % 7).map(|j| (7 * i + 13 * j + i * j) % 60).collect()).collect()
}
