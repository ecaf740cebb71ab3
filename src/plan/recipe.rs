use super::pattern::{Pattern, PatternError};
use crate::decompose::Scheme;
use crate::linalg::SvdMethod;
use serde::{Deserialize, Serialize};

/// What is asked of a compression: which layers, which ranks, how the result is saved.
///
/// It is written as TOML, kept in the output's record, and repeats the run exactly. Rules are tried in
/// order; the first with a pattern that matches a layer decides. A layer that no rule takes stays dense.
///
/// # Examples
///
/// ```
/// use fnl::plan::{RankRule, Recipe};
///
/// let recipe = Recipe::parse_toml(
///     r#"
///     allocate = "spectral"
///
///     [[rule]]
///     targets = ["!**.query", "encoder.**"]
///     layer_keep = 0.5
///     "#,
/// )?;
/// assert_eq!(recipe.rules[0].rank, Some(RankRule::LayerKeep(0.5)));
/// # Ok::<(), fnl::plan::RecipeError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Recipe {
    /// Whether the factors are saved or multiplied out.
    pub save: Save,
    /// The element type of the parameters written.
    pub dtype: OutputDtype,
    /// The scheme of convolutions that no rule gives another.
    pub conv_scheme: ConvScheme,
    /// How a budget is spread over layers.
    pub allocate: Allocate,
    /// Ranks are rounded to multiples of this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round_to: Option<usize>,
    /// How the truncated SVD is computed.
    pub svd: SvdMethod,
    /// The largest file written, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_shard_bytes: Option<u64>,
    /// Which layers get which rank, in order.
    #[serde(rename = "rule")]
    pub rules: Vec<Rule>,
    /// What a checkpoint doesn't say of its convolutions.
    #[serde(rename = "convolution", skip_serializing_if = "Vec::is_empty")]
    pub convolutions: Vec<ConvolutionRule>,
}

/// One rule of a [`Recipe`]: a selection of layers and their rank.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RuleText", into = "RuleText")]
#[non_exhaustive]
pub struct Rule {
    /// What is selected; the first selector that matches a layer decides. Without one that selects, the
    /// rule takes the default selection.
    pub selectors: Vec<Selector>,
    /// The scheme of the selected convolutions, where it is not the recipe's.
    pub scheme: Option<Scheme>,
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

/// How the rank of a layer is found.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum RankRule {
    /// The same rank everywhere.
    Rank(usize),
    /// `round(f min(m, n))`, at least 1.
    RankRatio(f64),
    /// The least rank that keeps this part of the squared norm.
    Energy(f64),
    /// All parameters of the checkpoint, after / before.
    Keep(f64),
    /// The parameters of the rule's layers, after / before.
    LayerKeep(f64),
}

/// Whether the factors are saved as they are or multiplied out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Save {
    /// A chain of layers in each factored layer's place.
    #[default]
    Factored,
    /// The original names and shapes.
    Collapsed,
}

/// The element type of the parameters written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputDtype {
    /// Each tensor's own.
    #[default]
    Keep,
    /// 32 bits.
    F32,
    /// 16 bits, IEEE 754 half precision.
    F16,
    /// 16 bits, the exponent of 32.
    Bf16,
}

/// The scheme of convolutions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConvScheme {
    /// One spatial axis a layer.
    #[default]
    Spatial,
    /// The channels, then `1 x 1`.
    Channel,
}

/// How a budget of parameters is spread over layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Allocate {
    /// The same part of every layer's parameters.
    Uniform,
    /// Where singular values are largest for their cost; some layers may stay dense.
    #[default]
    Spectral,
}

/// What a recipe says of convolutions, since a checkpoint doesn't.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ConvolutionRule {
    /// Patterns over layer names; one that matches suffices.
    pub layers: Vec<String>,
    /// Groups of channels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<usize>,
    /// Stride, rows then columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stride: Option<[usize; 2]>,
    /// Padding, rows then columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub padding: Option<[usize; 2]>,
    /// Dilation, rows then columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dilation: Option<[usize; 2]>,
}

/// Why a recipe cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// The text is not a recipe: an unknown key, a wrong type, broken TOML.
    #[error("line {line}, column {column}: {message}")]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What is wrong there.
        message: String,
    },
    /// A record's recipe is not one that this version reads.
    #[error("the recipe cannot be read: {0}")]
    Json(String),
    /// The recipe contradicts itself.
    #[error("{0}")]
    Invalid(String),
}

