use crate::layers::Sequences;
use candle_core::{Device, Result, Tensor, bail};
use std::sync::Arc;

/// Sequences of tokens that lie behind each other, as networks for text take them.
///
/// # Examples
///
/// ```
/// use fnl::models::Tokens;
///
/// let tokens = Tokens::new(&[vec![101, 7592, 102], vec![101, 102]])?;
/// assert_eq!(tokens.sequences().tokens(), 5);
/// assert_eq!(tokens.positions()[..], [0, 1, 2, 0, 1]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Tokens {
    ids: Vec<u32>,
    segments: Vec<u32>,
    positions: Arc<[usize]>,
    sequences: Sequences,
}

impl Tokens {
    /// These sequences of tokens, each from position 0 on, all of the first segment.
    ///
    /// # Errors
    ///
    /// - an empty sequence
    pub fn new(sequences: &[Vec<u32>]) -> Result<Self> {
        let lengths: Vec<usize> = sequences.iter().map(Vec::len).collect();
        let ids = sequences.concat();
        let segments = vec![0; ids.len()];
        let positions = lengths.iter().flat_map(|&length| 0..length).collect();
        Ok(Self { ids, segments, positions, sequences: Sequences::new(&lengths)? })
    }

    /// The same tokens, in these segments.
    ///
    /// # Errors
    ///
    /// - another number of segments than of tokens
    pub fn with_segments(self, segments: Vec<u32>) -> Result<Self> {
        if segments.len() != self.ids.len() {
            bail!("{} segments for {} tokens", segments.len(), self.ids.len());
        }
        Ok(Self { segments, ..self })
    }

    /// The same tokens, each sequence from this position on.
    #[must_use]
    pub fn from_position(self, start: usize) -> Self {
        Self { positions: self.positions.iter().map(|position| position + start).collect(), ..self }
    }

    /// The tokens of all sequences.
    #[must_use]
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Where each token is in its sequence, from 0.
    #[must_use]
    pub fn positions(&self) -> &Arc<[usize]> {
        &self.positions
    }

    /// Which of them are which sequence.
    #[must_use]
    pub fn sequences(&self) -> &Sequences {
        &self.sequences
    }

    /// The tokens as a tensor.
    pub(super) fn id_tensor(&self, device: &Device) -> Result<Tensor> {
        Tensor::new(self.ids.as_slice(), device)
    }

    /// The segments as a tensor.
    pub(super) fn segment_tensor(&self, device: &Device) -> Result<Tensor> {
        Tensor::new(self.segments.as_slice(), device)
    }

    /// The positions, moved by `offset`, as a tensor; refused beyond what is known of.
    pub(super) fn position_tensor(&self, offset: usize, known: usize, device: &Device) -> Result<Tensor> {
        if let Some(&beyond) = self.positions.iter().find(|&&position| position + offset >= known) {
            bail!(
                "a sequence has more than {beyond} tokens, and this network takes at most {}",
                known - offset
            );
        }
        let positions: Vec<u32> = self.positions.iter().map(|position| (position + offset) as u32).collect();
        Tensor::new(positions, device)
    }
}
