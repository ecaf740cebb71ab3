use crate::data::random::permutation;

/// Sequences drawn without return until they have so many tokens together, then by length, as they are run.
///
/// # Determinism
///
/// What is drawn depends on the seed and the number of sequences alone.
#[must_use]
pub fn sample(sequences: Vec<Vec<u32>>, tokens: usize, seed: u64) -> Vec<Vec<u32>> {
    let order = permutation(seed, 0, sequences.len());
    let mut sequences: Vec<Option<Vec<u32>>> = sequences.into_iter().map(Some).collect();
    let (mut drawn, mut held) = (Vec::new(), 0);
    for index in order {
        if held >= tokens {
            break;
        }
        if let Some(sequence) = sequences[index].take().filter(|sequence| !sequence.is_empty()) {
            held += sequence.len();
            drawn.push(sequence);
        }
    }
    drawn.sort_by_key(Vec::len);
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
}
