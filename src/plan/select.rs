use super::catalog::{Catalog, CatalogEntry};
use super::exclusion::Exclusion;
use super::kind::Kind;
use super::pattern::{Pattern, suggestion};
use super::recipe::{Recipe, RecipeError, Save};
use super::rule::Effect;
use super::{PlanError, Reason};
use std::collections::BTreeMap;

/// What the recipe decides for a candidate, before ranks are known.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Selection {
    /// Rule `rule` factors the layer; `named` where its exact name was given.
    Factor { rule: usize, named: bool },
    /// The layer stays dense.
    Dense(Reason),
}

/// Holds the recipe's rules against the catalog: for every candidate, which rule takes it.
///
/// # Errors
///
/// Every pattern that matches nothing, or is never reached, is named.
pub(super) fn select(catalog: &Catalog, recipe: &Recipe) -> Result<BTreeMap<String, Selection>, PlanError> {
    let mut uses: Vec<Vec<Use>> =
        recipe.rules.iter().map(|rule| vec![Use::default(); rule.selectors.len()]).collect();
    let mut selections = BTreeMap::new();
    for entry in catalog.entries() {
        let selection = of_entry(entry, recipe, &mut uses);
        if entry.is_candidate() {
            selections.insert(entry.name.clone(), selection);
        }
    }
    let problems = unused(catalog, recipe, &uses);
    if !problems.is_empty() {
        return Err(PlanError::Patterns(problems));
    }
    share_among_tied(catalog, recipe, &mut selections)?;
    Ok(selections)
}

/// How a pattern met the catalog.
#[derive(Clone, Copy, Default)]
struct Use {
    /// It decided a candidate.
    decided: bool,
    /// It matches a candidate, decided or not.
    matched: bool,
    /// It matches a tensor that is no candidate.
    other: bool,
}

fn of_entry(entry: &CatalogEntry, recipe: &Recipe, uses: &mut [Vec<Use>]) -> Selection {
    let mut decision: Option<Selection> = None;
    let mut decided_by = 0;
    for (rule, (written, uses)) in recipe.rules.iter().zip(uses).enumerate() {
        let mut selects_by_name = false;
        for (selector, used) in written.selectors.iter().zip(uses) {
            selects_by_name |= selector.effect == Effect::Target;
            let exact = selector.pattern.matches(&entry.layer) || selector.pattern.matches(&entry.name);
            if !exact {
                continue;
            }
            if !entry.is_candidate() {
                used.other = true;
                continue;
            }
            used.matched = true;
            if decision.is_some() {
                // What an earlier rule takes, such as that of the flags, is overridden and not forgotten.
                used.decided |= decided_by != rule;
                continue;
            }
            (used.decided, decided_by) = (true, rule);
            decision = Some(match selector.effect {
                Effect::Ignore => {
                    Selection::Dense(Reason::Ignored { pattern: selector.pattern.text().to_owned() })
                }
                Effect::Target => targeted(entry, recipe, rule, selector.pattern.is_exact()),
            });
        }
        if decision.is_none() && !selects_by_name && written.rank.is_some() && entry.is_candidate() {
            decision = entry.exclusion.is_none().then_some(Selection::Factor { rule, named: false });
            decided_by = rule;
        }
    }
    decision.unwrap_or_else(|| {
        Selection::Dense(match &entry.exclusion {
            Some(exclusion) => Reason::Excluded(exclusion.clone()),
            None => Reason::NoRule,
        })
    })
}

fn targeted(entry: &CatalogEntry, recipe: &Recipe, rule: usize, named: bool) -> Selection {
    match &entry.exclusion {
        Some(exclusion) if !exclusion.yields_to_targets() => {
            Selection::Dense(Reason::Excluded(exclusion.clone()))
        }
        Some(Exclusion::OnlyCollapsed) if recipe.save == Save::Factored => {
            Selection::Dense(Reason::Excluded(Exclusion::OnlyCollapsed))
        }
        _ => Selection::Factor { rule, named },
    }
}

