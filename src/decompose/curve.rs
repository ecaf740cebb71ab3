use super::tensor::{self, CpOptions, DenseTensor, HosvdErrors};
use super::tensorized::tensor_of;
use super::{DecomposeError, Format, Ranks, Split, Tensorization, weight_spectrum};
use crate::linalg::{Scalar, Spectrum};
use serde::Serialize;

/// Between how many ranks of components errors are interpolated.
const TRIED: usize = 9;
/// Sweeps of alternating least squares at each of them.
const SWEEPS: usize = 12;
/// Ranks of two modes that are tried at most.
const MOST_OF_GRID: usize = 1 << 18;

/// How an error that is told beforehand relates to that of the factors: what says most first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Certainty {
    /// It is that.
    Exact,
    /// That is at most it.
    AtMost,
    /// It was measured after a few sweeps, at ranks around: that is most often below it, at many ranks far.
    Estimated,
}

/// An error that is told beforehand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Foreseen {
    /// `|W - W'|^2 / |W|^2`.
    pub error_squared: f64,
    /// The least that it can turn out to be.
    pub at_least_squared: f64,
    /// How it relates to that of the factors.
    pub certainty: Certainty,
}

impl Foreseen {
    /// An error that was measured.
    #[must_use]
    pub fn exact(error_squared: f64) -> Self {
        Self { error_squared, at_least_squared: error_squared, certainty: Certainty::Exact }
    }

    /// An error of which nothing is known.
    #[must_use]
    pub fn unknown() -> Self {
        Self { error_squared: 1.0, at_least_squared: 0.0, certainty: Certainty::Estimated }
    }
}

/// What a weight loses in a format, rank by rank.
#[derive(Clone, Debug)]
pub struct Curve {
    /// Ranks at which the factors are smaller than the weight, in order of parameters, errors falling.
    pub points: Vec<Point>,
    /// The singular values of each mode that has a rank; of `cp`, whose components belong to none, there are none.
    pub modes: Vec<Spectrum>,
    /// How the points' errors relate to those of the factors.
    pub certainty: Certainty,
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
/// | `tucker` | of two modes the best at every number of parameters; of more one mode's after the other's, whichever gains most for its parameters | that of HOSVD; HOOI loses a little less |
/// | `tensor-train` | one mode's after the other's | the bound of TT-SVD: the sum of what each cut leaves out |
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
            match of.split() {
                Split::TuckerKernel | Split::TuckerPairs(_) => tucker_curve(of, &weight, round_to, threads),
                Split::Components => cp_curve(of, &weight, round_to, threads),
                Split::Train(_) => train_curve(of, &weight, round_to, threads),
            }
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
        Self { points, modes: vec![spectrum.clone()], certainty: Certainty::Exact, hosvd: None }
    }

    /// The error to expect at these ranks, where something is known of them.
    #[must_use]
    pub fn foreseen(&self, ranks: &Ranks) -> Option<Foreseen> {
        let error_squared = if let Some(errors) = &self.hosvd {
            errors.error_squared(ranks.values()) / errors.norm_squared().max(f64::MIN_POSITIVE)
        } else if self.modes.is_empty() {
            self.points.iter().find(|point| point.ranks == *ranks)?.error_squared
        } else {
            left_out(&self.modes, ranks).sum::<f64>().min(1.0)
        };
        let at_least_squared = match self.certainty {
            Certainty::Exact => error_squared,
            // No cut can leave less than its own tail.
            Certainty::AtMost => left_out(&self.modes, ranks).fold(0.0, f64::max).min(error_squared),
            // At many ranks more sweeps leave a third of what a few do.
            Certainty::Estimated => 0.0,
        };
        Some(Foreseen { error_squared, at_least_squared, certainty: self.certainty })
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

/// Only points that are better than all that cost less, in order of parameters.
fn falling(mut points: Vec<Point>) -> Vec<Point> {
    points.sort_by(|a, b| a.parameters.cmp(&b.parameters).then(a.error_squared.total_cmp(&b.error_squared)));
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

/// All ranks of a tensor of two cuts, in steps that leave few enough, at which the factors are smaller than the weight.
fn grid(of: &Tensorization, round_to: usize, error: impl Fn(&Ranks) -> f64) -> Vec<Point> {
    let (most, dense) = (of.max_ranks(), of.shape().iter().product::<usize>());
    let &[first, second] = most.values() else { return Vec::new() };
    let coarse = ((first * second) as f64 / MOST_OF_GRID as f64).sqrt().ceil() as usize;
    let step = round_to * coarse.div_ceil(round_to).max(1);
    let ranks = (step..=first).step_by(step).flat_map(|a| (step..=second).step_by(step).map(move |b| [a, b]));
    let point = |ranks: [usize; 2]| {
        let ranks = Ranks::of(ranks);
        let parameters = of.factored_parameters(&ranks);
        (parameters < dense && of.attainable(&ranks) == ranks).then(|| Point {
            ranks,
            parameters,
            error_squared: error(&ranks),
        })
    };
    ranks.filter_map(point).collect()
}

/// What each cut leaves out, squared.
fn left_out<'a>(cuts: &'a [Spectrum], ranks: &'a Ranks) -> impl Iterator<Item = f64> + 'a {
    cuts.iter().zip(ranks.values()).map(|(cut, &rank)| cut.relative_error(rank).powi(2))
}

fn tucker_curve(
    of: &Tensorization,
    weight: &DenseTensor,
    round_to: usize,
    threads: usize,
) -> Result<Curve, DecomposeError> {
    let errors = tensor::hosvd_errors(weight, &of.cut(), threads)?;
    let norm = weight.norm_squared().max(f64::MIN_POSITIVE);
    let error = |ranks: &Ranks| errors.error_squared(ranks.values()) / norm;
    let points = falling([path(of, round_to, error), grid(of, round_to, error)].concat());
    let modes = tensor::mode_spectra(weight, &of.cut(), threads)?;
    Ok(Curve { points, modes, certainty: Certainty::AtMost, hosvd: Some(errors) })
}

fn train_curve(
    of: &Tensorization,
    weight: &DenseTensor,
    round_to: usize,
    threads: usize,
) -> Result<Curve, DecomposeError> {
    let modes = tensor::train_spectra(weight, threads)?;
    let points = falling(path(of, round_to, |ranks| left_out(&modes, ranks).sum::<f64>().min(1.0)));
    Ok(Curve { points, modes, certainty: Certainty::AtMost, hosvd: None })
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
    let points = falling((round_to..=most).step_by(round_to).map(point).collect());
    Ok(Curve { points, modes: Vec::new(), certainty: Certainty::Estimated, hosvd: None })
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
