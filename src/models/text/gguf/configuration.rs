use super::error::GgufModelError;
use super::rope;
use crate::checkpoint::{GgufFile, GgufTensor};
use serde_json::{Map, Value, json};

/// The largest size that is believed.
const LARGEST: u64 = 1 << 31;

/// What `config.json` and `generation_config.json` say of a file's model.
pub(super) fn of(file: &GgufFile) -> Result<(Value, Value), GgufModelError> {
    let mut config = match file.text("general.architecture")? {
        "gpt2" => gpt2(file)?,
        architecture @ ("llama" | "qwen2" | "qwen3") => llama(file, architecture)?,
        other => {
            let (path, found) = (file.path().to_owned(), other.to_owned());
            return Err(GgufModelError::Architecture { path, found });
        }
    };
    let mut generation = Map::new();
    for name in ["bos", "eos", "padding"] {
        let Some(token) = file.count_if(&format!("tokenizer.ggml.{name}_token_id"))? else { continue };
        let key = if name == "padding" { "pad_token_id".to_owned() } else { format!("{name}_token_id") };
        config.insert(key.clone(), json!(token));
        generation.insert(key, json!(token));
    }
    // what ends a turn ends what is generated too
    let turn = file.count_if("tokenizer.ggml.eot_token_id")?;
    if let (Some(turn), Some(end)) = (turn, generation.get("eos_token_id").and_then(Value::as_u64))
        && turn != end
    {
        generation.insert("eos_token_id".to_owned(), json!([end, turn]));
    }
    Ok((Value::Object(config), Value::Object(generation)))
}

fn gpt2(file: &GgufFile) -> Result<Map<String, Value>, GgufModelError> {
    let count = |key: &str| size(file, &format!("gpt2.{key}"));
    Ok(object(json!({
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "activation_function": "gelu_new",
        "layer_norm_epsilon": file.number("gpt2.attention.layer_norm_epsilon")?,
        "n_ctx": count("context_length")?,
        "n_embd": count("embedding_length")?,
        "n_head": count("attention.head_count")?,
        "n_inner": count("feed_forward_length")?,
        "n_layer": count("block_count")?,
        "n_positions": count("context_length")?,
        "tie_word_embeddings": is_tied(file)?,
        "vocab_size": rows(file, "token_embd.weight"),
    })))
}

fn llama(file: &GgufFile, architecture: &str) -> Result<Map<String, Value>, GgufModelError> {
    let key = |name: &str| format!("{architecture}.{name}");
    let count = |name: &str| size(file, &key(name));
    let count_if = |name: &str| file.count_if(&key(name));
    let refuse = |name: &str, found: u64, expected: String| refusal(file, &key(name), found, expected);
    if let Some(experts) = count_if("expert_count")?.filter(|&experts| experts > 0) {
        return Err(refuse("expert_count", experts, "no experts".to_owned()));
    }
    let (width, heads) = (count("embedding_length")?, count("attention.head_count")?);
    let head_width = match count_if("attention.key_length")? {
        Some(width) => width,
        None => width / heads,
    };
    if head_width == 0 || head_width % 2 != 0 || head_width > LARGEST {
        return Err(refuse(
            "attention.key_length",
            head_width,
            "an even number: halves are turned".to_owned(),
        ));
    }
    for name in ["attention.value_length", "rope.dimension_count"] {
        if let Some(other) = count_if(name)?.filter(|&other| other != head_width) {
            return Err(refuse(name, other, format!("{head_width}, as wide as a head")));
        }
    }
    // Hugging Face's Mistral is its Llama with a window
    let window = count_if("attention.sliding_window")?.filter(|&window| window > 0);
    let (class, kind) = match (architecture, window) {
        ("qwen2", _) => ("Qwen2ForCausalLM", "qwen2"),
        ("qwen3", _) => ("Qwen3ForCausalLM", "qwen3"),
        (_, Some(_)) => ("MistralForCausalLM", "mistral"),
        (_, None) => ("LlamaForCausalLM", "llama"),
    };
    let theta = file.number_if(&key("rope.freq_base"))?.unwrap_or(10_000.0);
    let mut config = object(json!({
        "architectures": [class],
        "model_type": kind,
        "attention_bias": kind == "qwen2" || file.tensor("blk.0.attn_q.bias").is_some(),
        "head_dim": head_width,
        "hidden_act": "silu",
        "hidden_size": width,
        "intermediate_size": count("feed_forward_length")?,
        "max_position_embeddings": count("context_length")?,
        "mlp_bias": file.tensor("blk.0.ffn_gate.bias").is_some(),
        "num_attention_heads": heads,
        "num_hidden_layers": count("block_count")?,
        "num_key_value_heads": count_if("attention.head_count_kv")?.unwrap_or(heads),
        "rms_norm_eps": file.number(&key("attention.layer_norm_rms_epsilon"))?,
        "rope_theta": theta,
        "tie_word_embeddings": is_tied(file)?,
        "vocab_size": rows(file, "token_embd.weight"),
    }));
    if let Some(window) = window {
        config.insert("sliding_window".to_owned(), json!(window));
        config.insert("use_sliding_window".to_owned(), json!(true));
    }
    // transformers reads this where it is, older ones the two other keys
    let mut rope = object(json!({"rope_type": "default"}));
    if let Some(stretch) = rope::stretch(file, architecture, head_width, theta)? {
        config.insert("rope_scaling".to_owned(), stretch.clone());
        rope = object(stretch);
    }
    rope.insert("rope_theta".to_owned(), json!(theta));
    config.insert("rope_parameters".to_owned(), Value::Object(rope));
    Ok(config)
}

/// A size that must be there, and be one that a network can have.
fn size(file: &GgufFile, key: &str) -> Result<u64, GgufModelError> {
    let found = file.count(key)?;
    // each layer has tensors of its own
    let most = if key.ends_with(".block_count") { file.tensors().len() as u64 } else { LARGEST };
    if (1..=most).contains(&found) {
        return Ok(found);
    }
    Err(refusal(file, key, found, format!("a number from 1 to {most}")))
}

fn refusal(file: &GgufFile, key: &str, found: u64, expected: String) -> GgufModelError {
    let (path, key, found) = (file.path().to_owned(), format!("`{key}`"), found.to_string());
    GgufModelError::Unsupported { path, key, found, expected }
}

/// Whether the head is the embedding: not there, or there once more.
pub(super) fn is_tied(file: &GgufFile) -> Result<bool, GgufModelError> {
    let Some(head) = file.tensor("output.weight") else { return Ok(true) };
    let Some(words) = file.tensor("token_embd.weight") else { return Ok(false) };
    Ok(file.same(head, words)?)
}

/// Rows of a tensor; none where it is not there, which is said later.
fn rows(file: &GgufFile, name: &str) -> usize {
    file.tensor(name).and_then(|tensor: &GgufTensor| tensor.shape.first().copied()).unwrap_or(0)
}

fn object(value: Value) -> Map<String, Value> {
    if let Value::Object(fields) = value { fields } else { Map::new() }
}
