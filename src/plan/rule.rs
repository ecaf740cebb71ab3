use super::pattern::{Pattern, PatternError};
use super::recipe::Allocate;
use crate::decompose::{Pairs, Ranks, Scheme};
use serde::{Deserialize, Serialize};

/// One rule of a [`Recipe`](super::Recipe): a selection of layers and their rank.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RuleText", into = "RuleText")]
#[non_exhaustive]
pub struct Rule {
    /// What is selected; the first selector that matches a layer decides. Without one that selects, the
    /// rule takes the default selection.
    pub selectors: Vec<Selector>,
    /// The scheme of the selected layers, where it is not the recipe's.
    pub scheme: Option<SchemeRule>,
    /// What the schemes are compared by, where a layer gets the best.
    pub objective: Option<Objective>,
    /// How outputs and inputs are taken apart by schemes that do.
    pub pairs: Option<Pairs>,
    /// The rank of the selected layers. A rule without one only leaves layers dense.
    pub rank: Option<RankRule>,
    /// How this rule's budget is spread, where it is not the recipe's way.
    pub allocate: Option<Allocate>,
    /// The multiple to which this rule's ranks are rounded, where it is not the recipe's.
    pub round_to: Option<usize>,
}

/// A pattern and what it does with a layer that it matches.
#[derive(Clone, Debug)]
pub struct Selector {
    /// The pattern over layer names.
    pub pattern: Pattern,
    /// Whether the layer is factored or left dense.
    pub effect: Effect,
}

/// What a matching [`Selector`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The layer is factored.
    Target,
    /// The layer is left dense.
    Ignore,
}

impl Rule {
    /// Whether its factors have more elements than the weights that they stand for, and are meant to.
    #[must_use]
    pub fn is_overcomplete(&self) -> bool {
        self.scheme == Some(SchemeRule::Fixed(Scheme::Deep))
            || matches!(self.rank, Some(RankRule::RankRatio(ratio)) if ratio > 1.0)
    }
}

/// The scheme of a rule's layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SchemeRule {
    /// The same for all that have it; others get the one of their kind.
    Fixed(Scheme),
    /// For each layer the one that loses least.
    Auto,
}

/// What two schemes have in common when they are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Objective {
    /// As many parameters.
    #[default]
    Parameters,
    /// As many multiply-adds.
    Macs,
}

impl TryFrom<String> for SchemeRule {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        if name == "auto" {
            return Ok(Self::Auto);
        }
        let known = || Scheme::ALL.map(Scheme::name).join("`, `");
        let scheme = Scheme::from_name(&name)
            .ok_or_else(|| format!("unknown scheme `{name}`, expected one of `{}`, `auto`", known()))?;
        Ok(Self::Fixed(scheme))
    }
}

impl From<SchemeRule> for String {
    fn from(scheme: SchemeRule) -> Self {
        match scheme {
            SchemeRule::Fixed(scheme) => scheme.name().to_owned(),
            SchemeRule::Auto => "auto".to_owned(),
        }
    }
}

/// How the rank of a layer is found.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum RankRule {
    /// The same rank everywhere, of every mode.
    Rank(usize),
    /// These ranks, one for each mode.
    Ranks(Ranks),
    /// `round(f min(m, n))`, at least 1; above 1 the factors are overcomplete, for training.
    RankRatio(f64),
    /// The least rank that keeps this part of the squared norm.
    Energy(f64),
    /// All parameters of the checkpoint, after / before.
    Keep(f64),
    /// The parameters of the rule's layers, after / before.
    LayerKeep(f64),
}

impl Rule {
    /// A rule that gives the default selection this rank.
    #[must_use]
    pub fn new(rank: RankRule) -> Self {
        Self { rank: Some(rank), ..Self::default() }
    }

    /// Adds a pattern whose layers are factored.
    ///
    /// # Errors
    ///
    /// - [`PatternError`] when the pattern cannot be read.
    pub fn target(mut self, pattern: &str) -> Result<Self, PatternError> {
        self.selectors.push(Selector { pattern: Pattern::parse(pattern)?, effect: Effect::Target });
        Ok(self)
    }

    /// Adds a pattern whose layers are left dense.
    ///
    /// # Errors
    ///
    /// - [`PatternError`] when the pattern cannot be read.
    pub fn ignore(mut self, pattern: &str) -> Result<Self, PatternError> {
        self.selectors.push(Selector { pattern: Pattern::parse(pattern)?, effect: Effect::Ignore });
        Ok(self)
    }
}

