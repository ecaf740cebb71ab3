use crate::layers::operations::Activation;
use crate::models::text::{ConfigError, divided, keys};
use serde::Deserialize;
use serde_json::{Value, json};
use std::fmt;

/// The sizes of a transformer for pictures; its name tells all of them.
///
/// # Examples
///
/// ```
/// use fnl::models::{Architecture, VitConfig};
///
/// let architecture: Architecture = "vit-tiny".parse()?;
/// assert_eq!(architecture.to_string(), "vit-d192-l12-h3-i768-p16-s224");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VitConfig {
    /// Elements of a token.
    pub width: usize,
    /// Layers.
    pub layers: usize,
    /// Heads of attention.
    pub heads: usize,
    /// Elements between the two feed-forward layers.
    pub inner: usize,
    /// Height and width of a patch.
    pub patch: usize,
    /// Height and width of a picture.
    pub image: usize,
    /// What is between the feed-forward layers.
    pub activation: Activation,
    /// Whether queries, keys and values have biases.
    pub biases: bool,
    /// Of normalizations.
    pub epsilon: f64,
}

#[derive(Deserialize)]
struct Keys {
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    image_size: usize,
    patch_size: usize,
    #[serde(default = "gelu")]
    hidden_act: Activation,
    #[serde(default = "yes")]
    qkv_bias: bool,
    #[serde(default = "epsilon")]
    layer_norm_eps: f64,
}

fn gelu() -> Activation {
    Activation::Gelu
}

fn yes() -> bool {
    true
}

fn epsilon() -> f64 {
    1e-12
}

/// Activations that a name can tell, beside the usual one.
const ACTIVATIONS: [(Activation, &str); 4] = [
    (Activation::Relu, "relu"),
    (Activation::GeluNew, "gelu_new"),
    (Activation::Silu, "silu"),
    (Activation::Tanh, "tanh"),
];

impl VitConfig {
    /// A network of these sizes: width, layers, heads, inner width, patch and picture.
    #[must_use]
    pub fn new([width, layers, heads, inner, patch, image]: [usize; 6]) -> Self {
        let (activation, epsilon) = (gelu(), epsilon());
        Self { width, layers, heads, inner, patch, image, activation, biases: true, epsilon }
    }

    /// Reads a configuration of model type `vit`.
    ///
    /// # Errors
    ///
    /// - another model type, keys that are missing, sizes that no network can have
    pub fn from_json(config: &Value) -> Result<Self, ConfigError> {
        match config.get("model_type").and_then(Value::as_str) {
            Some("vit") => {}
            other => return Err(ConfigError::Unknown(other.unwrap_or("none").to_owned())),
        }
        let read: Keys = keys(config)?;
        divided(read.hidden_size, read.num_attention_heads)?;
        let (image, patch) = (read.image_size, read.patch_size);
        if patch == 0 || patch > image {
            return Err(ConfigError::Key(format!("pictures of {image} pixels have no patches of {patch}")));
        }
        let (layers, heads) = (read.num_hidden_layers, read.num_attention_heads);
        let sizes = [read.hidden_size, layers, heads, read.intermediate_size, patch, image];
        let (activation, biases, epsilon) = (read.hidden_act, read.qkv_bias, read.layer_norm_eps);
        Ok(Self { activation, biases, epsilon, ..Self::new(sizes) })
    }

    /// The configuration that [`VitConfig::from_json`] reads, and Hugging Face's library, for pictures of so many channels and
    /// classes of these names.
    #[must_use]
    pub fn to_json(&self, channels: usize, classes: &[String]) -> Value {
        let numbered: serde_json::Map<String, Value> =
            classes.iter().enumerate().map(|(index, name)| (index.to_string(), json!(name))).collect();
        let named: serde_json::Map<String, Value> =
            classes.iter().enumerate().map(|(index, name)| (name.clone(), json!(index))).collect();
        json!({
            "architectures": ["ViTForImageClassification"],
            "model_type": "vit",
            "hidden_size": self.width,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "intermediate_size": self.inner,
            "image_size": self.image,
            "patch_size": self.patch,
            "num_channels": channels,
            "hidden_act": self.activation,
            "qkv_bias": self.biases,
            "layer_norm_eps": self.epsilon,
            "id2label": numbered,
            "label2id": named,
        })
    }

