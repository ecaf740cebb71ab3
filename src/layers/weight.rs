use super::chain::Chain;
use crate::decompose::{Format, FormatOptions, Layout, Pairs, Ranks, Scheme};
use candle_core::{DType, Device, Error, Result, Tensor, Var};

/// A layer's weight: dense, or the factors of a chain.
#[derive(Clone, Debug)]
pub enum Weight {
    /// One tensor.
    Dense(Var),
    /// Two or more.
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

    /// Factors of a dense weight from its decomposition: spectral initialization.
    ///
    /// One rank is one for every mode; outputs and inputs are taken apart in two where the scheme does that. Ranks of matrices
    /// beyond the largest possible, and [`Scheme::Deep`], give overcomplete factors.
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
        ranks: impl Into<Ranks>,
    ) -> Result<Self> {
        let format =
            Format::new(layout, scheme, weight.dims(), groups, &Pairs::default()).map_err(Error::wrap)?;
        Self::in_format(weight, format, &ranks.into())
    }

    /// Factors of a dense weight in a format.
    ///
    /// # Errors
    ///
    /// - as [`Weight::factored`]
    pub fn in_format(weight: &Tensor, format: Format, ranks: &Ranks) -> Result<Self> {
        let data = weight.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
        let factored = format.factor(&data, ranks, None, &FormatOptions::default()).map_err(Error::wrap)?;
        let var = |factor: crate::decompose::Factor<f64>| {
            let tensor = Tensor::from_vec(factor.data, factor.shape, &Device::Cpu)?;
            Var::from_tensor(&tensor.to_dtype(weight.dtype())?.to_device(weight.device())?)
        };
        let factors = factored.factors.into_iter().map(var).collect::<Result<_>>()?;
        Ok(Self::Factored(Chain::new(format, factors)?))
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
            Self::Factored(chain) => chain.format().shape(),
        }
    }
}
