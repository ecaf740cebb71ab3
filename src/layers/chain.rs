use super::matrices::{Matrices, weight_of};
use super::operations::Reconstruction;
use super::tape::{Node, Tape};
use crate::decompose::{Scheme, Unfolding};
use crate::linalg;
use candle_core::{D, DType, Device, Result, Tensor, Var, bail};
use faer::MatRef;
use serde::{Deserialize, Serialize};

/// How the factors of a layer are run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Execution {
    /// Whichever takes less for the input at hand: fewer multiply-adds, where a convolution of 3 x 3 on the CPU counts for what its loops do.
    #[default]
    Auto,
    /// A layer after the other.
    Sequence,
    /// Multiplied out first, then one layer.
    Product,
}

impl Execution {
    /// Whether the factors are multiplied out, and what that takes, given what both ways take.
    pub(super) fn cheaper(self, sequence: u64, product: u64) -> (bool, u64) {
        match self {
            Self::Auto if product < sequence => (true, product),
            Self::Auto | Self::Sequence => (false, sequence),
            Self::Product => (true, product),
        }
    }
}

/// The factors of one layer's weight: `W = A B`, or `A M B`.
///
/// # Frobenius decay
///
/// The penalty `(1/2) |A B|^2` is on the product. Its gradients are closed forms, in which the product is never formed:
///
/// ```text
/// two factors     grad_A = A (B Bt),           grad_B = (At A) B
/// three factors   grad_A = A (M B Bt Mt),      grad_M = (At A) M (B Bt),      grad_B = (Mt At A M) B
/// |A B|^2 = tr((At A) (B Bt))
/// ```
///
/// # Reference
///
/// Khodak, Tenenholtz, Mackey, Fusi, "Initialization and Regularization of Factorized Neural Layers", ICLR 2021,
/// section 3.
#[derive(Clone, Debug)]
pub struct Chain {
    unfolding: Unfolding,
    rank: usize,
    factors: Vec<Var>,
}

impl Chain {
    /// The chain of these factors, the first layer's first.
    ///
    /// # Errors
    ///
    /// - factors whose shapes are not the unfolding's at some rank
    pub fn new(unfolding: Unfolding, factors: Vec<Var>) -> Result<Self> {
        let found: Vec<Vec<usize>> = factors.iter().map(|factor| factor.dims().to_vec()).collect();
        let rank = found.first().and_then(|first| unfolding.rank_of(first)).unwrap_or(0);
        if rank == 0 || unfolding.factor_shapes(rank) != found {
            let expected = unfolding.factor_shapes(rank.max(1));
            bail!(
                "factors of shapes {found:?} do not form a weight of shape {:?}: expected such as {expected:?}",
                unfolding.shape()
            );
        }
        Ok(Self { unfolding, rank, factors })
    }

    /// How the weight is seen as a matrix.
    #[must_use]
    pub fn unfolding(&self) -> &Unfolding {
        &self.unfolding
    }

