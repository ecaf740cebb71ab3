use crate::data::fingerprint::Fingerprint;
use crate::data::random::permutation;

/// Tokens of a sample where a language model reads a text as a whole, unless it takes fewer.
pub const WINDOW: usize = 512;
/// Tokens that are run together at most, unless one sequence has more.
const BATCH_TOKENS: usize = 4096;

/// Which sequences are run together: all of them, by length.
#[must_use]
pub fn token_batches(sequences: &[Vec<u32>]) -> Vec<Vec<usize>> {
    token_batches_within(sequences, BATCH_TOKENS)
}

/// The same, of at most so many tokens together unless one sequence has more.
#[must_use]
pub fn token_batches_within(sequences: &[Vec<u32>], most: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..sequences.len()).collect();
    order.sort_by_key(|&index| sequences[index].len());
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut held = 0;
    for index in order {
        let tokens = sequences[index].len();
        match batches.last_mut() {
            Some(batch) if held + tokens <= most => {
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

/// A number for sequences, in hexadecimal.
#[must_use]
pub fn fingerprint_of(sequences: &[Vec<u32>]) -> String {
    let mut fingerprint = Fingerprint::new();
    for sequence in sequences {
        fingerprint.number(sequence.len() as u64);
        for &token in sequence {
            fingerprint.number(u64::from(token));
        }
    }
    format!("{:016x}", fingerprint.finish())
}

/// Sequences drawn without return until they have so many tokens together, then by length, as they are run.
///
/// # Determinism
///
/// What is drawn depends on the seed and the number of sequences alone.
#[must_use]
pub fn sample(sequences: Vec<Vec<u32>>, tokens: usize, seed: u64) -> Vec<Vec<u32>> {
    let lengths: Vec<usize> = sequences.iter().map(Vec::len).collect();
    let mut sequences: Vec<Option<Vec<u32>>> = sequences.into_iter().map(Some).collect();
    let drawn = sample_of(&lengths, tokens, seed);
    let mut drawn: Vec<Vec<u32>> = drawn.into_iter().filter_map(|index| sequences[index].take()).collect();
    drawn.sort_by_key(Vec::len);
    drawn
}

/// Which of sequences of these lengths are drawn, without return and in the order in which they are, until they have so many
/// tokens together; empty ones are not.
#[must_use]
pub fn sample_of(lengths: &[usize], tokens: usize, seed: u64) -> Vec<usize> {
    let (mut drawn, mut held) = (Vec::new(), 0);
    for index in permutation(seed, 0, lengths.len()) {
        if held >= tokens {
            break;
        }
        if lengths[index] > 0 {
            held += lengths[index];
            drawn.push(index);
        }
    }
    drawn
}

/// A long text's tokens in sequences of one length, what is left at the end aside unless it is all there is.
#[must_use]
pub fn windows(tokens: &[u32], length: usize) -> Vec<Vec<u32>> {
    let length = length.max(1);
    if tokens.len() < length {
        return if tokens.is_empty() { Vec::new() } else { vec![tokens.to_vec()] };
    }
    tokens.chunks_exact(length).map(<[u32]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_have_the_tokens_asked_for_and_no_sequence_twice() {
        let all: Vec<Vec<u32>> = (0..50u32).map(|i| vec![i; 1 + (i as usize * 7) % 5]).collect();
        let drawn = sample(all.clone(), 60, 3);
        let tokens: usize = drawn.iter().map(Vec::len).sum();
        assert!((60..65).contains(&tokens));
        assert!(drawn.windows(2).all(|pair| pair[0].len() <= pair[1].len() && pair[0] != pair[1]));
        assert_ne!(drawn, sample(all.clone(), 60, 4));
        assert_eq!(sample(all.clone(), usize::MAX, 0).len(), 50);
        assert_eq!(windows(&[1, 2, 3, 4, 5], 2), [vec![1, 2], vec![3, 4]]);
        assert_eq!(windows(&[1], 2), [vec![1]]);
        assert!(windows(&[], 2).is_empty());
    }

    #[test]
    fn batches_hold_every_sequence_once_by_length_and_within_their_tokens() {
        let lengths = [900usize, 4000, 10, 5000, 3000, 90];
        let sequences: Vec<Vec<u32>> = lengths.iter().map(|&length| vec![0; length]).collect();
        assert_eq!(token_batches(&sequences), [vec![2, 5, 0, 4], vec![1], vec![3]]);
        assert!(token_batches(&[]).is_empty());
        assert_ne!(fingerprint_of(&[vec![1, 2]]), fingerprint_of(&[vec![1], vec![2]]));
    }
}
