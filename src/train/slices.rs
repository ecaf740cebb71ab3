//! The elements of tensors of f32 on the CPU, lent to loops that change them in place.
//!
//! Loops work through pieces of [`PIECE`] elements on all threads. What is summed is summed by piece, and the pieces'
//! sums in a fixed order, so that nothing depends on the number of threads; no multiply-add is contracted, so that
//! nothing depends on the machine's instructions either.

use candle_core::{CpuStorage, DType, InplaceOp1, Layout, Result, Storage, Tensor, bail};
use std::cell::Cell;

/// Elements that one thread takes at once.
const PIECE: usize = 1 << 15;

/// What the loop of an optimizer sees of one parameter; what there is none of is empty.
#[derive(Debug)]
pub(super) struct Slices<'a> {
    /// The parameter.
    pub(super) p: &'a mut [f32],
    /// The first buffer.
    pub(super) m: &'a mut [f32],
    /// The second buffer.
    pub(super) v: &'a mut [f32],
    /// The gradient.
    pub(super) g: &'a [f32],
    /// The gradient of the penalty.
    pub(super) f: &'a [f32],
}

impl<'a> Slices<'a> {
    fn split(self, at: usize) -> (Self, Self) {
        fn both<T>(xs: &mut [T], at: usize) -> (&mut [T], &mut [T]) {
            xs.split_at_mut(at.min(xs.len()))
        }
        let (p, p_rest) = both(self.p, at);
        let (m, m_rest) = both(self.m, at);
        let (v, v_rest) = both(self.v, at);
        let (g, g_rest) = self.g.split_at(at.min(self.g.len()));
        let (f, f_rest) = self.f.split_at(at.min(self.f.len()));
        (Self { p, m, v, g, f }, Slices::<'a> { p: p_rest, m: m_rest, v: v_rest, g: g_rest, f: f_rest })
    }

    /// Runs a loop over all pieces and returns the sum of what it returns for each.
    pub(super) fn pieces<S>(self, act: &(impl Fn(Slices<'_>) -> S + Sync)) -> S
    where
        S: std::ops::Add<Output = S> + Send,
    {
        let pieces = self.p.len().div_ceil(PIECE);
        if pieces <= 1 {
            return act(self);
        }
        let (left, right) = self.split(pieces / 2 * PIECE);
        let (left, right) = rayon::join(|| left.pieces(act), || right.pieces(act));
        left + right
    }
}

/// The sum of what a loop returns for each piece of a slice.
pub(super) fn sum_pieces(xs: &[f32], act: &(impl Fn(&[f32]) -> f64 + Sync)) -> f64 {
    let pieces = xs.len().div_ceil(PIECE);
    if pieces <= 1 {
        return act(xs);
    }
    let (left, right) = xs.split_at(pieces / 2 * PIECE);
    let (left, right) = rayon::join(|| sum_pieces(left, act), || sum_pieces(right, act));
    left + right
}

/// The sum of squares, in f64.
pub(super) fn sum_of_squares(xs: &[f32]) -> f64 {
    sum_pieces(xs, &|xs| {
        // Eight sums, so that the additions do not wait for each other.
        let mut sums = [0f64; 8];
        let (chunks, rest) = xs.as_chunks::<8>();
        for chunk in chunks {
            for (sum, &x) in sums.iter_mut().zip(chunk) {
                *sum += f64::from(x) * f64::from(x);
            }
        }
        let rest: f64 = rest.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        sums.iter().sum::<f64>() + rest
    })
}

/// Whether loops over slices serve a tensor.
pub(super) fn is_looped(tensor: &Tensor) -> bool {
    tensor.device().is_cpu() && tensor.dtype() == DType::F32
}

/// Lends a parameter, its buffers, its gradient and that of its penalty, all of one shape.
pub(super) fn lend(
    parameter: &Tensor,
    buffers: [Option<&Tensor>; 2],
    gradients: [Option<&Tensor>; 2],
    act: impl FnOnce(Slices<'_>) -> Result<()>,
) -> Result<()> {
    let [g, f] = gradients.map(|tensor| tensor.map(|tensor| apart(tensor, parameter)).transpose());
    let (g, f) = (g?, f?);
    lend_option(g.as_ref(), |g| {
        lend_option(f.as_ref(), |f| {
            lend_mut(Some(parameter), |p| {
                lend_mut(buffers[0], |m| lend_mut(buffers[1], |v| act(Slices { p, m, v, g, f })))
            })
        })
    })
}

/// A contiguous tensor whose elements are not the parameter's own: those cannot be read while they change.
fn apart(tensor: &Tensor, parameter: &Tensor) -> Result<Tensor> {
    if tensor.dims() != parameter.dims() {
        bail!("a gradient of shape {:?} for a parameter of shape {:?}", tensor.dims(), parameter.dims());
    }
    let tensor = tensor.to_dtype(DType::F32)?.contiguous()?;
    let start = |tensor: &Tensor| match &*tensor.storage_and_layout().0 {
        Storage::Cpu(CpuStorage::F32(data)) => Some(data.as_ptr()),
        _ => None,
    };
    if start(&tensor) == start(parameter) { tensor.copy() } else { Ok(tensor) }
}

/// Lends the elements of a contiguous tensor of f32 on the CPU.
pub(super) fn lend_ref<T>(tensor: &Tensor, act: impl FnOnce(&[f32]) -> Result<T>) -> Result<T> {
    let (storage, layout) = tensor.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F32(data)), Some((start, end))) => act(&data[start..end]),
        _ => bail!("expected a contiguous tensor of f32 on the CPU"),
    }
}

fn lend_option<T>(tensor: Option<&Tensor>, act: impl FnOnce(&[f32]) -> Result<T>) -> Result<T> {
    match tensor {
        Some(tensor) => lend_ref(tensor, act),
        None => act(&[]),
    }
}

/// Lends the elements of a contiguous tensor of f32 on the CPU, to be changed; of no tensor an empty slice.
pub(super) fn lend_mut(tensor: Option<&Tensor>, act: impl FnOnce(&mut [f32]) -> Result<()>) -> Result<()> {
    match tensor {
        Some(tensor) => tensor.inplace_op1(&Lent(Cell::new(Some(act)))),
        None => act(&mut []),
    }
}

/// What is done with the elements, as candle knows operations in place.
struct Lent<F>(Cell<Option<F>>);

impl<F: FnOnce(&mut [f32]) -> Result<()>> InplaceOp1 for Lent<F> {
    fn name(&self) -> &'static str {
        "a loop in place"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        match (storage, layout.contiguous_offsets(), self.0.take()) {
            (CpuStorage::F32(data), Some((start, end)), Some(act)) => act(&mut data[start..end]),
            _ => bail!("expected a contiguous tensor of f32 on the CPU"),
        }
    }
}