    /// The scheme.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.unfolding.scheme()
    }

    /// The rank, of each group.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// The weights of the layers, in the order in which they run.
    #[must_use]
    pub fn factors(&self) -> &[Var] {
        &self.factors
    }

    /// Elements of all factors.
    #[must_use]
    pub fn parameters(&self) -> usize {
        self.factors.iter().map(|factor| factor.elem_count()).sum()
    }

    fn matrices(&self) -> Result<Matrices> {
        let detached: Vec<Tensor> = self.factors.iter().map(Var::as_detached_tensor).collect();
        Matrices::of(&self.unfolding, &detached)
    }

    /// The dense weight, in its stored shape; no gradient goes through it.
    ///
    /// # Errors
    ///
    /// - a device that fails
    pub fn collapse(&self) -> Result<Tensor> {
        weight_of(&self.unfolding, &self.matrices()?.product()?)
    }

    /// The dense weight in a computation, with gradients to the factors.
    ///
    /// # Errors
    ///
    /// - as [`Tape::apply`]
    pub fn reconstruct(&self, tape: &Tape) -> Result<Node> {
        let nodes: Vec<Node> = self.factors.iter().map(|factor| tape.parameter(factor)).collect();
        tape.apply(Reconstruction::new(&self.unfolding), &nodes.iter().collect::<Vec<_>>())
    }

    /// Multiply-adds of forming the dense weight.
    #[must_use]
    pub fn reconstruction_multiply_adds(&self) -> u64 {
        let (rows, cols, r) = (self.unfolding.rows(), self.unfolding.cols(), self.rank);
        let middle = if self.factors.len() == 3 { rows * r * r } else { 0 };
        (self.unfolding.groups() * (rows * cols * r + middle)) as u64
    }

    /// The gradients of `(1/2) |A B|^2` with respect to the factors, in closed form, in `O((m + n) r^2)`.
    ///
    /// # Errors
    ///
    /// - a device that fails
    ///
    /// # Examples
    ///
    /// ```
    /// use candle_core::{Device, Tensor, Var};
    /// use fnl::decompose::{Layout, Scheme, Unfolding};
    /// use fnl::layers::Chain;
    ///
    /// let b = Var::new(&[[3f32, 4.0]], &Device::Cpu)?; // (r, in)
    /// let a = Var::new(&[[2f32], [1.0]], &Device::Cpu)?; // (out, r)
    /// let unfolding = Unfolding::new(Layout::Linear, Scheme::Matrix, &[2, 2], 1)?;
    /// let chain = Chain::new(unfolding, vec![b, a])?;
    /// let gradients = chain.frobenius_gradients()?;
    /// assert_eq!(gradients[0].to_vec2::<f32>()?, [[15.0, 20.0]]); // (At A) B = 5 B
    /// assert_eq!(gradients[1].to_vec2::<f32>()?, [[50.0], [25.0]]); // A (B Bt) = 25 A
    /// assert_eq!(chain.norm()?, 125f64.sqrt());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn frobenius_gradients(&self) -> Result<Vec<Tensor>> {
        let Matrices { a, m, b } = self.matrices()?;
        let (a, b) = (a.contiguous()?, b.contiguous()?);
        let (ata, bbt) = (a.t()?.matmul(&a)?, b.matmul(&b.t()?)?);
        let found = match m {
            None => Matrices { a: a.matmul(&bbt)?, m: None, b: ata.matmul(&b)? },
            Some(m) => {
                let m = m.contiguous()?;
                let (mt, m_bbt) = (m.t()?, m.matmul(&bbt)?);
                Matrices {
                    a: a.matmul(&m_bbt.matmul(&mt)?)?,
                    m: Some(ata.matmul(&m_bbt)?),
                    b: mt.matmul(&ata.matmul(&m)?)?.matmul(&b)?,
                }
            }
        };
        found.factors(&self.unfolding)
    }

    /// `|A B|^2` as a scalar that candle can differentiate, from the small Gram matrices.
    ///
    /// For training loops that take their gradients from one loss: add `lambda / 2` times this.
    ///
    /// # Errors
    ///
    /// - a device that fails
    pub fn norm_squared(&self) -> Result<Tensor> {
        let tensors: Vec<Tensor> = self.factors.iter().map(|factor| factor.as_tensor().clone()).collect();
        let Matrices { a, m, b } = Matrices::of(&self.unfolding, &tensors)?;
        let (a, b) = (a.contiguous()?, b.contiguous()?);
        let bbt = b.matmul(&b.t()?)?;
        let inner = match m {
            None => bbt,
            Some(m) => m.contiguous()?.matmul(&bbt)?.matmul(&m.t()?)?,
        };
        // tr(P Q) = sum of the elements of P * Qt, and both are symmetric.
        (a.t()?.matmul(&a)? * inner)?.sum_all()
    }

    /// `|A B|`.
    ///
    /// # Errors
    ///
    /// - a device that fails
    pub fn norm(&self) -> Result<f64> {
        let squared = self.norm_squared()?.detach().to_dtype(DType::F64)?.to_scalar::<f64>()?;
        Ok(squared.max(0.0).sqrt())
    }

    /// `|W - A B| / |W|`.
    ///
    /// # Errors
    ///
    /// - a weight of another shape
    pub fn relative_error(&self, weight: &Tensor) -> Result<f64> {
        let weight = weight.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
        let own = self.collapse()?.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
        let difference = (&weight - own)?.sqr()?.sum_all()?.to_scalar::<f64>()?;
        let norm = weight.sqr()?.sum_all()?.to_scalar::<f64>()?;
        Ok(if difference == 0.0 { 0.0 } else { (difference / norm).sqrt() })
    }

    /// What the factors look like at this point of training.
    ///
    /// # Errors
    ///
    /// - factors that are not finite
    pub fn diagnostics(&self, learning_rate: f64) -> Result<Diagnostics> {
        let wide = |tensor: &Tensor| tensor.to_device(&Device::Cpu)?.to_dtype(DType::F64);
        let Matrices { a, m, b } = self.matrices()?;
        let (a, b) = (wide(&a)?.contiguous()?, wide(&b)?.contiguous()?);
        let inner = match m {
            Some(m) => a.matmul(&wide(&m)?.contiguous()?)?,
            None => a.clone(),
        };
        let product = inner.matmul(&b)?;
        let (groups, rows, cols) = product.dims3()?;
        let elements = product.flatten_all()?.to_vec1::<f64>()?;
        let (mut norm_squared, mut nuclear, mut largest) = (0.0, 0.0, 0.0f64);
        for group in elements.chunks_exact(rows * cols).take(groups) {
            let spectrum = linalg::spectrum(MatRef::from_row_major_slice(group, rows, cols), 1)
                .map_err(candle_core::Error::wrap)?;
            norm_squared += spectrum.values().iter().map(|s| s * s).sum::<f64>();
            nuclear += spectrum.values().iter().sum::<f64>();
            largest = largest.max(spectrum.values().first().copied().unwrap_or(0.0));
        }
        let sum_of_squares = |tensor: &Tensor| tensor.sqr()?.sum_all()?.to_scalar::<f64>();
        Ok(Diagnostics {
            norm: norm_squared.sqrt(),
            nuclear_norm: nuclear,
            nuclear_bound: f64::midpoint(sum_of_squares(&inner)?, sum_of_squares(&b)?),
            effective_step_size: learning_rate / norm_squared,
            non_orthogonality: f64::midpoint(
                non_orthogonality(&a.t()?.matmul(&a)?)?,
                non_orthogonality(&b.matmul(&b.t()?)?)?,
            ),
            stable_rank: if largest > 0.0 { norm_squared / (largest * largest) } else { 0.0 },
        })
    }
}

