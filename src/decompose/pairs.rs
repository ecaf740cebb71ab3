use super::{DecomposeError, Ranks};

/// How outputs and inputs are split into modes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Pairs {
    /// Into two of near-equal size; for Tucker into three, since of two modes its core is one matrix too many.
    #[default]
    Usual,
    /// Into that many, of near-equal size.
    Count(usize),
    /// Into these, `[o_k, i_k]` each.
    Sizes(Vec<[usize; 2]>),
}

/// The pairs asked for, if they make up outputs and inputs, and are more than one mode with the taps.
pub(super) fn paired(
    kernel: &[usize; 4],
    asked: &Pairs,
    usual: usize,
) -> Result<Vec<[usize; 2]>, DecomposeError> {
    let [out, inner, kh, kw] = *kernel;
    let most = Ranks::MOST - usize::from(kh * kw > 1);
    let least = if kh * kw > 1 { 1 } else { 2 };
    let count = match asked {
        Pairs::Usual => usual,
        Pairs::Count(count) => *count,
        Pairs::Sizes(sizes) => sizes.len(),
    };
    if !(least..=most).contains(&count) {
        return Err(DecomposeError::PairCount { count, least, most });
    }
    let pairs = match asked {
        Pairs::Sizes(sizes) => sizes.clone(),
        // The largest of one with the smallest of the other, so that the products are near each other.
        Pairs::Usual | Pairs::Count(_) => {
            let (outs, ins) = (near_equal(out, count), near_equal(inner, count));
            outs.into_iter().zip(ins.into_iter().rev()).map(|(o, i)| [o, i]).collect()
        }
    };
    let product = |side: usize| pairs.iter().try_fold(1usize, |all, pair| all.checked_mul(pair[side]));
    if product(0) != Some(out) || product(1) != Some(inner) {
        return Err(DecomposeError::Pairs { out, inner, found: pairs });
    }
    Ok(pairs)
}

/// A number as a product of so many, near each other, the smallest first.
fn near_equal(number: usize, count: usize) -> Vec<usize> {
    let (mut rest, mut parts) = (number, Vec::new());
    for left in (1..=count).rev() {
        let root = (rest as f64).powf(1.0 / left as f64);
        let distance = |part: usize| (part as f64 / root).ln().abs();
        let divisors =
            (1..=rest).take_while(|part| part * part <= rest).filter(|part| rest.is_multiple_of(*part));
        let best = divisors
            .flat_map(|part| [part, rest / part])
            .min_by(|&a, &b| distance(a).total_cmp(&distance(b)));
        let part = if left == 1 { rest } else { best.unwrap_or(1) };
        parts.push(part);
        rest /= part;
    }
    parts.sort_unstable();
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_split_into_near_equal_parts() {
        assert_eq!(near_equal(64, 3), [4, 4, 4]);
        assert_eq!(near_equal(384, 2), [16, 24]);
        assert_eq!(near_equal(7, 2), [1, 7]);
        assert_eq!(near_equal(1536, 3).iter().product::<usize>(), 1536);
        assert_eq!(near_equal(5, 1), [5]);
    }
}
