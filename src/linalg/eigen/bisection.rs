//! Eigenvalues of a symmetric tridiagonal matrix by bisection, many side by side.
//!
//! The number of negative pivots of `T - x` is the number of eigenvalues below x (Sylvester's law of inertia), so each eigenvalue can be enclosed by
//! itself to the last digit of the norm.
//!
//! Reference: J. Demmel, "Applied Numerical Linear Algebra", 1997, section 5.3.4.

use crate::linalg::kernels::{SHIFTS as LANES, negative_pivots};
use crate::linalg::product::Team;

/// Halvings from the norm to its last digit.
const HALVINGS: usize = 53;

/// The `count` largest eigenvalues, descending.
pub(super) fn largest_eigenvalues(
    team: &Team,
    diagonal: &[f64],
    subdiagonal: &[f64],
    count: usize,
) -> Vec<f64> {
    let n = diagonal.len();
    let squares: Vec<f64> = std::iter::once(0.0).chain(subdiagonal.iter().map(|e| e * e)).collect();
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for (i, &d) in diagonal.iter().enumerate() {
        let before = if i > 0 { subdiagonal[i - 1].abs() } else { 0.0 };
        let radius = before + subdiagonal.get(i).map_or(0.0, |e| e.abs());
        low = low.min(d - radius);
        high = high.max(d + radius);
    }
    let margin = 4.0 * f64::EPSILON * low.abs().max(high.abs()) + f64::MIN_POSITIVE;
    let (low, high) = (low - margin, high + margin);
    // a pivot nearer to zero than this is taken as this: a change of T far below rounding
    let smallest = f64::MIN_POSITIVE * squares.iter().fold(1.0f64, |a, &b| a.max(b));
    let groups = team.map(count.div_ceil(LANES), |group| {
        let first = group * LANES;
        let mut lows = [low; LANES];
        let mut highs = [high; LANES];
        let mut targets = [0.0; LANES];
        for (l, target) in targets.iter_mut().enumerate() {
            *target = (n - 1 - (first + l).min(n - 1)) as f64;
        }
        for _ in 0..HALVINGS {
            let mut middles = [0.0; LANES];
            for l in 0..LANES {
                middles[l] = 0.5 * (lows[l] + highs[l]);
            }
            let below = negative_pivots(diagonal, &squares, &middles, smallest);
            for l in 0..LANES {
                if below[l] > targets[l] {
                    highs[l] = middles[l];
                } else {
                    lows[l] = middles[l];
                }
            }
        }
        (0..LANES.min(count - first)).map(|l| 0.5 * (lows[l] + highs[l])).collect::<Vec<_>>()
    });
    groups.concat()
}
