use faer::{Accum, Mat, MatMut, MatRef};

use super::CpOptions;
use super::arranged::{Arranged, khatri_rao};
use super::components::spread_norms;
use crate::linalg::{Cholesky, Team, add_scaled, dot, multiply, product};

/// Damping of the normal equations, as a part of the mean of their diagonal: at the start, where it would make components vanish
/// that are needed later, its growth over a sweep until it is what was asked for, and the least, which only keeps
/// the equations solvable.
const FIRST_DAMPING: f64 = 1e-5;
const DAMPING_GROWTH: f64 = 2.0;
const LEAST_DAMPING: f64 = 1e-15;
/// A part of the squared norm below which a difference of squares says nothing: one more sweep, undamped, is the last.
const ROUNDING: f64 = 1e-15;
/// How far a step is stretched: at first, its growth where that was right, its cut where it was not, and the most.
const FIRST_STRETCH: f64 = 0.25;
const STRETCH_GROWTH: f64 = 1.3;
const STRETCH_CUT: f64 = 0.5;
const MOST_STRETCH: f64 = 20.0;

/// Where alternating least squares ended.
pub(super) struct End {
    pub(super) factors: Vec<Mat<f64>>,
    pub(super) error: f64,
    pub(super) sweeps: usize,
}

/// Alternating least squares on one tensor, and its working memory.
///
/// With the axes (small.., p, q), one product of matrices contracts q:
///
/// ```text
/// z_(s,p),r = sum_q T_(s,p),q Q_q,r
/// ```
///
/// From z follow the right sides of the normal equations of p, `sum_s z_(s,p),r C_s,r` with C the Khatri-Rao product of
/// the small factors, and of all small axes, through `w_s,r = sum_p z_(s,p),r P_p,r`. A second product contracts p, for q.
pub(super) struct Alternation<'t> {
    arranged: &'t Arranged,
    rank: usize,
    team: Team,
    grams: Vec<Mat<f64>>,
    z: Vec<f64>,
}

impl<'t> Alternation<'t> {
    pub(super) fn new(arranged: &'t Arranged, rank: usize, team: Team) -> Self {
        let largest = arranged.sizes.last().copied().unwrap_or(1);
        let z = vec![0.0; arranged.small() * largest * rank];
        Self { arranged, rank, team, grams: Vec::new(), z }
    }

    /// Sweeps from a start until the error changes no more.
    pub(super) fn run(&mut self, start: Vec<Mat<f64>>, options: &CpOptions) -> End {
        let mut now = start;
        let mut before: Option<Vec<Mat<f64>>> = None;
        let (mut error, mut stretch, mut damping) = (f64::INFINITY, FIRST_STRETCH, FIRST_DAMPING);
        for sweep in 1..=options.sweeps {
            let ahead = before.as_ref().map(|before| extrapolated(before, &now, stretch));
            let stretched = ahead.and_then(|mut ahead| {
                let reached = self.sweep(&mut ahead, damping, error)?;
                Some((ahead, reached))
            });
            let (mut next, reached) = if let Some(stretched) = stretched {
                stretch = (stretch * STRETCH_GROWTH).min(MOST_STRETCH);
                stretched
            } else {
                if before.is_some() {
                    stretch *= STRETCH_CUT;
                }
                let mut next = now.clone();
                let reached = self.sweep(&mut next, damping, f64::INFINITY).unwrap_or(error);
                (next, reached)
            };
            spread_norms(&mut next);
            let change = (error.sqrt() - reached.sqrt()).abs();
            before = Some(std::mem::replace(&mut now, next));
            let is_last = change <= options.tolerance * reached.sqrt();
            error = reached;
            if error <= ROUNDING * self.arranged.norm_squared {
                error = self.sweep(&mut now, LEAST_DAMPING, f64::INFINITY).unwrap_or(error);
                return End { factors: now, error, sweeps: sweep + 1 };
            }
            if is_last {
                return End { factors: now, error, sweeps: sweep };
            }
            let wanted = options.damping * error / self.arranged.norm_squared;
            damping = wanted.min(damping * DAMPING_GROWTH).max(LEAST_DAMPING);
        }
        End { factors: now, error, sweeps: options.sweeps }
    }

    /// Solves for every factor once, for small ones twice, and returns the squared error; `None` if it was above `limit`
    /// before: the factors are then as they were.
    fn sweep(&mut self, factors: &mut [Mat<f64>], damping: f64, limit: f64) -> Option<f64> {
        let (p, q) = (factors.len() - 2, factors.len() - 1);
        self.grams =
            factors.iter().map(|factor| product(&self.team, factor.transpose(), factor.as_ref())).collect();
        let right = self.right_side(factors, p, q);
        if self.error(&right, &factors[p]) > limit {
            return None;
        }
        self.solve(factors, p, &right, damping);
        self.solve_small(factors, p, damping);
        let right = self.right_side(factors, q, p);
        self.solve(factors, q, &right, damping);
        let after_small = self.solve_small(factors, q, damping);
        Some(after_small.unwrap_or_else(|| self.error(&right, &factors[q])))
    }

