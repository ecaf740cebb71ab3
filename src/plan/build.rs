use super::catalog::{Catalog, CatalogEntry, Exclusion};
use super::error::{PlanError, Reason};
use super::layer::LayerPlan;
use super::progress::Progress;
use super::rank::{self, Candidate};
use super::recipe::{Allocate, ConvScheme, Recipe, Save};
use super::rule::RankRule;
use super::schedule::Limits;
use super::select::{self, ConvolutionFacts, Selection};
use super::spectra;
use super::tensor::{TensorPlan, tensor_plan};
use super::totals::Totals;
use crate::checkpoint::{Checkpoint, OutputTensor};
use crate::decompose::{Method, Metric, Scheme, Unfolding};
use crate::linalg::Spectrum;
use std::collections::BTreeMap;

/// What will happen to every tensor of a checkpoint.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Plan {
    /// The recipe as it is carried out.
    pub recipe: Recipe,
    /// The layers that are factored, in natural order.
    pub layers: Vec<LayerPlan>,
    /// Every tensor of the input, in natural order.
    pub tensors: Vec<TensorPlan>,
    /// Sums over the checkpoint.
    pub totals: Totals,
    /// Bytes of working memory that factoring takes at most.
    pub peak_memory_bytes: u64,
}

/// What a plan is made for, beyond the recipe.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct PlanOptions {
    /// How much of the machine is used.
    pub limits: Limits,
    /// Whether the spectrum of every factored layer is computed, for a report.
    pub all_spectra: bool,
    /// Whether factors may be larger than what they stand for: they will be trained, and collapsed.
    pub overcomplete: bool,
}

impl PlanOptions {
    /// These options.
    #[must_use]
    pub fn new(limits: Limits, all_spectra: bool) -> Self {
        Self { limits, all_spectra, overcomplete: false }
    }
}

/// A layer on its way to a rank.
struct Draft {
    entry: CatalogEntry,
    unfolding: Unfolding,
    rule: usize,
    named: bool,
    tied: Vec<(String, String, Unfolding)>,
    facts: ConvolutionFacts,
    spectrum: Option<Spectrum>,
    metric: Option<Metric>,
    rank: Option<usize>,
    reason: Option<Reason>,
}

impl Draft {
    fn candidate(&self) -> Candidate<'_> {
        Candidate {
            unfolding: &self.unfolding,
            spectrum: self.spectrum.as_ref(),
            uses: 1 + self.tied.len(),
            is_common: self.metric.as_ref().is_some_and(Metric::is_common),
        }
    }
}

impl Plan {
    /// Decides about every tensor of a checkpoint.
    ///
    /// Computes singular values only where a rank rule, or `options.all_spectra`, needs them.
    ///
    /// # Errors
    ///
    /// - [`PlanError::Patterns`]: patterns that match nothing, are never reached, or contradict each other;
    /// - [`PlanError::RankBeyondLayer`], [`PlanError::Budget`]: ranks that no layer can have;
    /// - [`PlanError::AlreadyFactored`], [`PlanError::OnlyCollapsed`], [`PlanError::Memory`];
    /// - [`PlanError::Checkpoint`], [`PlanError::Decompose`]: weights that cannot be read or decomposed.
    pub fn new(
        checkpoint: &Checkpoint,
        recipe: &Recipe,
        options: &PlanOptions,
        progress: &dyn Progress,
    ) -> Result<Self, PlanError> {
        if recipe.method != Method::Plain {
            return Err(PlanError::NotCalibrated { method: recipe.method.name() });
        }
        Self::in_metrics(checkpoint, recipe, options, &BTreeMap::new(), progress)
    }

    /// The same, with factors near in the metrics of those layers that have one, are of one group and get two factors.
    ///
    /// # Errors
    ///
    /// - as [`Plan::new`]
    pub fn in_metrics(
        checkpoint: &Checkpoint,
        recipe: &Recipe,
        options: &PlanOptions,
        metrics: &BTreeMap<String, Metric>,
        progress: &dyn Progress,
    ) -> Result<Self, PlanError> {
        let Drawn { catalog, mut drafts, dense } = draw(checkpoint, recipe, options)?;
        for draft in &mut drafts {
            let fits = draft.unfolding.scheme() != Scheme::Deep && draft.unfolding.groups() == 1;
            draft.metric = metrics.get(&draft.entry.layer).filter(|_| fits).cloned();
        }
        add_spectra(checkpoint, &mut drafts, recipe, options, progress)?;
        assign_ranks(&catalog, &mut drafts, recipe)?;
        let mut plan = finish(&catalog, drafts, dense, recipe);
        let beyond = |limit: u64| Some((limit, plan.layers.iter().find(|layer| layer.memory_bytes > limit)?));
        if let Some((limit, layer)) = options.limits.memory_bytes.and_then(beyond) {
            let (tensor, needed) = (layer.tensor.clone(), layer.memory_bytes);
            return Err(PlanError::Memory { tensor, needed, limit });
        }
        plan.peak_memory_bytes = peak_memory(&plan.layers, options.limits);
        Ok(plan)
    }

