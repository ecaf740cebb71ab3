use super::chain::Chain;
use crate::decompose::{Layout, Scheme, Unfolding, overcomplete};
use crate::linalg::SvdOptions;
use candle_core::{DType, Device, Error, Result, Tensor, Var};

/// A layer's weight: dense, or the factors of a chain.
#[derive(Clone, Debug)]
pub enum Weight {
    /// One tensor.
    Dense(Var),
    /// Two or three.
    Factored(Chain),
}

impl Weight {
    /// A dense weight that starts as a copy of this tensor.
    ///
    /// # Errors
    ///
    /// - a device that fails
    pub fn dense(weight: &Tensor) -> Result<Self> {
        Ok(Self::Dense(Var::from_tensor(weight)?))
    }

    /// Factors of a dense weight from its truncated SVD: spectral initialization.
    ///
    /// Ranks beyond the largest possible, and [`Scheme::Deep`], give overcomplete factors.
    ///
    /// # Errors
    ///
    /// - a scheme that the layout does not have, and groups that do not divide the channels;
    /// - a rank of zero;
    /// - a weight that holds NaN or an infinity
    pub fn factored(
        weight: &Tensor,
        layout: Layout,
        scheme: Scheme,
        groups: usize,
        rank: usize,
    ) -> Result<Self> {
        let unfolding = Unfolding::new(layout, scheme, weight.dims(), groups).map_err(Error::wrap)?;
        let data = weight.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
        let factored =
            overcomplete(&data, &unfolding, rank, &SvdOptions::default(), 0).map_err(Error::wrap)?;
        let var = |factor: crate::decompose::Factor<f64>| {
            let tensor = Tensor::from_vec(factor.data, factor.shape, &Device::Cpu)?;
            Var::from_tensor(&tensor.to_dtype(weight.dtype())?.to_device(weight.device())?)
        };
        let factors = factored.factors.into_iter().map(var).collect::<Result<_>>()?;
        Ok(Self::Factored(Chain::new(unfolding, factors)?))
    }

    /// The factors, where it has some.
    #[must_use]
    pub fn chain(&self) -> Option<&Chain> {
        match self {
            Self::Dense(_) => None,
            Self::Factored(chain) => Some(chain),
        }
    }

    /// The tensors that are trained.
    #[must_use]
    pub fn vars(&self) -> &[Var] {
        match self {
            Self::Dense(var) => std::slice::from_ref(var),
            Self::Factored(chain) => chain.factors(),
        }
    }

    /// Elements of all of its tensors.
    #[must_use]
    pub fn parameters(&self) -> usize {
        self.vars().iter().map(|var| var.elem_count()).sum()
    }

    /// The dense weight, multiplied out where it is factored.
    ///
    /// # Errors
    ///
    /// - a device that fails
    pub fn collapse(&self) -> Result<Tensor> {
        match self {
            Self::Dense(var) => Ok(var.as_detached_tensor()),
            Self::Factored(chain) => chain.collapse(),
        }
    }

    /// The shape of the dense weight.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::Dense(var) => var.dims(),
            Self::Factored(chain) => chain.unfolding().shape(),
        }
    }
}
