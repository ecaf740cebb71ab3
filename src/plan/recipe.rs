use super::pattern::Pattern;
use super::rule::{Effect, RankRule, Rule, SchemeRule};
use crate::decompose::{Method, Scheme};
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
    /// What factors are made to be near in.
    #[serde(skip_serializing_if = "is_plain")]
    pub method: Method,
    /// Which samples a method that knows the data was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration: Option<CalibrationRule>,
    /// Which layers get which rank, in order.
    #[serde(rename = "rule")]
    pub rules: Vec<Rule>,
    /// What a checkpoint doesn't say of its convolutions.
    #[serde(rename = "convolution", skip_serializing_if = "Vec::is_empty")]
    pub convolutions: Vec<ConvolutionRule>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_plain(method: &Method) -> bool {
    *method == Method::Plain
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_dense(inputs: &CalibrationInputs) -> bool {
    *inputs == CalibrationInputs::Dense
}

/// Which inputs of a layer its factors are made for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CalibrationInputs {
    /// Those that it has in the dense model.
    #[default]
    Dense,
    /// Those that it has once the layers before its block are factored.
    Compressed,
}

/// Samples that a model is run over before it is factored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct CalibrationRule {
    /// How many tokens, or pictures, at least.
    pub samples: usize,
    /// What they are drawn from.
    pub seed: u64,
    /// What is added to the diagonal of inputs' second moments, as a part of their mean.
    pub input_damping: f64,
    /// The same for gradients.
    pub output_damping: f64,
    /// Which inputs of a layer count.
    #[serde(skip_serializing_if = "is_dense")]
    pub inputs: CalibrationInputs,
    /// What tells the samples from others, once they were drawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
}

impl Default for CalibrationRule {
    fn default() -> Self {
        let inputs = CalibrationInputs::default();
        Self { samples: 32_768, seed: 0, input_damping: 1e-3, output_damping: 1e-2, inputs, data: None }
    }
}

impl CalibrationRule {
    /// The rule for pictures: 2048 of them.
    #[must_use]
    pub fn for_images() -> Self {
        Self { samples: 2048, ..Self::default() }
    }

    /// What is out of range.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.samples == 0 {
            problems.push("calibration: samples is 0, expected at least 1".to_owned());
        }
        for (name, damping) in
            [("input_damping", self.input_damping), ("output_damping", self.output_damping)]
        {
            if !damping.is_finite() || damping < 0.0 {
                problems.push(format!("calibration: {name} is {damping}, expected a number from 0 on"));
            }
        }
        problems
    }
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

impl From<ConvScheme> for Scheme {
    fn from(scheme: ConvScheme) -> Self {
        match scheme {
            ConvScheme::Spatial => Self::Spatial,
            ConvScheme::Channel => Self::Channel,
        }
    }
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
            let (line, column) = toml_place(text, &error);
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
        for (index, rule) in self.rules.iter().enumerate() {
            let of_rule = rank_problem(rule).into_iter().chain(scheme_problem(rule, self.method));
            problems.extend(of_rule.map(|problem| match self.rules.len() {
                1 => problem,
                _ => format!("rule {}: {problem}", index + 1),
            }));
        }
        if self.max_shard_bytes == Some(0) {
            problems.push("max_shard_bytes is 0, expected at least 1".to_owned());
        }
        problems.extend(self.calibration.iter().flat_map(CalibrationRule::problems));
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

/// Where in `text` an error of its TOML is: the line and the column, in characters, both from 1.
pub(crate) fn toml_place(text: &str, error: &toml::de::Error) -> (usize, usize) {
    let before = error.span().map_or("", |span| text.get(..span.start).unwrap_or(text));
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// What is wrong with a rule's rank, if anything.
fn rank_problem(rule: &Rule) -> Option<String> {
    match rule.rank {
        Some(rank) => rank.problem(),
        None if rule.selectors.iter().any(|selector| selector.effect == Effect::Target) => Some(
            "targets without a rank: one of rank, ranks, rank_ratio, energy, keep, layer_keep is needed"
                .to_owned(),
        ),
        None if rule.selectors.is_empty() => Some("a rule says nothing".to_owned()),
        None => None,
    }
}

/// What is wrong with a rule's scheme and what goes with it, if anything.
fn scheme_problem(rule: &Rule, method: Method) -> Option<String> {
    let by_scheme = match rule.scheme {
        Some(SchemeRule::Fixed(Scheme::Matrix)) => {
            Some("scheme is for convolutions, `spatial` or `channel`, or of tensors".to_owned())
        }
        Some(SchemeRule::Fixed(Scheme::Deep))
            if !matches!(rule.rank, None | Some(RankRule::Rank(_) | RankRule::RankRatio(_))) =>
        {
            Some("scheme `deep` takes its rank from rank or rank_ratio".to_owned())
        }
        _ => None,
    };
    let is_auto = rule.scheme == Some(SchemeRule::Auto);
    let is_tensor = matches!(rule.scheme, Some(SchemeRule::Fixed(scheme)) if scheme.is_tensor());
    let is_cp = rule.scheme == Some(SchemeRule::Fixed(Scheme::Cp));
    let further = if rule.objective.is_some() && !is_auto {
        "objective is what the schemes are compared by: it needs scheme `auto`"
    } else if rule.pairs.is_some() && !is_auto && (!is_tensor || is_cp) {
        "pairs are of tensors: they need scheme `tensor-train`, `tucker` or `auto`"
    } else if (is_auto || is_tensor) && method != Method::Plain {
        "`tucker`, `cp`, `tensor-train` and `auto` are near the weight itself: leave the calibration and its method out"
    } else if (is_auto || is_tensor) && matches!(rule.rank, Some(RankRule::RankRatio(ratio)) if ratio > 1.0) {
        "rank_ratio above 1 is for factors of matrices"
    } else if matches!(rule.rank, Some(RankRule::Ranks(_))) && !is_tensor {
        "ranks are one for each mode: they need scheme `tucker` or `tensor-train`"
    } else {
        return by_scheme;
    };
    Some(by_scheme.unwrap_or_else(|| further.to_owned()))
}