    /// Refuses what [`Plan::new`] refuses before it computes anything, for work that has to come first.
    ///
    /// # Errors
    ///
    /// - as [`Plan::new`], but for budgets and memory
    pub fn check(checkpoint: &Checkpoint, recipe: &Recipe, options: &PlanOptions) -> Result<(), PlanError> {
        draw(checkpoint, recipe, options).map(drop)
    }

    /// Everything that will be written, in order.
    pub fn outputs(&self) -> impl Iterator<Item = &OutputTensor> {
        self.tensors.iter().flat_map(|tensor| &tensor.outputs)
    }
}

/// What is known of a checkpoint before anything is computed: the layers that will be factored, and why others will not.
struct Drawn {
    catalog: Catalog,
    drafts: Vec<Draft>,
    dense: BTreeMap<String, Reason>,
}

fn draw(checkpoint: &Checkpoint, recipe: &Recipe, options: &PlanOptions) -> Result<Drawn, PlanError> {
    if let Some(record) = checkpoint.record() {
        let checkpoint = checkpoint.source().to_string();
        return Err(PlanError::AlreadyFactored { checkpoint, modules: record.modules.len() });
    }
    recipe.check()?;
    if let Some(rule) = recipe.rules.iter().find(|rule| !options.overcomplete && rule.is_overcomplete()) {
        let asked = match rule.rank {
            Some(RankRule::RankRatio(ratio)) if ratio > 1.0 => format!("rank_ratio {ratio}"),
            _ => "scheme `deep`".to_owned(),
        };
        return Err(PlanError::Overcomplete { asked });
    }
    let mut catalog = Catalog::new(checkpoint)?;
    let facts = select::convolution_facts(&catalog, recipe)?;
    for (name, facts) in &facts {
        if let Some(groups) = facts.groups {
            catalog.set_groups(name, groups);
        }
    }
    let selections = select::select(&catalog, recipe)?;
    let mut dense: BTreeMap<String, Reason> = BTreeMap::new();
    let drafts = drafts(&catalog, recipe, &selections, &facts, &mut dense)?;
    refuse_ranks(&drafts, recipe)?;
    Ok(Drawn { catalog, drafts, dense })
}

fn drafts(
    catalog: &Catalog,
    recipe: &Recipe,
    selections: &BTreeMap<String, Selection>,
    facts: &BTreeMap<String, ConvolutionFacts>,
    dense: &mut BTreeMap<String, Reason>,
) -> Result<Vec<Draft>, PlanError> {
    let mut drafts: Vec<Draft> = Vec::new();
    for entry in catalog.entries() {
        let (rule, named) = match selections.get(&entry.name) {
            Some(Selection::Factor { rule, named }) => (*rule, *named),
            Some(Selection::Dense(reason)) => {
                let refused = matches!(reason, Reason::Excluded(Exclusion::OnlyCollapsed));
                if refused && is_named(recipe, entry) {
                    return Err(PlanError::OnlyCollapsed {
                        tensor: entry.name.clone(),
                        kind: entry.kind.name(),
                    });
                }
                dense.insert(entry.name.clone(), reason.clone());
                continue;
            }
            None => continue,
        };
        let unfolding = unfold(entry, recipe, rule)?;
        let first = drafts.iter_mut().find(|draft| draft.entry.tied_with.contains(&entry.name));
        if let Some(first) = first {
            first.tied.push((entry.name.clone(), entry.layer.clone(), unfolding));
            continue;
        }
        drafts.push(Draft {
            entry: entry.clone(),
            unfolding,
            rule,
            named,
            tied: Vec::new(),
            facts: facts.get(&entry.name).copied().unwrap_or_default(),
            spectrum: None,
            metric: None,
            rank: None,
            reason: None,
        });
    }
    Ok(drafts)
}

