use crate::data::random::{batch_permutation, permutation};

/// Batches of pairs of sequences, those of like length together, within so many tokens: drawn anew for each epoch.
///
/// A pair counts as its longer side. An epoch has the same number of batches as every other.
///
/// # Determinism
///
/// An epoch's batches depend on the seed, its number and the pairs' lengths alone, so that a run can go on at any of them.
///
/// # Examples
///
/// ```
/// use fnl::data::PairBatches;
///
/// let lengths = [[5, 4], [2, 2], [4, 5], [2, 1], [9, 3]];
/// let batches = PairBatches::new(&lengths, 10, 0);
/// assert_eq!(batches.per_epoch(), 3);
/// assert_eq!(batches.by_length(), [vec![1, 3, 0], vec![2], vec![4]]);
/// assert_eq!(batches.epoch(3), batches.epoch(3));
/// ```
#[derive(Clone, Debug)]
pub struct PairBatches {
    lengths: Vec<usize>,
    tokens: usize,
    seed: u64,
}

impl PairBatches {
    /// Batches of pairs whose sides have so many tokens, of at most `tokens` together unless one pair has more.
    #[must_use]
    pub fn new(lengths: &[[usize; 2]], tokens: usize, seed: u64) -> Self {
        let lengths = lengths.iter().map(|&[source, target]| source.max(target)).collect();
        Self { lengths, tokens, seed }
    }

    /// Batches of an epoch.
    #[must_use]
    pub fn per_epoch(&self) -> usize {
        self.cut((0..self.lengths.len()).collect()).len()
    }

    /// The pairs of each batch of an epoch: pairs of one length fall to batches at random, and batches follow each other at
    /// random.
    #[must_use]
    pub fn epoch(&self, epoch: usize) -> Vec<Vec<usize>> {
        let mut batches = self.cut(permutation(self.seed, epoch, self.lengths.len()));
        let order = batch_permutation(self.seed, epoch, batches.len());
        order.into_iter().map(|index| std::mem::take(&mut batches[index])).collect()
    }

    /// The pairs of each batch in order of their lengths, each batch once: for evaluation.
    #[must_use]
    pub fn by_length(&self) -> Vec<Vec<usize>> {
        self.cut((0..self.lengths.len()).collect())
    }

    /// Cuts pairs into batches after sorting them by length, those of one length in the order in which they come.
    fn cut(&self, mut order: Vec<usize>) -> Vec<Vec<usize>> {
        order.sort_by_key(|&index| self.lengths[index]);
        let mut batches: Vec<Vec<usize>> = Vec::new();
        let mut held = 0;
        for index in order {
            let tokens = self.lengths[index];
            match batches.last_mut() {
                Some(batch) if held + tokens <= self.tokens => {
                    held += tokens;
                    batch.push(index);
                }
                _ => {
                    held = tokens;
                    batches.push(vec![index]);
                }
            }
        }
        batches
    }
}
