use super::gradients::GradientSum;
use super::slices::{is_looped, lend_ref, sum_of_squares};
use candle_core::{DType, Result, Tensor};

/// What is added to the norm before it divides.
const EPSILON: f64 = 1e-6;

/// The norm of all gradients as one vector, `sqrt(sum_l |g_l|^2)`.
///
/// # Dtypes
///
/// Squares are summed in f64 on the CPU, elsewhere in f32 within a tensor and in f64 over tensors.
///
/// # Determinism
///
/// Does not depend on the number of threads.
///
/// # Errors
///
/// - a device that fails
pub fn gradient_norm(gradients: &GradientSum) -> Result<f64> {
    let mut sum = 0.0;
    let mut elsewhere = Vec::new(); // read back together: each read waits for the device
    for (_, gradient) in gradients.iter() {
        if is_looped(gradient) {
            sum += lend_ref(&gradient.contiguous()?, |xs| Ok(sum_of_squares(xs)))?;
        } else if gradient.device().is_cpu() {
            sum += gradient.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar::<f64>()?;
        } else {
            elsewhere.push(gradient.to_dtype(DType::F32)?.sqr()?.sum_all()?);
        }
    }
    if !elsewhere.is_empty() {
        let squares = Tensor::stack(&elsewhere, 0)?.to_vec1::<f32>()?;
        sum += squares.into_iter().map(f64::from).sum::<f64>();
    }
    Ok(sum.sqrt())
}

/// Scales all gradients so that their norm is at most `max_norm`, and returns the norm that they had.
///
/// The factor is `min(1, max_norm / (norm + 1e-6))`. A norm that is not finite changes nothing: no factor would repair such gradients.
///
/// # Reference
///
/// Pascanu, Mikolov, Bengio, "On the difficulty of training recurrent neural networks", 2013, algorithm 1.
///
/// # Examples
///
/// ```
/// use candle_core::{Device, Tensor};
/// use fnl::train::{GradientSum, clip_gradients, gradient_norm};
///
/// let mut gradients = GradientSum::new();
/// gradients.insert("a", Tensor::new(&[3f32], &Device::Cpu)?);
/// gradients.insert("b", Tensor::new(&[4f32], &Device::Cpu)?);
/// assert_eq!(clip_gradients(&mut gradients, 1.0)?, 5.0);
/// assert!((gradient_norm(&gradients)? - 1.0).abs() < 1e-6);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
///
/// - a device that fails
pub fn clip_gradients(gradients: &mut GradientSum, max_norm: f64) -> Result<f64> {
    let norm = gradient_norm(gradients)?;
    let factor = max_norm / (norm + EPSILON);
    if norm.is_finite() && factor < 1.0 {
        gradients.scale(factor)?;
    }
    Ok(norm)
}
