use super::catalog::Catalog;
use super::draft::{Draft, how, round_to};
use super::error::{PlanError, Reason};
use super::rank::{self, Candidate};
use super::recipe::Recipe;
use super::rule::RankRule;

/// Gives every draft ranks, or the reason why it stays dense: first by the rules that look at one layer,
/// then by layer keep, then by keep, which counts what all others have left.
pub(super) fn assign_ranks(
    catalog: &Catalog,
    drafts: &mut [Draft],
    recipe: &Recipe,
) -> Result<(), PlanError> {
    for draft in drafts.iter_mut() {
        let Some(rule) = recipe.rules.get(draft.rule).and_then(|rule| rule.rank) else { continue };
        if matches!(rule, RankRule::Keep(_) | RankRule::LayerKeep(_)) {
            continue;
        }
        let curve = draft.forms[0].curve.as_ref();
        let ranks = rank::alone(rule, draft.format(), curve, round_to(recipe, draft.rule));
        let is_smaller = draft.format().factored_parameters(&ranks) < draft.format().parameters();
        if is_smaller || recipe.rules[draft.rule].is_overcomplete() {
            draft.chosen = Some((0, ranks));
        } else {
            let break_even_rank = draft.format().break_even_rank();
            draft.reason = Some(Reason::NotSmaller { rank: ranks.largest(), break_even_rank });
        }
    }
    for keep in [false, true] {
        for (index, rule) in recipe.rules.iter().enumerate() {
            let (name, part) = match rule.rank {
                Some(RankRule::LayerKeep(part)) if !keep => ("layer_keep", part),
                Some(RankRule::Keep(part)) if keep => ("keep", part),
                _ => continue,
            };
            let of_rule: Vec<usize> = (0..drafts.len()).filter(|&i| drafts[i].rule == index).collect();
            let rounding = round_to(recipe, index);
            let layers: Vec<Candidate> = of_rule.iter().map(|&i| drafts[i].candidate(recipe)).collect();
            let dense: u64 = layers.iter().map(|layer| layer.uses * layer.parameters).sum();
            // What is not this rule's to change.
            let (whole, fixed) = if keep {
                let all = catalog.parameters();
                let saved: u64 = drafts
                    .iter()
                    .filter_map(|draft| Some((draft, draft.chosen?)))
                    .map(|(draft, (form, ranks))| {
                        let format = &draft.forms[form].format;
                        let one = format.parameters().saturating_sub(format.factored_parameters(&ranks));
                        (one * (1 + draft.tied.len())) as u64
                    })
                    .sum();
                (all, all - dense - saved)
            } else {
                (dense, 0)
            };
            // A part that was itself a quotient by the whole may fall short of a count by rounding.
            let budget = (part * whole as f64 * (1.0 + 4.0 * f64::EPSILON)).floor() as u64;
            let steps = budget
                .checked_sub(fixed)
                .and_then(|budget| rank::shared(&layers, budget, how(recipe, index)));
            let Some(steps) = steps else {
                let least: u64 = layers.iter().map(Candidate::least_cost).sum();
                let least = (fixed + least) as f64 / whole.max(1) as f64;
                return Err(PlanError::Budget { rule: name, asked: part, least });
            };
            for ((i, layer), step) in of_rule.into_iter().zip(&layers).zip(steps) {
                drafts[i].chosen = step.map(|step| (layer.steps[step].form, layer.steps[step].ranks));
                if step.is_none() {
                    let break_even_rank = drafts[i].format().break_even_rank();
                    drafts[i].reason = Some(if layer.steps.is_empty() {
                        Reason::NotSmaller { rank: rounding, break_even_rank }
                    } else {
                        Reason::Allocated
                    });
                }
            }
        }
    }
    Ok(())
}
