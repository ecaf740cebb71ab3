//! Decompositions of tensors of more than two axes: Tucker, CP and tensor trains.
//!
//! A kernel of a convolution has four axes, and one matrix ties them together in one way only. Here they
//! are decomposed each:
//!
//! ```text
//! Tucker        T ~ S x_1 U_1 x_2 U_2 ..                  a core, and a basis for each of some modes
//! CP            T_(i,j,k,..) ~ sum_r a_ir b_jr c_kr ..      a sum of outer products
//! tensor train  T_(i,j,k,..) ~ G_1(i) G_2(j) G_3(k) ..      products of matrices, one for each index
//! ```
//!
//! [`tucker`], [`cp`] and [`tensor_train`] compute them at given ranks and say what they lose, measured; [`mode_spectra`],
//! [`train_spectra`] and [`hosvd_errors`] say beforehand what ranks will lose. All of it is in `f64`, on [`crate::linalg`]. What
//! a layer makes of the factors is not known here.
//!
//! # Examples
//!
//! ```
//! use fnl::decompose::tensor::{CpOptions, DenseTensor, cp, tensor_train, tucker};
//!
//! // cos(i + j + k), shape (4, 3, 3), is a sum of two exponentials
//! let numbers = (0..36).map(|at| ((at / 9 + at / 3 % 3 + at % 3) as f64).cos()).collect();
//! let t = DenseTensor::new(vec![4, 3, 3], numbers);
//! let in_bases = tucker(&t, &[0, 1], &[2, 2], 1)?;
//! let train = tensor_train(&t, &[2, 2], 1)?;
//! assert!(in_bases.error_squared < 1e-24 && train.error_squared < 1e-24);
//! // over the reals it takes three products; two miss some of it
//! let sum = cp(&t, 1, &CpOptions::default())?;
//! assert!(sum.error_squared / sum.norm_squared > 0.1);
//! # Ok::<(), fnl::linalg::LinalgError>(())
//! ```

mod cp;
mod dense;
mod leading;
mod spectra;
mod train;
mod tucker;

pub(crate) use cp::reconstruct as cp_to_dense;
pub use cp::{Cp, CpOptions, cp};
pub use dense::DenseTensor;
pub(crate) use dense::inverse;
pub use spectra::{HosvdErrors, hosvd_errors, mode_spectra, train_spectra};
pub(crate) use train::reconstruct as tensor_train_to_dense;
pub use train::{TensorTrain, tensor_train};
pub use tucker::{Tucker, tucker};

#[cfg(test)]
mod tests {
    use super::DenseTensor;
    use crate::linalg::Splitmix;
    use faer::Mat;

    /// Elements uniform in [-1, 1).
    pub(super) fn random(seed: u64, shape: &[usize]) -> DenseTensor {
        let mut random = Splitmix::new(seed);
        let count = shape.iter().product();
        DenseTensor::new(shape.to_vec(), (0..count).map(|_| 2.0 * random.uniform()).collect())
    }

    /// A random tensor whose unfoldings' singular values fall, as those of trained kernels do.
    pub(super) fn decaying(seed: u64, shape: &[usize]) -> DenseTensor {
        let mut tensor = random(seed, shape);
        for (mode, &n) in shape.iter().enumerate() {
            let mixed = random(seed + 1 + mode as u64, &[n, n]).unfold(0);
            let scaled = Mat::from_fn(n, n, |i, j| mixed[(i, j)] * 0.8f64.powf(j as f64));
            tensor = tensor.mode_product(mode, scaled.as_ref());
        }
        tensor
    }
}
