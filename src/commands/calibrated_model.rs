//! A network of either kind and the samples that it is calibrated on.

use super::text_networks::translation_config;
use super::text_samples::translation_pairs;
use super::{CommandError, networks};
use crate::calibrate::{CalibrationRun, Statistics, calibrate_images, calibrate_text, calibrate_translation};
use crate::checkpoint::Checkpoint;
use crate::data::{
    DataSource, Loader, LoaderOptions, Material, ParallelSource, Split, TextSource, TextTokenizer, WINDOW,
    fingerprint_of, sample, sample_of, windows,
};
use crate::layers::{Execution, LayerEntry, State};
use crate::models::{Architecture, Network, TextConfig, TextNetwork, TranslationConfig, TranslationNetwork};
use crate::plan::CalibrationRule;
use crate::train::TranslationPairs;
use candle_core::Device;

/// Pictures that are run at once, and pixels of all of them at most: what is kept for gradients grows with both.
const BATCH: usize = 64;
const PIXELS: usize = 1 << 18;

/// A network, and what it is run over; nothing where only statistics are read.
pub(super) enum CalibratedModel {
    Text { network: Box<TextNetwork>, samples: Option<(Vec<Vec<u32>>, String)> },
    Translation { network: Box<TranslationNetwork>, samples: Option<(TranslationPairs, String)> },
    Images { network: Box<Network>, samples: Option<(Loader, usize, String)> },
}

impl CalibratedModel {
    /// Refuses a checkpoint whose header already says that it is not run over such data.
    pub(super) fn check(checkpoint: &Checkpoint, data: Option<&Material>) -> Result<(), CommandError> {
        let texts = matches!(data, Some(Material::Text(_) | Material::Parallel(_)));
        if texts && checkpoint.config().is_none() {
            let problem = "calibration on texts needs a checkpoint's folder, with config.json".to_owned();
            return Err(CommandError::Unfit { problems: vec![problem] });
        }
        Ok(())
    }

    /// The network that a checkpoint holds, and the samples that the rule draws from the data: a network for text where the
    /// data are texts, or where there are none and the checkpoint has a config.json.
    pub(super) fn open(
        checkpoint: &Checkpoint,
        state: &State,
        data: Option<&Material>,
        architecture: Option<Architecture>,
        rule: &CalibrationRule,
    ) -> Result<Self, CommandError> {
        let (mut texts, mut pairs, mut pictures) = (None, None, None);
        match data {
            Some(Material::Text(source)) => texts = Some(source),
            Some(Material::Images(source)) => pictures = Some(source),
            Some(Material::Parallel(source)) => pairs = Some(source),
            None => {}
        }
        let translates = |config: &serde_json::Value| TranslationConfig::from_json(config).is_ok();
        if pairs.is_some() || (data.is_none() && checkpoint.config().is_some_and(translates)) {
            let (_, config) = translation_config(checkpoint)?;
            let network = TranslationNetwork::new(&config, state, &Device::Cpu)?;
            let samples = match pairs {
                Some(source) => Some(drawn_pairs(checkpoint, source, &config, rule)?),
                None => None,
            };
            return Ok(Self::Translation { network: Box::new(network), samples });
        }
        let of_text = |config: &&serde_json::Value| texts.is_some() || TextConfig::from_json(config).is_ok();
        if let (None, Some(config)) = (pictures, checkpoint.config().filter(of_text)) {
            let network = TextNetwork::new(&TextConfig::from_json(config)?, state, &Device::Cpu)?;
            let samples = match texts {
                Some(source) => {
                    let drawn = sequences(checkpoint, source, &network, rule)?;
                    let fingerprint = fingerprint_of(&drawn);
                    Some((drawn, fingerprint))
                }
                None => None,
            };
            return Ok(Self::Text { network: Box::new(network), samples });
        }
        let architecture =
            networks::architecture_of(checkpoint, state, architecture).map_err(|error| match error {
                CommandError::Architecture(error) => CommandError::NotCalibrated(error),
                other => other,
            })?;
        let network = networks::network(state, Some(architecture), Execution::Auto, &Device::Cpu)?;
        let samples = match pictures {
            Some(source) => Some(images(source, &architecture, rule)?),
            None => None,
        };
        Ok(Self::Images { network: Box::new(network), samples })
    }

    /// What tells the samples from others.
    pub(super) fn data(&self) -> Option<&str> {
        match self {
            Self::Text { samples, .. } => samples.as_ref().map(|(_, data)| data.as_str()),
            Self::Translation { samples, .. } => samples.as_ref().map(|(_, data)| data.as_str()),
            Self::Images { samples, .. } => samples.as_ref().map(|(.., data)| data.as_str()),
        }
    }

