use super::allocate::{Choice, allocate};
use super::recipe::Allocate;
use super::rule::RankRule;
use crate::decompose::Unfolding;
use crate::linalg::Spectrum;

/// A layer whose rank is to be found.
#[derive(Clone, Copy)]
pub(super) struct Candidate<'a> {
    pub(super) unfolding: &'a Unfolding,
    /// Its singular values, where the rule needs them.
    pub(super) spectrum: Option<&'a Spectrum>,
    /// How many stored tensors hold the weight; their parameters are counted once each.
    pub(super) uses: usize,
    /// Whether its spectrum is in the unit that all such layers share.
    pub(super) is_common: bool,
}

impl Candidate<'_> {
    fn dense_cost(&self) -> u64 {
        (self.uses * self.unfolding.parameters()) as u64
    }

    fn cost(&self, rank: usize) -> u64 {
        (self.uses * rank * self.unfolding.parameters_per_rank()) as u64
    }
}

/// Whether a rule looks at singular values.
pub(super) fn needs_spectra(rule: RankRule, how: Allocate) -> bool {
    match rule {
        RankRule::Energy(_) => true,
        RankRule::Keep(_) | RankRule::LayerKeep(_) => how == Allocate::Spectral,
        RankRule::Rank(_) | RankRule::RankRatio(_) => false,
    }
}

/// The rank of one layer under a rule that looks at no other layer; at most the largest possible.
pub(super) fn alone(rule: RankRule, layer: &Candidate<'_>, round_to: usize) -> usize {
    let most = layer.unfolding.max_rank();
    let down = |rank: usize| (rank / round_to * round_to).max(round_to).min(most);
    match rule {
        RankRule::Rank(rank) => down(rank.min(most)),
        RankRule::RankRatio(ratio) if ratio > 1.0 => {
            ((ratio * most as f64).round() as usize).next_multiple_of(round_to)
        }
        RankRule::RankRatio(ratio) => down(((ratio * most as f64).round() as usize).max(1)),
        // Energy promises an error: rounding keeps the promise.
        RankRule::Energy(energy) => {
            let rank = layer.spectrum.map_or(most, |spectrum| spectrum.rank_for_energy(energy));
            rank.next_multiple_of(round_to).min(most)
        }
        RankRule::Keep(_) | RankRule::LayerKeep(_) => most,
    }
}

