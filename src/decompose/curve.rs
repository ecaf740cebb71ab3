use super::tensor::{self, CpOptions, DenseTensor, HosvdErrors};
use super::tensorized::tensor_of;
use super::{DecomposeError, Format, Ranks, Scheme, Tensorization, weight_spectrum};
use crate::linalg::{Scalar, Spectrum};

/// Between how many ranks of components errors are interpolated.
const TRIED: usize = 9;
/// Sweeps of alternating least squares at each of them.
const SWEEPS: usize = 12;

/// What a weight loses in a format, rank by rank.
#[derive(Clone, Debug)]
pub struct Curve {
    /// Ranks at which the factors are smaller than the weight, in order of parameters, errors falling.
    pub points: Vec<Point>,
    /// The singular values of each mode that has a rank; of `cp`, whose components belong to none, there are none.
    pub modes: Vec<Spectrum>,
    /// What Tucker loses at any ranks.
    hosvd: Option<HosvdErrors>,
}

/// One choice of ranks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// The ranks.
    pub ranks: Ranks,
    /// Parameters of the factors.
    pub parameters: usize,
    /// `|W - W'|^2 / |W|^2`, or what is known of it beforehand: see [`curve`].
    pub error_squared: f64,
}

/// What a weight loses in a format, rank by rank; every rank a multiple of `round_to`, or whole.
///
/// | scheme | ranks | error |
/// | --- | --- | --- |
/// | of matrices | all | that of the truncated SVD, exactly |
/// | `tucker` | one mode's after the other's, whichever gains most for its parameters | that of HOSVD, exactly; HOOI loses a little less |
/// | `tensor-train` | likewise | the bound of TT-SVD: the sum of what each cut leaves out |
/// | `cp` | all | measured at ten ranks after a few sweeps, interpolated between them; more sweeps lose less |
///
/// # Errors
///
/// - as [`Format::factor`]
pub fn curve<T: Scalar>(
    data: &[T],
    format: &Format,
    round_to: usize,
    threads: usize,
) -> Result<Curve, DecomposeError> {
    let round_to = round_to.max(1);
    match format {
        Format::Matrix(unfolding) => {
            Ok(Curve::of_spectrum(&weight_spectrum(data, unfolding, threads)?, format, round_to))
        }
        Format::Tensor(of) => {
            let weight = tensor_of(of, data)?;
            let mut found = match of.scheme() {
                Scheme::Tucker => tucker_curve(of, &weight, round_to, threads)?,
                Scheme::Cp => cp_curve(of, &weight, round_to, threads)?,
                _ => train_curve(of, &weight, round_to, threads)?,
            };
            found.points = falling(found.points);
            Ok(found)
        }
    }
}

impl Curve {
    /// The curve of matrices whose singular values are known.
    #[must_use]
    pub fn of_spectrum(spectrum: &Spectrum, format: &Format, round_to: usize) -> Self {
        let round_to = round_to.max(1);
        let most = format.break_even_rank().min(format.max_ranks().largest());
        let point = |rank: usize| {
            let error = spectrum.relative_error(rank);
            let ranks = Ranks::from(rank);
            Point { ranks, parameters: format.factored_parameters(&ranks), error_squared: error * error }
        };
        let points = (round_to..=most).step_by(round_to).map(point).collect();
        Self { points, modes: vec![spectrum.clone()], hosvd: None }
    }

    /// `|W - W'|^2 / |W|^2` to expect at these ranks, where something is known of them.
    #[must_use]
    pub fn error_squared(&self, ranks: &Ranks) -> Option<f64> {
        if let Some(errors) = &self.hosvd {
            return Some(errors.error_squared(ranks.values()) / errors.norm_squared().max(f64::MIN_POSITIVE));
        }
        if self.modes.is_empty() {
            return self.points.iter().find(|point| point.ranks == *ranks).map(|point| point.error_squared);
        }
        Some(tails(&self.modes, ranks))
    }

    /// The best ranks of at most so many parameters.
    #[must_use]
    pub fn within(&self, parameters: usize) -> Option<&Point> {
        self.points[..self.points.partition_point(|point| point.parameters <= parameters)].last()
    }

    /// The least ranks that keep this part of the energy: of every mode, each for itself; of components, together.
    #[must_use]
    pub fn ranks_for_energy(&self, energy: f64) -> Option<Ranks> {
        if self.modes.is_empty() {
            return self
                .points
                .iter()
                .find(|point| point.error_squared <= 1.0 - energy)
                .map(|point| point.ranks);
        }
        Some(Ranks::of(self.modes.iter().map(|mode| mode.rank_for_energy(energy))))
    }
}

/// Only points that are better than all that cost less.
fn falling(points: Vec<Point>) -> Vec<Point> {
    let mut kept: Vec<Point> = Vec::new();
    for point in points {
        if kept
            .last()
            .is_none_or(|last| point.parameters > last.parameters && point.error_squared < last.error_squared)
        {
            kept.push(point);
        }
    }
    kept
}

