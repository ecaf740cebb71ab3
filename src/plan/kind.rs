use crate::checkpoint::Dtype;
use crate::decompose::Layout;
use serde::Serialize;
use std::fmt;

/// What a tensor of a checkpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// The weight of a linear layer, `(out, in)`.
    Linear,
    /// The weight of a linear layer stored `(in, out)`, as GPT-2's `Conv1D` does.
    TransposedLinear,
    /// A one-dimensional convolution's kernel, `(out, in / groups, k)`.
    Conv1d,
    /// A two-dimensional convolution's kernel, `(out, in / groups, kh, kw)`.
    Conv2d,
    /// A transposed convolution's kernel, `(in, out / groups, ...)`.
    ConvTranspose,
    /// An embedding's table, `(vocabulary, width)`.
    Embedding,
    /// A scale of a normalization layer.
    Normalization,
    /// A bias.
    Bias,
    /// A weight of a recurrent cell.
    Recurrent,
    /// Several projections in one parameter that is not a layer's `weight`, as `in_proj_weight`.
    PackedProjection,
    /// A weight with more or fewer axes than any known layer's, or a parameter without a layer.
    Parameter,
    /// State that is not trained: masks, positions, running statistics, counters.
    Buffer,
    /// A weight in a quantized format, or what belongs to one.
    Quantized,
}

impl Kind {
    /// The kind's name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::TransposedLinear => "transposed_linear",
            Self::Conv1d => "conv1d",
            Self::Conv2d => "conv2d",
            Self::ConvTranspose => "conv_transpose",
            Self::Embedding => "embedding",
            Self::Normalization => "normalization",
            Self::Bias => "bias",
            Self::Recurrent => "recurrent",
            Self::PackedProjection => "packed_projection",
            Self::Parameter => "parameter",
            Self::Buffer => "buffer",
            Self::Quantized => "quantized",
        }
    }

    /// How the weight's axes are read when it is factored, for kinds that can be.
    #[must_use]
    pub fn layout(self) -> Option<Layout> {
        match self {
            Self::Linear | Self::Recurrent | Self::PackedProjection | Self::Parameter => Some(Layout::Linear),
            Self::TransposedLinear => Some(Layout::TransposedLinear),
            Self::Embedding => Some(Layout::Embedding),
            Self::Conv1d => Some(Layout::Conv1d),
            Self::Conv2d => Some(Layout::Conv2d),
            _ => None,
        }
    }

    /// Whether a runtime can run the layer as a chain of ordinary layers.
    #[must_use]
    pub fn forms_chain(self) -> bool {
        matches!(self, Self::Linear | Self::TransposedLinear | Self::Conv1d | Self::Conv2d | Self::Embedding)
    }

    /// Whether the tensor is a parameter: trained, counted, and converted when a dtype is asked for.
    #[must_use]
    pub fn is_parameter(self) -> bool {
        !matches!(self, Self::Buffer)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a tensor is, from its name, shape and dtype alone; its neighbours may tell more.
pub(super) fn kind_of(name: &str, shape: &[usize], dtype: Dtype) -> Kind {
    let (module, leaf) = name.rsplit_once('.').unwrap_or(("", name));
    if is_buffer_name(leaf, module) || shape.is_empty() || dtype == Dtype::BOOL {
        return Kind::Buffer;
    }
    if is_quantization_name(leaf) {
        return Kind::Quantized;
    }
    if !is_floating(dtype) {
        let trained = matches!(leaf, "weight" | "bias") || is_recurrent(leaf) || leaf.starts_with("in_proj");
        return if trained { Kind::Quantized } else { Kind::Buffer };
    }
    if leaf == "bias"
        || leaf == "beta"
        || (leaf.starts_with("bias_") && shape.len() == 1)
        || leaf.ends_with("_bias")
    {
        return Kind::Bias;
    }
    if is_recurrent(leaf) {
        return Kind::Recurrent;
    }
    if matches!(leaf, "in_proj_weight" | "qkv_weight" | "kv_weight") {
        return Kind::PackedProjection;
    }
    if module.is_empty() && shape.len() > 1 {
        // A weight of no layer has no name that its factors could stand under.
        return Kind::Parameter;
    }
    match (leaf, shape.len()) {
        ("weight" | "gamma" | "scale", 1) => Kind::Normalization,
        // A scale of its own for each head.
        ("weight", _) if is_normalization(module) => Kind::Normalization,
        ("weight", 2) if is_embedding(module) => Kind::Embedding,
        ("weight", 2) => Kind::Linear,
        ("weight", 3 | 4) if is_transposed_convolution(module, &shape[2..]) => Kind::ConvTranspose,
        ("weight", 3) => Kind::Conv1d,
        ("weight", 4) => Kind::Conv2d,
        _ => Kind::Parameter,
    }
}

fn is_floating(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16)
}

fn is_recurrent(leaf: &str) -> bool {
    ["weight_ih", "weight_hh", "weight_hr"]
        .iter()
        .any(|start| leaf.strip_prefix(start).is_some_and(|rest| rest.is_empty() || rest.starts_with("_l")))
}

fn is_buffer_name(leaf: &str, module: &str) -> bool {
    let attention = module.rsplit('.').next().is_some_and(|last| matches!(last, "attn" | "attention"));
    matches!(
        leaf,
        "running_mean" | "running_var" | "num_batches_tracked" | "position_ids" | "token_type_ids"
            | "inv_freq" | "masked_bias" | "relative_position_index" | "attn_mask" | "causal_mask"
            | "relative_coords_table" | "cos_cached" | "sin_cached" | "mask"
    ) || leaf.ends_with("_buffer")
        // GPT-2 keeps its causal mask beside the attention's projections.
        || (leaf == "bias" && attention && !module.ends_with("self_attn") && module.contains("h."))
}