/// The part of a Gram matrix off its diagonal: `|G - diag(G)| / |G|`.
fn non_orthogonality(gram: &Tensor) -> Result<f64> {
    let rank = gram.dim(D::Minus1)?;
    let eye = Tensor::eye(rank, DType::F64, &Device::Cpu)?;
    let norm = gram.sqr()?.sum_all()?.to_scalar::<f64>()?;
    let diagonal = gram.broadcast_mul(&eye)?.sqr()?.sum_all()?.to_scalar::<f64>()?;
    Ok(if norm > 0.0 { ((norm - diagonal).max(0.0) / norm).sqrt() } else { 0.0 })
}

/// A factored layer at one point of training.
///
/// # Reference
///
/// Khodak, Tenenholtz, Mackey, Fusi, ICLR 2021, figures 1 to 3.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Diagnostics {
    /// `|A B|`.
    pub norm: f64,
    /// The sum of the singular values of `A B`.
    pub nuclear_norm: f64,
    /// What weight decay on two factors punishes, and what bounds the nuclear norm: `(|A|^2 + |B|^2) / 2`; of three
    /// factors `(|A M|^2 + |B|^2) / 2`.
    pub nuclear_bound: f64,
    /// `learning_rate / |A B|^2`: before a normalization only the direction of a weight matters, and this is its real rate.
    pub effective_step_size: f64,
    /// `|G - diag(G)| / |G|` of the factors' Gram matrices `At A` and `B Bt`, the mean of the two.
    pub non_orthogonality: f64,
    /// `|A B|^2 / s_1^2`.
    pub stable_rank: f64,
}