/// Ranks along a path: from the least, each time the mode that gains most for its parameters, as long as the factors are
/// smaller than the weight.
fn path(of: &Tensorization, round_to: usize, error: impl Fn(&Ranks) -> f64) -> Vec<Point> {
    let (most, dense) = (of.max_ranks(), of.shape().iter().product::<usize>());
    let point = |ranks: Ranks| Point {
        ranks,
        parameters: of.factored_parameters(&ranks),
        error_squared: error(&ranks),
    };
    let mut here = point(of.attainable(&most.map(|_, most| most.min(round_to))));
    let mut points = Vec::new();
    while here.parameters < dense {
        points.push(here);
        let longer = |mode: usize| {
            let rank = here.ranks.values()[mode];
            let next = (rank + round_to).min(most.values()[mode]);
            let ranks = here.ranks.map(|at, rank| if at == mode { next } else { rank });
            (next > rank && of.attainable(&ranks) == ranks).then(|| point(ranks))
        };
        let gain = |next: &Point| {
            (here.error_squared - next.error_squared)
                / (next.parameters as f64 - here.parameters as f64).max(1.0)
        };
        // Where no mode can go alone, all go together.
        let together = || {
            let ranks = of.attainable(&most.map(|mode, most| most.min(here.ranks.values()[mode] + round_to)));
            (ranks != here.ranks).then(|| point(ranks))
        };
        let alone = (0..most.values().len()).filter_map(longer).max_by(|a, b| gain(a).total_cmp(&gain(b)));
        let Some(next) = alone.or_else(together) else { break };
        here = next;
    }
    points
}

/// What each cut leaves out, together.
fn tails(cuts: &[Spectrum], ranks: &Ranks) -> f64 {
    let left_out = |(cut, &rank): (&Spectrum, &usize)| cut.relative_error(rank).powi(2);
    cuts.iter().zip(ranks.values()).map(left_out).sum::<f64>().min(1.0)
}

fn tucker_curve(
    of: &Tensorization,
    weight: &DenseTensor,
    round_to: usize,
    threads: usize,
) -> Result<Curve, DecomposeError> {
    let errors = tensor::hosvd_errors(weight, &of.cut(), threads)?;
    let norm = weight.norm_squared().max(f64::MIN_POSITIVE);
    let points = path(of, round_to, |ranks| errors.error_squared(ranks.values()) / norm);
    let modes = tensor::mode_spectra(weight, &of.cut(), threads)?;
    Ok(Curve { points, modes, hosvd: Some(errors) })
}

fn train_curve(
    of: &Tensorization,
    weight: &DenseTensor,
    round_to: usize,
    threads: usize,
) -> Result<Curve, DecomposeError> {
    let modes = tensor::train_spectra(weight, threads)?;
    let points = path(of, round_to, |ranks| tails(&modes, ranks));
    Ok(Curve { points, modes, hosvd: None })
}

fn cp_curve(
    of: &Tensorization,
    weight: &DenseTensor,
    round_to: usize,
    threads: usize,
) -> Result<Curve, DecomposeError> {
    let most = Format::Tensor(of.clone()).break_even_rank();
    let norm = weight.norm_squared().max(f64::MIN_POSITIVE);
    let mut tried: Vec<usize> =
        (0..=TRIED).map(|k| (most as f64).powf(k as f64 / TRIED as f64).round() as usize).collect();
    tried.retain(|&rank| (1..=most).contains(&rank));
    tried.dedup();
    let options = CpOptions { restarts: 0, sweeps: SWEEPS, threads, ..CpOptions::default() };
    let mut measured: Vec<(usize, f64)> = Vec::new();
    for rank in tried {
        let error = tensor::cp(weight, rank, &options)?.error_squared / norm;
        // A start that ends worse than a smaller one says nothing.
        measured.push((rank, measured.last().map_or(error, |(_, last)| error.min(*last))));
    }
    let point = |rank: usize| {
        let ranks = Ranks::from(rank);
        let parameters = of.factored_parameters(&ranks);
        Point { ranks, parameters, error_squared: between(&measured, rank) }
    };
    let points = (round_to..=most).step_by(round_to).map(point).collect();
    Ok(Curve { points, modes: Vec::new(), hosvd: None })
}

/// An error at a rank, from those measured around it: straight between them, over the logarithm of ranks.
fn between(measured: &[(usize, f64)], rank: usize) -> f64 {
    let after = measured.partition_point(|(at, _)| *at < rank);
    match (after.checked_sub(1).and_then(|before| measured.get(before)), measured.get(after)) {
        (Some(&(low, from)), Some(&(high, to))) => {
            let part = (rank as f64 / low as f64).ln() / (high as f64 / low as f64).ln();
            from + part * (to - from)
        }
        (Some(&(_, error)), None) | (None, Some(&(_, error))) => error,
        (None, None) => 1.0,
    }
}
