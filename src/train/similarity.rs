//! How well numbers agree with numbers that people gave.

/// Pearson's correlation; `None` where one side is constant, or there are fewer than two.
///
/// # Panics
///
/// When there are not as many of both.
///
/// # Examples
///
/// ```
/// use fnl::train::pearson;
/// assert!((pearson(&[1.0, 2.0, 3.0], &[2.0, 4.0, 6.0]).unwrap() - 1.0).abs() < 1e-12);
/// assert_eq!(pearson(&[1.0, 2.0], &[3.0, 3.0]), None);
/// ```
#[must_use]
pub fn pearson(x: &[f64], y: &[f64]) -> Option<f64> {
    assert_eq!(x.len(), y.len(), "pairs of numbers");
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let (mean_x, mean_y) = (mean(x), mean(y));
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for (x, y) in x.iter().zip(y) {
        let (x, y) = (x - mean_x, y - mean_y);
        xx += x * x;
        yy += y * y;
        xy += x * y;
    }
    (xx > 0.0 && yy > 0.0).then(|| xy / (xx * yy).sqrt())
}

/// Spearman's rank correlation, equal numbers sharing the mean of their ranks; `None` as [`pearson`].
///
/// # Panics
///
/// When there are not as many of both.
///
/// # Examples
///
/// ```
/// use fnl::train::spearman;
/// assert!((spearman(&[1.0, 20.0, 300.0], &[0.1, 0.2, 0.3]).unwrap() - 1.0).abs() < 1e-12);
/// // scipy.stats.spearmanr([1, 2, 2, 4], [4, 1, 3, 2])
/// assert!((spearman(&[1.0, 2.0, 2.0, 4.0], &[4.0, 1.0, 3.0, 2.0]).unwrap() + 0.632_455_532).abs() < 1e-9);
/// ```
#[must_use]
pub fn spearman(x: &[f64], y: &[f64]) -> Option<f64> {
    pearson(&ranks(x), &ranks(y))
}

fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&i, &j| values[i].total_cmp(&values[j]));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0.0;
    for equal in order.chunk_by(|&i, &j| values[i] == values[j]) {
        let count = equal.len() as f64;
        for &i in equal {
            ranks[i] = first + (count - 1.0) / 2.0;
        }
        first += count;
    }
    ranks
}