impl Recipe {
    /// Reads a recipe from TOML.
    ///
    /// # Errors
    ///
    /// - [`RecipeError::Syntax`] with the line of an unknown key or a wrong value;
    /// - [`RecipeError::Invalid`] when numbers are out of range or rules contradict each other.
    pub fn parse_toml(text: &str) -> Result<Self, RecipeError> {
        let recipe: Self = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start.min(text.len()));
            let before = &text.as_bytes()[..at];
            let line = before.split(|&byte| byte == b'\n').count();
            let column = before.iter().rev().take_while(|&&byte| byte != b'\n').count() + 1;
            RecipeError::Syntax { line, column, message: error.message().trim_end().to_owned() }
        })?;
        recipe.check()?;
        Ok(recipe)
    }

    /// Reads a recipe as a record or a report holds it.
    ///
    /// # Errors
    ///
    /// - [`RecipeError::Json`] when it is none;
    /// - [`RecipeError::Invalid`] as [`Recipe::parse_toml`].
    pub fn from_json(value: &serde_json::Value) -> Result<Self, RecipeError> {
        let recipe = Self::deserialize(value).map_err(|error| RecipeError::Json(error.to_string()))?;
        recipe.check()?;
        Ok(recipe)
    }

    /// The recipe as TOML.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).unwrap_or_default()
    }

    /// The recipe as a record holds it.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// Refuses numbers out of range and rules that contradict each other.
    ///
    /// # Errors
    ///
    /// - [`RecipeError::Invalid`], which says every problem.
    pub fn check(&self) -> Result<(), RecipeError> {
        let mut problems = Vec::new();
        if self.round_to == Some(0) || self.rules.iter().any(|rule| rule.round_to == Some(0)) {
            problems.push("round_to is 0, expected at least 1".to_owned());
        }
        for rule in &self.rules {
            match rule.rank {
                Some(rank) => problems.extend(rank.problem()),
                None if rule.selectors.iter().any(|selector| selector.effect == Effect::Target) => {
                    problems.push(
                        "targets without a rank: one of rank, rank_ratio, energy, keep, layer_keep is needed"
                            .to_owned(),
                    );
                }
                None if rule.selectors.is_empty() => problems.push("a rule says nothing".to_owned()),
                None => {}
            }
            if rule.scheme == Some(Scheme::Matrix) {
                problems.push("scheme is for convolutions: `spatial` or `channel`".to_owned());
            }
        }
        if self.rules.iter().filter(|rule| matches!(rule.rank, Some(RankRule::Keep(_)))).count() > 1 {
            problems.push(
                "two rules say keep, which counts the whole checkpoint; layer_keep counts a rule's layers"
                    .to_owned(),
            );
        }
        for convolution in &self.convolutions {
            if convolution.groups == Some(0) || convolution.stride.is_some_and(|stride| stride.contains(&0)) {
                problems
                    .push(format!("convolution {:?}: groups and stride are at least 1", convolution.layers));
            }
            problems.extend(
                convolution.layers.iter().filter_map(|text| Some(Pattern::parse(text).err()?.to_string())),
            );
        }
        if problems.is_empty() { Ok(()) } else { Err(RecipeError::Invalid(problems.join("; "))) }
    }
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
    /// What is wrong with the number, if anything.
    fn problem(self) -> Option<String> {
        let (name, value) = match self {
            Self::Rank(0) => return Some("rank is 0, expected at least 1".to_owned()),
            Self::Rank(_) => return None,
            Self::RankRatio(value) => ("rank_ratio", value),
            Self::Energy(value) => ("energy", value),
            Self::Keep(value) => ("keep", value),
            Self::LayerKeep(value) => ("layer_keep", value),
        };
        let inside = value > 0.0 && value <= 1.0;
        (!inside).then(|| format!("{name} is {value}, expected more than 0 and at most 1"))
    }
}

impl PartialEq for Selector {
    fn eq(&self, other: &Self) -> bool {
        self.pattern.text() == other.pattern.text() && self.effect == other.effect
    }
}

/// A rule as it is written: patterns as text, `!` before those that are ignored, one rank key.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleText {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    targets: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scheme: Option<Scheme>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rank: Option<usize>,
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
            text.rank_ratio.map(RankRule::RankRatio),
            text.energy.map(RankRule::Energy),
            text.keep.map(RankRule::Keep),
            text.layer_keep.map(RankRule::LayerKeep),
        ]
        .into_iter()
        .flatten()
        .collect();
        if ranks.len() > 1 {
            return Err("a rule takes one of rank, rank_ratio, energy, keep, layer_keep".to_owned());
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
            allocate: rule.allocate,
            round_to: rule.round_to,
            ..Self::default()
        };
        match rule.rank {
            Some(RankRule::Rank(rank)) => text.rank = Some(rank),
            Some(RankRule::RankRatio(f)) => text.rank_ratio = Some(f),
            Some(RankRule::Energy(f)) => text.energy = Some(f),
            Some(RankRule::Keep(f)) => text.keep = Some(f),
            Some(RankRule::LayerKeep(f)) => text.layer_keep = Some(f),
            None => {}
        }
        text
    }
}
