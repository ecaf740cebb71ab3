use serde_json::Value;

/// What config.json says about a checkpoint's tensors.
#[derive(Clone, Debug, Default)]
pub(super) struct Architecture {
    pub(super) model_type: Option<String>,
    /// Linear layers named `c_*` are stored `(in, out)`.
    pub(super) transposed_linear: bool,
    pub(super) vocabulary: Option<usize>,
    pub(super) labels: Option<usize>,
    pub(super) tied_embeddings: bool,
    config: Value,
}

impl Architecture {
    pub(super) fn from_config(config: Option<&Value>) -> Self {
        let Some(config) = config else { return Self::default() };
        // Models of several parts keep the language model's facts in a part of their own.
        let parts = ["text_config", "decoder", "encoder", "text_encoder", "generator"];
        let number = |key: &str| {
            std::iter::once(config)
                .chain(parts.iter().filter_map(|part| config.get(part)))
                .find_map(|part| part.get(key)?.as_u64())
                .map(|n| n as usize)
        };
        let model_type = config.get("model_type").and_then(Value::as_str).map(str::to_owned);
        let labels = number("num_labels")
            .or_else(|| Some(config.get("id2label")?.as_object()?.len()))
            .filter(|&n| n > 0);
        Self {
            transposed_linear: matches!(
                model_type.as_deref(),
                Some(
                    "gpt2"
                        | "openai-gpt"
                        | "imagegpt"
                        | "decision_transformer"
                        | "gpt-sw3"
                        | "clvp"
                        | "tapex-gpt2"
                )
            ),
            vocabulary: number("vocab_size"),
            labels,
            // Models with a language modelling head tie it to the embedding unless their config says otherwise.
            tied_embeddings: config.get("tie_word_embeddings").and_then(Value::as_bool).unwrap_or_else(
                || {
                    let heads = [
                        "LMHead",
                        "ForCausalLM",
                        "ForMaskedLM",
                        "ForPreTraining",
                        "ForConditionalGeneration",
                    ];
                    let classes = config.get("architectures").and_then(Value::as_array).into_iter().flatten();
                    classes
                        .filter_map(Value::as_str)
                        .any(|class| heads.iter().any(|head| class.contains(head)))
                },
            ),
            model_type,
            config: config.clone(),
        }
    }

    /// The groups of a convolution, where config.json says so.
    pub(super) fn groups(&self, layer: &str, shape: &[usize]) -> Option<usize> {
        let (&out, &inner) = (shape.first()?, shape.get(1)?);
        let number = |key: &str| self.config.get(key).and_then(Value::as_u64).map(|n| n as usize);
        let divides = |&groups: &usize| groups > 0 && out.is_multiple_of(groups);
        if let Some(width) = number("groups_width").filter(|&width| width > 0) {
            // RegNet: every 3 x 3 convolution of a block has groups of this width.
            return (inner == width).then(|| out / width).filter(divides);
        }
        if layer.contains("pos_conv_embed") {
            return number("num_conv_pos_embedding_groups").filter(divides);
        }
        if self.model_type.as_deref() == Some("squeezebert") {
            let key = match layer.rsplit('.').next()? {
                "query" => "q_groups",
                "key" => "k_groups",
                "value" => "v_groups",
                _ if layer.contains("post_attention") || layer.contains("attention.output") => {
                    "post_attention_groups"
                }
                _ if layer.contains("intermediate") => "intermediate_groups",
                _ => "output_groups",
            };
            return number(key).filter(divides);
        }
        if let Some(groups) = number("cardinality").filter(|&groups| groups > 1) {
            // ResNeXt: the 3 x 3 convolution in the middle of a block.
            let middle = layer.ends_with("conv2") && shape.get(2).is_some_and(|&k| k > 1);
            return middle.then_some(groups).filter(divides);
        }
        None
    }
}
