use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

/// How a parameter is pulled towards zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Decay {
    /// Not at all.
    #[default]
    None,
    /// By itself: the penalty is `(lambda/2) |w|^2`.
    Weight(f64),
    /// By the product that it is a factor of: the penalty is `(lambda/2) |A B|^2`.
    Frobenius(f64),
}

/// The decay of each parameter; those that are not in it have none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DecayTable {
    entries: IndexMap<String, Decay>,
}

impl DecayTable {
    /// No decay.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the decay of a parameter.
    pub fn insert(&mut self, name: &str, decay: Decay) {
        self.entries.insert(name.to_owned(), decay);
    }

    /// The decay of a parameter.
    #[must_use]
    pub fn get(&self, name: &str) -> Decay {
        self.entries.get(name).copied().unwrap_or_default()
    }

    /// All entries, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Decay)> {
        self.entries.iter().map(|(name, &decay)| (name.as_str(), decay))
    }
}

impl FromIterator<(String, Decay)> for DecayTable {
    fn from_iter<I: IntoIterator<Item = (String, Decay)>>(entries: I) -> Self {
        Self { entries: entries.into_iter().collect() }
    }
}