fn is_quantization_name(leaf: &str) -> bool {
    matches!(
        leaf,
        "qweight" | "qzeros" | "scales" | "g_idx" | "SCB" | "absmax" | "quant_map" | "nested_absmax"
    ) || leaf.starts_with("weight_scale")
        || leaf.starts_with("weight.")
        || leaf.starts_with("input_scale")
        || leaf.starts_with("weight_zero_point")
        || leaf.starts_with("weight_packed")
}

/// The module's own name: the last that is no number.
fn own_name(module: &str) -> String {
    module.rsplit('.').find(|part| part.parse::<usize>().is_err()).unwrap_or(module).to_lowercase()
}

fn is_normalization(module: &str) -> bool {
    own_name(module).trim_end_matches(|c: char| c.is_ascii_digit()).ends_with("norm")
}

fn is_transposed_convolution(module: &str, taps: &[usize]) -> bool {
    let last = own_name(module);
    // What DPT and BEiT enlarge pictures with; their other layers of these names have odd kernels.
    let enlarges =
        last == "resize" && module.contains("reassemble") || matches!(last.as_str(), "fpn1" | "fpn2");
    if enlarges && taps.iter().all(|tap| tap.is_multiple_of(2)) {
        return true;
    }
    ["deconv", "conv_transpose", "convtranspose", "transposed_conv", "upconv", "up_conv", "conv_t", "ups"]
        .iter()
        .any(|mark| last.contains(mark) && (*mark != "ups" || last == "ups"))
}

/// Whether the module's own name says that its weight is a lookup table.
fn is_embedding(module: &str) -> bool {
    let last = own_name(module);
    if matches!(last.as_str(), "wte" | "wpe" | "shared" | "embed_in" | "relative_attention_bias") {
        return true;
    }
    let mut words = last.split('_');
    let table = words.clone().any(|word| {
        matches!(word, "embed" | "embeds" | "embedding" | "embeddings" | "emb" | "embedder" | "codebook")
    });
    let layer = words.any(|word| {
        matches!(
            word,
            "proj"
                | "projection"
                | "project"
                | "projector"
                | "out"
                | "linear"
                | "dense"
                | "mapping"
                | "fc"
                | "conv"
                | "mlp"
                | "transform"
        )
    });
    table && !layer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_shapes_tell_the_kind() {
        let cases: &[(&str, &[usize], Kind)] = &[
            ("encoder.layer.0.attention.self.query.weight", &[8, 8], Kind::Linear),
            ("embeddings.word_embeddings.weight", &[100, 8], Kind::Embedding),
            ("embeddings.LayerNorm.weight", &[8], Kind::Normalization),
            ("model.embed_tokens.weight", &[100, 8], Kind::Embedding),
            ("encoder.embedding_hidden_mapping_in.weight", &[8, 4], Kind::Linear),
            ("embed_out.weight", &[100, 8], Kind::Linear),
            ("vit.embeddings.patch_embeddings.projection.weight", &[8, 3, 4, 4], Kind::Conv2d),
            ("vit.embeddings.position_embeddings", &[1, 5, 8], Kind::Parameter),
            ("h.0.attn.bias", &[1, 1, 4, 4], Kind::Buffer),
            ("transformer.h.0.attn.c_attn.bias", &[24], Kind::Bias),
            ("lstm.weight_ih_l0_reverse", &[32, 8], Kind::Recurrent),
            ("lstm_cell.weight_hh", &[32, 8], Kind::Recurrent),
            ("attn.in_proj_weight", &[24, 8], Kind::PackedProjection),
            ("attn.in_proj_bias", &[24], Kind::Bias),
            ("bn1.running_mean", &[8], Kind::Buffer),
            ("conv1.weight", &[8, 4, 3], Kind::Conv1d),
            ("decoder.ups.0.weight", &[8, 4, 3], Kind::ConvTranspose),
            ("bert.embeddings.LayerNorm.gamma", &[8], Kind::Normalization),
            ("wpe.weight", &[16, 8], Kind::Embedding),
            ("weight", &[16, 8], Kind::Parameter),
            ("model.layers.0.self_attn.q_norm.weight", &[24, 32], Kind::Normalization),
            ("blocks.0.norm1.weight", &[8, 1, 1], Kind::Normalization),
            ("transformer_blocks.0.norm1.linear.weight", &[48, 8], Kind::Linear),
            ("neck.reassemble_stage.layers.0.resize.weight", &[8, 8, 4, 4], Kind::ConvTranspose),
            ("neck.reassemble_stage.layers.3.resize.weight", &[8, 8, 3, 3], Kind::Conv2d),
            ("backbone.fpn1.0.weight", &[8, 8, 2, 2], Kind::ConvTranspose),
            ("encoder.block.0.attention.self.sr.weight", &[8, 8, 4, 4], Kind::Conv2d),
        ];
        for (name, shape, kind) in cases {
            assert_eq!(kind_of(name, shape, Dtype::F32), *kind, "{name} {shape:?}");
        }
        assert_eq!(kind_of("fc.weight", &[8, 8], Dtype::I8), Kind::Quantized);
        assert_eq!(kind_of("fc.weight", &[8, 8], Dtype::F8_E4M3), Kind::Quantized);
        assert_eq!(kind_of("counter", &[8], Dtype::I64), Kind::Buffer);
        assert_eq!(kind_of("fc.weight_scale", &[8], Dtype::F32), Kind::Quantized);
        assert_eq!(kind_of("temperature", &[], Dtype::F32), Kind::Buffer);
    }
}