    /// Contracts the axis `along` into z, and returns the right side of the normal equations of the other large axis.
    fn right_side(&mut self, factors: &[Mat<f64>], axis: usize, along: usize) -> Mat<f64> {
        let (small, n) = (self.arranged.small(), self.arranged.sizes[axis]);
        let rows = small * n;
        let z = &mut self.z[..rows * self.rank];
        let to = MatMut::from_column_major_slice_mut(z, rows, self.rank);
        multiply(&self.team, to, Accum::Replace, self.arranged.along(along), factors[along].as_ref(), 1.0);
        let mut right = Mat::zeros(n, self.rank);
        let smalls = khatri_rao_or_one(&factors[..factors.len() - 2], self.rank);
        for (r, part) in z.chunks_exact(rows).enumerate() {
            let sum = column_mut(&mut right, r);
            for (s, part) in part.chunks_exact(n).enumerate() {
                add_scaled(sum, smalls[(s, r)], part);
            }
        }
        right
    }

    /// Solves for the factors of the small axes from what z holds, the tensor contracted along all but `axis` of the large ones;
    /// returns the squared error after the last, `None` if there is none.
    fn solve_small(&mut self, factors: &mut [Mat<f64>], axis: usize, damping: f64) -> Option<f64> {
        let (small, n) = (self.arranged.small(), self.arranged.sizes[axis]);
        let rows = small * n;
        let mut w = Mat::zeros(small, self.rank);
        for (r, part) in self.z[..rows * self.rank].chunks_exact(rows).enumerate() {
            let vector = column(&factors[axis], r);
            for (s, part) in part.chunks_exact(n).enumerate() {
                w[(s, r)] = dot(part, vector);
            }
        }
        let mut error = None;
        for k in 0..factors.len() - 2 {
            // one place has nothing to be solved for but scale
            if self.arranged.sizes[k] > 1 {
                let right = self.small_right_side(factors, k, w.as_ref());
                self.solve(factors, k, &right, damping);
                error = Some(self.error(&right, &factors[k]));
            }
        }
        error
    }

    /// `sum_s w_s,r` times the entries of the other small factors, into the place of axis k.
    fn small_right_side(&self, factors: &[Mat<f64>], k: usize, w: MatRef<'_, f64>) -> Mat<f64> {
        let sizes = &self.arranged.sizes[..factors.len() - 2];
        let mut right = Mat::zeros(sizes[k], self.rank);
        for s in 0..w.nrows() {
            let (mut rest, mut place) = (s, vec![0; sizes.len()]);
            for (place, size) in place.iter_mut().zip(sizes).rev() {
                (*place, rest) = (rest % size, rest / size);
            }
            for r in 0..self.rank {
                let others = (0..sizes.len()).filter(|&l| l != k).map(|l| factors[l][(place[l], r)]);
                right[(place[k], r)] += w[(s, r)] * others.product::<f64>();
            }
        }
        right
    }

    /// The best factor of an axis while the others stand still: `X (H + d I) = right`.
    fn solve(&mut self, factors: &mut [Mat<f64>], axis: usize, right: &Mat<f64>, damping: f64) {
        // without any other factor there is nothing to choose
        let Some(normal) = Cholesky::new(self.hadamard(Some(axis)).as_ref(), damping) else { return };
        let mut solution = right.clone();
        normal.solve_in_place(solution.as_mut().transpose_mut());
        self.grams[axis] = product(&self.team, solution.transpose(), solution.as_ref());
        factors[axis] = solution;
    }

    /// The product, entry by entry, of the Gram matrices of all factors but one.
    fn hadamard(&self, but: Option<usize>) -> Mat<f64> {
        let mut h = Mat::from_fn(self.rank, self.rank, |_, _| 1.0);
        for (k, gram) in self.grams.iter().enumerate() {
            if Some(k) != but {
                for (h, gram) in h.col_iter_mut().zip(gram.col_iter()) {
                    h.iter_mut().zip(gram.iter()).for_each(|(h, g)| *h *= g);
                }
            }
        }
        h
    }

    /// `|T|^2 - 2 <T, sum_r ..> + |sum_r ..|^2`, from the right side of one axis' normal equations and its factor.
    fn error(&self, right: &Mat<f64>, factor: &Mat<f64>) -> f64 {
        let columns = (0..self.rank).map(|r| dot(column(right, r), column(factor, r)));
        let along: f64 = columns.sum();
        let square: f64 = self.hadamard(None).col_iter().map(|c| c.iter().sum::<f64>()).sum();
        (self.arranged.norm_squared - 2.0 * along + square).max(0.0)
    }
}

/// `now + stretch (now - before)`.
fn extrapolated(before: &[Mat<f64>], now: &[Mat<f64>], stretch: f64) -> Vec<Mat<f64>> {
    let ahead = |(before, now): (&Mat<f64>, &Mat<f64>)| {
        Mat::from_fn(now.nrows(), now.ncols(), |i, r| now[(i, r)] + stretch * (now[(i, r)] - before[(i, r)]))
    };
    before.iter().zip(now).map(ahead).collect()
}

fn khatri_rao_or_one(factors: &[Mat<f64>], rank: usize) -> Mat<f64> {
    if factors.is_empty() { Mat::from_fn(1, rank, |_, _| 1.0) } else { khatri_rao(factors) }
}

fn column(matrix: &Mat<f64>, j: usize) -> &[f64] {
    matrix.col_as_slice(j)
}

fn column_mut(matrix: &mut Mat<f64>, j: usize) -> &mut [f64] {
    matrix.col_as_slice_mut(j)
}
