use crate::layers::Geometry;
use candle_core::{Result, Tensor, bail};

/// An input with the zeros around it.
pub(super) fn padded(g: &Geometry, xs: &Tensor) -> Result<Tensor> {
    let [p, q] = g.padding;
    xs.pad_with_zeros(2, p, p)?.pad_with_zeros(3, q, q)
}

/// What each tap reads from a padded input, `(b, c, h', w')`, row by row of the kernel.
pub(in super::super) fn taps(g: &Geometry, padded: &Tensor) -> Result<Vec<Tensor>> {
    (0..g.kernel[0] * g.kernel[1]).map(|tap| read_tap(g, padded, tap)).collect()
}

/// What one tap reads from a padded input.
pub(super) fn read_tap(g: &Geometry, padded: &Tensor, tap: usize) -> Result<Tensor> {
    let mut xs = padded.clone();
    for (axis, at) in [tap / g.kernel[1], tap % g.kernel[1]].into_iter().enumerate() {
        let reach = (g.output[axis] - 1) * g.stride[axis] + 1;
        xs = every(&xs.narrow(2 + axis, at * g.dilation[axis], reach)?, 2 + axis, g.stride[axis])?;
    }
    Ok(xs)
}

/// The other way: what one tap read, where it read it, zeros elsewhere.
pub(super) fn placed(g: &Geometry, part: &Tensor, tap: usize) -> Result<Tensor> {
    let mut xs = part.clone();
    for (axis, at) in [tap / g.kernel[1], tap % g.kernel[1]].into_iter().enumerate() {
        let before = at * g.dilation[axis];
        xs = spread(&xs, 2 + axis, g.stride[axis])?;
        let after = g.input[axis] + 2 * g.padding[axis] - before - xs.dim(2 + axis)?;
        xs = xs.pad_with_zeros(2 + axis, before, after)?;
    }
    Ok(xs)
}

/// A padded input without what pads it.
pub(super) fn inner(g: &Geometry, padded: &Tensor) -> Result<Tensor> {
    padded.narrow(2, g.padding[0], g.input[0])?.narrow(3, g.padding[1], g.input[1])?.contiguous()
}

/// The gradient of an input from those of what each tap read.
pub(in super::super) fn put_back(
    g: &Geometry,
    parts: impl Iterator<Item = Result<Tensor>>,
) -> Result<Tensor> {
    inner(g, &sum(parts.enumerate().map(|(tap, part)| placed(g, &part?, tap)))?)
}

pub(super) fn sum(mut terms: impl Iterator<Item = Result<Tensor>>) -> Result<Tensor> {
    let Some(first) = terms.next() else { bail!("a sum of nothing") };
    terms.try_fold(first?, |sum, term| sum + term?)
}

/// What the taps read, `(b, taps c, h' w')`.
pub(super) fn tap_columns(g: &Geometry, xs: &Tensor) -> Result<Tensor> {
    let taps: Vec<Tensor> =
        taps(g, &padded(g, xs)?)?.iter().map(Tensor::contiguous).collect::<Result<_>>()?;
    Tensor::cat(&taps, 1)?.flatten_from(2)
}

/// Every `step`-th element of an axis, from the first.
pub(super) fn every(xs: &Tensor, axis: usize, step: usize) -> Result<Tensor> {
    if step == 1 {
        return Ok(xs.clone());
    }
    let indices: Vec<u32> = (0..xs.dim(axis)? as u32).step_by(step).collect();
    xs.contiguous()?.index_select(&Tensor::new(indices, xs.device())?, axis)
}

/// Puts `step - 1` zeros between the elements of an axis.
pub(super) fn spread(kernel: &Tensor, axis: usize, step: usize) -> Result<Tensor> {
    let taps = kernel.dim(axis)?;
    if step == 1 || taps == 1 {
        return Ok(kernel.clone());
    }
    let mut shape = kernel.dims().to_vec();
    shape[axis] = taps * step;
    let spread = kernel.unsqueeze(axis + 1)?.pad_with_zeros(axis + 1, 0, step - 1)?.reshape(shape)?;
    spread.narrow(axis, 0, (taps - 1) * step + 1)
}
