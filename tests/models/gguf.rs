//! GGUF files as llama.cpp makes them of Hugging Face's checkpoints, for tests.

use candle_core::Tensor;
use candle_core::quantized::gguf_file::{self, Value as Entry};
use candle_core::quantized::{GgmlDType, QTensor};
use fnl::layers::State;
use serde_json::Value;
use std::fs::File;
use std::path::Path;

/// Entries of a header.
pub(crate) type Entries = Vec<(String, Entry)>;

pub(crate) fn text(text: &str) -> Entry {
    Entry::String(text.to_owned())
}

pub(crate) fn write(path: &Path, entries: &Entries, tensors: &[(String, QTensor)]) {
    let entries: Vec<(&str, &Entry)> = entries.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let tensors: Vec<(&str, &QTensor)> =
        tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    gguf_file::write(&mut File::create(path).unwrap(), &entries, &tensors).unwrap();
}

/// What a header says of a network of this configuration.
pub(crate) fn entries(config: &Value) -> Entries {
    let kind = config["model_type"].as_str().unwrap();
    let kind = if kind == "mistral" { "llama" } else { kind };
    let mut entries = vec![("general.architecture".to_owned(), text(kind))];
    let mut count = |key: &str, from: &Value| {
        if let Some(number) = from.as_u64() {
            entries.push((format!("{kind}.{key}"), Entry::U32(number as u32)));
        }
    };
    if kind == "gpt2" {
        count("context_length", &config["n_positions"]);
        count("embedding_length", &config["n_embd"]);
        count("block_count", &config["n_layer"]);
        count("attention.head_count", &config["n_head"]);
        count("feed_forward_length", &(4 * config["n_embd"].as_u64().unwrap()).into());
        let epsilon = config["layer_norm_epsilon"].as_f64().unwrap() as f32;
        entries.push(("gpt2.attention.layer_norm_epsilon".to_owned(), Entry::F32(epsilon)));
        return entries;
    }
    count("context_length", &config["max_position_embeddings"]);
    count("embedding_length", &config["hidden_size"]);
    count("block_count", &config["num_hidden_layers"]);
    count("feed_forward_length", &config["intermediate_size"]);
    count("attention.head_count", &config["num_attention_heads"]);
    count("attention.head_count_kv", &config["num_key_value_heads"]);
    count("attention.key_length", &config["head_dim"]);
    let epsilon = config["rms_norm_eps"].as_f64().unwrap() as f32;
    entries.push((format!("{kind}.attention.layer_norm_rms_epsilon"), Entry::F32(epsilon)));
    let theta = config["rope_parameters"]["rope_theta"].as_f64().unwrap() as f32;
    entries.push((format!("{kind}.rope.freq_base"), Entry::F32(theta)));
    entries
}

/// The tensors of a checkpoint under llama.cpp's names and in its order, stored in blocks of this type.
pub(crate) fn tensors(config: &Value, state: &State, block: GgmlDType) -> Vec<(String, QTensor)> {
    let kind = config["model_type"].as_str().unwrap();
    let mut made = Vec::new();
    for (name, stored) in &state.tensors {
        let mut tensor = stored.tensor().unwrap().to_dtype(candle_core::DType::F32).unwrap();
        if ["c_attn.weight", "c_proj.weight", "c_fc.weight"].iter().any(|end| name.ends_with(end)) {
            tensor = tensor.t().unwrap().contiguous().unwrap();
        }
        if ["llama", "mistral"].contains(&kind) {
            for (part, heads) in [("q_proj", "num_attention_heads"), ("k_proj", "num_key_value_heads")] {
                if name.contains(part) {
                    tensor = interleaved(&tensor, config[heads].as_u64().unwrap() as usize);
                }
            }
        }
        let block = if tensor.rank() == 1 { GgmlDType::F32 } else { block };
        made.push((name_of(name), QTensor::quantize(&tensor, block).unwrap()));
    }
    made
}

/// Rows of a head half a head apart side by side, as llama.cpp's converter has them.
fn interleaved(tensor: &Tensor, heads: usize) -> Tensor {
    let (rows, columns) = tensor.dims2().unwrap();
    let apart = tensor.reshape((heads, 2, rows / heads / 2, columns)).unwrap();
    apart.transpose(1, 2).unwrap().contiguous().unwrap().reshape((rows, columns)).unwrap()
}

fn name_of(name: &str) -> String {
    let mut name = name.trim_start_matches("model.").trim_start_matches("transformer.").to_owned();
    for (from, to) in [
        ("embed_tokens", "token_embd"),
        ("wte", "token_embd"),
        ("wpe", "position_embd"),
        ("lm_head", "output"),
        ("ln_f", "output_norm"),
        ("layers.", "blk."),
        ("h.", "blk."),
        ("self_attn.q_norm", "attn_q_norm"),
        ("self_attn.k_norm", "attn_k_norm"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("attn.c_attn", "attn_qkv"),
        ("mlp.c_proj", "ffn_down"),
        ("attn.c_proj", "attn_output"),
        ("mlp.c_fc", "ffn_up"),
        ("ln_1", "attn_norm"),
        ("ln_2", "ffn_norm"),
    ] {
        if name.starts_with(from) || (!from.ends_with('.') && name.contains(&format!(".{from}."))) {
            name = name.replacen(from, to, 1);
        }
    }
    if name.starts_with("norm.") { format!("output_{name}") } else { name }
}
