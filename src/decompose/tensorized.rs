//! A tensor's factors as they are stored: found, and multiplied out.

use super::tensor::{self, CpOptions, DenseTensor, inverse};
use super::weight::ratio;
use super::{DecomposeError, Factor, Factored, FormatOptions, Ranks, Split, Tensorization};
use crate::linalg::Scalar;
use faer::{Mat, MatRef};

/// Elements times components from which on alternating least squares takes fewer sweeps: a sweep takes about 10 ns for each.
const LARGE: usize = 100_000_000;
/// That many.
const FEWER_SWEEPS: usize = 40;

pub(super) fn widened<T: Scalar>(factor: &Factor<T>) -> Factor<f64> {
    Factor { shape: factor.shape.clone(), data: factor.data.iter().map(|x| x.to_f64()).collect() }
}

/// The tensor of a stored weight.
pub(super) fn tensor_of<T: Scalar>(
    tensor: &Tensorization,
    data: &[T],
) -> Result<DenseTensor, DecomposeError> {
    let (expected, found) = (tensor.shape().iter().product(), data.len());
    if expected != found {
        return Err(DecomposeError::Length { shape: tensor.shape().to_vec(), expected, found });
    }
    if let Some((at, value)) = data.iter().map(|x| x.to_f64()).enumerate().find(|(_, x)| !x.is_finite()) {
        return Err(DecomposeError::NotFinite { index: index_in(tensor.shape(), at), value });
    }
    let (sizes, order) = tensor.axes();
    let apart = DenseTensor::new(sizes, data.iter().map(|x| x.to_f64()).collect());
    Ok(DenseTensor::new(tensor.modes(), apart.permuted(&order).data))
}

/// The stored weight of a tensor: what [`tensor_of`] undoes.
pub(super) fn stored_of<T: Scalar>(tensor: &Tensorization, dense: &DenseTensor) -> Vec<T> {
    let (sizes, order) = tensor.axes();
    let apart = DenseTensor::new(order.iter().map(|&axis| sizes[axis]).collect(), dense.data.clone());
    apart.permuted(&inverse(&order)).data.into_iter().map(T::from_f64).collect()
}

fn index_in(shape: &[usize], mut at: usize) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (place, &size) in index.iter_mut().zip(shape).rev() {
        (*place, at) = (at % size, at / size);
    }
    index
}

pub(super) fn factor_tensor<T: Scalar>(
    tensor: &Tensorization,
    data: &[T],
    ranks: &Ranks,
    options: &FormatOptions,
) -> Result<Factored<T>, DecomposeError> {
    let weight = tensor_of(tensor, data)?;
    let threads = options.svd.threads;
    let (parts, error_squared, degeneracy) = match tensor.split() {
        Split::TuckerKernel | Split::TuckerPairs(_) => {
            let found = tensor::tucker(&weight, &tensor.cut(), ranks.values(), threads)?;
            (tucker_factors(tensor, &found.core, &found.factors), found.error_squared, None)
        }
        Split::Components => {
            let options = cp_options(weight.data.len(), ranks.largest(), options);
            let found = tensor::cp(&weight, ranks.largest(), &options)?;
            (cp_factors(&found.factors), found.error_squared, Some(found.degeneracy))
        }
        Split::Train(_) => {
            let found = tensor::tensor_train(&weight, ranks.values(), threads)?;
            (found.cores.into_iter().map(|core| core.data).collect(), found.error_squared, None)
        }
    };
    let shapes = tensor.factor_shapes(ranks);
    let narrow = |(shape, data): (Vec<usize>, Vec<f64>)| Factor {
        shape,
        data: data.into_iter().map(T::from_f64).collect(),
    };
    Ok(Factored {
        factors: shapes.into_iter().zip(parts).map(narrow).collect(),
        relative_error: ratio(error_squared, weight.norm_squared()),
        path: None,
        spectrum: None,
        degeneracy,
    })
}

/// Two starts of a hundred sweeps at most; one of fewer for kernels for which that would take minutes.
fn cp_options(elements: usize, rank: usize, options: &FormatOptions) -> CpOptions {
    let given = CpOptions { seed: options.seed, threads: options.svd.threads, ..CpOptions::default() };
    if elements * rank > LARGE { CpOptions { restarts: 0, sweeps: FEWER_SWEEPS, ..given } } else { given }
}

fn row_major(matrix: MatRef<'_, f64>) -> Vec<f64> {
    (0..matrix.nrows()).flat_map(|row| (0..matrix.ncols()).map(move |col| matrix[(row, col)])).collect()
}

/// The stored elements of Tucker's core and factors: a kernel's as a chain, inputs first.
fn tucker_factors(tensor: &Tensorization, core: &DenseTensor, factors: &[Mat<f64>]) -> Vec<Vec<f64>> {
    if let (Split::TuckerKernel, [out, inner]) = (tensor.split(), factors) {
        let (first, last) = (row_major(inner.as_ref().transpose()), row_major(out.as_ref()));
        return vec![first, core.data.clone(), last];
    }
    std::iter::once(core.data.clone())
        .chain(factors.iter().map(|factor| row_major(factor.as_ref())))
        .collect()
}

/// The stored elements of components `(out, in, down?, across)`: inputs, each axis, outputs.
fn cp_factors(factors: &[Mat<f64>]) -> Vec<Vec<f64>> {
    let inner = factors.iter().skip(1).map(|factor| row_major(factor.as_ref().transpose()));
    inner.chain(factors.first().map(|out| row_major(out.as_ref()))).collect()
}

/// The tensor that stored factors stand for.
pub(super) fn multiplied_out(tensor: &Tensorization, factors: &[Factor<f64>], threads: usize) -> DenseTensor {
    let rows = |factor: &Factor<f64>, rows: usize| {
        MatRef::from_row_major_slice(&factor.data, rows, factor.data.len() / rows.max(1)).to_owned()
    };
    match tensor.split() {
        Split::TuckerKernel => {
            let [inner, core, out] = [&factors[0], &factors[1], &factors[2]];
            let core = DenseTensor::new(core.shape.clone(), core.data.clone());
            let inner = rows(inner, inner.shape[0]).transpose().to_owned();
            let wide = core.mode_product(0, rows(out, out.shape[0]).as_ref());
            wide.mode_product(1, inner.as_ref())
        }
        Split::TuckerPairs(_) => {
            let core = DenseTensor::new(factors[0].shape.clone(), factors[0].data.clone());
            factors[1..].iter().enumerate().fold(core, |dense, (mode, factor)| {
                dense.mode_product(mode, rows(factor, factor.shape[0]).as_ref())
            })
        }
        Split::Components => {
            let (out, inner) = factors.split_last().map_or((&factors[0], &factors[..0]), |split| split);
            let columns = inner.iter().map(|factor| rows(factor, factor.shape[0]).transpose().to_owned());
            let all: Vec<Mat<f64>> = std::iter::once(rows(out, out.shape[0])).chain(columns).collect();
            tensor::cp_to_dense(&all)
        }
        Split::Train(_) => {
            let cores: Vec<DenseTensor> =
                factors.iter().map(|core| DenseTensor::new(core.shape.clone(), core.data.clone())).collect();
            tensor::tensor_train_to_dense(&cores, threads)
        }
    }
}
