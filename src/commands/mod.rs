//! One file for each thing a user can do: options in, report out.
//!
//! This is the library's front door, and all that the command line calls. Nothing here prints.

mod calibrated_model;
mod calibration;
mod carry_out;
mod collapse;
mod compress;
mod device;
mod error;
mod evaluate;
mod evaluate_text;
mod evaluate_translation;
mod factoring;
mod finetune;
mod generate;
mod heads;
mod import;
mod inspect;
mod model_card;
mod model_files;
mod networks;
mod preparation;
mod recalibrate;
mod run_file;
mod sequential;
mod side_files;
mod text_fresh;
mod text_networks;
mod text_samples;
mod text_training;
mod train;
mod training;
mod translate;
mod verify;
mod weights;

pub use calibration::CalibrationOptions;
pub use carry_out::carry_out;
pub use collapse::{CollapseOptions, collapse};
pub use compress::{CompressOptions, compress};
pub use device::DeviceName;
pub use error::CommandError;
pub use evaluate::{EvaluateOptions, evaluate};
pub use evaluate_text::{EvaluateTextOptions, evaluate_text};
pub use evaluate_translation::{EvaluateTranslationOptions, evaluate_translation};
pub use factoring::Initialization;
pub use finetune::{FinetuneOptions, finetune};
pub use generate::{GenerateOptions, generate};
pub use heads::{HeadsOptions, heads};
pub use import::{ImportOptions, import};
pub use inspect::{InspectOptions, inspect};
pub use run_file::{RunFile, RunFileError};
pub use train::{Blueprint, TextBlueprint, TrainOptions, train};
pub use training::{Keep, RunOptions};
pub use translate::{TranslateOptions, translate};
pub use verify::{VerifyOptions, verify};
