use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};

/// What a stream of random numbers is for: streams of different purposes have nothing in common.
#[derive(Clone, Copy)]
enum Purpose {
    Order = 0,
    Augmentation = 1,
    Text = 2,
    Batches = 3,
}

/// Random numbers that are the same on every machine: ChaCha of 8 rounds, with what they are for as its key.
#[derive(Debug)]
pub(crate) struct Stream(ChaCha8Rng);

impl Stream {
    /// The stream of one sample's augmentation, by the sample's position in its epoch.
    pub(super) fn augmentation(seed: u64, epoch: usize, position: usize) -> Self {
        Self::new(seed, epoch, position, Purpose::Augmentation)
    }

    /// The stream of what is hidden of a text, by its position in its epoch.
    pub(crate) fn of_text(seed: u64, epoch: usize, position: usize) -> Self {
        Self::new(seed, epoch, position, Purpose::Text)
    }

    fn new(seed: u64, epoch: usize, position: usize, purpose: Purpose) -> Self {
        let mut key = [0; 32];
        let words = [seed, epoch as u64, position as u64, purpose as u64];
        for (bytes, word) in key.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        Self(ChaCha8Rng::from_seed(key))
    }

    /// Uniform in `0..count`, without bias.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        let count = count as u64;
        // Of the 2^64 words, the lowest 2^64 mod count (of the product's low half) would be one too many for
        // some results.
        let surplus = count.wrapping_neg() % count;
        loop {
            let product = u128::from(self.0.next_u64()) * u128::from(count);
            if product as u64 >= surplus {
                return (product >> 64) as usize;
            }
        }
    }

    /// Uniform in [0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// True half of the time.
    pub(super) fn coin(&mut self) -> bool {
        self.0.next_u64() >> 63 == 1
    }
}

/// The order of an epoch: a permutation that depends on seed and epoch alone (Fisher and Yates, from the
/// end).
pub(crate) fn permutation(seed: u64, epoch: usize, count: usize) -> Vec<usize> {
    shuffled(Stream::new(seed, epoch, 0, Purpose::Order), count)
}

/// The order of an epoch's batches, where samples were ordered before they were put into them.
pub(super) fn batch_permutation(seed: u64, epoch: usize, count: usize) -> Vec<usize> {
    shuffled(Stream::new(seed, epoch, 0, Purpose::Batches), count)
}

fn shuffled(mut stream: Stream, count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    for last in (1..count).rev() {
        order.swap(last, stream.below(last + 1));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::{Stream, permutation};

    /// All 24 orders of four samples come equally often: 9600 draws, 400 expected each, chi-square of 23
    /// degrees of freedom below its 99.9th percentile.
    #[test]
    fn orders_are_uniform() {
        let mut counts = std::collections::BTreeMap::new();
        for epoch in 0..9600 {
            *counts.entry(permutation(5, epoch, 4)).or_insert(0.0) += 1.0;
        }
        assert_eq!(counts.len(), 24);
        let chi_square: f64 = counts.values().map(|count: &f64| (count - 400.0).powi(2) / 400.0).sum();
        assert!(chi_square < 49.7, "{chi_square}");
    }

    /// What `tests/data/streams.py` computes from ChaCha's definition, whatever later versions of its crate
    /// do.
    #[test]
    fn numbers_stay_the_same() {
        assert_eq!(permutation(1, 2, 10), [6, 8, 7, 4, 5, 0, 1, 9, 2, 3]);
        let mut stream = Stream::augmentation(1, 2, 3);
        let numbers: Vec<usize> = (0..8).map(|_| stream.below(9)).collect();
        assert_eq!(numbers, [5, 5, 0, 1, 3, 2, 3, 8]);
    }

    /// Three of four words are accepted where the count is 3 * 2^62, and results stay below it.
    #[test]
    fn large_counts_are_rejected_into_range() {
        let count = 3usize << 62;
        let mut stream = Stream::augmentation(7, 0, 0);
        let below_half = (0..4000).filter(|_| stream.below(count) < count / 2).count();
        // binomial: 2000 expected, standard deviation 31.6
        assert!((1850..2150).contains(&below_half), "{below_half}");
    }
}
