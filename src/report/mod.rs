//! Results as data, table, JSON and a page, and progress while they are made.
//!
//! A command returns one of the structs here; what a person or a machine sees of it is rendered from that
//! struct alone. Nothing is decided here.

mod checks;
mod compress;
mod compress_text;
mod curves;
mod evaluate;
mod evaluate_text;
mod evaluated;
mod generate;
mod heads;
mod html;
mod import;
mod inspect;
mod inspect_html;
mod page;
mod progress;
mod table;
mod training;
mod training_html;
mod training_progress;
mod translate;
mod units;
mod verify;

pub use checks::{Check, CheckResult};
pub(crate) use compress::Outcome;
pub use compress::{
    CompressReport, LayerReport, LeftDense, SCHEMA_VERSION, Summary, WorstDegeneracy, WorstError,
};
pub use evaluate::EvaluateReport;
pub use evaluate_text::{EvaluateTextReport, TextMeasure};
pub use evaluated::Evaluated;
pub use generate::{GenerateReport, Stop};
pub use heads::{HeadsReport, NarrowedProduct};
pub use html::html;
pub use import::{ImportReport, ImportedTokenizer};
pub use inspect::{FormatCurve, FormatPoint, InspectReport, InspectedLayer, LayerSpectrum, RankPreview};
pub use inspect_html::inspect_html;
pub(crate) use page::GENERATOR;
pub use progress::TerminalProgress;
pub use table::{Align, Table};
pub use training::{BestEpoch, TrainedLayer, TrainedParameter, TrainingReport, TrainingTotals};
pub use training_html::training_html;
pub use training_progress::TerminalTraining;
pub use translate::{TranslateReport, Translated};
pub(crate) use units::printable_lines;
pub use units::{count, error, foreseen, printable, seconds, size};
pub use verify::{CollapseReport, VerifiedLayer, VerifyReport};
