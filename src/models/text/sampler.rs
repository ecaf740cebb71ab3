use candle_core::{Result, bail};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};
use serde::Serialize;

/// How the next token is chosen among all.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Sampling {
    /// What scores are divided by; at 0 the likeliest token is taken.
    pub temperature: f64,
    /// Only so many of the likeliest tokens.
    pub top_k: Option<usize>,
    /// Only the likeliest tokens that together have this part of the probability, of those that `top_k` leaves.
    pub top_p: Option<f64>,
    /// What is drawn from.
    pub seed: u64,
}

impl Sampling {
    /// What is out of range.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !self.temperature.is_finite() || self.temperature < 0.0 {
            problems.push(format!("temperature is {}, expected a number from 0 on", self.temperature));
        }
        if self.top_k == Some(0) {
            problems.push("top_k is 0, expected at least 1".to_owned());
        }
        if let Some(part) = self.top_p.filter(|part| !(*part > 0.0 && *part <= 1.0)) {
            problems.push(format!("top_p is {part}, expected a number above 0 and at most 1"));
        }
        problems
    }
}

impl Default for Sampling {
    /// The likeliest token.
    fn default() -> Self {
        Self { temperature: 0.0, top_k: None, top_p: None, seed: 0 }
    }
}

/// Chooses tokens by their scores.
///
/// With scores `x` and temperature `t` a token has `p_i = exp(x_i / t) / sum_j exp(x_j / t)`, the sum over the tokens that
/// `top_k` and then `top_p` leave.
///
/// # Determinism
///
/// The same scores and seed give the same tokens on every machine; of equal scores the lower token counts as the likelier.
///
/// # Reference
///
/// Holtzman et al., "The Curious Case of Neural Text Degeneration", 2020, section 3.1 (`top_p`).
///
/// # Examples
///
/// ```
/// use fnl::models::{Sampler, Sampling};
///
/// let scores = [0.5, 3.0, 2.0, -1.0];
/// assert_eq!(Sampler::new(Sampling::default()).choose(&scores)?, 1);
/// let mut sampling = Sampling::default();
/// (sampling.temperature, sampling.top_k) = (1.0, Some(2));
/// let mut sampler = Sampler::new(sampling);
/// let drawn = (0..1000).map(|_| sampler.choose(&scores)).collect::<Result<Vec<_>, _>>()?;
/// let first = drawn.iter().filter(|&&token| token == 1).count();
/// // 1 / (1 + exp(-1)) = 0.731, within four standard deviations of 0.014
/// assert!((first as f64 / 1000.0 - 0.731).abs() < 0.056);
/// assert!(drawn.iter().all(|token| [1, 2].contains(token)));
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Sampler {
    sampling: Sampling,
    random: ChaCha8Rng,
}

impl Sampler {
    /// A sampler at the start of its seed's numbers.
    #[must_use]
    pub fn new(sampling: Sampling) -> Self {
        Self { sampling, random: ChaCha8Rng::seed_from_u64(sampling.seed) }
    }

    /// The next token for these scores of all tokens.
    ///
    /// # Errors
    ///
    /// - no scores; scores that are not numbers; a sampling out of range
    pub fn choose(&mut self, scores: &[f32]) -> Result<u32> {
        if let Some(problem) = self.sampling.problems().first() {
            bail!("{problem}");
        }
        if let Some(token) = scores.iter().position(|score| score.is_nan()) {
            bail!("the score of token {token} is not a number");
        }
        let likelier =
            |one: &(usize, f32), other: &(usize, f32)| other.1.total_cmp(&one.1).then(one.0.cmp(&other.0));
        let mut tokens: Vec<(usize, f32)> = scores.iter().copied().enumerate().collect();
        if self.sampling.temperature == 0.0 {
            let Some((token, _)) = tokens.into_iter().min_by(likelier) else { bail!("there are no scores") };
            return Ok(token as u32);
        }
        if let Some(most) = self.sampling.top_k.filter(|&most| most < tokens.len()) {
            tokens.select_nth_unstable_by(most, likelier);
            tokens.truncate(most);
        }
        tokens.sort_unstable_by(likelier);
        let Some(&(_, highest)) = tokens.first() else { bail!("there are no scores") };
        // minus infinity is a token that never comes; differences are taken first, so that nothing overflows
        let weight = |score: f32| ((f64::from(score) - f64::from(highest)) / self.sampling.temperature).exp();
        let weights: Vec<f64> = tokens.iter().map(|&(_, score)| weight(score)).collect();
        let mut kept = weights.len();
        if let Some(part) = self.sampling.top_p {
            let (most, mut sum) = (part * weights.iter().sum::<f64>(), 0.0);
            let reaches = |weight: &f64| {
                sum += weight;
                sum >= most
            };
            kept = weights.iter().position(reaches).map_or(kept, |last| last + 1);
        }
        let total: f64 = weights.iter().take(kept).sum();
        let mut left = (self.random.next_u64() >> 11) as f64 / (1u64 << 53) as f64 * total;
        for (&(token, _), weight) in tokens.iter().zip(&weights).take(kept) {
            left -= weight;
            if left < 0.0 {
                return Ok(token as u32);
            }
        }
        // rounding left a little
        Ok(tokens.first().map_or(0, |&(token, _)| token as u32))
    }
}