    /// What is counted of the samples, and how many there are.
    pub(super) fn samples(&self) -> Option<(&'static str, usize)> {
        match self {
            Self::Text { samples, .. } => {
                let (sequences, _) = samples.as_ref()?;
                Some(("tokens", sequences.iter().map(Vec::len).sum()))
            }
            Self::Translation { samples, .. } => {
                let (pairs, _) = samples.as_ref()?;
                let sides = pairs.sources.iter().chain(&pairs.targets).map(Vec::len).sum::<usize>();
                // Each target begins with a token of its own.
                Some(("tokens", sides + pairs.targets.len()))
            }
            Self::Images { samples, .. } => samples.as_ref().map(|(_, count, _)| ("images", *count)),
        }
    }

    /// The network's layers, in the order in which it was built.
    pub(super) fn layers(&self) -> &[LayerEntry] {
        match self {
            Self::Text { network, .. } => network.layers(),
            Self::Translation { network, .. } => network.layers(),
            Self::Images { network, .. } => network.layers(),
        }
    }

    /// Runs the network over the samples.
    pub(super) fn run(&self, run: &CalibrationRun<'_>) -> Result<Statistics, CommandError> {
        match self {
            Self::Text { network, samples: Some((sequences, _)) } => {
                Ok(calibrate_text(network, sequences, run)?)
            }
            Self::Translation { network, samples: Some((pairs, _)) } => {
                Ok(calibrate_translation(network, &pairs.sources, &pairs.targets, run)?)
            }
            Self::Images { network, samples: Some((loader, count, _)) } => {
                Ok(calibrate_images(network, loader, *count, run)?)
            }
            _ => Err(CommandError::Usage("there is nothing to calibrate on".to_owned())),
        }
    }
}

/// Samples of the texts, as the model reads them: each by itself, or a whole text in windows.
fn sequences(
    checkpoint: &Checkpoint,
    data: &TextSource,
    network: &TextNetwork,
    rule: &CalibrationRule,
) -> Result<Vec<Vec<u32>>, CommandError> {
    let longest = network.config().longest();
    let tokenizer = TextTokenizer::open(checkpoint.root(), longest)?;
    let sequences = if network.is_causal() {
        windows(&tokenizer.encode_all(&data.whole()?)?, WINDOW.min(longest))
    } else {
        tokenizer.encode(&data.texts()?)?
    };
    let vocabulary = network.config().vocabulary();
    if let Some(&beyond) = sequences.iter().flatten().find(|&&token| token as usize >= vocabulary) {
        let problem = format!("the tokenizer gives token {beyond}, and the model knows {vocabulary}");
        return Err(CommandError::Unfit { problems: vec![problem] });
    }
    Ok(sample(sequences, rule.samples, rule.seed))
}

/// Pairs of training texts that the rule draws, and what tells them from others.
fn drawn_pairs(
    checkpoint: &Checkpoint,
    data: &ParallelSource,
    config: &TranslationConfig,
    rule: &CalibrationRule,
) -> Result<(TranslationPairs, String), CommandError> {
    let tokenizer = TextTokenizer::open(checkpoint.root(), config.positions)?;
    let mut all = translation_pairs(data, true, None, config, &tokenizer)?;
    let lengths: Vec<usize> = all
        .sources
        .iter()
        .zip(&all.targets)
        .map(|(source, target)| source.len() + target.len() + 1)
        .collect();
    let drawn = sample_of(&lengths, rule.samples, rule.seed);
    let of = |side: &mut Vec<Vec<u32>>| -> Vec<Vec<u32>> {
        drawn.iter().map(|&index| std::mem::take(&mut side[index])).collect()
    };
    let (sources, targets) = (of(&mut all.sources), of(&mut all.targets));
    let both: Vec<Vec<u32>> = sources.iter().chain(&targets).cloned().collect();
    let pairs = TranslationPairs { sources, targets, references: Vec::new() };
    Ok((pairs, fingerprint_of(&both)))
}

/// Training pictures, shuffled by the rule's seed and not augmented; how many of them; and what tells them from others.
fn images(
    data: &DataSource,
    architecture: &Architecture,
    rule: &CalibrationRule,
) -> Result<(Loader, usize, String), CommandError> {
    let dataset = networks::dataset(data, Split::Train, None)?;
    let count = rule.samples.min(dataset.len());
    let fingerprint = format!("{}-{count}-{}", dataset.fingerprint(), rule.seed);
    let [_, height, width] = dataset.shape();
    let mut loading = LoaderOptions::new((PIXELS / (height * width).max(1)).clamp(1, BATCH));
    loading.seed = rule.seed;
    loading.shuffle = true;
    let loader = Loader::new(dataset, loading)?;
    networks::check(architecture, &loader)?;
    Ok((loader, count, fingerprint))
}
