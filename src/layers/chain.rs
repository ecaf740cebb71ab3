use super::matrices::{Matrices, weight_of};
use super::operations::Reconstruction;
use super::tape::{Node, Tape};
use super::tensors::Factors;
use crate::decompose::{Format, Ranks, Scheme};
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
    /// This way, where factors can run in sequence at all.
    pub(super) fn of(self, format: &Format) -> Self {
        if format.is_chain() { self } else { Self::Product }
    }

    /// Whether the factors are multiplied out, and what that takes, given what both ways take.
    pub(super) fn cheaper(self, sequence: u64, product: u64) -> (bool, u64) {
        match self {
            Self::Auto if product < sequence => (true, product),
            Self::Auto | Self::Sequence => (false, sequence),
            Self::Product => (true, product),
        }
    }
}

/// The factors of one layer's weight: `W = A B`, `A M B`, or a tensor's.
///
/// # Frobenius decay
///
/// The penalty `(1/2) |W|^2` is on what the factors stand for. Its gradients are closed forms, in which that is never formed:
///
/// ```text
/// two factors     grad_A = A (B Bt),           grad_B = (At A) B
/// three factors   grad_A = A (M B Bt Mt),      grad_M = (At A) M (B Bt),      grad_B = (Mt At A M) B
/// |A B|^2 = tr((At A) (B Bt))
/// ```
///
/// Those of tensors contract the factors' Gram matrices with each other likewise.
///
/// # Reference
///
/// Khodak, Tenenholtz, Mackey, Fusi, "Initialization and Regularization of Factorized Neural Layers", ICLR 2021,
/// section 3.
#[derive(Clone, Debug)]
pub struct Chain {
    format: Format,
    ranks: Ranks,
    factors: Vec<Var>,
}

impl Chain {
    /// The factors of a weight, in the order in which they are stored.
    ///
    /// # Errors
    ///
    /// - factors whose shapes are not the format's at some ranks
    pub fn new(format: impl Into<Format>, factors: Vec<Var>) -> Result<Self> {
        let format = format.into();
        let found: Vec<Vec<usize>> = factors.iter().map(|factor| factor.dims().to_vec()).collect();
        let Some(ranks) = format.ranks_of(&found) else {
            let one = format.max_ranks().map(|_, _| 1);
            bail!(
                "factors of shapes {found:?} do not form a weight of shape {:?}: expected such as {:?}",
                format.shape(),
                format.factor_shapes(&one)
            );
        };
        Ok(Self { format, ranks, factors })
    }

    /// How the weight is factored.
    #[must_use]
    pub fn format(&self) -> &Format {
        &self.format
    }

