use candle_core::{Result, bail};
use std::ops::Range;
use std::sync::Arc;

/// Which rows of `(tokens, d)` are which sequence: sequences lie behind each other, without padding.
///
/// # Examples
///
/// ```
/// use fnl::layers::Sequences;
///
/// let sequences = Sequences::new(&[3, 1, 2])?;
/// assert_eq!((sequences.count(), sequences.tokens()), (3, 6));
/// assert_eq!(sequences.range(2), 4..6);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequences {
    ends: Arc<[usize]>,
}

impl Sequences {
    /// Sequences of these lengths.
    ///
    /// # Errors
    ///
    /// - an empty sequence
    pub fn new(lengths: &[usize]) -> Result<Self> {
        if let Some(empty) = lengths.iter().position(|&length| length == 0) {
            bail!("sequence {empty} has no tokens");
        }
        let mut end = 0;
        let ends = lengths.iter().map(|length| {
            end += length;
            end
        });
        Ok(Self { ends: ends.collect() })
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    /// Rows of all of them.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// The rows of one.
    ///
    /// # Panics
    ///
    /// When there are not so many.
    #[must_use]
    pub fn range(&self, index: usize) -> Range<usize> {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        start..self.ends[index]
    }

    /// The rows of each, in order.
    pub fn ranges(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        (0..self.count()).map(|index| self.range(index))
    }

    /// Tokens of the longest.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.ranges().map(|range| range.len()).max().unwrap_or(0)
    }
}
