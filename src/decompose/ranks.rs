use serde::{Deserialize, Serialize};
use std::fmt;

/// The ranks of a weight's factors: one of a matrix or of a sum of components, one for each mode of a tensor that is cut.
///
/// # Examples
///
/// ```
/// use fnl::decompose::Ranks;
///
/// let ranks = Ranks::new(&[16, 32])?;
/// assert_eq!(ranks.to_string(), "16,32");
/// assert_eq!(ranks.largest(), 32);
/// assert_eq!(Ranks::from(8).values(), [8]);
/// # Ok::<(), fnl::decompose::DecomposeError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<usize>", into = "Vec<usize>")]
pub struct Ranks {
    count: usize,
    values: [usize; Self::MOST],
}

impl Ranks {
    /// How many ranks there can be.
    pub const MOST: usize = 7;

    /// These ranks.
    ///
    /// # Errors
    ///
    /// - [`DecomposeError::TooManyRanks`](super::DecomposeError::TooManyRanks): none, or more than [`Ranks::MOST`]
    pub fn new(values: &[usize]) -> Result<Self, super::DecomposeError> {
        if values.is_empty() || values.len() > Self::MOST {
            return Err(super::DecomposeError::TooManyRanks { most: Self::MOST, found: values.len() });
        }
        Ok(Self::of(values.iter().copied()))
    }

    /// These ranks, of which there are at most [`Ranks::MOST`].
    pub(crate) fn of(given: impl IntoIterator<Item = usize>) -> Self {
        let (mut count, mut values) = (0, [0; Self::MOST]);
        for (place, value) in values.iter_mut().zip(given) {
            (*place, count) = (value, count + 1);
        }
        Self { count, values }
    }

    /// The ranks, in the order of the modes.
    #[must_use]
    pub fn values(&self) -> &[usize] {
        &self.values[..self.count]
    }

    /// The largest.
    #[must_use]
    pub fn largest(&self) -> usize {
        self.values().iter().copied().max().unwrap_or(0)
    }

    /// Whether there is one for all modes.
    #[must_use]
    pub fn is_one(&self) -> bool {
        self.count == 1
    }

    /// Each rank as something says of it and its mode.
    #[must_use]
    pub(crate) fn map(&self, mut new: impl FnMut(usize, usize) -> usize) -> Self {
        Self::of(self.values().iter().enumerate().map(|(mode, &rank)| new(mode, rank)))
    }
}

impl From<usize> for Ranks {
    fn from(rank: usize) -> Self {
        Self::of([rank])
    }
}

impl TryFrom<Vec<usize>> for Ranks {
    type Error = super::DecomposeError;

    fn try_from(values: Vec<usize>) -> Result<Self, Self::Error> {
        Self::new(&values)
    }
}

impl From<Ranks> for Vec<usize> {
    fn from(ranks: Ranks) -> Self {
        ranks.values().to_vec()
    }
}

impl fmt::Display for Ranks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let written: Vec<String> = self.values().iter().map(ToString::to_string).collect();
        f.pad(&written.join(","))
    }
}

impl fmt::Debug for Ranks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.values()).finish()
    }
}