fn is_named(recipe: &Recipe, entry: &CatalogEntry) -> bool {
    let mut selectors = recipe.rules.iter().flat_map(|rule| &rule.selectors);
    selectors
        .any(|s| s.pattern.is_exact() && (s.pattern.matches(&entry.layer) || s.pattern.matches(&entry.name)))
}

fn unfold(entry: &CatalogEntry, recipe: &Recipe, rule: usize) -> Result<Unfolding, PlanError> {
    let fail = |source| PlanError::Decompose { tensor: entry.name.clone(), source };
    let Some(layout) = entry.kind.layout() else {
        return Err(PlanError::OnlyCollapsed { tensor: entry.name.clone(), kind: entry.kind.name() });
    };
    let convolution = match recipe.conv_scheme {
        ConvScheme::Spatial => Scheme::Spatial,
        ConvScheme::Channel => Scheme::Channel,
    };
    let scheme = match recipe.rules.get(rule).and_then(|rule| rule.scheme) {
        Some(Scheme::Deep) => Scheme::Deep,
        scheme if layout.is_convolution() => scheme.unwrap_or(convolution),
        _ => Scheme::Matrix,
    };
    Unfolding::new(layout, scheme, &entry.shape, entry.groups).map_err(fail)
}

/// Refuses an absolute rank beyond a layer that was named, or beyond all layers of its rule.
fn refuse_ranks(drafts: &[Draft], recipe: &Recipe) -> Result<(), PlanError> {
    for (index, rule) in recipe.rules.iter().enumerate() {
        let Some(RankRule::Rank(rank)) = rule.rank else { continue };
        let of_rule = || drafts.iter().filter(move |draft| draft.rule == index);
        let beyond = |draft: &&Draft| draft.unfolding.max_rank() < rank;
        let named = of_rule().filter(|draft| draft.named).find(beyond);
        let largest = of_rule().max_by_key(|draft| draft.unfolding.max_rank()).filter(beyond);
        if let Some(draft) = named.or(largest) {
            return Err(PlanError::RankBeyondLayer {
                rank,
                max_rank: draft.unfolding.max_rank(),
                tensor: draft.entry.name.clone(),
                shape: draft.entry.shape.clone(),
            });
        }
    }
    Ok(())
}

fn how(recipe: &Recipe, rule: usize) -> Allocate {
    recipe.rules.get(rule).and_then(|rule| rule.allocate).unwrap_or(recipe.allocate)
}

fn round_to(recipe: &Recipe, rule: usize) -> usize {
    recipe.rules.get(rule).and_then(|rule| rule.round_to).or(recipe.round_to).unwrap_or(1)
}

fn add_spectra(
    checkpoint: &Checkpoint,
    drafts: &mut [Draft],
    recipe: &Recipe,
    options: &PlanOptions,
    progress: &dyn Progress,
) -> Result<(), PlanError> {
    let wanted: Vec<usize> = (0..drafts.len())
        .filter(|&i| {
            let rule = drafts[i].rule;
            let rank = recipe.rules.get(rule).and_then(|rule| rule.rank);
            options.all_spectra || rank.is_some_and(|rank| rank::needs_spectra(rank, how(recipe, rule)))
        })
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let layers: Vec<(&CatalogEntry, &Unfolding, Option<&Metric>)> =
        wanted.iter().map(|&i| (&drafts[i].entry, &drafts[i].unfolding, drafts[i].metric.as_ref())).collect();
    let spectra = spectra::compute(checkpoint, &layers, options.limits, progress)?;
    for (i, spectrum) in wanted.into_iter().zip(spectra) {
        drafts[i].spectrum = Some(spectrum);
    }
    Ok(())
}

