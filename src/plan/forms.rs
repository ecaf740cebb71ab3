//! The formats that a layer can have, and which of them loses least.

use super::catalog::CatalogEntry;
use super::error::PlanError;
use super::layer::Alternative;
use super::rank::{self, Step};
use super::recipe::{ConvScheme, Recipe};
use super::rule::{Rule, SchemeRule};
use crate::decompose::{Curve, DecomposeError, Foreseen, Format, Pairs, Point, Ranks, Scheme};

/// A format of a layer and what the weight loses in it, where that was asked for.
#[derive(Clone, Debug)]
pub(super) struct Form {
    pub(super) format: Format,
    pub(super) curve: Option<Curve>,
}

/// A form's best ranks at no more than a cost, and what it loses at them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ranked {
    pub(super) form: usize,
    pub(super) ranks: Ranks,
    pub(super) foreseen: Foreseen,
}

/// All formats that a layer can have and that are compared, that of matrices first.
///
/// # Errors
///
/// - [`PlanError::OnlyCollapsed`], [`PlanError::Decompose`]: a weight that has none
pub fn compared_formats(
    entry: &CatalogEntry,
    convolutions: ConvScheme,
    pairs: &Pairs,
) -> Result<Vec<Format>, PlanError> {
    let rule = Rule { scheme: Some(SchemeRule::Auto), pairs: Some(pairs.clone()), ..Rule::default() };
    let recipe = Recipe { conv_scheme: convolutions, rules: vec![rule], ..Recipe::default() };
    of(entry, &recipe, 0)
}

/// The formats of a layer under a rule: the one that the rule gives, and, where they are to be compared, all others.
pub(super) fn of(entry: &CatalogEntry, recipe: &Recipe, rule: usize) -> Result<Vec<Format>, PlanError> {
    let Some(layout) = entry.kind.layout() else {
        return Err(PlanError::OnlyCollapsed { tensor: entry.name.clone(), kind: entry.kind.name() });
    };
    let written = recipe.rules.get(rule);
    let pairs = written.and_then(|rule| rule.pairs.clone()).unwrap_or_default();
    let asked = written.and_then(|rule| rule.scheme);
    let format = |scheme: Scheme| Format::new(layout, scheme, &entry.shape, entry.groups, &pairs);
    let usual = if layout.is_convolution() { recipe.conv_scheme.into() } else { Scheme::Matrix };
    let first = match asked {
        Some(SchemeRule::Fixed(scheme)) => format(scheme).or_else(|error| match error {
            // A layer that has no such format: a kernel of one tap is a matrix, and the components of a matrix are its
            // singular vectors; kernels in groups are no one tensor.
            DecomposeError::Scheme { .. } | DecomposeError::GroupedTensor { .. } => {
                format(if layout.is_convolution() && scheme.is_tensor() { Scheme::Channel } else { usual })
            }
            other => Err(other),
        }),
        _ => format(usual),
    };
    let mut formats =
        vec![first.map_err(|source| PlanError::Decompose { tensor: entry.name.clone(), source })?];
    if asked == Some(SchemeRule::Auto) {
        for scheme in Scheme::ALL.into_iter().filter(|scheme| *scheme != Scheme::Deep) {
            // What cannot take the weight apart is no format of it, and two schemes may take it apart alike.
            let other = format(scheme);
            formats.extend(other.ok().filter(|other| !formats.iter().any(|format| are_alike(format, other))));
        }
    }
    Ok(formats)
}

/// Whether two formats have the same factors at all ranks: a kernel of one row is split over its channels as over its axes.
fn are_alike(a: &Format, b: &Format) -> bool {
    let shapes =
        |format: &Format| [1, 2].map(|rank| format.factor_shapes(&format.max_ranks().map(|_, _| rank)));
    a.scheme() == b.scheme() || shapes(a) == shapes(b)
}

/// The steps of forms together: each the best at its cost, where errors count.
pub(super) fn steps(forms: &[Form], round_to: usize, by_error: bool) -> Vec<Step> {
    let of_form = |(index, form): (usize, &Form)| {
        rank::steps(index, &form.format, form.curve.as_ref().filter(|_| by_error), round_to)
    };
    let mut all: Vec<Step> = forms.iter().enumerate().flat_map(of_form).collect();
    if forms.len() < 2 {
        return all;
    }
    all.sort_by(|a, b| {
        a.parameters.cmp(&b.parameters).then(a.error.total_cmp(&b.error)).then(a.form.cmp(&b.form))
    });
    let mut kept: Vec<Step> = Vec::new();
    for step in all {
        if kept.last().is_none_or(|last| step.parameters > last.parameters && step.error < last.error) {
            kept.push(step);
        }
    }
    kept
}

/// What a form must not exceed of what another one costs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    pub(super) parameters: bool,
    pub(super) macs: bool,
}

/// Forms that are compared with one of them at its ranks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Comparison<'a> {
    pub(super) forms: &'a [Form],
    pub(super) chosen: usize,
    pub(super) ranks: Ranks,
    pub(super) limit: Limit,
    pub(super) stride: [usize; 2],
}

/// All forms that can be compared, at no more than what the chosen one costs: the best first.
pub(super) fn compared(comparison: Comparison<'_>) -> Vec<Ranked> {
    let Comparison { forms, chosen, ranks, limit, stride } = comparison;
    let cost = |format: &Format, ranks: &Ranks| {
        (format.factored_parameters(ranks), format.factored_multiply_adds(ranks, stride))
    };
    let most = cost(&forms[chosen].format, &ranks);
    let best = |(form, Form { format, curve }): (usize, &Form)| {
        let within = |point: &&Point| {
            let (parameters, macs) = cost(format, &point.ranks);
            (!limit.parameters || parameters <= most.0) && (!limit.macs || macs <= most.1)
        };
        let points = curve.as_ref()?.points.iter().filter(within);
        let ranks = points.min_by(|a, b| a.error_squared.total_cmp(&b.error_squared))?.ranks;
        Some(Ranked { form, ranks, foreseen: curve.as_ref()?.foreseen(&ranks)? })
    };
    let mut ranked: Vec<Ranked> = forms.iter().enumerate().filter_map(best).collect();
    sort(&mut ranked);
    ranked
}

/// The best first.
pub(super) fn sort(ranked: &mut [Ranked]) {
    let error = |ranked: &Ranked| ranked.foreseen.error_squared;
    ranked.sort_by(|a, b| error(a).total_cmp(&error(b)).then(a.form.cmp(&b.form)));
}

/// The forms that came after the best, as they are reported.
pub(super) fn alternatives(forms: &[Form], ranked: &[Ranked], stride: [usize; 2]) -> Vec<Alternative> {
    let alternative = |other: &Ranked| {
        let format = &forms[other.form].format;
        Alternative {
            scheme: format.scheme(),
            ranks: other.ranks,
            parameters: format.factored_parameters(&other.ranks) as u64,
            multiply_adds: format.factored_multiply_adds(&other.ranks, stride) as u64,
            relative_error: other.foreseen.error_squared.sqrt(),
            certainty: other.foreseen.certainty,
        }
    };
    ranked.iter().skip(1).map(alternative).collect()
}
