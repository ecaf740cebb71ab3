//! The singular values of a matrix, and what they say about its approximations.

/// The singular values of a matrix, descending.
///
/// By Eckart and Young the best approximation of rank r misses exactly the values after the first r:
/// `|W - W_r|^2 = sum_{i>r} s_i^2`. Everything a rank rule needs follows from these numbers alone.
///
/// For the zero matrix the energy is 1, the relative error 0 and the stable rank 0, at every rank.
///
/// # Reference
/// C. Eckart, G. Young, "The approximation of one matrix by another of lower rank", 1936.
///
/// # Examples
/// ```
/// use fnl::linalg::Spectrum;
/// let spectrum = Spectrum::new(vec![0.0, 4.0, 3.0]);
/// assert_eq!(spectrum.values(), [4.0, 3.0, 0.0]);
/// assert_eq!(spectrum.energy(1), 16.0 / 25.0);
/// assert_eq!(spectrum.relative_error(1), 0.6);
/// assert_eq!(spectrum.rank_for_energy(0.9), 2);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Spectrum {
    values: Vec<f64>,
    // tails[r] = sum of squares after the first r; summed from the small end, so no digits cancel
    tails: Vec<f64>,
}

impl Spectrum {
    /// Takes singular values in any order. Negative ones lose their sign, as singular values have none.
    #[must_use]
    pub fn new(mut values: Vec<f64>) -> Self {
        for value in &mut values {
            *value = value.abs();
        }
        values.sort_by(|a, b| b.total_cmp(a));
        let mut tails = vec![0.0; values.len() + 1];
        for (rank, value) in values.iter().enumerate().rev() {
            tails[rank] = value * value + tails[rank + 1];
        }
        Self { values, tails }
    }

    /// The singular values, descending.
    #[must_use]
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// The squared Frobenius norm, `sum_i s_i^2`.
    #[must_use]
    pub fn norm_squared(&self) -> f64 {
        self.tail_squared(0)
    }

    /// The squared error of the best approximation of rank `rank`, `sum_{i>rank} s_i^2`. Past the last value it is 0.
    #[must_use]
    pub fn tail_squared(&self, rank: usize) -> f64 {
        self.tails.get(rank).copied().unwrap_or(0.0)
    }

    /// The share of the squared norm that rank `rank` keeps, between 0 and 1.
    #[must_use]
    pub fn energy(&self, rank: usize) -> f64 {
        1.0 - share(self.tail_squared(rank), self.norm_squared())
    }

    /// The Frobenius error of the best approximation of rank `rank`, relative to the norm, between 0 and 1.
    #[must_use]
    pub fn relative_error(&self, rank: usize) -> f64 {
        share(self.tail_squared(rank), self.norm_squared()).sqrt()
    }

    /// The least rank, at least 1, whose energy is at least `energy`. Above 1 it is the number of values.
    #[must_use]
    pub fn rank_for_energy(&self, energy: f64) -> usize {
        let largest = self.values.len().max(1);
        (1..largest).find(|&rank| self.energy(rank) >= energy).unwrap_or(largest)
    }

    /// The stable rank `|W|^2 / s_1^2`: at most the rank, and barely moved by small singular values.
    #[must_use]
    pub fn stable_rank(&self) -> f64 {
        match self.values.first() {
            Some(&largest) if largest > 0.0 => self.values.iter().map(|s| (s / largest).powi(2)).sum(),
            _ => 0.0,
        }
    }
}

/// `part / whole`, and 0 where the whole is 0: nothing of a zero matrix is missed.
pub(crate) fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { (part / whole).clamp(0.0, 1.0) } else { 0.0 }
}