/// Gives every draft a rank, or the reason why it stays dense: first by the rules that look at one layer,
/// then by layer keep, then by keep, which counts what all others have left.
fn assign_ranks(catalog: &Catalog, drafts: &mut [Draft], recipe: &Recipe) -> Result<(), PlanError> {
    for draft in drafts.iter_mut() {
        let Some(rule) = recipe.rules.get(draft.rule).and_then(|rule| rule.rank) else { continue };
        if matches!(rule, RankRule::Keep(_) | RankRule::LayerKeep(_)) {
            continue;
        }
        let rank = rank::alone(rule, &draft.candidate(), round_to(recipe, draft.rule));
        let break_even_rank = draft.unfolding.break_even_rank();
        if rank > break_even_rank && !recipe.rules[draft.rule].is_overcomplete() {
            draft.reason = Some(Reason::NotSmaller { rank, break_even_rank });
        } else {
            draft.rank = Some(rank);
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
            let layers: Vec<Candidate<'_>> = of_rule.iter().map(|&i| drafts[i].candidate()).collect();
            let dense: u64 =
                layers.iter().map(|layer| (layer.uses * layer.unfolding.parameters()) as u64).sum();
            // What is not this rule's to change.
            let (whole, fixed) = if keep {
                let all = catalog.parameters();
                let saved: u64 = drafts
                    .iter()
                    .filter_map(|draft| Some((draft, draft.rank?)))
                    .map(|(draft, rank)| {
                        let one = draft.unfolding.parameters() - rank * draft.unfolding.parameters_per_rank();
                        (one * (1 + draft.tied.len())) as u64
                    })
                    .sum();
                (all, all - dense - saved)
            } else {
                (dense, 0)
            };
            // A part that was itself a quotient by the whole may fall short of a count by rounding.
            let budget = (part * whole as f64 * (1.0 + 4.0 * f64::EPSILON)).floor() as u64;
            let ranks = budget
                .checked_sub(fixed)
                .and_then(|budget| rank::shared(&layers, budget, how(recipe, index), rounding));
            let Some(ranks) = ranks else {
                let least: u64 = layers.iter().map(|layer| rank::least_cost(layer, rounding)).sum();
                let least = (fixed + least) as f64 / whole.max(1) as f64;
                return Err(PlanError::Budget { rule: name, asked: part, least });
            };
            for (i, rank) in of_rule.into_iter().zip(ranks) {
                drafts[i].rank = rank;
                if rank.is_none() {
                    let break_even_rank = drafts[i].unfolding.break_even_rank();
                    drafts[i].reason = Some(if break_even_rank < rounding {
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

fn finish(
    catalog: &Catalog,
    drafts: Vec<Draft>,
    mut dense: BTreeMap<String, Reason>,
    recipe: &Recipe,
) -> Plan {
    let mut layers: Vec<LayerPlan> = Vec::new();
    let mut factored: BTreeMap<String, (usize, Unfolding)> = BTreeMap::new();
    for draft in drafts {
        let Some(rank) = draft.rank else {
            let reason = draft.reason.unwrap_or(Reason::NoRule);
            for (name, _, _) in draft.tied {
                dense.insert(name, reason.clone());
            }
            dense.insert(draft.entry.name, reason);
            continue;
        };
        factored.insert(draft.entry.name.clone(), (rank, draft.unfolding.clone()));
        for (name, _, unfolding) in &draft.tied {
            factored.insert(name.clone(), (rank, unfolding.clone()));
        }
        let layer = LayerPlan::new(draft.entry, draft.unfolding, rank, draft.tied, recipe);
        let mut layer = layer.with_metric(draft.metric);
        (layer.facts, layer.spectrum) = (draft.facts, draft.spectrum);
        layers.push(layer);
    }
    let moved: BTreeMap<String, String> = factored
        .keys()
        .filter(|_| recipe.save == Save::Factored)
        .filter_map(|name| {
            let layer = name.strip_suffix(".weight")?;
            let (rank, unfolding) = factored.get(name)?;
            let last = unfolding.factor_shapes(*rank).len() - 1;
            Some((format!("{layer}.bias"), format!("{layer}.{last}.bias")))
        })
        .collect();
    let tensors: Vec<TensorPlan> =
        catalog.entries().map(|entry| tensor_plan(entry, &factored, &dense, &moved, recipe)).collect();
    let totals = Totals::new(catalog, &layers, &tensors, recipe);
    Plan { recipe: recipe.clone(), layers, tensors, totals, peak_memory_bytes: 0 }
}

/// The most that the largest layers hold side by side, within the limit.
fn peak_memory(layers: &[LayerPlan], limits: Limits) -> u64 {
    let mut sizes: Vec<u64> = layers.iter().map(|layer| layer.memory_bytes).collect();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    let together = sizes.iter().take(limits.threads).sum();
    limits.memory_bytes.map_or(together, |limit| limit.min(together))
}
