//! One file for each thing a user can do: options in, report out.
//!
//! This is the library's front door, and all that the command line calls. Nothing here prints.

mod collapse;
mod compress;
mod error;
mod inspect;
mod model_card;
mod side_files;
mod verify;
mod weights;

pub use collapse::{CollapseOptions, collapse};
pub use compress::{CompressOptions, compress};
pub use error::CommandError;
pub use inspect::{InspectOptions, inspect};
pub use verify::{VerifyOptions, verify};