impl RankRule {
    /// The rule's key in a recipe.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rank(_) => "rank",
            Self::Ranks(_) => "ranks",
            Self::RankRatio(_) => "rank_ratio",
            Self::Energy(_) => "energy",
            Self::Keep(_) => "keep",
            Self::LayerKeep(_) => "layer_keep",
        }
    }

    /// What is wrong with the number, if anything.
    pub(super) fn problem(self) -> Option<String> {
        let value = match self {
            Self::RankRatio(ratio) if ratio > 1.0 && ratio.is_finite() => return None,
            Self::Rank(0) => return Some("rank is 0, expected at least 1".to_owned()),
            Self::Ranks(ranks) if ranks.values().contains(&0) => {
                return Some(format!("ranks are {ranks}, expected each at least 1"));
            }
            Self::Rank(_) | Self::Ranks(_) => return None,
            Self::RankRatio(value) | Self::Energy(value) | Self::Keep(value) | Self::LayerKeep(value) => {
                value
            }
        };
        let name = self.name();
        let inside = value > 0.0 && value <= 1.0;
        (!inside).then(|| format!("{name} is {value}, expected more than 0 and at most 1"))
    }
}

impl PartialEq for Selector {
    fn eq(&self, other: &Self) -> bool {
        self.pattern.text() == other.pattern.text() && self.effect == other.effect
    }
}

/// Pairs as they are written: how many, or their sizes.
#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a number of pairs, or pairs such as [[8, 4], [8, 16]]")]
enum PairsText {
    Count(usize),
    Sizes(Vec<[usize; 2]>),
}

/// A rule as it is written: patterns as text, `!` before those that are ignored, one rank key.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleText {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    targets: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scheme: Option<SchemeRule>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    objective: Option<Objective>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pairs: Option<PairsText>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rank: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ranks: Option<Ranks>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rank_ratio: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    energy: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keep: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    layer_keep: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    allocate: Option<Allocate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    round_to: Option<usize>,
}

impl TryFrom<RuleText> for Rule {
    type Error = String;

    fn try_from(text: RuleText) -> Result<Self, String> {
        let ranks: Vec<RankRule> = [
            text.rank.map(RankRule::Rank),
            text.ranks.map(RankRule::Ranks),
            text.rank_ratio.map(RankRule::RankRatio),
            text.energy.map(RankRule::Energy),
            text.keep.map(RankRule::Keep),
            text.layer_keep.map(RankRule::LayerKeep),
        ]
        .into_iter()
        .flatten()
        .collect();
        if ranks.len() > 1 {
            let found: Vec<&str> = ranks.iter().map(|rank| rank.name()).collect();
            let found = found.join(" and ");
            return Err(format!(
                "a rule takes one of rank, ranks, rank_ratio, energy, keep, layer_keep, found {found}"
            ));
        }
        let selectors = text
            .targets
            .iter()
            .map(|written| {
                let (pattern, effect) = match written.strip_prefix('!') {
                    Some(pattern) => (pattern, Effect::Ignore),
                    None => (written.as_str(), Effect::Target),
                };
                Pattern::parse(pattern).map(|pattern| Selector { pattern, effect }).map_err(|e| e.to_string())
            })
            .collect::<Result<_, String>>()?;
        Ok(Self {
            selectors,
            scheme: text.scheme,
            objective: text.objective,
            pairs: text.pairs.map(|pairs| match pairs {
                PairsText::Count(count) => Pairs::Count(count),
                PairsText::Sizes(sizes) => Pairs::Sizes(sizes),
            }),
            rank: ranks.first().copied(),
            allocate: text.allocate,
            round_to: text.round_to,
        })
    }
}

impl From<Rule> for RuleText {
    fn from(rule: Rule) -> Self {
        let written = |selector: &Selector| match selector.effect {
            Effect::Target => selector.pattern.text().to_owned(),
            Effect::Ignore => format!("!{}", selector.pattern.text()),
        };
        let mut text = Self {
            targets: rule.selectors.iter().map(written).collect(),
            scheme: rule.scheme,
            objective: rule.objective,
            pairs: rule.pairs.and_then(|pairs| match pairs {
                Pairs::Usual => None,
                Pairs::Count(count) => Some(PairsText::Count(count)),
                Pairs::Sizes(sizes) => Some(PairsText::Sizes(sizes)),
            }),
            allocate: rule.allocate,
            round_to: rule.round_to,
            ..Self::default()
        };
        match rule.rank {
            Some(RankRule::Rank(rank)) => text.rank = Some(rank),
            Some(RankRule::Ranks(ranks)) => text.ranks = Some(ranks),
            Some(RankRule::RankRatio(f)) => text.rank_ratio = Some(f),
            Some(RankRule::Energy(f)) => text.energy = Some(f),
            Some(RankRule::Keep(f)) => text.keep = Some(f),
            Some(RankRule::LayerKeep(f)) => text.layer_keep = Some(f),
            None => {}
        }
        text
    }
}