/// What is wrong with each pattern that decides nothing.
fn unused(catalog: &Catalog, recipe: &Recipe, uses: &[Vec<Use>]) -> Vec<String> {
    let mut problems = Vec::new();
    for (rule, uses) in recipe.rules.iter().zip(uses) {
        for (selector, used) in rule.selectors.iter().zip(uses) {
            let pattern = &selector.pattern;
            if used.decided {
                continue;
            }
            let twice = rule.selectors.iter().filter(|other| *other == selector).count() > 1;
            problems.push(if used.matched && twice {
                format!("`{pattern}` is written twice")
            } else if used.matched {
                format!("`{pattern}` is never reached: every layer that it matches is decided by a pattern before it")
            } else if used.other {
                format!("`{pattern}` matches no weight that can be factored, only {}", others(catalog, pattern))
            } else {
                let names = catalog.entries().filter(|entry| entry.is_candidate()).map(|entry| entry.layer.as_str());
                match suggestion(pattern.text(), names) {
                    Some(meant) => format!("`{pattern}` matches no layer; {meant}"),
                    None => format!("`{pattern}` matches no layer: the checkpoint has none that can be factored"),
                }
            });
        }
    }
    problems
}

fn others(catalog: &Catalog, pattern: &Pattern) -> String {
    let mut found = catalog.entries().filter(|e| pattern.matches(&e.layer) || pattern.matches(&e.name));
    let describe = |entry: &CatalogEntry| match entry.kind {
        Kind::Quantized => format!("`{}`, {} in {}", entry.name, entry.kind, entry.dtype),
        kind => format!("`{}`, {kind} of shape {}", entry.name, super::tuple(&entry.shape)),
    };
    let first = found.next().map(describe).unwrap_or_default();
    match found.count() {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

/// Tied weights are factored once for all their uses, or left alone.
fn share_among_tied(
    catalog: &Catalog,
    recipe: &Recipe,
    selections: &mut BTreeMap<String, Selection>,
) -> Result<(), PlanError> {
    let mut problems = Vec::new();
    for entry in catalog.entries().filter(|entry| !entry.tied_with.is_empty()) {
        let Some(Selection::Factor { rule, named }) = selections.get(&entry.name).cloned() else { continue };
        for other in &entry.tied_with {
            let Some(kind) = catalog.get(other).map(|other| other.kind) else { continue };
            match selections.get(other) {
                Some(Selection::Dense(Reason::Ignored { pattern })) => problems.push(format!(
                    "`{}` is targeted, but `{other}`, which is the same weight, is left dense by `{pattern}`",
                    entry.name
                )),
                Some(Selection::Factor { .. }) => {}
                _ if !kind.forms_chain() && recipe.save == Save::Factored => problems.push(format!(
                    "`{}` is targeted, but `{other}`, which is the same weight, can't be saved factored",
                    entry.name
                )),
                _ => {
                    selections.insert(other.clone(), Selection::Factor { rule, named });
                }
            }
        }
    }
    problems.dedup();
    if problems.is_empty() { Ok(()) } else { Err(PlanError::Patterns(problems)) }
}

/// The facts that the recipe gives about convolutions, by layer.
pub(super) fn convolution_facts(
    catalog: &Catalog,
    recipe: &Recipe,
) -> Result<BTreeMap<String, ConvolutionFacts>, PlanError> {
    let mut facts: BTreeMap<String, ConvolutionFacts> = BTreeMap::new();
    let mut problems = Vec::new();
    for rule in &recipe.convolutions {
        for text in &rule.layers {
            let pattern = Pattern::parse(text).map_err(|error| RecipeError::Invalid(error.to_string()))?;
            let mut matched = false;
            for entry in catalog.entries().filter(|e| matches!(e.kind, Kind::Conv1d | Kind::Conv2d)) {
                if !(pattern.matches(&entry.layer) || pattern.matches(&entry.name)) {
                    continue;
                }
                matched = true;
                let known = facts.entry(entry.name.clone()).or_default();
                known.groups = known.groups.or(rule.groups);
                known.stride = known.stride.or(rule.stride);
                known.padding = known.padding.or(rule.padding);
                known.dilation = known.dilation.or(rule.dilation);
            }
            if !matched {
                let kernels = catalog.entries().filter(|e| matches!(e.kind, Kind::Conv1d | Kind::Conv2d));
                problems.push(match suggestion(text, kernels.map(|entry| entry.layer.as_str())) {
                    Some(meant) => format!("`{text}` matches no convolution; {meant}"),
                    None => format!("`{text}` matches no convolution: the checkpoint has none"),
                });
            }
        }
    }
    if problems.is_empty() { Ok(facts) } else { Err(PlanError::Patterns(problems)) }
}

/// What the recipe says of one convolution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ConvolutionFacts {
    pub(crate) groups: Option<usize>,
    pub(crate) stride: Option<[usize; 2]>,
    pub(crate) padding: Option<[usize; 2]>,
    pub(crate) dilation: Option<[usize; 2]>,
}