    /// The scheme.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.format.scheme()
    }

    /// The ranks: of matrices one, that of each group.
    #[must_use]
    pub fn ranks(&self) -> &Ranks {
        &self.ranks
    }

    /// The factors as they are stored: of a chain of layers their weights, in the order in which they run.
    #[must_use]
    pub fn factors(&self) -> &[Var] {
        &self.factors
    }

    /// Elements of all factors.
    #[must_use]
    pub fn parameters(&self) -> usize {
        self.factors.iter().map(|factor| factor.elem_count()).sum()
    }

    fn detached(&self) -> Vec<Tensor> {
        self.factors.iter().map(Var::as_detached_tensor).collect()
    }

    /// The dense weight, in its stored shape; no gradient goes through it.
    ///
    /// # Errors
    ///
    /// - a device that fails
    pub fn collapse(&self) -> Result<Tensor> {
        match &self.format {
            Format::Matrix(unfolding) => {
                weight_of(unfolding, &Matrices::of(unfolding, &self.detached())?.product()?)
            }
            Format::Tensor(tensor) => Factors::new(tensor, &self.detached())?.weight(),
        }
    }

    /// The dense weight in a computation, with gradients to the factors.
    ///
    /// # Errors
    ///
    /// - as [`Tape::apply`]
    pub fn reconstruct(&self, tape: &Tape) -> Result<Node> {
        let nodes: Vec<Node> = self.factors.iter().map(|factor| tape.parameter(factor)).collect();
        tape.apply(Reconstruction::new(&self.format), &nodes.iter().collect::<Vec<_>>())
    }

    /// Multiply-adds of forming the dense weight.
    #[must_use]
    pub fn reconstruction_multiply_adds(&self) -> u64 {
        self.format.reconstruction_multiply_adds(&self.ranks)
    }

    /// The gradients of `(1/2) |W|^2` with respect to the factors, in closed form, of matrices in `O((m + n) r^2)`.
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
        let unfolding = match &self.format {
            Format::Matrix(unfolding) => unfolding,
            Format::Tensor(tensor) => return Factors::new(tensor, &self.detached())?.decay(),
        };
        let Matrices { a, m, b } = Matrices::of(unfolding, &self.detached())?;
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
        found.factors(unfolding)
    }

    /// `|W|^2` as a scalar that candle can differentiate, from the small Gram matrices.
    ///
    /// For training loops that take their gradients from one loss: add `lambda / 2` times this.
    ///
    /// # Errors
    ///
    /// - a device that fails
    pub fn norm_squared(&self) -> Result<Tensor> {
        let tensors: Vec<Tensor> = self.factors.iter().map(|factor| factor.as_tensor().clone()).collect();
        let unfolding = match &self.format {
            Format::Matrix(unfolding) => unfolding,
            Format::Tensor(tensor) => return Factors::new(tensor, &tensors)?.norm_squared(),
        };
        let Matrices { a, m, b } = Matrices::of(unfolding, &tensors)?;
        let (a, b) = (a.contiguous()?, b.contiguous()?);
        let bbt = b.matmul(&b.t()?)?;
        let inner = match m {
            None => bbt,
            Some(m) => m.contiguous()?.matmul(&bbt)?.matmul(&m.t()?)?,
        };
        // tr(P Q) = sum of the elements of P * Qt, and both are symmetric.
        (a.t()?.matmul(&a)? * inner)?.sum_all()
    }

    /// `|W|`.
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
        let wide = |tensor: &Tensor| tensor.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.contiguous();
        let factors: Vec<Tensor> = self.detached().iter().map(wide).collect::<Result<_>>()?;
        // The singular values of each group's product, and the two sides that weight decay and orthogonality are told of.
        let (spectra, grams, nuclear_bound) = match &self.format {
            Format::Matrix(unfolding) => {
                let Matrices { a, m, b } = Matrices::of(unfolding, &factors)?;
                let (a, b) = (a.contiguous()?, b.contiguous()?);
                let inner = match m {
                    Some(m) => a.matmul(&m.contiguous()?)?,
                    None => a.clone(),
                };
                let bound = f64::midpoint(sum_of_squares(&inner)?, sum_of_squares(&b)?);
                (product_spectra(&inner, &b)?, (a.t()?.matmul(&a)?, b.matmul(&b.t()?)?), bound)
            }
            Format::Tensor(tensor) => {
                let weight = Factors::new(tensor, &factors)?.weight()?;
                let ends = [&factors[0], &factors[factors.len() - 1]];
                let [first, last] = ends.map(|factor| factor.reshape((factor.dim(0)?, ())));
                let (first, last) = (first?, last?);
                let squares = factors.iter().map(sum_of_squares).collect::<Result<Vec<f64>>>()?;
                let grams = (first.matmul(&first.t()?)?, last.t()?.contiguous()?.matmul(&last)?);
                let weight = weight.reshape((weight.dim(0)?, ()))?;
                let (rows, cols) = weight.dims2()?;
                let elements = weight.flatten_all()?.to_vec1::<f64>()?;
                let spectrum = linalg::rough_spectrum(MatRef::from_row_major_slice(&elements, rows, cols), 1);
                (vec![spectrum.map_err(candle_core::Error::wrap)?], grams, squares.iter().sum::<f64>() / 2.0)
            }
        };
        let (mut norm_squared, mut nuclear, mut largest) = (0.0, 0.0, 0.0f64);
        for spectrum in spectra {
            norm_squared += spectrum.values().iter().map(|s| s * s).sum::<f64>();
            nuclear += spectrum.values().iter().sum::<f64>();
            largest = largest.max(spectrum.values().first().copied().unwrap_or(0.0));
        }
        Ok(Diagnostics {
            norm: norm_squared.sqrt(),
            nuclear_norm: nuclear,
            nuclear_bound,
            effective_step_size: learning_rate / norm_squared,
            non_orthogonality: f64::midpoint(non_orthogonality(&grams.0)?, non_orthogonality(&grams.1)?),
            stable_rank: if largest > 0.0 { norm_squared / (largest * largest) } else { 0.0 },
        })
    }
}

/// The singular values of each group's `A B`, shapes `(groups, m, r)` and `(groups, r, n)`.
fn product_spectra(a: &Tensor, b: &Tensor) -> Result<Vec<linalg::Spectrum>> {
    let ((_, m, r), (_, _, n)) = (a.dims3()?, b.dims3()?);
    let [a, b] = [a, b].map(|side| side.flatten_all()?.to_vec1::<f64>());
    let (a, b) = (a?, b?);
    let groups = a.chunks_exact(m * r).zip(b.chunks_exact(r * n));
    let spectrum = |(a, b): (&[f64], &[f64])| {
        let (a, b) = (MatRef::from_row_major_slice(a, m, r), MatRef::from_row_major_slice(b, r, n));
        linalg::product_spectrum(a, b, 1).map_err(candle_core::Error::wrap)
    };
    groups.map(spectrum).collect()
}

fn sum_of_squares(tensor: &Tensor) -> Result<f64> {
    tensor.sqr()?.sum_all()?.to_scalar::<f64>()
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
    /// `|W|`.
    pub norm: f64,
    /// The sum of the singular values of `A B`; of a tensor's weight as a matrix, a row for each of its first axis.
    pub nuclear_norm: f64,
    /// What weight decay on two factors punishes, and what bounds the nuclear norm: `(|A|^2 + |B|^2) / 2`; of three
    /// factors `(|A M|^2 + |B|^2) / 2`. Of a tensor's factors half their squares, which bounds nothing.
    pub nuclear_bound: f64,
    /// `learning_rate / |A B|^2`: before a normalization only the direction of a weight matters, and this is its real rate.
    pub effective_step_size: f64,
    /// `|G - diag(G)| / |G|` of the factors' Gram matrices `At A` and `B Bt`, the mean of the two; of a tensor those of the first and the last factor.
    pub non_orthogonality: f64,
    /// `|A B|^2 / s_1^2`.
    pub stable_rank: f64,
}
