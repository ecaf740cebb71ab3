use crate::data::random::Stream;

/// The part of tokens that are asked for, as BERT has it.
const ASKED: f64 = 0.15;
/// The parts of these that are hidden, and that are replaced by any token; the others stay.
const HIDDEN: f64 = 0.8;
const REPLACED: f64 = 0.1;

/// What is hidden of a sequence, for masked language models.
///
/// # Reference
///
/// Devlin et al., "BERT", 2018, section 3.1.
#[derive(Clone, Debug)]
pub struct Masking {
    /// The token that hides others.
    pub mask: u32,
    /// Tokens that are never asked for, in order.
    pub special: Vec<u32>,
    /// Tokens that there are.
    pub vocabulary: usize,
}

impl Masking {
    fn candidates<'a>(&'a self, tokens: &'a [u32]) -> impl Iterator<Item = usize> + 'a {
        (0..tokens.len()).filter(|&place| self.special.binary_search(&tokens[place]).is_err())
    }

    /// How many of a sequence's tokens are asked for.
    #[must_use]
    pub fn count(&self, tokens: &[u32]) -> usize {
        match self.candidates(tokens).count() {
            0 => 0,
            candidates => ((ASKED * candidates as f64).round() as usize).max(1),
        }
    }

    /// Hides tokens of a sequence; returns the places of those that are asked for, in order, with what stood there.
    pub(super) fn hide(&self, tokens: &mut [u32], stream: &mut Stream) -> Vec<(usize, u32)> {
        let mut places: Vec<usize> = self.candidates(tokens).collect();
        let count = self.count(tokens);
        for index in 0..count {
            let other = index + stream.below(places.len() - index);
            places.swap(index, other);
        }
        places.truncate(count);
        places.sort_unstable();
        let hide = |place: usize| {
            let stood = tokens[place];
            let what = stream.unit();
            if what < HIDDEN {
                tokens[place] = self.mask;
            } else if what < HIDDEN + REPLACED {
                tokens[place] = stream.below(self.vocabulary) as u32;
            }
            (place, stood)
        };
        places.into_iter().map(hide).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_asked_for_and_special_tokens_never_are() {
        let masking = Masking { mask: 4, special: vec![0, 1, 4], vocabulary: 1000 };
        let tokens: Vec<u32> = [0].into_iter().chain(100..300).chain([1]).collect();
        let (mut hidden, mut replaced, mut asked) = (0, 0, 0);
        for position in 0..50 {
            let mut seen = tokens.clone();
            let places = masking.hide(&mut seen, &mut Stream::of_text(1, 0, position));
            assert_eq!(places.len(), 30);
            assert!(places.is_sorted() && places.iter().all(|&(place, stood)| tokens[place] == stood));
            assert!(places.iter().all(|&(place, _)| (1..201).contains(&place)));
            asked += places.len();
            hidden += places.iter().filter(|&&(place, _)| seen[place] == 4).count();
            replaced +=
                places.iter().filter(|&&(place, stood)| seen[place] != 4 && seen[place] != stood).count();
            let changed = seen.iter().zip(&tokens).filter(|(now, before)| now != before).count();
            assert!(changed <= places.len());
        }
        let part = |count: usize| count as f64 / asked as f64;
        assert!((part(hidden) - 0.8).abs() < 0.05 && (part(replaced) - 0.1).abs() < 0.04);
        assert_eq!(masking.count(&[0, 1]), 0);
        assert_eq!(masking.count(&[0, 7, 1]), 1);
    }
}