/// The ranks of layers that share a budget of parameters; none where a layer stays dense.
///
/// Returns nothing when even the least ranks cost more than the budget.
pub(super) fn shared(
    layers: &[Candidate<'_>],
    budget: u64,
    how: Allocate,
    round_to: usize,
) -> Option<Vec<Option<usize>>> {
    match how {
        Allocate::Uniform => uniform(layers, budget, round_to),
        Allocate::Spectral => spectral(layers, budget, round_to),
    }
}

/// Ranks where errors are least: as parts of each layer's whole; where they are in one unit, between that and as they are,
/// divided by the root of the whole. As they are they would count on layers' errors to be independent, and on few samples to
/// tell the smallest: measured, halfway is better than both (BENCHMARKS.md).
///
/// Layers of which no error in that unit is known get their part of the budget first, all the same part.
fn spectral(layers: &[Candidate<'_>], budget: u64, round_to: usize) -> Option<Vec<Option<usize>>> {
    let by_error = |layers: &[&Candidate<'_>], budget: u64, absolute: bool| {
        let choices: Vec<Vec<Choice>> =
            layers.iter().map(|layer| choices(layer, round_to, absolute)).collect();
        Some(allocate(&choices, budget)?.into_iter().map(|choice| choice.rank).collect::<Vec<_>>())
    };
    let (known, unknown): (Vec<usize>, Vec<usize>) = (0..layers.len()).partition(|&i| layers[i].is_common);
    if known.is_empty() {
        return by_error(&layers.iter().collect::<Vec<_>>(), budget, false);
    }
    let cost = |indices: &[usize]| indices.iter().map(|&i| layers[i].dense_cost()).sum::<u64>();
    let part = budget as f64 / cost(&(0..layers.len()).collect::<Vec<_>>()).max(1) as f64;
    let others: Vec<Candidate<'_>> = unknown.iter().map(|&i| layers[i]).collect();
    let least: u64 = others.iter().map(|layer| least_cost(layer, round_to)).sum();
    let known_layers: Vec<&Candidate<'_>> = known.iter().map(|&i| &layers[i]).collect();
    let spent = |ranks: &[Option<usize>]| -> u64 {
        let costs = others.iter().zip(ranks);
        costs.map(|(layer, rank)| rank.map_or_else(|| layer.dense_cost(), |rank| layer.cost(rank))).sum()
    };
    // Where that leaves too little for the others' least ranks, these get their least too.
    let for_others = ((part * cost(&unknown) as f64) as u64).max(least);
    let (others, rest) = [for_others, least].into_iter().find_map(|for_others| {
        let found = uniform(&others, for_others, round_to)?;
        let rest = by_error(&known_layers, budget.checked_sub(spent(&found))?, true)?;
        Some((found, rest))
    })?;
    let mut ranks = vec![None; layers.len()];
    for (i, rank) in known.into_iter().zip(rest).chain(unknown.into_iter().zip(others)) {
        ranks[i] = rank;
    }
    Some(ranks)
}

/// The least cost that a layer can have.
pub(super) fn least_cost(layer: &Candidate<'_>, round_to: usize) -> u64 {
    match ranks(layer, round_to).next() {
        Some(rank) => layer.cost(rank),
        None => layer.dense_cost(),
    }
}

/// Ranks that make a layer smaller.
fn ranks(layer: &Candidate<'_>, round_to: usize) -> impl Iterator<Item = usize> + use<> {
    (round_to..=layer.unfolding.break_even_rank().min(layer.unfolding.max_rank())).step_by(round_to)
}

fn choices(layer: &Candidate<'_>, round_to: usize, absolute: bool) -> Vec<Choice> {
    let error = |rank: usize| {
        layer.spectrum.map_or(0.0, |spectrum| {
            if absolute {
                let norm = spectrum.norm_squared().sqrt();
                return if norm > 0.0 { spectrum.tail_squared(rank) / norm } else { 0.0 };
            }
            let error = spectrum.relative_error(rank);
            error * error
        })
    };
    ranks(layer, round_to)
        .map(|rank| Choice { rank: Some(rank), cost: layer.cost(rank), error: error(rank) })
        .chain(std::iter::once(Choice { rank: None, cost: layer.dense_cost(), error: 0.0 }))
        .collect()
}

/// The same part of every layer's parameters: the largest part whose ranks stay within the budget, then one
/// more step of rank for layers in order, as long as the rest pays for it.
fn uniform(layers: &[Candidate<'_>], budget: u64, round_to: usize) -> Option<Vec<Option<usize>>> {
    let rank_at = |layer: &Candidate<'_>, part: f64| -> Option<usize> {
        let steps = (part * layer.dense_cost() as f64 / layer.cost(round_to) as f64) as usize;
        let least = ranks(layer, round_to).next()?;
        let rank = (steps * round_to).max(least);
        (rank <= layer.unfolding.break_even_rank().min(layer.unfolding.max_rank())).then_some(rank)
    };
    let every_rank = |part: f64| layers.iter().map(|layer| rank_at(layer, part)).collect::<Vec<_>>();
    let cost = |layer: &Candidate<'_>, rank: Option<usize>| {
        rank.map_or_else(|| layer.dense_cost(), |rank| layer.cost(rank))
    };
    let total = |ranks: &[Option<usize>]| -> u64 {
        layers.iter().zip(ranks).map(|(layer, &rank)| cost(layer, rank)).sum()
    };
    let (mut low, mut high) = (0.0f64, 1.0f64);
    let mut ranks = every_rank(low);
    if total(&ranks) > budget {
        return None;
    }
    // 53 halvings tell parts of any layer apart.
    for _ in 0..53 {
        let middle = f64::midpoint(low, high);
        let tried = every_rank(middle);
        if total(&tried) <= budget {
            (low, ranks) = (middle, tried);
        } else {
            high = middle;
        }
    }
    let mut left = budget - total(&ranks);
    // The layer furthest below the common part goes first.
    let mut order: Vec<usize> = (0..layers.len()).collect();
    let part = |i: usize, ranks: &[Option<usize>]| {
        cost(&layers[i], ranks[i]) as f64 / layers[i].dense_cost().max(1) as f64
    };
    order.sort_by(|&i, &j| part(i, &ranks).total_cmp(&part(j, &ranks)).then(i.cmp(&j)));
    for i in order {
        let Some(rank) = ranks[i] else { continue };
        let next = rank + round_to;
        let next = (next <= layers[i].unfolding.break_even_rank().min(layers[i].unfolding.max_rank()))
            .then_some(next);
        let more = cost(&layers[i], next) - cost(&layers[i], Some(rank));
        if more <= left {
            left -= more;
            ranks[i] = next;
        }
    }
    Some(ranks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decompose::{Layout, Scheme};

    #[test]
    fn layers_without_a_common_unit_get_their_part_and_the_budget_is_never_exceeded() {
        let shapes = [[40usize, 60], [60, 40], [30, 30], [50, 20]];
        let unfoldings: Vec<Unfolding> =
            shapes.iter().map(|s| Unfolding::new(Layout::Linear, Scheme::Matrix, s, 1).unwrap()).collect();
        // The second layer's errors are a hundred times the first's, and its spectrum the same.
        let spectrum = |scale: f64| Spectrum::new((1..=40).map(|i| scale / f64::from(i)).collect());
        let spectra = [spectrum(1.0), spectrum(10.0)];
        let layers: Vec<Candidate<'_>> = unfoldings
            .iter()
            .enumerate()
            .map(|(i, unfolding)| Candidate {
                unfolding,
                spectrum: spectra.get(i),
                uses: 1,
                is_common: i < 2,
            })
            .collect();
        let cost =
            |i: usize, rank: Option<usize>| rank.map_or(layers[i].dense_cost(), |rank| layers[i].cost(rank));
        let dense: u64 = layers.iter().map(Candidate::dense_cost).sum();
        let least: u64 = layers.iter().map(|layer| least_cost(layer, 1)).sum();
        assert!(shared(&layers, least - 1, Allocate::Spectral, 1).is_none());
        assert!(shared(&layers, least, Allocate::Spectral, 1).is_some());
        for percent in [10, 35, 50, 75, 90] {
            let budget = dense * percent / 100;
            let ranks = shared(&layers, budget, Allocate::Spectral, 1).unwrap();
            let spent: u64 = ranks.iter().enumerate().map(|(i, &rank)| cost(i, rank)).sum();
            assert!(spent <= budget && budget - spent < 200, "{percent} %: {spent} of {budget}");
            let [first, second] = [0, 1].map(|i| cost(i, ranks[i]));
            assert!(second > first, "{percent} %: {ranks:?}");
            for i in [2, 3] {
                let part = cost(i, ranks[i]) as f64 / layers[i].dense_cost() as f64;
                assert!((part - percent as f64 / 100.0).abs() < 0.12, "{percent} %: {part}");
            }
        }
    }

    #[test]
    fn uniform_spends_the_budget_and_never_more() {
        let shapes = [[384usize, 384], [1536, 384], [384, 1536], [3, 7], [1, 50]];
        let unfoldings: Vec<Unfolding> =
            shapes.iter().map(|s| Unfolding::new(Layout::Linear, Scheme::Matrix, s, 1).unwrap()).collect();
        let layers: Vec<Candidate<'_>> = unfoldings
            .iter()
            .map(|unfolding| Candidate { unfolding, spectrum: None, uses: 1, is_common: false })
            .collect();
        let dense: u64 = unfoldings.iter().map(|u| u.parameters() as u64).sum();
        for percent in [3, 10, 25, 50, 75, 90, 100] {
            let budget = dense * percent / 100;
            let ranks = shared(&layers, budget, Allocate::Uniform, 1).unwrap();
            let spent: u64 = layers
                .iter()
                .zip(&ranks)
                .map(|(layer, rank)| rank.map_or(layer.dense_cost(), |rank| layer.cost(rank)))
                .sum();
            assert!(spent <= budget, "{percent} %: {spent} of {budget}");
            // No layer's next step of rank is larger than 1920 parameters, and dense is at most one more.
            assert!(budget - spent < 2 * 1920, "{percent} %: {} left", budget - spent);
        }
        assert!(shared(&layers, dense / 1000, Allocate::Uniform, 1).is_none());
    }
}
