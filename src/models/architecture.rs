use super::text::ConfigError;
use super::vit::{self, VitConfig};
use crate::layers::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;
use std::str::FromStr;

/// Blocks of a stage that are counted at most.
const MOST_BLOCKS: usize = 1024;
/// The greatest depth of those networks that come in any, that of the published ResNet-1202.
const MOST_DEPTH: usize = 1202;
/// The greatest factor of all channels; published networks have 10 or 12.
const MOST_WIDTH: usize = 64;

/// What kind of network it is, and how large.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Family {
    /// A residual network for small pictures: three stages of 16, 32 and 64 channels times `width`, shortcuts without parameters.
    SmallResNet {
        /// Layers with weights: `6 n + 2`.
        depth: usize,
        /// What all channels are multiplied by.
        width: usize,
    },
    /// A wide residual network: normalization before convolutions, shortcuts that project.
    WideResNet {
        /// Layers with weights: `6 n + 4`.
        depth: usize,
        /// What all channels are multiplied by.
        width: usize,
    },
    /// Plain convolutions with batch normalization, five times halved, one linear layer.
    Vgg {
        /// Layers with weights, three of which are counted for the linear layers of the original.
        depth: usize,
    },
    /// A residual network for large pictures: a 7 x 7 convolution, four stages.
    ResNet {
        /// Layers with weights: 18, 34 or 50.
        depth: usize,
    },
    /// A transformer over a picture's patches.
    Vit(VitConfig),
}

/// A network's kind, and what goes in and out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Architecture {
    /// Kind and size.
    pub family: Family,
    /// Classes that it tells apart.
    pub classes: usize,
    /// Channels of the pictures.
    pub channels: usize,
}

/// Why an architecture is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArchitectureError {
    /// A name that is none.
    #[error("`{name}` is no architecture, known are {}", Architecture::KNOWN)]
    Unknown {
        /// The name.
        name: String,
    },
    /// A checkpoint whose names and shapes are no known architecture's.
    #[error("the architecture cannot be told from the checkpoint's names: {reason}")]
    Undetected {
        /// What was looked for.
        reason: String,
    },
}

impl ArchitectureError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let known = Architecture::KNOWN;
        match self {
            Self::Unknown { .. } => None,
            Self::Undetected { .. } => {
                Some(format!("name it with --arch, a teacher's with --teacher-arch: {known}"))
            }
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.family {
            Family::SmallResNet { depth, width: 1 } | Family::ResNet { depth } => write!(f, "resnet{depth}"),
            Family::SmallResNet { depth, width } => write!(f, "resnet{depth}x{width}"),
            Family::WideResNet { depth, width } => write!(f, "wrn-{depth}-{width}"),
            Family::Vgg { depth } => write!(f, "vgg{depth}"),
            Family::Vit(config) => write!(f, "{config}"),
        }
    }
}

impl From<Architecture> for String {
    fn from(architecture: Architecture) -> Self {
        architecture.to_string()
    }
}

impl TryFrom<String> for Architecture {
    type Error = ArchitectureError;

    fn try_from(name: String) -> Result<Self, ArchitectureError> {
        name.parse()
    }
}

impl FromStr for Architecture {
    type Err = ArchitectureError;

    /// A name, for ten classes and three channels until [`Architecture::with_classes`] says otherwise.
    fn from_str(name: &str) -> Result<Self, ArchitectureError> {
        let family = parse(&name.to_ascii_lowercase());
        let family = family.ok_or_else(|| ArchitectureError::Unknown { name: name.to_owned() })?;
        Ok(Self { family, classes: 10, channels: 3 })
    }
}

fn parse(name: &str) -> Option<Family> {
    if let Some(sizes) = name.strip_prefix("wrn-") {
        let (depth, width) = sizes.split_once('-')?;
        let (depth, width) = (depth.parse().ok()?, width.parse().ok()?);
        let fits = (10..=MOST_DEPTH).contains(&depth) && (depth - 4) % 6 == 0;
        return (fits && (1..=MOST_WIDTH).contains(&width)).then_some(Family::WideResNet { depth, width });
    }
    if let Some(sizes) = name.strip_prefix("vit-") {
        return VitConfig::parse(sizes).map(Family::Vit);
    }
    if let Some(depth) = name.strip_prefix("vgg") {
        let depth = depth.parse().ok()?;
        return matches!(depth, 11 | 13 | 16 | 19).then_some(Family::Vgg { depth });
    }
    let sizes = name.strip_prefix("resnet")?;
    let (depth, width) = sizes.split_once('x').unwrap_or((sizes, "1"));
    let (depth, width) = (depth.parse().ok()?, width.parse().ok()?);
    match (depth, width) {
        (18 | 34 | 50, 1) => Some(Family::ResNet { depth }),
        (8..=MOST_DEPTH, 1..=MOST_WIDTH) if (depth - 2) % 6 == 0 => {
            Some(Family::SmallResNet { depth, width })
        }
        _ => None,
    }
}

