//! Weights that are tensors out of factors: multiplied out, with gradients, and punished by their own norm.
//!
//! A weight is linear in each of its factors. Multiplied out, its gradients are contractions of the weight's gradient with all
//! other factors; Frobenius decay, the gradient of `|W|^2 / 2`, contracts small Gram matrices instead and never forms the weight.

mod components;
mod train;
mod tucker;

use crate::decompose::tensor::inverse;
use crate::decompose::{Split, Tensorization};
use candle_core::{Result, Tensor, bail};

/// What every format of tensors computes, its factors in their own order.
trait Contraction {
    /// The tensor.
    fn product(&self) -> Result<Tensor>;
    /// The gradient of each factor, from the tensor's.
    fn gradients(&self, gradient: &Tensor) -> Result<Vec<Tensor>>;
    /// The gradient of `|W|^2 / 2` with respect to each factor.
    fn decay(&self) -> Result<Vec<Tensor>>;
    /// `|W|^2`.
    fn norm_squared(&self) -> Result<Tensor>;
}

/// The factors of a tensor as they are stored, in a computation.
pub(crate) struct Factors<'a> {
    of: &'a Tensorization,
    shapes: Vec<Vec<usize>>,
    contraction: Box<dyn Contraction>,
}

impl<'a> Factors<'a> {
    /// These factors.
    pub(crate) fn new(of: &'a Tensorization, stored: &[Tensor]) -> Result<Self> {
        let shapes: Vec<Vec<usize>> = stored.iter().map(|factor| factor.dims().to_vec()).collect();
        if of.ranks_of(&shapes).is_none() {
            bail!("factors of shapes {shapes:?} do not form a weight of shape {:?}", of.shape());
        }
        let contraction: Box<dyn Contraction> = match of.split() {
            Split::TuckerKernel => {
                let (inner, core, out) = (&stored[0], &stored[1], &stored[2]);
                let factors = vec![as_matrix(out)?, as_matrix(inner)?.t()?.contiguous()?];
                Box::new(tucker::Tucker { core: core.contiguous()?, factors })
            }
            Split::TuckerPairs(_) => {
                let factors = stored[1..].iter().map(Tensor::contiguous).collect::<Result<_>>()?;
                Box::new(tucker::Tucker { core: stored[0].contiguous()?, factors })
            }
            Split::Components => {
                let (out, inner) = (&stored[stored.len() - 1], &stored[..stored.len() - 1]);
                let inner = inner.iter().map(as_matrix).collect::<Result<_>>()?;
                Box::new(components::Components { out: as_matrix(out)?, inner })
            }
            Split::Train(_) => Box::new(train::Train {
                cores: stored.iter().map(Tensor::contiguous).collect::<Result<_>>()?,
            }),
        };
        Ok(Self { of, shapes, contraction })
    }

    /// The dense weight, in its stored shape.
    pub(crate) fn weight(&self) -> Result<Tensor> {
        let (sizes, order) = self.of.axes();
        let apart: Vec<usize> = order.iter().map(|&axis| sizes[axis]).collect();
        let back = inverse(&order);
        self.contraction.product()?.reshape(apart)?.permute(back)?.contiguous()?.reshape(self.of.shape())
    }

    /// The gradients of the stored factors, from the weight's.
    pub(crate) fn gradients(&self, weight: &Tensor) -> Result<Vec<Tensor>> {
        let (sizes, order) = self.of.axes();
        let tensor = weight.reshape(sizes)?.permute(order)?.contiguous()?.reshape(self.of.modes())?;
        self.stored(self.contraction.gradients(&tensor)?)
    }

    /// The gradients of `|W|^2 / 2` with respect to the stored factors.
    pub(crate) fn decay(&self) -> Result<Vec<Tensor>> {
        self.stored(self.contraction.decay()?)
    }

    /// `|W|^2`.
    pub(crate) fn norm_squared(&self) -> Result<Tensor> {
        self.contraction.norm_squared()
    }

    /// What belongs to the contraction's factors, as it is stored.
    fn stored(&self, found: Vec<Tensor>) -> Result<Vec<Tensor>> {
        let ordered = match (self.of.split(), found.as_slice()) {
            (Split::TuckerKernel, [core, out, inner]) => vec![inner.t()?, core.clone(), out.clone()],
            (Split::Components, [out, inner @ ..]) => inner.iter().chain([out]).cloned().collect(),
            _ => found,
        };
        let reshaped =
            |(tensor, shape): (Tensor, &Vec<usize>)| tensor.contiguous()?.reshape(shape.as_slice());
        ordered.into_iter().zip(&self.shapes).map(reshaped).collect()
    }
}

/// A kernel of one channel or one tap as a matrix: rows are its first axis.
fn as_matrix(kernel: &Tensor) -> Result<Tensor> {
    kernel.contiguous()?.reshape((kernel.dim(0)?, ()))
}
