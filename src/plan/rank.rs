use super::allocate::{Choice, allocate};
use super::recipe::Allocate;
use super::rule::RankRule;
use crate::decompose::{Curve, Format, Ranks};

/// One way to factor a layer: what it costs in parameters and what it loses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Step {
    /// Which of the layer's formats.
    pub(super) form: usize,
    /// The ranks.
    pub(super) ranks: Ranks,
    /// Parameters, in one of its uses.
    pub(super) parameters: u64,
    /// Squared relative error, where it is known.
    pub(super) error: f64,
}

/// A layer whose ranks are to be found.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    /// The ways that make it smaller, in order of parameters.
    pub(super) steps: Vec<Step>,
    /// Parameters of the dense weight.
    pub(super) parameters: u64,
    /// How many stored tensors hold the weight; their parameters are counted once each.
    pub(super) uses: u64,
    /// The weight's norm in the unit that all such layers share, where its errors are in one.
    pub(super) common_norm: Option<f64>,
}

impl Candidate {
    fn dense_cost(&self) -> u64 {
        self.uses * self.parameters
    }

    /// What a step costs, or the dense weight.
    fn cost(&self, step: Option<usize>) -> u64 {
        step.map_or_else(|| self.dense_cost(), |step| self.uses * self.steps[step].parameters)
    }

    /// The least cost that the layer can have.
    pub(super) fn least_cost(&self) -> u64 {
        self.cost((!self.steps.is_empty()).then_some(0))
    }

    /// The last step within a part of the dense weight's parameters, or the first; none for the whole.
    fn at(&self, part: f64) -> Option<usize> {
        if part >= 1.0 || self.steps.is_empty() {
            return None;
        }
        let most = part * self.parameters as f64;
        Some(self.steps.partition_point(|step| step.parameters as f64 <= most).saturating_sub(1))
    }

    fn choices(&self) -> Vec<Choice> {
        let scale = self.common_norm.unwrap_or(1.0);
        let choice = |(index, step): (usize, &Step)| Choice {
            step: Some(index),
            cost: self.cost(Some(index)),
            error: scale * step.error,
        };
        let dense = Choice { step: None, cost: self.dense_cost(), error: 0.0 };
        self.steps.iter().enumerate().map(choice).chain(std::iter::once(dense)).collect()
    }
}

/// The steps of a format: along its curve, or, where none is known, all modes growing together.
pub(super) fn steps(form: usize, format: &Format, curve: Option<&Curve>, round_to: usize) -> Vec<Step> {
    if let Some(curve) = curve {
        let step = |point: &crate::decompose::Point| Step {
            form,
            ranks: point.ranks,
            parameters: point.parameters as u64,
            error: point.error_squared,
        };
        return curve.points.iter().map(step).collect();
    }
    let most = format.max_ranks();
    let largest = most.largest();
    let mut steps: Vec<Step> = Vec::new();
    // Modes that grow in proportion are not at the same rank where they break even.
    let last = if most.is_one() { format.break_even_rank().max(round_to).min(largest) } else { largest };
    for rank in (round_to..=last).step_by(round_to) {
        let part = rank as f64 / largest as f64;
        let ranks = most.map(|_, most| rounded((part * most as f64).round() as usize, round_to, most));
        let ranks = format.attainable(&ranks);
        let parameters = format.factored_parameters(&ranks) as u64;
        let grows = steps.last().is_none_or(|last| parameters > last.parameters);
        if grows && parameters < format.parameters() as u64 {
            steps.push(Step { form, ranks, parameters, error: 0.0 });
        }
    }
    steps
}

/// A rank down to a multiple, at least one of them, at most the largest possible.
fn rounded(rank: usize, round_to: usize, most: usize) -> usize {
    (rank / round_to * round_to).max(round_to).min(most)
}

/// Whether a rule looks at singular values.
pub(super) fn needs_spectra(rule: RankRule, how: Allocate) -> bool {
    match rule {
        RankRule::Energy(_) => true,
        RankRule::Keep(_) | RankRule::LayerKeep(_) => how == Allocate::Spectral,
        RankRule::Rank(_) | RankRule::Ranks(_) | RankRule::RankRatio(_) => false,
    }
}