impl Architecture {
    /// The names that there are, for people.
    pub const KNOWN: &str = "resnet20 to resnet110 and resnet32x2 (6 n + 2 layers), wrn-28-10 (6 n + 4), vgg11, vgg13, vgg16, vgg19, resnet18, resnet34, resnet50, vit-tiny to vit-large and vit-d192-l12-h3-i768-p16-s224 (width, layers, heads, inner width, patch, picture)";

    /// The same network for this many classes.
    #[must_use]
    pub fn with_classes(self, classes: usize) -> Self {
        Self { classes, ..self }
    }

    /// The same network for pictures of this many channels.
    #[must_use]
    pub fn with_channels(self, channels: usize) -> Self {
        Self { channels, ..self }
    }

    /// Tells the architecture from a checkpoint's `config.json` where that describes a network for pictures, its classes and
    /// channels from the tensors.
    ///
    /// # Errors
    ///
    /// - a configuration of such a network that cannot be used
    pub fn from_config(config: &Value, state: &State) -> Result<Option<Self>, ConfigError> {
        if config.get("model_type").and_then(Value::as_str) != Some("vit") {
            return Ok(None);
        }
        let family = Family::Vit(VitConfig::from_json(config)?);
        Ok(Some(Self { family, classes: 10, channels: 3 }.fitted_to(state)))
    }

    /// The same network for the classes and channels that a checkpoint's tensors show, where they do.
    #[must_use]
    pub fn fitted_to(self, state: &State) -> Self {
        let told = Self::detect(state).map(|told| (told.classes, told.channels)).ok();
        let shown = || match self.family {
            Family::Vit(_) => vit::ends(&|layer| dense_shape(state, layer)),
            _ => None,
        };
        match told.or_else(shown) {
            Some((classes, channels)) => Self { classes, channels, ..self },
            None => self,
        }
    }

    /// Tells the architecture from a checkpoint's names and shapes, dense or factored.
    ///
    /// # Errors
    ///
    /// - names that are no known architecture's
    pub fn detect(state: &State) -> Result<Self, ArchitectureError> {
        let shape = |layer: &str| dense_shape(state, layer);
        let has = |layer: &str| shape(layer).is_some();
        let count =
            |name: &dyn Fn(usize) -> String| (0..MOST_BLOCKS).take_while(|&index| has(&name(index))).count();
        let undetected = |reason: &str| ArchitectureError::Undetected { reason: reason.to_owned() };
        if let Some(found) = vit::detect(state, &shape, &count) {
            return found;
        }
        let head = ["linear", "fc", "classifier"].into_iter().find_map(shape);
        let Some(classes) = head.and_then(|shape| shape.first().copied()) else {
            return Err(undetected("there is no `linear`, `fc` or `classifier` at the end"));
        };
        let first = shape("conv1").or_else(|| shape("features.0"));
        let Some(&[out, channels, side, _]) = first.as_deref() else {
            return Err(undetected("there is no first convolution `conv1` or `features.0`"));
        };
        let family = if has("features.0") {
            // Every convolution has a kernel of four axes; what lies between are normalizations.
            let convolutions =
                (0..64).filter(|i| shape(&format!("features.{i}")).is_some_and(|s| s.len() == 4)).count();
            Family::Vgg { depth: convolutions + 3 }
        } else if has("block1.layer.0.conv1") {
            let blocks = count(&|index| format!("block1.layer.{index}.conv1"));
            let width = shape("block1.layer.0.conv1").and_then(|s| s.first().copied()).unwrap_or(0) / 16;
            Family::WideResNet { depth: 6 * blocks + 4, width }
        } else if side == 7 && has("layer4.0.conv1") {
            let blocks: usize =
                (1..=4).map(|stage| count(&|index| format!("layer{stage}.{index}.conv1"))).sum();
            let layers = if has("layer1.0.conv3") { 3 } else { 2 };
            Family::ResNet { depth: layers * blocks + 2 }
        } else if has("layer3.0.conv1") && !has("layer4.0.conv1") {
            let blocks = count(&|index| format!("layer1.{index}.conv1"));
            Family::SmallResNet { depth: 6 * blocks + 2, width: out / 16 }
        } else {
            return Err(undetected("neither `layer3.0.conv1`, `block1.layer.0.conv1` nor `features.0` fits"));
        };
        let found = Self { family, classes, channels };
        // What was counted must be a size that exists.
        if parse(&found.to_string()) == Some(family) {
            Ok(found)
        } else {
            Err(undetected("its blocks are not those of any known size"))
        }
    }
}

/// The shape of a layer's weight; a factored layer has its dense shape in the record.
fn dense_shape(state: &State, layer: &str) -> Option<Vec<usize>> {
    let recorded = state.modules.get(layer).map(|module| module.shape.clone());
    recorded.or_else(|| Some(state.tensors.get(&format!("{layer}.weight"))?.shape().to_vec()))
}
