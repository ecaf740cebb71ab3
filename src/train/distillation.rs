use super::loss::{CrossEntropy, log_softmax, log_sum, only};
use super::slices::lend_ref;
use crate::layers::{Operation, View};
use candle_core::{DType, Device, Result, Tensor, bail};

/// Cross entropy with labels, mixed with the divergence from a teacher.
///
/// For each row `x` of logits and `z` of the teacher's, with `p = softmax(z / T)` and `q = softmax(x / T)`,
///
/// ```text
/// loss = (1 - w) cross_entropy(x) + w T^2 sum_j p_j (log p_j - log q_j)
/// ```
///
/// averaged over rows. The gradient of the second term is `w T (q - p) / b`: `T^2` keeps it as large as the first's.
///
/// # Shapes
///
/// | | |
/// | --- | --- |
/// | input and teacher | `(b, k)`, with one label for each row |
/// | output | `()` |
///
/// # Dtypes
///
/// Floats; f32 on the CPU by loops, whose sums are in f64.
///
/// # Reference
///
/// Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015, section 2.
///
/// # Examples
///
/// ```
/// use candle_core::{Device, Tensor};
/// use fnl::layers::Tape;
/// use fnl::train::{CrossEntropy, Distillation};
///
/// let logits = Tensor::new(&[[1f32, 2.0]], &Device::Cpu)?;
/// let tape = Tape::inference();
/// let loss = Distillation::new(CrossEntropy::new(&[0], 0.0), &logits, 4.0, 1.0)?;
/// let loss = tape.apply(loss, &[&tape.constant(&logits)])?; // the teacher itself
/// assert!(loss.tensor().to_scalar::<f32>()?.abs() < 1e-6);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Distillation {
    labels: CrossEntropy,
    teacher: Tensor,
    temperature: f64,
    weight: f64,
}

impl Distillation {
    /// The loss with these logits of the teacher, softened by a temperature, at a weight between 0 and 1.
    ///
    /// # Errors
    ///
    /// - a temperature that is not above 0, or a weight outside [0, 1]
    pub fn new(labels: CrossEntropy, teacher: &Tensor, temperature: f64, weight: f64) -> Result<Self> {
        if temperature <= 0.0 || !temperature.is_finite() {
            bail!("temperature {temperature} is not a number above 0");
        }
        if !(0.0..=1.0).contains(&weight) {
            bail!("weight {weight} is not between 0 and 1");
        }
        Ok(Self { labels, teacher: teacher.detach(), temperature, weight })
    }

    fn dims(&self, shape: &[usize]) -> Result<(usize, usize)> {
        if self.teacher.dims() != shape {
            bail!("the teacher's logits have shape {:?}, expected {shape:?}", self.teacher.dims());
        }
        self.labels.dims(shape)
    }

    /// Lends the teacher's logits over the temperature, with the student's.
    fn softened<T>(&self, logits: &[f32], act: impl FnOnce(&[f32], &[f32]) -> Result<T>) -> Result<T> {
        let teacher = self.teacher.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.contiguous()?;
        let soft = |xs: &[f32]| -> Vec<f32> {
            xs.iter().map(|&x| (f64::from(x) / self.temperature) as f32).collect()
        };
        lend_ref(&teacher, |teacher| act(&soft(teacher), &soft(logits)))
    }
}

impl Operation for Distillation {
    fn name(&self) -> &'static str {
        "distillation"
    }

    fn is_precise(&self) -> bool {
        true
    }

    fn compose(&self, inputs: &[Tensor]) -> Result<Tensor> {
        let logits = only(inputs, self.name())?;
        let (b, _) = self.dims(logits.dims())?;
        let teacher = self.teacher.to_device(logits.device())?.to_dtype(logits.dtype())?;
        let log_p = log_softmax(&(teacher / self.temperature)?)?;
        let log_q = log_softmax(&(logits / self.temperature)?)?;
        let divergence = log_p.exp()?.mul(&(log_p - log_q)?)?.sum_all()?;
        let divergence = (divergence * (self.weight * self.temperature * self.temperature / b as f64))?;
        (self.labels.compose_from(&log_softmax(logits)?)? * (1.0 - self.weight))? + divergence
    }

    fn forward(&self, inputs: &[View<'_>]) -> Result<(Vec<f32>, Vec<usize>)> {
        let logits = only(inputs, self.name())?;
        let (b, k) = self.dims(logits.shape)?;
        let divergence = self.softened(logits.data, |zs, xs| {
            let rows = zs.chunks_exact(k).zip(xs.chunks_exact(k));
            let divergence = rows.map(|(z, x)| {
                let (of_z, of_x) = (log_sum(z), log_sum(x));
                let terms = z.iter().zip(x).map(|(&z, &x)| {
                    let log_p = f64::from(z) - of_z;
                    log_p.exp() * (log_p - (f64::from(x) - of_x))
                });
                terms.sum::<f64>()
            });
            Ok(divergence.sum::<f64>())
        })?;
        let labels = self.labels.sum(logits.data, k);
        let sum =
            (1.0 - self.weight) * labels + self.weight * self.temperature * self.temperature * divergence;
        Ok((vec![(sum / b as f64) as f32], Vec::new()))
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
        self.labels.add_gradient(logits.data, k, scale * (1.0 - self.weight), &mut found);
        self.softened(logits.data, |zs, xs| {
            let scale = scale * self.weight * self.temperature;
            let rows = zs.chunks_exact(k).zip(xs.chunks_exact(k));
            for ((z, x), gradient) in rows.zip(found.chunks_exact_mut(k)) {
                let (of_z, of_x) = (log_sum(z), log_sum(x));
                for ((gradient, &z), &x) in gradient.iter_mut().zip(z).zip(x) {
                    let (p, q) = ((f64::from(z) - of_z).exp(), (f64::from(x) - of_x).exp());
                    *gradient += (scale * (q - p)) as f32;
                }
            }
            Ok(())
        })?;
        Ok(vec![Some(found)])
    }
}