/// The ranks of one layer under a rule that looks at no other layer; at most the largest possible.
pub(super) fn alone(rule: RankRule, format: &Format, curve: Option<&Curve>, round_to: usize) -> Ranks {
    let most = format.max_ranks();
    let ranks = match rule {
        RankRule::Rank(rank) => most.map(|_, most| rounded(rank.min(most), round_to, most)),
        RankRule::Ranks(ranks) => format
            .ranks(&ranks)
            .unwrap_or_else(|_| most.map(|_, most| most.min(ranks.largest())))
            .map(|mode, rank| rounded(rank, round_to, most.values()[mode])),
        RankRule::RankRatio(ratio) if ratio > 1.0 => {
            most.map(|_, most| ((ratio * most as f64).round() as usize).next_multiple_of(round_to))
        }
        RankRule::RankRatio(ratio) => {
            most.map(|_, most| rounded(((ratio * most as f64).round() as usize).max(1), round_to, most))
        }
        // Energy promises an error: rounding keeps the promise.
        RankRule::Energy(energy) => curve
            .and_then(|curve| curve.ranks_for_energy(energy))
            .unwrap_or(most)
            .map(|mode, rank| rank.next_multiple_of(round_to).min(most.values()[mode])),
        RankRule::Keep(_) | RankRule::LayerKeep(_) => most,
    };
    format.attainable(&ranks)
}

/// The steps of layers that share a budget of parameters; none where a layer stays dense.
///
/// Returns nothing when even the least ranks cost more than the budget.
pub(super) fn shared(layers: &[Candidate], budget: u64, how: Allocate) -> Option<Vec<Option<usize>>> {
    match how {
        Allocate::Uniform => uniform(&layers.iter().collect::<Vec<_>>(), budget),
        Allocate::Spectral => spectral(layers, budget),
    }
}

/// Steps where errors are least: as parts of each layer's whole; where they are in one unit, between that and as they are,
/// divided by the root of the whole. As they are they would count on layers' errors to be independent, and on few samples to
/// tell the smallest: measured, halfway is better than both (BENCHMARKS.md).
///
/// Layers of which no error in that unit is known get their part of the budget first, all the same part.
fn spectral(layers: &[Candidate], budget: u64) -> Option<Vec<Option<usize>>> {
    let by_error = |layers: &[&Candidate], budget: u64| {
        let choices: Vec<Vec<Choice>> = layers.iter().map(|layer| layer.choices()).collect();
        Some(allocate(&choices, budget)?.into_iter().map(|choice| choice.step).collect::<Vec<_>>())
    };
    let (known, unknown): (Vec<usize>, Vec<usize>) =
        (0..layers.len()).partition(|&i| layers[i].common_norm.is_some());
    let pick = |indices: &[usize]| indices.iter().map(|&i| &layers[i]).collect::<Vec<&Candidate>>();
    if known.is_empty() {
        return by_error(&pick(&unknown), budget);
    }
    let cost = |layers: &[&Candidate]| layers.iter().map(|layer| layer.dense_cost()).sum::<u64>();
    let (known_layers, others) = (pick(&known), pick(&unknown));
    let part = budget as f64 / (cost(&known_layers) + cost(&others)).max(1) as f64;
    let least: u64 = others.iter().map(|layer| layer.least_cost()).sum();
    let spent = |steps: &[Option<usize>]| -> u64 {
        others.iter().zip(steps).map(|(layer, &step)| layer.cost(step)).sum()
    };
    // Where that leaves too little for the others' least ranks, these get their least too.
    let for_others = ((part * cost(&others) as f64) as u64).max(least);
    let (others, rest) = [for_others, least].into_iter().find_map(|for_others| {
        let found = uniform(&others, for_others)?;
        let rest = by_error(&known_layers, budget.checked_sub(spent(&found))?)?;
        Some((found, rest))
    })?;
    let mut steps = vec![None; layers.len()];
    for (i, step) in known.into_iter().zip(rest).chain(unknown.into_iter().zip(others)) {
        steps[i] = step;
    }
    Some(steps)
}

