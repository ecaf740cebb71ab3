use super::error::GgufModelError;
use crate::checkpoint::GgufFile;
use serde_json::{Value, json};
use std::f64::consts::PI;

/// What Llama 3.1 and later were stretched with; a file keeps what comes out of it only.
const LOW: f64 = 1.0;
const HIGH: f64 = 4.0;
const CONTEXT: f64 = 8192.0;
/// Divisors are kept in 32 bits, and frequencies were computed in them.
const TOLERANCE: f64 = 1e-3;

/// How rotary frequencies are stretched, as `config.json` says it.
///
/// llama.cpp keeps a divisor for each frequency of a Llama 3 in the tensor `rope_freqs.weight`, and not the settings that they
/// were computed from: those are found again, and checked against every divisor.
pub(super) fn stretch(
    file: &GgufFile,
    architecture: &str,
    head_width: u64,
    theta: f64,
) -> Result<Option<Value>, GgufModelError> {
    if let Some(tensor) = file.tensor("rope_freqs.weight") {
        let divisors = file.read(tensor)?;
        return match llama3(&divisors, head_width, theta) {
            Some(factor) => Ok(settings(factor)),
            None => Err(GgufModelError::Unsupported {
                path: file.path().to_owned(),
                key: "`rope_freqs.weight`".to_owned(),
                found: format!("{} divisors of other frequencies", divisors.len()),
                expected: "those of Llama 3, stretched from 8192 tokens".to_owned(),
            }),
        };
    }
    let key = |name: &str| format!("{architecture}.rope.{name}");
    if let Some(factor) = file.number_if(&key("scale_linear"))?.filter(|&factor| factor != 1.0) {
        return Ok(Some(json!({"rope_type": "linear", "factor": factor})));
    }
    match file.text_if(&key("scaling.type"))? {
        None | Some("none") => Ok(None),
        // what is not known is refused with the configuration
        Some(kind) => {
            let factor = file.number_if(&key("scaling.factor"))?;
            Ok(Some(json!({"rope_type": kind, "factor": factor})))
        }
    }
}

/// The settings with this factor; none are needed where it changes nothing.
fn settings(factor: f64) -> Option<Value> {
    let settings = json!({
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": LOW,
        "high_freq_factor": HIGH,
        "original_max_position_embeddings": CONTEXT as u64,
    });
    (factor > 1.0).then_some(settings)
}

/// The factor with which the settings give these divisors.
fn llama3(divisors: &[f32], head_width: u64, theta: f64) -> Option<f64> {
    if divisors.len() as u64 != head_width / 2 {
        return None;
    }
    let factor = divisors.iter().copied().map(f64::from).fold(1.0, f64::max);
    // d(i) = 1 / (k + (1 - k) / factor), k = clamp((context f(i) / 2 pi - low) / (high - low)), f(i) = theta^(-2 i / d)
    let expected = |index: usize| {
        let frequency = theta.powf(-2.0 * index as f64 / head_width as f64);
        let kept = ((CONTEXT * frequency / (2.0 * PI) - LOW) / (HIGH - LOW)).clamp(0.0, 1.0);
        1.0 / (kept + (1.0 - kept) / factor)
    };
    let holds = |(index, &found): (usize, &f32)| {
        let expected = expected(index);
        (f64::from(found) - expected).abs() <= TOLERANCE * expected
    };
    divisors.iter().enumerate().all(holds).then_some(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divisors_tell_the_settings_that_they_were_computed_from() {
        // Llama 3.2's, of heads 64 wide: the wavelength of index 15 is 2 pi 500000^(30/64) = 2942, kept (2.784 - 1) / 3
        let divisor = |index: i32| -> f32 {
            let wavelength = 2.0 * PI * 500_000f64.powf(2.0 * f64::from(index) / 64.0);
            let smooth = (8192.0 / wavelength - 1.0) / 3.0;
            match wavelength {
                short if short < 2048.0 => 1.0,
                long if long > 8192.0 => 32.0,
                _ => (1.0 / ((1.0 - smooth) / 32.0 + smooth)) as f32,
            }
        };
        let divisors: Vec<f32> = (0..32).map(divisor).collect();
        assert_eq!(llama3(&divisors, 64, 500_000.0), Some(32.0));
        assert_eq!(settings(32.0).unwrap()["factor"], 32.0);
        assert_eq!(llama3(&divisors, 128, 500_000.0), None);
        assert_eq!(llama3(&divisors, 64, 10_000.0), None);
        assert_eq!(llama3(&[1.0; 32], 64, 500_000.0).map(settings), Some(None));
    }
}
