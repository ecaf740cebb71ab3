use candle_core::{DType, Result, Tensor, bail};
use std::ops::AddAssign;

/// How many rows of logits have their label where it belongs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Correct {
    /// Those where the label's logit is the largest.
    pub top1: usize,
    /// Those where it is among the five largest.
    pub top5: usize,
}

impl AddAssign for Correct {
    fn add_assign(&mut self, other: Self) {
        self.top1 += other.top1;
        self.top5 += other.top5;
    }
}

/// Counts correct rows of logits; of equal logits the first counts as larger, and no comparison with NaN holds.
///
/// # Shapes
///
/// Logits of shape `(b, k)`, and one label for each row.
///
/// # Examples
///
/// ```
/// use candle_core::{Device, Tensor};
/// use fnl::train::{Correct, correct};
///
/// let logits = Tensor::new(&[[0f32, 5., 4., 3., 2., 1.], [0., 5., 4., 3., 2., 1.]], &Device::Cpu)?;
/// assert_eq!(correct(&logits, &[1, 2])?, Correct { top1: 1, top5: 2 });
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
///
/// - another number of labels than rows, or a label beyond the classes
pub fn correct(logits: &Tensor, labels: &[u32]) -> Result<Correct> {
    let (b, k) = logits.dims2()?;
    if b != labels.len() {
        bail!("{} labels for logits of shape {:?}", labels.len(), logits.dims());
    }
    let rows = logits.to_dtype(DType::F32)?.to_vec2::<f32>()?;
    let mut count = Correct::default();
    for (row, &label) in rows.iter().zip(labels) {
        let label = label as usize;
        let Some(&own) = row.get(label) else { bail!("label {label} is not below {k} classes") };
        let rank = before(row, label, own).count();
        count.top1 += usize::from(rank == 0 && !own.is_nan());
        count.top5 += usize::from(rank < 5 && !own.is_nan());
    }
    Ok(count)
}

/// Whether the label's logit is the largest of a row, the first of equals.
pub(super) fn is_right(row: &[f32], label: usize) -> bool {
    row.get(label).is_some_and(|&own| !own.is_nan() && before(row, label, own).next().is_none())
}

/// Everything that is not certainly below a label's logit stands before it.
fn before(row: &[f32], label: usize, own: f32) -> impl Iterator<Item = usize> + '_ {
    let stands = move |&(j, &x): &(usize, &f32)| j != label && !(x < own || (x == own && j > label));
    row.iter().enumerate().filter(stands).map(|(j, _)| j)
}

#[cfg(test)]
mod tests {
    use super::is_right;

    #[test]
    fn of_equal_logits_the_first_is_right() {
        assert!(is_right(&[2.0, 2.0], 0) && !is_right(&[2.0, 2.0], 1));
        assert!(!is_right(&[f32::NAN, 1.0], 0) && !is_right(&[f32::NAN, 1.0], 1) && !is_right(&[1.0], 1));
    }
}
