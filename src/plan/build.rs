use super::assign::assign_ranks;
use super::catalog::{Catalog, CatalogEntry};
use super::closest;
use super::draft::{Draft, how, round_to};
use super::error::{PlanError, Reason, tuple};
use super::exclusion::Exclusion;
use super::forms::{self, Form};
use super::layer::LayerPlan;
use super::progress::Progress;
use super::rank;
use super::recipe::{Recipe, Save};
use super::rule::RankRule;
use super::schedule::Limits;
use super::select::{self, ConvolutionFacts, Selection};
use super::spectra;
use super::tensor::{TensorPlan, tensor_plan};
use super::totals::Totals;
use crate::checkpoint::{Checkpoint, OutputTensor};
use crate::decompose::{Format, Method, Metric, Ranks, Scheme};
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
    /// Whether the errors of all layers that are factored are to be known, for a check: where they are only bounded or
    /// estimated, the factors are found to see.
    pub exact_errors: bool,
    /// Whether factors may be larger than what they stand for: they will be trained, and collapsed.
    pub overcomplete: bool,
}

impl PlanOptions {
    /// These options.
    #[must_use]
    pub fn new(limits: Limits, all_spectra: bool) -> Self {
        Self { limits, all_spectra, exact_errors: false, overcomplete: false }
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
            let fits = draft.format().scheme() != Scheme::Deep && draft.format().groups() == 1;
            draft.metric = metrics.get(&draft.entry.layer).filter(|_| fits).cloned();
        }
        add_curves(checkpoint, &mut drafts, recipe, options, progress)?;
        assign_ranks(&catalog, &mut drafts, recipe)?;
        closest::choose(checkpoint, &mut drafts, recipe, options, progress)?;
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
    refuse_pairs(&drafts, recipe)?;
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
            None => {
                if let Some(exclusion) = entry.exclusion.as_ref().filter(|exclusion| exclusion.is_told()) {
                    dense.insert(entry.name.clone(), Reason::Excluded(exclusion.clone()));
                }
                continue;
            }
        };
        let is_other = |draft: &&mut Draft| draft.entry.tied_with.contains(&entry.name);
        let first = if entry.tied_with.is_empty() { None } else { drafts.iter_mut().find(is_other) };
        if let Some(first) = first {
            // One weight has one format, whatever rule takes its other uses.
            first.tie(entry, &forms::of(entry, recipe, first.rule)?)?;
            continue;
        }
        let formats = forms::of(entry, recipe, rule)?;
        drafts.push(Draft {
            entry: entry.clone(),
            forms: formats.into_iter().map(|format| Form { format, curve: None }).collect(),
            rule,
            named,
            tied: Vec::new(),
            facts: facts.get(&entry.name).copied().unwrap_or_default(),
            metric: None,
            chosen: None,
            ranked: Vec::new(),
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

/// Refuses pairs that no layer of their rule has, where layers without them take another format in silence.
fn refuse_pairs(drafts: &[Draft], recipe: &Recipe) -> Result<(), PlanError> {
    for (index, rule) in recipe.rules.iter().enumerate() {
        let of_rule = || drafts.iter().filter(move |draft| draft.rule == index);
        let has_pairs = |draft: &Draft| draft.forms.iter().any(|form| form.format.pairs().is_some());
        if let (true, Some(first), false) = (rule.pairs.is_some(), of_rule().next(), of_rule().any(has_pairs))
        {
            let (layer, shape) = (&first.entry.layer, tuple(&first.entry.shape));
            let scheme = first.format().scheme();
            let problem = format!(
                "pairs fit none of the layers that they are for: `{layer}`, shape {shape}, as {scheme} has its own axes"
            );
            return Err(PlanError::Patterns(vec![problem]));
        }
    }
    Ok(())
}

/// Refuses an absolute rank beyond a layer that was named, or beyond all layers of its rule.
fn refuse_ranks(drafts: &[Draft], recipe: &Recipe) -> Result<(), PlanError> {
    for (index, rule) in recipe.rules.iter().enumerate() {
        let of_rule = || drafts.iter().filter(move |draft| draft.rule == index);
        if let Some(RankRule::Ranks(ranks)) = rule.rank {
            let fits = |draft: &&Draft| draft.format().ranks(&ranks).is_ok();
            // Of these, as of a single rank: what is beyond a named layer, or beyond all of them.
            let beyond = |draft: &&Draft| {
                let most = draft.format().max_ranks();
                ranks.values().iter().zip(most.values()).any(|(rank, most)| rank > most)
            };
            let named = of_rule().filter(|draft| draft.named && fits(draft)).find(beyond);
            let all = of_rule().filter(fits).all(|draft| beyond(&draft));
            if let Some(draft) = named.or_else(|| of_rule().find(fits).filter(|_| all)) {
                return Err(PlanError::RanksBeyondLayer {
                    ranks: ranks.into(),
                    max_ranks: draft.format().max_ranks().into(),
                    tensor: draft.entry.name.clone(),
                    shape: draft.entry.shape.clone(),
                });
            }
            // What has another number of ranks, such as a kernel of one tap, takes the largest, unless it was named.
            let wrong = of_rule().find(|draft| draft.named && !fits(draft));
            let wrong =
                wrong.or_else(|| if of_rule().any(|draft| fits(&draft)) { None } else { of_rule().next() });
            if let Some(draft) = wrong
                && let Err(source) = draft.format().ranks(&ranks)
            {
                return Err(PlanError::Decompose { tensor: draft.entry.name.clone(), source });
            }
        }
        let Some(RankRule::Rank(rank)) = rule.rank else { continue };
        let most = |draft: &Draft| draft.format().max_ranks().largest();
        let beyond = |draft: &&Draft| most(draft) < rank;
        let named = of_rule().filter(|draft| draft.named).find(beyond);
        let largest = of_rule().max_by_key(|draft| most(draft)).filter(beyond);
        if let Some(draft) = named.or(largest) {
            return Err(PlanError::RankBeyondLayer {
                rank,
                max_rank: most(draft),
                tensor: draft.entry.name.clone(),
                shape: draft.entry.shape.clone(),
            });
        }
    }
    Ok(())
}

fn add_curves(
    checkpoint: &Checkpoint,
    drafts: &mut [Draft],
    recipe: &Recipe,
    options: &PlanOptions,
    progress: &dyn Progress,
) -> Result<(), PlanError> {
    let is_wanted = |draft: &Draft| {
        let rank = recipe.rules.get(draft.rule).and_then(|rule| rule.rank);
        options.all_spectra
            || draft.forms.len() > 1
            || rank.is_some_and(|rank| rank::needs_spectra(rank, how(recipe, draft.rule)))
    };
    let places: Vec<(usize, usize)> = (0..drafts.len())
        .filter(|&i| is_wanted(&drafts[i]))
        .flat_map(|i| (0..drafts[i].forms.len()).map(move |form| (i, form)))
        .collect();
    if places.is_empty() {
        return Ok(());
    }
    let of = |&(i, form): &(usize, usize)| spectra::Wanted {
        entry: &drafts[i].entry,
        format: &drafts[i].forms[form].format,
        metric: drafts[i].metric.as_ref(),
        round_to: round_to(recipe, drafts[i].rule),
        is_compared: drafts[i].forms.len() > 1,
    };
    let wanted: Vec<spectra::Wanted<'_>> = places.iter().map(of).collect();
    let curves = spectra::compute(checkpoint, &wanted, options.limits, progress)?;
    for ((i, form), curve) in places.into_iter().zip(curves) {
        drafts[i].forms[form].curve = Some(curve);
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
    let mut factored: BTreeMap<String, (Ranks, Format)> = BTreeMap::new();
    for draft in drafts {
        let Some((form, ranks)) = draft.chosen else {
            let reason = draft.reason.unwrap_or(Reason::NoRule);
            for (name, _, _) in draft.tied {
                dense.insert(name, reason.clone());
            }
            dense.insert(draft.entry.name, reason);
            continue;
        };
        let alternatives = forms::alternatives(&draft.forms, &draft.ranked, draft.stride());
        let Form { format, curve } = draft.forms[form].clone();
        let foreseen = draft.ranked.first().map(|best| best.foreseen);
        let foreseen = foreseen.or_else(|| curve.as_ref()?.foreseen(&ranks));
        let tied: Vec<(String, String, Format)> = draft
            .tied
            .into_iter()
            .map(|(name, layer, formats)| (name, layer, formats[form].clone()))
            .collect();
        factored.insert(draft.entry.name.clone(), (ranks, format.clone()));
        for (name, _, format) in &tied {
            factored.insert(name.clone(), (ranks, format.clone()));
        }
        let matrix = draft.forms.iter().find(|form| form.format.unfolding().is_some());
        let spectrum = matrix.and_then(|form| form.curve.as_ref()?.modes.first().cloned());
        let layer = LayerPlan::new(draft.entry, format, ranks, tied, recipe);
        let mut layer = layer.with_metric(draft.metric);
        (layer.facts, layer.spectrum, layer.alternatives) = (draft.facts, spectrum, alternatives);
        layer.foreseen = foreseen;
        layers.push(layer);
    }
    let moved: BTreeMap<String, String> = factored
        .iter()
        .filter(|_| recipe.save == Save::Factored)
        .filter_map(|(name, (_, format))| {
            let layer = name.strip_suffix(".weight")?;
            let (old, new) = (format!("{layer}.bias"), format.bias_name(layer));
            (old != new).then_some((old, new))
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
