//! Truncated decompositions from a block Krylov space.
//!
//! With `G = Wt W`, the space of `X, G X, G^2 X, ...` for a narrow random block X holds the leading right singular vectors after far
//! fewer products with W than a power iteration with a block of full width needs. The basis V is kept orthonormal to rounding, `T = Vt G V` is
//! diagonalized (Rayleigh and Ritz), and [`refine`](super::refine) ends the work.
//!
//! The stopping rule is about energy. A Ritz pair `(t_i, y_i)` with residual norm `p_i = |G y_i - t_i y_i|` lacks at most about
//! `p_i^2 / (t_i - t')` of what it could capture, t' being where the spectrum outside the space begins. The space is large enough when
//! these sum to a small part of the tail. A single random block sees only as many copies of a repeated singular value as it has
//! columns, with residuals of zero, so a second random block, orthogonal to everything found, then looks for what was missed.
//!
//! Reference: C. Musco, C. Musco, "Randomized block Krylov methods", 2015; G. Golub, R. Underwood, "The block Lanczos method", 1977.

use faer::{Accum, Mat, MatRef};

use super::Scalar;
use super::eigen::{Reduced, largest_eigenpairs};
use super::orthonormal::{orthonormalize, orthonormalize_regular};
use super::product::{Team, convert, gram, multiply, product};
use super::random::Splitmix;

/// What the kept space may lack, as a part of the squared error: the error is then within 1 + half of it of the optimum.
const LACKING: f64 = 1.2e-4;
/// Columns of the block that looks for missed directions.
const PROBE: usize = 16;

/// A right basis whose projection of `w` is within `1 + LACKING` of the least squared error, or `None` if the space would
/// grow to where a direct method is cheaper.
pub(crate) fn krylov<T: Scalar>(
    team: &Team,
    w: MatRef<'_, T>,
    rank: usize,
    norm_squared: f64,
) -> Option<Mat<T>> {
    let n = w.ncols();
    let block = block_size(n, rank);
    let most = largest_space(n, rank);
    // on slowly decaying spectra the first check passes or nearly does
    let mut next_check = 5 * rank / 2 + block;
    if next_check > most {
        return None;
    }
    let mut space = Space::new(team, w, most + block + 2 * PROBE);
    space.start(block);
    loop {
        while space.size < next_check {
            space.extend()?;
        }
        let ritz = space.ritz(rank, norm_squared)?;
        if ritz.lacking <= LACKING * ritz.tail && space.probe(&ritz)? <= LACKING * ritz.tail {
            let vectors = ritz.vectors.as_ref();
            return Some(product(team, space.basis.as_ref().subcols(0, vectors.nrows()), vectors));
        }
        // each further check costs an eigenproblem, so the nearer the goal the shorter the step
        let step = if ritz.lacking > 20.0 * LACKING * ritz.tail { rank / 2 } else { rank / 4 };
        next_check = space.size + step.max(block);
        if next_check > most {
            return None;
        }
    }
}

/// Narrow blocks make better spaces and wide ones faster products.
fn block_size(n: usize, rank: usize) -> usize {
    let wanted = if n >= 1024 { 64 } else { 32 };
    wanted.min(rank.next_multiple_of(8)).min(n)
}

/// The size of a space from which on a direct method is as fast.
pub(crate) fn largest_space(n: usize, rank: usize) -> usize {
    (6 * rank).min(n * 5 / 8)
}

/// Whether the Krylov space is likely to be cheaper than the direct method.
pub(crate) fn krylov_pays(m: usize, n: usize, rank: usize) -> bool {
    // A very tall matrix is dominated by products with it either way; a small one's reduction is in the cache.
    // Measured: (5632, 2048) at rank 256 takes half the direct method's time, (8192, 1024) at rank 128 as long.
    let (large, small) = (n >= 1536 && m < 4 * n && 6 * rank <= n, n >= 512 && m < 2 * n && 24 * rank <= n);
    large || small
}

/// An orthonormal basis V and `T = Vt G V`, growing by blocks.
struct Space<'a, T> {
    team: &'a Team,
    operator: Operator<'a, T>,
    // the first `size` columns are in use
    basis: Mat<T>,
    projected: Mat<T>,
    size: usize,
    /// `G` times the last block, orthogonal to the basis: what the space lacks to be closed.
    outward: Mat<T>,
}

/// Leading Ritz pairs.
struct Ritz<T> {
    vectors: Mat<T>,
    smallest: f64,
    /// Energy outside the leading pairs.
    tail: f64,
    /// The estimate of the energy that a larger space would add.
    lacking: f64,
}

/// `G`, formed where that pays, and as two products elsewhere.
enum Operator<'a, T> {
    Factors(MatRef<'a, T>),
    Formed(Mat<T>),
}

impl<T: Scalar> Operator<'_, T> {
    fn apply(&self, team: &Team, x: MatRef<'_, T>) -> Mat<T> {
        match self {
            Self::Factors(w) => product(team, w.transpose(), product(team, *w, x).as_ref()),
            Self::Formed(g) => product(team, g.as_ref(), x),
        }
    }
}

