//! Values of flags that are more than a word or a number.

use crate::decompose::{Method, Pairs, Ranks, Scheme};
use crate::plan::{Allocate, CalibrationInputs, ConvScheme, Objective, OutputDtype, Save, SchemeRule};
use clap::ValueEnum;
use std::str::FromStr;

/// A number of bytes: `500MB`, `4GiB`, `1073741824`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size(pub(super) u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let factor: f64 = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1.0,
            "k" | "kb" => 1e3,
            "m" | "mb" => 1e6,
            "g" | "gb" => 1e9,
            "t" | "tb" => 1e12,
            "kib" => 1024.0,
            "mib" => 1024.0 * 1024.0,
            "gib" => 1024.0 * 1024.0 * 1024.0,
            "tib" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
            _ => return Err(format!("unit `{unit}` is not one of B, KB, MB, GB, TB, KiB, MiB, GiB, TiB")),
        };
        let number: f64 = number.parse().map_err(|_| "expected a size such as 500MB or 4GiB".to_owned())?;
        let bytes = number * factor;
        if (1.0..9e18).contains(&bytes) {
            Ok(Self(bytes as u64))
        } else {
            Err("expected at least one byte".to_owned())
        }
    }
}

/// A number above 0 and at most 1.
pub(super) fn part(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value <= 1.0 => Ok(value),
        Ok(_) | Err(_) => Err("expected a number above 0 and at most 1".to_owned()),
    }
}

/// A number above 0.
pub(super) fn above_zero(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value.is_finite() => Ok(value),
        Ok(_) | Err(_) => Err("expected a number above 0".to_owned()),
    }
}

/// A number from 0 up.
pub(super) fn limit(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value >= 0.0 && value.is_finite() => Ok(value),
        Ok(_) | Err(_) => Err("expected a number from 0 up".to_owned()),
    }
}

