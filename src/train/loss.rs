use crate::layers::{Operation, View};
use candle_core::{D, Device, Result, Tensor, bail};
use std::sync::Arc;

/// The mean cross entropy of logits with labels.
///
/// For each row `x` of logits over `k` classes, with `q = softmax(x)` and `e` the label smoothing,
///
/// ```text
/// loss = -(1 - e) log q_label - (e / k) sum_j log q_j
/// ```
///
/// and the gradient of a row is `(q - target) / b`, where the target is `e / k` everywhere and `1 - e` more at the label.
///
/// # Shapes
///
/// | | |
/// | --- | --- |
/// | input | `(b, k)`, with one label for each row |
/// | output | `()` |
///
/// # Dtypes
///
/// Floats; f32 on the CPU by loops, whose sums are in f64.
///
/// # Reference
///
/// Szegedy et al., "Rethinking the Inception Architecture", 2016, section 7.
///
/// # Examples
///
/// ```
/// use candle_core::{Device, Tensor};
/// use fnl::layers::Tape;
/// use fnl::train::CrossEntropy;
///
/// let tape = Tape::inference();
/// let logits = tape.constant(&Tensor::new(&[[0f32, 0.0], [9.0, 9.0]], &Device::Cpu)?);
/// let loss = tape.apply(CrossEntropy::new(&[0, 1], 0.0), &[&logits])?;
/// assert!((loss.tensor().to_scalar::<f32>()? - 2f32.ln()).abs() < 1e-7);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct CrossEntropy {
    labels: Arc<[u32]>,
    label_smoothing: f64,
}

impl CrossEntropy {
    /// The loss for these labels, with a part of the target spread over all classes.
    #[must_use]
    pub fn new(labels: &[u32], label_smoothing: f64) -> Self {
        Self { labels: labels.into(), label_smoothing }
    }

    /// Rows and classes of logits that these labels fit.
    pub(super) fn dims(&self, shape: &[usize]) -> Result<(usize, usize)> {
        let &[b, k] = shape else { bail!("logits need a shape (b, k), found {shape:?}") };
        if b != self.labels.len() {
            bail!("{} labels for logits of shape {shape:?}", self.labels.len());
        }
        if b == 0 {
            bail!("no mean over logits of shape {shape:?}");
        }
        match self.labels.iter().position(|&label| label as usize >= k) {
            Some(row) => bail!("label {} of row {row} is not below {k} classes", self.labels[row]),
            None => Ok((b, k)),
        }
    }

    /// The loss of each row times the number of rows, from logits by row.
    pub(super) fn sum(&self, logits: &[f32], k: usize) -> f64 {
        let rows = logits.chunks_exact(k).zip(self.labels.iter());
        rows.map(|(row, &label)| {
            let shift = log_sum(row);
            let of_label = f64::from(row[label as usize]) - shift;
            let spread = if self.label_smoothing == 0.0 {
                0.0
            } else {
                row.iter().map(|&x| f64::from(x) - shift).sum::<f64>() / k as f64
            };
            -(1.0 - self.label_smoothing) * of_label - self.label_smoothing * spread
        })
        .sum()
    }

    /// Adds `scale` times `softmax - target` to the gradient of each row.
    pub(super) fn add_gradient(&self, logits: &[f32], k: usize, scale: f64, gradient: &mut [f32]) {
        let rows = logits.chunks_exact(k).zip(gradient.chunks_exact_mut(k));
        for ((row, gradient), &label) in rows.zip(self.labels.iter()) {
            let shift = log_sum(row);
            let spread = self.label_smoothing / k as f64;
            for (gradient, &x) in gradient.iter_mut().zip(row) {
                *gradient += (scale * ((f64::from(x) - shift).exp() - spread)) as f32;
            }
            gradient[label as usize] -= (scale * (1.0 - self.label_smoothing)) as f32;
        }
    }

    /// The loss from logarithms of probabilities, by candle's operations.
    pub(super) fn compose_from(&self, log_q: &Tensor) -> Result<Tensor> {
        let (b, _) = self.dims(log_q.dims())?;
        let labels = Tensor::from_slice(&self.labels, (b, 1), &Device::Cpu)?.to_device(log_q.device())?;
        let of_label = log_q.gather(&labels, 1)?.mean_all()?;
        let of_label = (of_label * -(1.0 - self.label_smoothing))?;
        if self.label_smoothing == 0.0 {
            return Ok(of_label);
        }
        of_label + (log_q.mean_all()? * -self.label_smoothing)?
    }
}

/// `log sum_j exp(x_j)`, without overflow.
pub(super) fn log_sum(row: &[f32]) -> f64 {
    let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = row.iter().map(|&x| f64::from((x - most).exp())).sum();
    f64::from(most) + sum.ln()
}

/// The logarithm of the softmax over the last axis.
pub(super) fn log_softmax(xs: &Tensor) -> Result<Tensor> {
    // What is subtracted cancels, so that it needs no gradient.
    let xs = xs.broadcast_sub(&xs.max_keepdim(D::Minus1)?.detach())?;
    xs.broadcast_sub(&xs.exp()?.sum_keepdim(D::Minus1)?.log()?)
}

/// The one input of an operation.
pub(super) fn only<'a, T>(inputs: &'a [T], name: &str) -> Result<&'a T> {
    match inputs {
        [input] => Ok(input),
        _ => bail!("{name} takes one input, found {}", inputs.len()),
    }
}

impl Operation for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }

    fn is_precise(&self) -> bool {
        true
    }

    fn compose(&self, inputs: &[Tensor]) -> Result<Tensor> {
        let logits = only(inputs, self.name())?;
        self.dims(logits.dims())?;
        self.compose_from(&log_softmax(logits)?)
    }

    fn forward(&self, inputs: &[View<'_>]) -> Result<(Vec<f32>, Vec<usize>)> {
        let logits = only(inputs, self.name())?;
        let (b, k) = self.dims(logits.shape)?;
        Ok((vec![(self.sum(logits.data, k) / b as f64) as f32], Vec::new()))
    }

    fn backward(
        &self,
        inputs: &[View<'_>],
        _: View<'_>,
        gradient: View<'_>,
        _: &[bool],
    ) -> Result<Vec<Option<Vec<f32>>>> {
        let logits = only(inputs, self.name())?;
        let (b, k) = self.dims(logits.shape)?;
        let scale = f64::from(*only(gradient.data, self.name())?) / b as f64;
        let mut found = vec![0.0; logits.data.len()];
        self.add_gradient(logits.data, k, scale, &mut found);
        Ok(vec![Some(found)])
    }
}