impl<'a, T: Scalar> Space<'a, T> {
    fn new(team: &'a Team, w: MatRef<'a, T>, capacity: usize) -> Self {
        let (m, n) = (w.nrows(), w.ncols());
        let operator =
            if m >= 2 * n { Operator::Formed(symmetric(gram(team, w))) } else { Operator::Factors(w) };
        let capacity = capacity.min(n);
        Self {
            team,
            operator,
            basis: Mat::zeros(n, capacity),
            projected: Mat::zeros(capacity, capacity),
            size: 0,
            outward: Mat::zeros(n, 0),
        }
    }

    /// Begins with a random block, once multiplied by G.
    fn start(&mut self, block: usize) {
        let random = random_block(self.basis.nrows(), block, 1);
        self.outward = self.operator.apply(self.team, random.as_ref());
    }

    /// Appends the block that closes the space further. `None` when the space is full.
    fn extend(&mut self) -> Option<()> {
        let block = std::mem::replace(&mut self.outward, Mat::zeros(0, 0));
        self.append(block)
    }

    /// Orthonormalizes a block against the basis and appends it.
    fn append(&mut self, mut block: Mat<T>) -> Option<()> {
        let (from, width) = (self.size, block.ncols());
        if from + width > self.basis.ncols() {
            return None;
        }
        if from == 0 || !orthonormalize_regular(self.team, &mut block) {
            // the block is deficient: reflections complete it with arbitrary directions, which still have to leave the basis
            for _ in 0..2 {
                orthonormalize(self.team, &mut block);
                self.leave_basis(&mut block);
            }
            orthonormalize(self.team, &mut block);
        }
        self.basis.as_mut().subcols_mut(from, width).copy_from(block.as_ref());
        self.size += width;
        let mut outward = self.operator.apply(self.team, block.as_ref());
        let overlaps = self.leave_basis(&mut outward);
        let correction = self.leave_basis(&mut outward);
        for j in 0..width {
            for i in 0..self.size {
                let value = overlaps[(i, j)] + correction[(i, j)];
                self.projected[(i, from + j)] = value;
                self.projected[(from + j, i)] = value;
            }
        }
        self.outward = outward;
        Some(())
    }

    /// Subtracts from x its projection on the basis, and returns `Vt x`.
    fn leave_basis(&self, x: &mut Mat<T>) -> Mat<T> {
        let basis = self.basis.as_ref().subcols(0, self.size);
        let overlaps = product(self.team, basis.transpose(), x.as_ref());
        multiply(self.team, x.as_mut(), Accum::Add, basis, overlaps.as_ref(), T::from_f64(-1.0));
        overlaps
    }

    fn ritz(&self, rank: usize, norm_squared: f64) -> Option<Ritz<T>> {
        let (size, width) = (self.size, self.outward.ncols());
        let projected = self.projected.as_ref().submatrix(0, 0, size, size);
        let reduced = Reduced::new(self.team, projected.to_owned());
        let values = reduced.values(self.team, rank);
        let vectors = reduced.vectors(self.team, &values, rank)?;
        // residuals are the outward block times the last rows of the vectors
        let last = vectors.as_ref().subrows(size - width, width);
        let residuals = product(self.team, self.outward.as_ref(), last);
        let outside =
            (size - width..size).map(|i| self.projected[(i, i)].to_f64()).sum::<f64>() / width as f64;
        let mut lacking = 0.0;
        for (value, residual) in values.iter().zip(residuals.col_iter()) {
            let squared: f64 = residual.iter().map(|x| x.to_f64() * x.to_f64()).sum();
            let gap = (value - outside).max(0.0);
            lacking += if squared.sqrt() > gap { squared.sqrt() } else { squared / gap };
        }
        let tail = (norm_squared - values.iter().sum::<f64>()).max(0.0);
        Some(Ritz { vectors, smallest: values.last().copied()?, tail, lacking })
    }

    /// The energy above the smallest kept Ritz value that two steps from a fresh random block find outside the basis.
    fn probe(&mut self, ritz: &Ritz<T>) -> Option<f64> {
        let from = self.size;
        let mut random = random_block(self.basis.nrows(), PROBE, 2);
        self.leave_basis(&mut random);
        self.leave_basis(&mut random);
        let outward = std::mem::replace(&mut self.outward, random);
        self.extend()?;
        self.extend()?;
        let width = self.size - from;
        let found = self.projected.as_ref().submatrix(from, from, width, width);
        let values = largest_eigenpairs::<f64>(self.team, convert(self.team, found), width)?.values;
        // the chain goes on from where it was
        let mut rest = outward;
        self.leave_basis(&mut rest);
        self.outward = rest;
        Some(values.iter().map(|value| (value - ritz.smallest).max(0.0)).sum())
    }
}

/// Side of the tiles that are mirrored at once: both fit in the cache.
const TILE: usize = 64;

/// The lower triangle, mirrored.
fn symmetric<T: Scalar>(mut a: Mat<T>) -> Mat<T> {
    let n = a.nrows();
    for first in (0..n).step_by(TILE) {
        for j in 0..n.min(first + TILE) {
            for i in first.max(j + 1)..n.min(first + TILE) {
                a[(j, i)] = a[(i, j)];
            }
        }
    }
    a
}

fn random_block<T: Scalar>(rows: usize, cols: usize, seed: u64) -> Mat<T> {
    let mut random = Splitmix::new(seed);
    Mat::from_fn(rows, cols, |_, _| T::from_f64(random.uniform()))
}
