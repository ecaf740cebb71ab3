use super::training::Keep;
use super::{Blueprint, DeviceName, FinetuneOptions, Initialization, RunOptions, TrainOptions};
use crate::data::Material;
use crate::models::Architecture;
use crate::plan::{Recipe, Save, toml_place};
use crate::train::TrainingOptions;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The options of a run as a TOML file: what a script writes, and what every run leaves in its folder.
///
/// # Examples
///
/// ```
/// use fnl::commands::RunFile;
/// use fnl::train::TrainingOptions;
///
/// let text = r#"
/// checkpoint = "resnet20.safetensors"
/// data = "cifar10:cifar-10-batches-bin"
///
/// [training]
/// epochs = 3
///
/// [[recipe.rule]]
/// keep = 0.5
/// "#;
/// let file = RunFile::parse(text, &TrainingOptions::fine_tuning())?;
/// assert_eq!(file.training.unwrap().epochs, 3);
/// assert!(RunFile::parse("epoch = 3", &TrainingOptions::default()).is_err());
/// # Ok::<(), fnl::commands::RunFileError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RunFile {
    /// The checkpoint to fine-tune.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
    /// The architecture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arch: Option<Architecture>,
    /// The config.json of a network for text from scratch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<PathBuf>,
    /// Its tokenizer.json.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<PathBuf>,
    /// Tokens of its tokenizer, where that is learned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vocabulary: Option<usize>,
    /// How factors of a network from scratch start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<Initialization>,
    /// The data, as they are typed: `cifar10:DIR`.
    #[serde(with = "typed", skip_serializing_if = "Option::is_none")]
    pub data: Option<Material>,
    /// Where texts are measured, where it is not the data's own test split.
    #[serde(with = "typed", skip_serializing_if = "Option::is_none")]
    pub test_data: Option<Material>,
    /// The run's folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out: Option<PathBuf>,
    /// A dense network whose logits are learned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher: Option<String>,
    /// The teacher's architecture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher_arch: Option<Architecture>,
    /// Whether the factors are saved or multiplied out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub save: Option<Save>,
    /// Which network is the result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<Keep>,
    /// Where it is computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceName>,
    /// Threads that read and augment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<usize>,
    /// Steps between two saved states.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub save_every: Option<u64>,
    /// What the dense network is run over before its layers are factored.
    #[serde(with = "typed", skip_serializing_if = "Option::is_none")]
    pub calibrate: Option<Material>,
    /// What it did with data, in a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statistics: Option<PathBuf>,
    /// Whether batch normalization is recalibrated before the first epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recalibrate: Option<bool>,
    /// The accuracy that the result must have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_accuracy: Option<f64>,
    /// The correlation that the result must have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_spearman: Option<f64>,
    /// The BLEU that the result must have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_bleu: Option<f64>,
    /// The perplexity that the result must not exceed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_perplexity: Option<f64>,
    /// How it is trained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub training: Option<TrainingOptions>,
    /// Which layers are factored, and their ranks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipe: Option<Recipe>,
}

/// What is wrong with the options of a run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunFileError {
    /// It is not TOML, or a key is unknown or of the wrong type.
    #[error("line {line}, column {column}: {message}")]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What is wrong there.
        message: String,
    },
    /// It cannot be completed by what is usual.
    #[error("{}", .0.message().trim_end())]
    Defaults(#[source] toml::de::Error),
    /// The recipe contradicts itself.
    #[error(transparent)]
    Recipe(#[from] crate::plan::RecipeError),
    /// TOML cannot hold them.
    #[error("the options cannot be written as TOML: {}", .0.to_string().trim_end())]
    Unwritable(#[from] toml::ser::Error),
}

impl RunFile {
    /// Reads options; what `training` does not say is as in `defaults`.
    ///
    /// # Errors
    ///
    /// - keys that are unknown, and values of another type
    pub fn parse(text: &str, defaults: &TrainingOptions) -> Result<Self, RunFileError> {
        // First as it is: this knows the line of what is wrong.
        toml::from_str::<Self>(text).map_err(|error| {
            let (line, column) = toml_place(text, &error);
            RunFileError::Syntax { line, column, message: error.message().trim_end().to_owned() }
        })?;
        let mut table: toml::Table = text.parse().map_err(RunFileError::Defaults)?;
        if let Some(toml::Value::Table(given)) = table.get_mut("training") {
            let mut all = toml::Table::try_from(defaults).unwrap_or_default();
            all.extend(std::mem::take(given));
            *given = all;
        }
        let file: Self = table.try_into().map_err(RunFileError::Defaults)?;
        if let Some(recipe) = &file.recipe {
            recipe.check()?;
        }
        Ok(file)
    }

    /// The options as TOML.
    ///
    /// # Errors
    ///
    /// - numbers beyond TOML's, whose largest is 2^63 - 1
    pub fn to_toml(&self) -> Result<String, RunFileError> {
        Ok(toml::to_string_pretty(self)?)
    }
}

/// Data as they are typed.
mod typed {
    use super::Material;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    #[expect(clippy::ref_option, reason = "the form that serde calls")]
    pub(super) fn serialize<S: Serializer>(
        data: &Option<Material>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match data {
            Some(data) => serializer.collect_str(data),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Material>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
    }
}

impl From<&RunOptions> for RunFile {
    fn from(run: &RunOptions) -> Self {
        Self {
            data: Some(run.data.clone()),
            test_data: run.test_data.clone(),
            out: Some(run.output.clone()),
            teacher: run.teacher.as_ref().map(ToString::to_string),
            teacher_arch: run.teacher_architecture,
            save: Some(run.save),
            result: Some(run.keep),
            device: Some(run.device),
            workers: run.workers,
            save_every: run.save_every,
            recalibrate: Some(run.recalibrate),
            min_accuracy: run.min_accuracy,
            min_spearman: run.min_spearman,
            min_bleu: run.min_bleu,
            max_perplexity: run.max_perplexity,
            training: Some(run.training.clone()),
            ..Self::default()
        }
    }
}

impl From<&FinetuneOptions> for RunFile {
    fn from(options: &FinetuneOptions) -> Self {
        Self {
            checkpoint: Some(options.source.to_string()),
            arch: options.architecture,
            recipe: options.recipe.clone(),
            calibrate: options.calibration.data.clone(),
            statistics: options.calibration.statistics.clone(),
            ..Self::from(&options.run)
        }
    }
}

impl From<&TrainOptions> for RunFile {
    fn from(options: &TrainOptions) -> Self {
        let text = match &options.model {
            Blueprint::Text(text) => Some(text),
            Blueprint::Pictures(_) => None,
        };
        Self {
            arch: match &options.model {
                Blueprint::Pictures(architecture) => Some(*architecture),
                Blueprint::Text(_) => None,
            },
            config: text.and_then(|text| text.config.clone()),
            tokenizer: text.and_then(|text| text.tokenizer.clone()),
            vocabulary: text.and_then(|text| text.vocabulary),
            init: Some(options.initialization),
            recipe: options.recipe.clone(),
            ..Self::from(&options.run)
        }
    }
}
