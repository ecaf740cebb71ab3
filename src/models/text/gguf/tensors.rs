use super::error::GgufModelError;
use crate::checkpoint::GgufFile;
use crate::models::{Gpt2Config, LlamaConfig, TextConfig};
use std::collections::BTreeSet;

/// Problems that are listed before the rest is counted.
const SHOWN: usize = 8;

/// A tensor of a GGUF file, and what Hugging Face calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImportedTensor {
    /// Its name in the file.
    pub source: String,
    /// Its name in Hugging Face's checkpoints.
    pub name: String,
    /// Its shape there.
    pub shape: Vec<usize>,
    /// How its elements get there.
    pub arrangement: Arrangement,
}

/// How the elements of a tensor in a GGUF file become those of Hugging Face's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Arrangement {
    /// As they are.
    Same,
    /// Rows and columns exchanged: GPT-2's layers are `(in, out)`.
    Transposed,
    /// Rows of so many heads, each of which has what is turned together side by side, where Hugging Face has it half a head apart.
    Interleaved {
        /// How many heads the rows are of.
        heads: usize,
    },
}

impl Arrangement {
    /// Brings the elements of a tensor, in the file's order, into that of `shape`, which is Hugging Face's.
    ///
    /// The rows of a head of width `d` are `0, d/2, 1, d/2 + 1, ...` of Hugging Face's in the file of a Llama, for rotary
    /// embeddings that turn neighbours: row `2 i + s` there is row `s d/2 + i` here.
    ///
    /// # Examples
    ///
    /// ```
    /// use fnl::models::Arrangement;
    ///
    /// let rows = vec![0.0, 2.0, 1.0, 3.0, 10.0, 12.0, 11.0, 13.0];
    /// let placed = Arrangement::Interleaved { heads: 2 }.apply(rows, &[8, 1]);
    /// assert_eq!(placed, [0.0, 1.0, 2.0, 3.0, 10.0, 11.0, 12.0, 13.0]);
    /// assert_eq!(Arrangement::Transposed.apply(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3]), [1.0, 3.0, 5.0, 2.0, 4.0, 6.0]);
    /// ```
    #[must_use]
    pub fn apply(self, elements: Vec<f32>, shape: &[usize]) -> Vec<f32> {
        let rows = shape.first().copied().unwrap_or(1).max(1);
        let columns = elements.len() / rows;
        let mut placed = Vec::with_capacity(elements.len());
        match self {
            Self::Same => return elements,
            Self::Transposed => {
                // the file's tensor is (columns, rows)
                for row in 0..rows {
                    placed.extend(elements.iter().skip(row).step_by(rows));
                }
            }
            Self::Interleaved { heads } => {
                let width = rows / heads.max(1);
                for row in 0..rows {
                    let (head, within) = (row / width, row % width);
                    let (side, index) = (within / (width / 2), within % (width / 2));
                    let from = (head * width + 2 * index + side) * columns;
                    placed.extend_from_slice(&elements[from..from + columns]);
                }
            }
        }
        placed
    }
}

/// Which tensors a network of this configuration has, all of which the file must hold, and no others.
pub(super) fn of(file: &GgufFile, config: &TextConfig) -> Result<Vec<ImportedTensor>, GgufModelError> {
    let architecture = file.text("general.architecture")?;
    let tensors = match config {
        TextConfig::Gpt2(config) => gpt2(config, super::configuration::is_tied(file)?),
        TextConfig::Llama(config) => llama(config, architecture == "llama"),
        TextConfig::Encoder(_) => Vec::new(),
    };
    let mut problems = Vec::new();
    for tensor in &tensors {
        let mut expected = tensor.shape.clone();
        if tensor.arrangement == Arrangement::Transposed {
            expected.reverse();
        }
        match file.tensor(&tensor.source) {
            None => problems.push(format!("missing `{}`, shape {expected:?}", tensor.source)),
            Some(found) if found.shape != expected => problems
                .push(format!("`{}` is of shape {:?}, expected {expected:?}", tensor.source, found.shape)),
            Some(_) => {}
        }
    }
    let known: BTreeSet<&str> = tensors.iter().map(|tensor| tensor.source.as_str()).collect();
    // the head once more, and what config.json says
    let spare = ["output.weight", "rope_freqs.weight"];
    for tensor in file.tensors().filter(|tensor| !known.contains(tensor.name.as_str())) {
        if !spare.contains(&tensor.name.as_str()) {
            problems.push(format!("unexpected `{}`, shape {:?}", tensor.name, tensor.shape));
        }
    }
    if problems.is_empty() {
        return Ok(tensors);
    }
    if let Some(more) = problems.len().checked_sub(SHOWN).filter(|&more| more > 0) {
        problems.truncate(SHOWN);
        problems.push(format!("and {more} more"));
    }
    Err(GgufModelError::Tensors { path: file.path().to_owned(), problems })
}