/// A whole number from 1 up.
pub(super) fn positive(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(value) if value > 0 => Ok(value),
        Ok(_) | Err(_) => Err("expected a whole number from 1 up".to_owned()),
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum MethodValue {
    /// The weights themselves
    Plain,
    /// Weights times the mean size of each input (ASVD)
    Diagonal,
    /// What layers give for the inputs that they have (SVD-LLM)
    Whitened,
    /// What the model says, by inputs and by gradients of outputs
    Fisher,
}

impl From<MethodValue> for Method {
    fn from(value: MethodValue) -> Self {
        match value {
            MethodValue::Plain => Self::Plain,
            MethodValue::Diagonal => Self::Diagonal,
            MethodValue::Whitened => Self::Whitened,
            MethodValue::Fisher => Self::Fisher,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum SaveValue {
    /// A chain of layers in each factored layer's place
    Factored,
    /// The original names and shapes
    Collapsed,
}

impl From<SaveValue> for Save {
    fn from(value: SaveValue) -> Self {
        match value {
            SaveValue::Factored => Self::Factored,
            SaveValue::Collapsed => Self::Collapsed,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum DtypeValue {
    /// Each tensor's own
    Keep,
    F32,
    F16,
    Bf16,
}

impl From<DtypeValue> for OutputDtype {
    fn from(value: DtypeValue) -> Self {
        match value {
            DtypeValue::Keep => Self::Keep,
            DtypeValue::F32 => Self::F32,
            DtypeValue::F16 => Self::F16,
            DtypeValue::Bf16 => Self::Bf16,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum FloatValue {
    F32,
    F16,
    Bf16,
}

impl From<FloatValue> for OutputDtype {
    fn from(value: FloatValue) -> Self {
        match value {
            FloatValue::F32 => Self::F32,
            FloatValue::F16 => Self::F16,
            FloatValue::Bf16 => Self::Bf16,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(super) enum ConvSchemeValue {
    /// 1 x kw, then kh x 1
    #[default]
    Spatial,
    /// kh x kw to fewer channels, then 1 x 1
    Channel,
}

impl From<ConvSchemeValue> for ConvScheme {
    fn from(value: ConvSchemeValue) -> Self {
        match value {
            ConvSchemeValue::Spatial => Self::Spatial,
            ConvSchemeValue::Channel => Self::Channel,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum SchemeValue {
    /// Convolutions as 1 x kw, then kh x 1
    Spatial,
    /// Convolutions as kh x kw to fewer channels, then 1 x 1
    Channel,
    /// A smaller kernel between two 1 x 1; linear layers as a core and a factor for each mode
    Tucker,
    /// Convolutions as 1 x 1, kh x 1 and 1 x kw in each channel, 1 x 1
    Cp,
    /// A core for each mode, multiplied out before the layer runs
    TensorTrain,
    /// For each layer the best of all
    Auto,
    /// Three factors of full rank
    Deep,
}

impl SchemeValue {
    /// The scheme of a rule, where it isn't only that of convolutions.
    pub(super) fn of_rule(self) -> Option<SchemeRule> {
        match self {
            Self::Spatial | Self::Channel => None,
            Self::Tucker => Some(SchemeRule::Fixed(Scheme::Tucker)),
            Self::Cp => Some(SchemeRule::Fixed(Scheme::Cp)),
            Self::TensorTrain => Some(SchemeRule::Fixed(Scheme::TensorTrain)),
            Self::Deep => Some(SchemeRule::Fixed(Scheme::Deep)),
            Self::Auto => Some(SchemeRule::Auto),
        }
    }

    /// How convolutions are seen as matrices, where it says that.
    pub(super) fn of_convolutions(self) -> Option<ConvScheme> {
        match self {
            Self::Spatial => Some(ConvScheme::Spatial),
            Self::Channel => Some(ConvScheme::Channel),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum InputsValue {
    /// The dense model's
    Dense,
    /// Those of the model as it is factored so far
    Compressed,
}

impl From<InputsValue> for CalibrationInputs {
    fn from(value: InputsValue) -> Self {
        match value {
            InputsValue::Dense => Self::Dense,
            InputsValue::Compressed => Self::Compressed,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum ObjectiveValue {
    /// As many parameters
    Parameters,
    /// As many multiply-adds
    Macs,
}

impl From<ObjectiveValue> for Objective {
    fn from(value: ObjectiveValue) -> Self {
        match value {
            ObjectiveValue::Parameters => Self::Parameters,
            ObjectiveValue::Macs => Self::Macs,
        }
    }
}

/// One rank, or one for each mode: `16`, `16,32`.
pub(super) fn ranks(text: &str) -> Result<Ranks, String> {
    let values = text.split(',').map(|rank| positive(rank.trim())).collect::<Result<Vec<usize>, String>>()?;
    Ranks::new(&values).map_err(|error| error.to_string())
}

/// How many pairs, or their sizes: `3`, `8x4,8x16`.
pub(super) fn pairs(text: &str) -> Result<Pairs, String> {
    if let Ok(count) = text.parse::<usize>() {
        let most = Ranks::MOST;
        return if (1..=most).contains(&count) {
            Ok(Pairs::Count(count))
        } else {
            Err(format!("expected 1 to {most} pairs"))
        };
    }
    let pair = |text: &str| {
        let (out, inner) = text.trim().split_once('x')?;
        let [out, inner] = [out, inner].map(|size| size.parse::<usize>().ok().filter(|&size| size > 0));
        Some([out?, inner?])
    };
    let sizes: Option<Vec<[usize; 2]>> = text.split(',').map(pair).collect();
    sizes.map(Pairs::Sizes).ok_or_else(|| "expected a number of pairs, or pairs such as 8x4,8x16".to_owned())
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum AllocateValue {
    /// The same part of every layer's parameters
    Uniform,
    /// Where singular values are largest for their cost
    Spectral,
}

impl From<AllocateValue> for Allocate {
    fn from(value: AllocateValue) -> Self {
        match value {
            AllocateValue::Uniform => Self::Uniform,
            AllocateValue::Spectral => Self::Spectral,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum SvdValue {
    /// The faster for the shape and rank
    Auto,
    /// A direct method
    Exact,
    /// Block Krylov, certified, direct where it doesn't converge
    Iterative,
}

impl From<SvdValue> for crate::linalg::SvdMethod {
    fn from(value: SvdValue) -> Self {
        match value {
            SvdValue::Auto => Self::Auto,
            SvdValue::Exact => Self::Exact,
            SvdValue::Iterative => Self::Iterative,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in
            [("5GB", 5_000_000_000), ("4GiB", 4 << 30), ("1.5kb", 1500), ("1024", 1024), ("2 MiB", 2 << 20)]
        {
            assert_eq!(text.parse::<Size>().unwrap().0, bytes, "{text}");
        }
        for text in ["", "GB", "-1", "5XB", "0", "1e30GB"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }
}