    /// Patches of a picture.
    #[must_use]
    pub fn patches(&self) -> usize {
        (self.image / self.patch).pow(2)
    }

    /// Reads a name without its `vit-`.
    pub(in crate::models) fn parse(name: &str) -> Option<Self> {
        let known = [
            ("tiny", [192, 12, 3, 768, 16, 224]),
            ("small", [384, 12, 6, 1536, 16, 224]),
            ("base", [768, 12, 12, 3072, 16, 224]),
            ("large", [1024, 24, 16, 4096, 16, 224]),
        ];
        if let Some((_, sizes)) = known.iter().find(|(known, _)| *known == name) {
            return Some(Self::new(*sizes));
        }
        let (name, epsilon) = match name.split_once("-eps") {
            Some((name, epsilon)) => (name, epsilon.parse().ok()?),
            None => (name, epsilon()),
        };
        let mut parts = name.split('-');
        let mut sizes = [0; 6];
        for (size, mark) in sizes.iter_mut().zip(MARKS) {
            *size = parts.next()?.strip_prefix(mark)?.parse().ok()?;
        }
        let mut config = Self { epsilon, ..Self::new(sizes) };
        for part in parts {
            match ACTIVATIONS.iter().find(|(_, name)| *name == part) {
                Some(&(activation, _)) => config.activation = activation,
                None if part == "nobias" => config.biases = false,
                None => return None,
            }
        }
        let [width, layers, heads, inner, patch, image] = sizes;
        let heads_fit = heads > 0 && width > 0 && width.is_multiple_of(heads);
        let fits =
            heads_fit && layers <= MOST && inner > 0 && (1..=image).contains(&patch) && image <= MOST * 16;
        (fits && width.max(inner) <= MOST * 64 && epsilon > 0.0).then_some(config)
    }
}

/// What stands before each size in a name: width, layers, heads, inner width, patch, picture.
const MARKS: [char; 6] = ['d', 'l', 'h', 'i', 'p', 's'];
/// Layers at most.
const MOST: usize = 1024;

impl fmt::Display for VitConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { width, layers, heads, inner, patch, image, .. } = *self;
        write!(f, "vit")?;
        for (mark, size) in MARKS.iter().zip([width, layers, heads, inner, patch, image]) {
            write!(f, "-{mark}{size}")?;
        }
        if let Some((_, name)) = ACTIVATIONS.iter().find(|(activation, _)| *activation == self.activation) {
            write!(f, "-{name}")?;
        }
        if !self.biases {
            write!(f, "-nobias")?;
        }
        if self.epsilon != epsilon() {
            write!(f, "-eps{:e}", self.epsilon)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_everything() {
        let exotic = VitConfig {
            activation: Activation::GeluNew,
            biases: false,
            epsilon: 1e-6,
            ..VitConfig::new([32, 2, 4, 64, 8, 36])
        };
        assert_eq!(exotic.to_string(), "vit-d32-l2-h4-i64-p8-s36-gelu_new-nobias-eps1e-6");
        for config in [exotic, VitConfig::new([768, 12, 12, 3072, 16, 224])] {
            assert_eq!(VitConfig::parse(&config.to_string()["vit-".len()..]), Some(config));
            assert_eq!(VitConfig::from_json(&config.to_json(3, &["cat".to_owned()])), Ok(config));
        }
        for name in [
            "huge",
            "d32-l2-h5-i64-p8-s32",
            "d32-l2-h4-i64-p8",
            "d32-l2-h4-i64-p64-s32",
            "d32-l2-h4-i64-p8-s32-x",
        ] {
            assert_eq!(VitConfig::parse(name), None, "{name}");
        }
    }
}
