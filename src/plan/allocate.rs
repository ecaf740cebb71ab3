//! Spreading a budget of parameters over layers.
//!
//! Minimise `sum_l e_l(r_l)` under `sum_l c_l(r_l) <= C`, where a layer chooses among ranks, or stays dense at
//! error 0. Lower convex hulls give the optimum up to the last step; what the last step leaves open is settled
//! exactly among the choices that the hull's multiplier cannot rule out.

/// One way to treat a layer: what it costs in parameters and what it loses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// Which step of the layer's, or none for a layer left dense.
    pub step: Option<usize>,
    /// Parameters.
    pub cost: u64,
    /// Squared relative error.
    pub error: f64,
}

/// Partial solutions that the exact step looks at for one layer, and keeps for all; beyond either the hull's
/// solution stands.
const MOST_STATES: usize = 200_000;
const MOST_KEPT: usize = 2_000_000;

/// For each layer the choice that together lose least within the budget, or none where even the cheapest
/// choices cost more.
///
/// Every layer's choices are in order of cost, errors falling.
#[must_use]
pub fn allocate(layers: &[Vec<Choice>], budget: u64) -> Option<Vec<Choice>> {
    let cheapest: u64 = layers.iter().map(|choices| choices.first().map_or(0, |c| c.cost)).sum();
    if cheapest > budget || layers.iter().any(Vec::is_empty) {
        return None;
    }
    let (mut taken, multiplier) = along_hulls(layers, budget);
    fill(layers, &mut taken, budget);
    let pick = |taken: &[usize]| layers.iter().zip(taken).map(|(choices, &i)| choices[i]).collect::<Vec<_>>();
    if let Some(better) = exact(layers, &taken, multiplier, budget) {
        return Some(pick(&better));
    }
    Some(pick(&taken))
}

/// Walks the layers' lower convex hulls, steepest step first, until the next step no longer fits.
/// Returns the choices and the slope of that step: the multiplier of the budget.
fn along_hulls(layers: &[Vec<Choice>], budget: u64) -> (Vec<usize>, f64) {
    let mut steps: Vec<(f64, usize, usize, usize)> = Vec::new(); // slope, layer, from, to
    for (layer, choices) in layers.iter().enumerate() {
        let hull = lower_hull(choices);
        for pair in hull.windows(2) {
            let (from, to) = (pair[0], pair[1]);
            steps.push((slope(choices[from], choices[to]), layer, from, to));
        }
    }
    steps.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
    let mut taken = vec![0; layers.len()];
    let mut spent: u64 = layers.iter().map(|choices| choices[0].cost).sum();
    for (slope, layer, from, to) in steps {
        let more = layers[layer][to].cost - layers[layer][from].cost;
        if spent + more > budget {
            return (taken, slope);
        }
        spent += more;
        taken[layer] = to;
    }
    (taken, 0.0)
}

fn slope(from: Choice, to: Choice) -> f64 {
    (from.error - to.error) / (to.cost - from.cost) as f64
}

fn lower_hull(choices: &[Choice]) -> Vec<usize> {
    let mut hull: Vec<usize> = Vec::new();
    for (index, &choice) in choices.iter().enumerate() {
        if hull
            .last()
            .is_some_and(|&last| choice.cost <= choices[last].cost || choice.error >= choices[last].error)
        {
            continue;
        }
        while let [.., before, last] = hull[..] {
            if slope(choices[before], choices[last]) <= slope(choices[last], choice) {
                hull.pop();
            } else {
                break;
            }
        }
        hull.push(index);
    }
    hull
}

/// Spends what is left, each time on the affordable step that gains most for its cost.
fn fill(layers: &[Vec<Choice>], taken: &mut [usize], budget: u64) {
    loop {
        let spent: u64 = layers.iter().zip(&*taken).map(|(choices, &i)| choices[i].cost).sum();
        let best = layers
            .iter()
            .enumerate()
            .filter_map(|(layer, choices)| {
                let here = choices[taken[layer]];
                // Along a layer's choices both the gain and the cost grow: the last one that fits, or the
                // first, is the best for its cost unless the curve bends, so all that fit are compared.
                choices[taken[layer] + 1..]
                    .iter()
                    .enumerate()
                    .take_while(|(_, next)| spent + (next.cost - here.cost) <= budget)
                    .filter(|(_, next)| next.error < here.error && next.cost > here.cost)
                    .map(|(ahead, &next)| (slope(here, next), layer, taken[layer] + 1 + ahead))
                    .max_by(|a, b| a.0.total_cmp(&b.0))
            })
            .max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)));
        match best {
            Some((_, layer, to)) => taken[layer] = to,
            None => return,
        }
    }
}