/// Tensors as they are collected: names before the last part on both sides.
#[derive(Default)]
struct Parts(Vec<ImportedTensor>);

impl Parts {
    fn add(&mut self, source: &str, name: &str, shape: &[usize], arrangement: Arrangement) {
        let (source, name, shape) = (source.to_owned(), name.to_owned(), shape.to_vec());
        self.0.push(ImportedTensor { source, name, shape, arrangement });
    }

    /// A layer's weight, and its bias where it has one.
    fn layer(&mut self, names: [&str; 2], shape: [usize; 2], bias: bool, arrangement: Arrangement) {
        let [source, name] = names;
        self.add(&format!("{source}.weight"), &format!("{name}.weight"), &shape, arrangement);
        if bias {
            let (out, arrangement) = match arrangement {
                Arrangement::Transposed => (shape[1], Arrangement::Same),
                other => (shape[0], other),
            };
            self.add(&format!("{source}.bias"), &format!("{name}.bias"), &[out], arrangement);
        }
    }
}

fn llama(config: &LlamaConfig, interleaved: bool) -> Vec<ImportedTensor> {
    let LlamaConfig { vocabulary, width, inner, head_width, heads: [heads, shared], .. } = *config;
    let [into, out] = config.attention_biases;
    let same = Arrangement::Same;
    let turned = |heads| if interleaved { Arrangement::Interleaved { heads } } else { same };
    let mut parts = Parts::default();
    parts.add("token_embd.weight", "model.embed_tokens.weight", &[vocabulary, width], same);
    for index in 0..config.layers {
        let [from, to] = [format!("blk.{index}"), format!("model.layers.{index}")];
        let mut layer = |source: &str, name: &str, shape, bias, arrangement| {
            let names = [format!("{from}.{source}"), format!("{to}.{name}")];
            parts.layer([&names[0], &names[1]], shape, bias, arrangement);
        };
        layer("attn_q", "self_attn.q_proj", [heads * head_width, width], into, turned(heads));
        layer("attn_k", "self_attn.k_proj", [shared * head_width, width], into, turned(shared));
        layer("attn_v", "self_attn.v_proj", [shared * head_width, width], into, same);
        layer("attn_output", "self_attn.o_proj", [width, heads * head_width], out, same);
        layer("ffn_gate", "mlp.gate_proj", [inner, width], config.inner_biases, same);
        layer("ffn_up", "mlp.up_proj", [inner, width], config.inner_biases, same);
        layer("ffn_down", "mlp.down_proj", [width, inner], config.inner_biases, same);
        let mut norms =
            vec![("attn_norm", "input_layernorm", width), ("ffn_norm", "post_attention_layernorm", width)];
        if config.normalized_heads {
            norms.push(("attn_q_norm", "self_attn.q_norm", head_width));
            norms.push(("attn_k_norm", "self_attn.k_norm", head_width));
        }
        for (source, name, width) in norms {
            parts.add(&format!("{from}.{source}.weight"), &format!("{to}.{name}.weight"), &[width], same);
        }
    }
    parts.add("output_norm.weight", "model.norm.weight", &[width], same);
    if !config.tied {
        parts.add("output.weight", "lm_head.weight", &[vocabulary, width], same);
    }
    parts.0
}

fn gpt2(config: &Gpt2Config, tied: bool) -> Vec<ImportedTensor> {
    let Gpt2Config { vocabulary, width, inner, .. } = *config;
    let (same, transposed) = (Arrangement::Same, Arrangement::Transposed);
    let mut parts = Parts::default();
    parts.add("token_embd.weight", "transformer.wte.weight", &[vocabulary, width], same);
    parts.add("position_embd.weight", "transformer.wpe.weight", &[config.positions, width], same);
    let norm = |parts: &mut Parts, source: &str, name: &str| {
        for end in ["weight", "bias"] {
            parts.add(&format!("{source}.{end}"), &format!("{name}.{end}"), &[width], same);
        }
    };
    for index in 0..config.layers {
        let [from, to] = [format!("blk.{index}"), format!("transformer.h.{index}")];
        for (source, name, shape) in [
            ("attn_qkv", "attn.c_attn", [width, 3 * width]),
            ("attn_output", "attn.c_proj", [width, width]),
            ("ffn_up", "mlp.c_fc", [width, inner]),
            ("ffn_down", "mlp.c_proj", [inner, width]),
        ] {
            let names = [format!("{from}.{source}"), format!("{to}.{name}")];
            parts.layer([&names[0], &names[1]], shape, true, transposed);
        }
        norm(&mut parts, &format!("{from}.attn_norm"), &format!("{to}.ln_1"));
        norm(&mut parts, &format!("{from}.ffn_norm"), &format!("{to}.ln_2"));
    }
    norm(&mut parts, "output_norm", "transformer.ln_f");
    if !tied {
        parts.add("output.weight", "lm_head.weight", &[vocabulary, width], same);
    }
    parts.0
}
