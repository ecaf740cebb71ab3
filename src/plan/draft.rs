use super::catalog::CatalogEntry;
use super::error::{PlanError, Reason};
use super::forms::{self, Comparison, Form, Ranked};
use super::rank::{self, Candidate};
use super::recipe::{Allocate, Recipe};
use super::rule::{Objective, RankRule};
use super::select::ConvolutionFacts;
use crate::decompose::{DecomposeError, Format, Metric, Ranks};

/// A layer on its way to a rank.
pub(super) struct Draft {
    pub(super) entry: CatalogEntry,
    /// The format that its rule gives it; where formats are compared, all others too.
    pub(super) forms: Vec<Form>,
    pub(super) rule: usize,
    pub(super) named: bool,
    /// Other tensors that hold the same weight, with their layers and the same forms in their own layouts.
    pub(super) tied: Vec<(String, String, Vec<Format>)>,
    pub(super) facts: ConvolutionFacts,
    pub(super) metric: Option<Metric>,
    pub(super) chosen: Option<(usize, Ranks)>,
    /// The forms that were compared, the one chosen first.
    pub(super) ranked: Vec<Ranked>,
    pub(super) reason: Option<Reason>,
}

impl Draft {
    /// The format that the rule gives.
    pub(super) fn format(&self) -> &Format {
        &self.forms[0].format
    }

    pub(super) fn stride(&self) -> [usize; 2] {
        self.facts.stride.unwrap_or([1, 1])
    }

    /// Adds another tensor that holds the weight; left are the forms that both have.
    pub(super) fn tie(&mut self, entry: &CatalogEntry, formats: &[Format]) -> Result<(), PlanError> {
        let of = |form: &Form| formats.iter().find(|other| form.format.has_factors_of(other)).cloned();
        let shared: Vec<Option<Format>> = self.forms.iter().map(of).collect();
        if shared[0].is_none() {
            let other = self.format().layout().name();
            let layout = entry.kind.layout().map_or("", |layout| layout.name());
            let source = DecomposeError::TransposedTensor { layout, other };
            return Err(PlanError::Decompose { tensor: entry.name.clone(), source });
        }
        let mut kept = shared.iter().map(Option::is_some);
        self.forms.retain(|_| kept.next().unwrap_or(true));
        for (_, _, formats) in &mut self.tied {
            let mut kept = shared.iter().map(Option::is_some);
            formats.retain(|_| kept.next().unwrap_or(true));
        }
        let formats = shared.into_iter().flatten().collect();
        self.tied.push((entry.name.clone(), entry.layer.clone(), formats));
        Ok(())
    }

    /// Its forms beside one at its ranks.
    pub(super) fn comparison(&self, chosen: usize, ranks: Ranks, recipe: &Recipe) -> Comparison<'_> {
        let (limit, stride) = (limit(recipe, self.rule), self.stride());
        Comparison { forms: &self.forms, chosen, ranks, limit, stride }
    }

    pub(super) fn candidate(&self, recipe: &Recipe) -> Candidate {
        let round_to = round_to(recipe, self.rule);
        let is_common = self.metric.as_ref().is_some_and(Metric::is_common);
        let norm = || self.forms[0].curve.as_ref()?.modes.first().map(|mode| mode.norm_squared().sqrt());
        // Multiply-adds don't tell what parameters to spend: the rule's own format does.
        let compared = if objective(recipe, self.rule) == Objective::Macs { 1 } else { self.forms.len() };
        let rank = recipe.rules.get(self.rule).and_then(|rule| rule.rank);
        // What a report wants to know of errors doesn't change what is done.
        let by_error = self.forms.len() > 1
            || rank.is_some_and(|rank| rank::needs_spectra(rank, how(recipe, self.rule)));
        Candidate {
            steps: forms::steps(&self.forms[..compared], round_to, by_error),
            parameters: self.format().parameters() as u64,
            uses: 1 + self.tied.len() as u64,
            common_norm: if is_common { norm() } else { None },
        }
    }
}

pub(super) fn how(recipe: &Recipe, rule: usize) -> Allocate {
    recipe.rules.get(rule).and_then(|rule| rule.allocate).unwrap_or(recipe.allocate)
}

pub(super) fn round_to(recipe: &Recipe, rule: usize) -> usize {
    recipe.rules.get(rule).and_then(|rule| rule.round_to).or(recipe.round_to).unwrap_or(1)
}

pub(super) fn objective(recipe: &Recipe, rule: usize) -> Objective {
    recipe.rules.get(rule).and_then(|rule| rule.objective).unwrap_or_default()
}

/// What a format that is compared with a layer's must not exceed.
fn limit(recipe: &Recipe, rule: usize) -> forms::Limit {
    let rank = recipe.rules.get(rule).and_then(|rule| rule.rank);
    let is_budget = matches!(rank, Some(RankRule::Keep(_) | RankRule::LayerKeep(_)));
    let macs = objective(recipe, rule) == Objective::Macs;
    forms::Limit { parameters: is_budget || !macs, macs }
}