/// The same part of every layer's parameters: the largest part whose steps stay within the budget, then one
/// more step for layers in order, as long as the rest pays for it.
fn uniform(layers: &[&Candidate], budget: u64) -> Option<Vec<Option<usize>>> {
    let every_step = |part: f64| layers.iter().map(|layer| layer.at(part)).collect::<Vec<_>>();
    let total = |steps: &[Option<usize>]| -> u64 {
        layers.iter().zip(steps).map(|(layer, &step)| layer.cost(step)).sum()
    };
    let (mut low, mut high) = (0.0f64, 1.0f64);
    let mut steps = every_step(low);
    if total(&steps) > budget {
        return None;
    }
    // 53 halvings tell parts of any layer apart.
    for _ in 0..53 {
        let middle = f64::midpoint(low, high);
        let tried = every_step(middle);
        if total(&tried) <= budget {
            (low, steps) = (middle, tried);
        } else {
            high = middle;
        }
    }
    let mut left = budget - total(&steps);
    // The layer furthest below the common part goes first.
    let mut order: Vec<usize> = (0..layers.len()).collect();
    let part = |i: usize, steps: &[Option<usize>]| {
        layers[i].cost(steps[i]) as f64 / layers[i].dense_cost().max(1) as f64
    };
    order.sort_by(|&i, &j| part(i, &steps).total_cmp(&part(j, &steps)).then(i.cmp(&j)));
    for i in order {
        let Some(step) = steps[i] else { continue };
        let next = (step + 1 < layers[i].steps.len()).then_some(step + 1);
        let more = layers[i].cost(next) - layers[i].cost(Some(step));
        if more <= left {
            left -= more;
            steps[i] = next;
        }
    }
    Some(steps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decompose::{Layout, Pairs, Scheme};
    use crate::linalg::Spectrum;

    fn candidate(shape: &[usize], spectrum: Option<&Spectrum>) -> Candidate {
        let format = Format::new(Layout::Linear, Scheme::Matrix, shape, 1, &Pairs::default()).unwrap();
        let curve = spectrum.map(|spectrum| Curve::of_spectrum(spectrum, &format, 1));
        Candidate {
            steps: steps(0, &format, curve.as_ref(), 1),
            parameters: format.parameters() as u64,
            uses: 1,
            common_norm: spectrum.map(|spectrum| spectrum.norm_squared().sqrt()),
        }
    }

    #[test]
    fn layers_without_a_common_unit_get_their_part_and_the_budget_is_never_exceeded() {
        // The second layer's errors are a hundred times the first's, and its spectrum the same.
        let spectrum = |scale: f64| Spectrum::new((1..=40).map(|i| scale / f64::from(i)).collect());
        let spectra = [spectrum(1.0), spectrum(10.0)];
        let shapes = [[40usize, 60], [60, 40], [30, 30], [50, 20]];
        let layers: Vec<Candidate> =
            shapes.iter().enumerate().map(|(i, shape)| candidate(shape, spectra.get(i))).collect();
        let dense: u64 = layers.iter().map(Candidate::dense_cost).sum();
        let least: u64 = layers.iter().map(Candidate::least_cost).sum();
        assert!(shared(&layers, least - 1, Allocate::Spectral).is_none());
        assert!(shared(&layers, least, Allocate::Spectral).is_some());
        for percent in [10, 35, 50, 75, 90] {
            let budget = dense * percent / 100;
            let steps = shared(&layers, budget, Allocate::Spectral).unwrap();
            let spent: u64 = steps.iter().zip(&layers).map(|(&step, layer)| layer.cost(step)).sum();
            assert!(spent <= budget && budget - spent < 200, "{percent} %: {spent} of {budget}");
            let [first, second] = [0, 1].map(|i| layers[i].cost(steps[i]));
            assert!(second > first, "{percent} %: {steps:?}");
            for i in [2, 3] {
                let part = layers[i].cost(steps[i]) as f64 / layers[i].dense_cost() as f64;
                assert!((part - percent as f64 / 100.0).abs() < 0.12, "{percent} %: {part}");
            }
        }
    }

    #[test]
    fn uniform_spends_the_budget_and_never_more() {
        let shapes = [[384usize, 384], [1536, 384], [384, 1536], [3, 7], [1, 50]];
        let layers: Vec<Candidate> = shapes.iter().map(|shape| candidate(shape, None)).collect();
        let dense: u64 = layers.iter().map(Candidate::dense_cost).sum();
        for percent in [3, 10, 25, 50, 75, 90, 100] {
            let budget = dense * percent / 100;
            let steps = shared(&layers, budget, Allocate::Uniform).unwrap();
            let spent: u64 = layers.iter().zip(&steps).map(|(layer, &step)| layer.cost(step)).sum();
            assert!(spent <= budget, "{percent} %: {spent} of {budget}");
            // No layer's next step of rank is larger than 1920 parameters, and dense is at most one more.
            assert!(budget - spent < 2 * 1920, "{percent} %: {} left", budget - spent);
        }
        assert!(shared(&layers, dense / 1000, Allocate::Uniform).is_none());
    }

    #[test]
    fn every_mode_has_its_rank() {
        let format =
            Format::new(Layout::Conv2d, Scheme::Tucker, &[32, 16, 3, 3], 1, &Pairs::default()).unwrap();
        let ranks = |rule| alone(rule, &format, None, 1);
        assert_eq!(ranks(RankRule::Rank(20)).values(), [20, 16]);
        assert_eq!(ranks(RankRule::RankRatio(0.5)).values(), [16, 8]);
        assert_eq!(ranks(RankRule::Ranks(Ranks::new(&[4, 40]).unwrap())).values(), [4, 16]);
        let steps = steps(0, &format, None, 1);
        assert!(steps.windows(2).all(|pair| pair[0].parameters < pair[1].parameters));
        assert!(steps.iter().all(|step| step.parameters < 32 * 16 * 9));
        // Modes of unlike sizes still come as near the weight's size as one step leaves.
        let narrow =
            Format::new(Layout::Conv2d, Scheme::Tucker, &[64, 8, 3, 3], 1, &Pairs::default()).unwrap();
        let last = super::steps(0, &narrow, None, 1).last().unwrap().parameters;
        assert!(last > 4300, "{last} of {}", narrow.parameters());
    }
}
