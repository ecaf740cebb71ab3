//! Which tensors are factored, by which scheme, at which rank, and what that costs: a [`Plan`].
//!
//! A [`Catalog`] says what each tensor of a checkpoint is. A [`Recipe`] says what is asked for. [`Plan::new`]
//! holds one against the other and decides about every tensor before any factor is computed; everything
//! that can be refused is refused there. Weights are touched only to tell tied ones, and for their spectra
//! where a rank rule needs them.
//!
//! ```text
//! rank rule            rank of a layer
//! absolute             min(r, m, n)
//! rank ratio f         max(1, round(f min(m, n)))
//! energy t             the least r whose energy is at least t
//! keep f, layer keep f parameters after / before = f, spread uniformly or by the spectra
//! ```

mod allocate;
mod architecture;
mod assign;
mod build;
mod catalog;
mod closest;
mod draft;
mod error;
mod exclusion;
mod forms;
mod groups;
mod kind;
mod layer;
mod pattern;
mod progress;
mod rank;
mod recipe;
mod rule;
mod schedule;
mod select;
mod spectra;
mod tensor;
mod ties;
mod totals;

pub use allocate::{Choice, allocate};
pub use build::{Plan, PlanOptions};
pub(crate) use catalog::floating_dtype;
pub use catalog::{Catalog, CatalogEntry};
pub(crate) use error::tuple;
pub use error::{PlanError, Reason};
pub use exclusion::Exclusion;
pub use forms::compared_formats;
pub use kind::Kind;
pub use layer::{Alternative, LayerPlan};
pub(crate) use pattern::suggestion;
pub use pattern::{Pattern, PatternError};
pub use progress::{LayerEvent, NoProgress, Progress, Stage};
pub(crate) use recipe::toml_place;
pub use recipe::{
    Allocate, CalibrationInputs, CalibrationRule, ConvScheme, ConvolutionRule, OutputDtype, Recipe,
    RecipeError, Save,
};
pub use rule::{Effect, Objective, RankRule, Rule, SchemeRule, Selector};
pub use schedule::{Job, Limits, run_jobs};
pub use spectra::{read_curve, read_spectrum};
pub use tensor::{TensorAction, TensorPlan};
pub use totals::Totals;