/// The optimum, found among the choices whose reduced cost is no more than the gap between the hull's bound
/// and the solution at hand; none where nothing better exists or too many partial solutions remain.
fn exact(layers: &[Vec<Choice>], taken: &[usize], multiplier: f64, budget: u64) -> Option<Vec<usize>> {
    let priced = |choice: Choice| choice.error + multiplier * choice.cost as f64;
    let least: Vec<f64> = layers
        .iter()
        .map(|choices| choices.iter().map(|&c| priced(c)).fold(f64::INFINITY, f64::min))
        .collect();
    let bound = least.iter().sum::<f64>() - multiplier * budget as f64;
    let mut best: f64 = layers.iter().zip(taken).map(|(choices, &i)| choices[i].error).sum();
    let mut solution: Option<Vec<usize>> = None;
    // A state is (cost, error, excess over the bound) with the choices made; dominated ones are dropped.
    let mut states: Vec<(u64, f64, f64, Option<usize>)> = vec![(0, 0.0, 0.0, None)];
    let mut trail: Vec<(usize, Option<usize>)> = Vec::new(); // choice, and the state before it
    let rest: Vec<u64> = {
        let mut rest = vec![0; layers.len() + 1];
        for (layer, choices) in layers.iter().enumerate().rev() {
            rest[layer] = rest[layer + 1] + choices[0].cost;
        }
        rest
    };
    for (layer, choices) in layers.iter().enumerate() {
        let gap = best - bound;
        let survivors: Vec<usize> =
            (0..choices.len()).filter(|&i| priced(choices[i]) - least[layer] <= gap + 1e-15).collect();
        if survivors.len().saturating_mul(states.len()) > MOST_STATES || trail.len() > MOST_KEPT {
            return None;
        }
        let mut next: Vec<(u64, f64, f64, Option<usize>)> = Vec::new();
        for &(cost, error, excess, before) in &states {
            for &index in &survivors {
                let choice = choices[index];
                let total = excess + priced(choice) - least[layer];
                if total > gap + 1e-15 || cost + choice.cost + rest[layer + 1] > budget {
                    continue;
                }
                trail.push((index, before));
                next.push((cost + choice.cost, error + choice.error, total, Some(trail.len() - 1)));
            }
        }
        next.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let mut lowest = f64::INFINITY;
        next.retain(|state| {
            let better = state.1 < lowest;
            lowest = lowest.min(state.1);
            better
        });
        states = next;
    }
    for &(_, error, _, last) in &states {
        if error < best {
            best = error;
            let mut path = Vec::with_capacity(layers.len());
            let mut at = last;
            while let Some(index) = at {
                path.push(trail[index].0);
                at = trail[index].1;
            }
            path.reverse();
            solution = Some(path);
        }
    }
    solution
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn brute_force(layers: &[Vec<Choice>], budget: u64) -> Option<f64> {
        fn search(layers: &[Vec<Choice>], budget: u64) -> Option<f64> {
            let Some((choices, rest)) = layers.split_first() else { return Some(0.0) };
            choices
                .iter()
                .filter(|choice| choice.cost <= budget)
                .filter_map(|choice| Some(choice.error + search(rest, budget - choice.cost)?))
                .min_by(f64::total_cmp)
        }
        search(layers, budget)
    }

    fn layer() -> impl Strategy<Value = Vec<Choice>> {
        (1u64..9, prop::collection::vec(0.01f64..1.0, 2..6), 0u64..3).prop_map(
            |(per_rank, mut squares, over)| {
                squares.sort_by(|a, b| b.total_cmp(a));
                let norm: f64 = squares.iter().sum();
                let mut choices: Vec<Choice> = (1..squares.len())
                    .map(|rank| Choice {
                        step: Some(rank),
                        cost: per_rank * rank as u64,
                        error: squares[rank..].iter().sum::<f64>() / norm,
                    })
                    .collect();
                let dense = per_rank * (squares.len() as u64 - 1) + 1 + over;
                choices.push(Choice { step: None, cost: dense, error: 0.0 });
                choices
            },
        )
    }

    proptest! {
        #[test]
        fn equals_brute_force_and_never_exceeds_the_budget(
            layers in prop::collection::vec(layer(), 1..5), part in 0.0f64..1.2,
        ) {
            let dense: u64 = layers.iter().map(|choices| choices[choices.len() - 1].cost).sum();
            let budget = (dense as f64 * part) as u64;
            let found = allocate(&layers, budget);
            let best = brute_force(&layers, budget);
            prop_assert_eq!(found.is_some(), best.is_some());
            if let (Some(found), Some(best)) = (found, best) {
                prop_assert!(found.iter().map(|choice| choice.cost).sum::<u64>() <= budget);
                let error: f64 = found.iter().map(|choice| choice.error).sum();
                // Sums of at most four terms in another order.
                prop_assert!((error - best).abs() <= 16.0 * f64::EPSILON, "{} against {}", error, best);
            }
        }
    }
}
