//! Eigenvectors of a symmetric tridiagonal matrix by inverse iteration.
//!
//! Reference: J. Demmel, "Applied Numerical Linear Algebra", 1997, section 5.3.4; Gaussian elimination as LAPACK's `gttrf`.

use faer::Mat;

use crate::linalg::product::Team;
use crate::linalg::random::Splitmix;

/// Solves with `T - value`: the first makes an eigenvector of a random one, the second cleans it.
const SOLVES: usize = 2;

/// A unit eigenvector for each of the eigenvalues, which must be apart from each other.
pub(super) fn eigenvectors(team: &Team, diagonal: &[f64], subdiagonal: &[f64], values: &[f64]) -> Mat<f64> {
    let n = diagonal.len();
    let norm = diagonal.iter().chain(subdiagonal).fold(0.0f64, |a, b| a.max(b.abs()));
    let smallest = (f64::EPSILON * norm).max(f64::MIN_POSITIVE);
    let vectors = team.map(values.len(), |k| {
        let lu = Elimination::new(diagonal, subdiagonal, values[k], smallest);
        let mut random = Splitmix::new(k as u64);
        let mut x: Vec<f64> = (0..n).map(|_| random.uniform() + 0.5).collect();
        for _ in 0..SOLVES {
            lu.solve(&mut x);
            let largest = x.iter().fold(0.0f64, |a, b| a.max(b.abs()));
            divide(&mut x, largest);
            let length = x.iter().map(|v| v * v).sum::<f64>().sqrt();
            divide(&mut x, length);
        }
        x
    });
    Mat::from_fn(n, values.len(), |i, j| vectors[j][i])
}

fn divide(x: &mut [f64], by: f64) {
    for value in x {
        *value /= by;
    }
}

/// `T - value = P L U`, with row exchanges.
struct Elimination {
    // row i of U: inverse pivot and two entries right of it
    upper: Vec<[f64; 3]>,
    // multiplier of step i, and whether rows i and i + 1 were exchanged
    lower: Vec<(f64, bool)>,
}

impl Elimination {
    fn new(diagonal: &[f64], subdiagonal: &[f64], value: f64, smallest: f64) -> Self {
        let n = diagonal.len();
        let off = |i: usize| subdiagonal.get(i).copied().unwrap_or(0.0);
        let guard = |pivot: f64| if pivot.abs() < smallest { smallest.copysign(pivot) } else { pivot };
        let (mut upper, mut lower) = (Vec::with_capacity(n), Vec::with_capacity(n));
        // what is left of row i when its turn comes: the pivot and the entry right of it
        let (mut pivot, mut right) = (diagonal[0] - value, off(0));
        for i in 0..n.saturating_sub(1) {
            let (below, next, after) = (off(i), diagonal[i + 1] - value, off(i + 1));
            if pivot.abs() >= below.abs() {
                let inverse = guard(pivot).recip();
                let multiplier = below * inverse;
                upper.push([inverse, right, 0.0]);
                lower.push((multiplier, false));
                (pivot, right) = (next - multiplier * right, after);
            } else {
                let inverse = below.recip();
                let multiplier = pivot * inverse;
                upper.push([inverse, next, after]);
                lower.push((multiplier, true));
                (pivot, right) = (right - multiplier * next, -multiplier * after);
            }
        }
        upper.push([guard(pivot).recip(), 0.0, 0.0]);
        Self { upper, lower }
    }

    fn solve(&self, x: &mut [f64]) {
        for (i, &(multiplier, exchanged)) in self.lower.iter().enumerate() {
            if exchanged {
                x.swap(i, i + 1);
            }
            x[i + 1] -= multiplier * x[i];
        }
        let (mut next, mut after) = (0.0, 0.0);
        for (x, &[inverse, right, second]) in x.iter_mut().zip(&self.upper).rev() {
            *x = (*x - right * next - second * after) * inverse;
            (next, after) = (*x, next);
        }
    }
}
