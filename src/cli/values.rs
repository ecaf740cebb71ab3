//! Values of flags that are more than a word or a number.

use crate::decompose::Method;
use crate::plan::{Allocate, ConvScheme, OutputDtype, Save};
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
