use super::{DecomposeError, Layout, Pairs, Ranks, Scheme, Tensorization, Unfolding};
use crate::linalg::{self, SvdOptions};

/// How a weight is factored: as matrices, or as a tensor.
///
/// # Examples
///
/// ```
/// use fnl::decompose::{Format, FormatOptions, Layout, Pairs, Ranks, Scheme};
///
/// // A kernel whose taps are all the same is exact at rank one.
/// let kernel: Vec<f32> = (0..4).flat_map(|channel| [channel as f32 + 1.0; 9]).collect();
/// let format = Format::new(Layout::Conv2d, Scheme::Cp, &[2, 2, 3, 3], 1, &Pairs::default())?;
/// let ranks = Ranks::from(2);
/// let factored = format.factor(&kernel, &ranks, None, &FormatOptions::default())?;
/// assert_eq!(factored.factors[1].shape, [2, 1, 3, 1]); // down, in as many groups as there are components
/// let again = format.collapse(&factored.factors, 1)?;
/// assert!(kernel.iter().zip(&again).all(|(x, y)| (x - y).abs() < 1e-4));
/// # Ok::<(), fnl::decompose::DecomposeError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// One matrix for each group, split in two or three.
    Matrix(Unfolding),
    /// A tensor.
    Tensor(Tensorization),
}

impl Format {
    /// Describes how a weight of this layout and shape is factored by a scheme.
    ///
    /// Pairs are for tensors that are made of outputs and inputs taken apart; other formats don't look at them.
    ///
    /// # Errors
    ///
    /// - as [`Unfolding::new`] and [`Tensorization::new`];
    /// - [`DecomposeError::GroupedTensor`] for tensors of kernels in groups
    pub fn new(
        layout: Layout,
        scheme: Scheme,
        shape: &[usize],
        groups: usize,
        pairs: &Pairs,
    ) -> Result<Self, DecomposeError> {
        if !scheme.is_tensor() {
            return Ok(Self::Matrix(Unfolding::new(layout, scheme, shape, groups)?));
        }
        if groups != 1 {
            return Err(DecomposeError::GroupedTensor { scheme: scheme.name(), groups });
        }
        Ok(Self::Tensor(Tensorization::new(layout, scheme, shape, pairs)?))
    }

    /// The matrices, where it is those.
    #[must_use]
    pub fn unfolding(&self) -> Option<&Unfolding> {
        match self {
            Self::Matrix(unfolding) => Some(unfolding),
            Self::Tensor(_) => None,
        }
    }

    /// The weight's layout.
    #[must_use]
    pub fn layout(&self) -> Layout {
        match self {
            Self::Matrix(unfolding) => unfolding.layout(),
            Self::Tensor(tensor) => tensor.layout(),
        }
    }

    /// The scheme: for one-dimensional kernels of two factors always `channel`.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        match self {
            Self::Matrix(unfolding) => unfolding.scheme(),
            Self::Tensor(tensor) => tensor.scheme(),
        }
    }

    /// The dense weight's stored shape.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::Matrix(unfolding) => unfolding.shape(),
            Self::Tensor(tensor) => tensor.shape(),
        }
    }

    /// The number of groups, 1 except for grouped convolutions.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.unfolding().map_or(1, Unfolding::groups)
    }

    /// How outputs and inputs are taken apart, where they are.
    #[must_use]
    pub fn pairs(&self) -> Option<&[[usize; 2]]> {
        match self {
            Self::Matrix(_) => None,
            Self::Tensor(tensor) => tensor.pairs(),
        }
    }

    /// Whether the factors are a chain of layers, and not multiplied out before they run.
    #[must_use]
    pub fn is_chain(&self) -> bool {
        match self {
            Self::Matrix(_) => true,
            Self::Tensor(tensor) => tensor.is_chain(),
        }
    }

    /// Parameters of the dense weight.
    #[must_use]
    pub fn parameters(&self) -> usize {
        self.shape().iter().product()
    }

    /// The largest ranks that are of use: at these the factors can be the weight itself.
    #[must_use]
    pub fn max_ranks(&self) -> Ranks {
        match self {
            Self::Matrix(unfolding) => unfolding.max_rank().into(),
            Self::Tensor(tensor) => tensor.max_ranks(),
        }
    }

    /// These ranks, none beyond the largest of its mode; one rank is one for every mode.
    ///
    /// # Errors
    ///
    /// - [`DecomposeError::RankCount`]: several ranks, but not one for each mode
    pub fn ranks(&self, asked: &Ranks) -> Result<Ranks, DecomposeError> {
        let most = self.max_ranks();
        let (expected, found) = (most.values().len(), asked.values().len());
        if found != expected && found != 1 {
            let modes = match self {
                Self::Matrix(unfolding) => vec![unfolding.rows(), unfolding.cols()],
                Self::Tensor(tensor) => tensor.modes(),
            };
            return Err(DecomposeError::RankCount { expected, modes, found });
        }
        let asked = most.map(|mode, most| asked.values()[if found == 1 { 0 } else { mode }].min(most));
        Ok(self.attainable(&asked))
    }

    /// One rank as the rank of every mode; several as they are.
    fn of_each_mode(&self, ranks: &Ranks) -> Ranks {
        let most = self.max_ranks();
        let several = most.values().len() != ranks.values().len() && ranks.values().len() == 1;
        if several { most.map(|_, most| most.min(ranks.largest())) } else { *ranks }
    }

    /// These ranks, as far as all of them together can be reached.
    #[must_use]
    pub fn attainable(&self, ranks: &Ranks) -> Ranks {
        match self {
            Self::Matrix(_) => *ranks,
            Self::Tensor(tensor) => tensor.attainable(ranks),
        }
    }

    /// The stored shapes of the factors, in their order.
    #[must_use]
    pub fn factor_shapes(&self, ranks: &Ranks) -> Vec<Vec<usize>> {
        match self {
            Self::Matrix(unfolding) => unfolding.factor_shapes(ranks.largest()),
            Self::Tensor(tensor) => tensor.factor_shapes(&self.of_each_mode(ranks)),
        }
    }

    /// What the factors of a module are called: `MODULE.0.weight`, ..., or `MODULE.core_0`, ...
    #[must_use]
    pub fn factor_names(&self, module: &str) -> Vec<String> {
        let names = match self {
            Self::Matrix(unfolding) => {
                (0..unfolding.factor_shapes(1).len()).map(|index| format!("{index}.weight")).collect()
            }
            Self::Tensor(tensor) => tensor.factor_names(),
        };
        names
            .into_iter()
            .map(|name| if module.is_empty() { name } else { format!("{module}.{name}") })
            .collect()
    }

    /// What the bias of a module is called: that of a chain's last layer, or `MODULE.bias`.
    #[must_use]
    pub fn bias_name(&self, module: &str) -> String {
        let last = self.factor_names("").len() - 1;
        let own = if self.is_chain() { format!("{last}.bias") } else { "bias".to_owned() };
        if module.is_empty() { own } else { format!("{module}.{own}") }
    }

    /// The ranks of factors of these shapes, if they are those of some ranks.
    #[must_use]
    pub fn ranks_of(&self, shapes: &[Vec<usize>]) -> Option<Ranks> {
        match self {
            Self::Matrix(unfolding) => {
                let rank = unfolding.rank_of(shapes.first()?).filter(|&rank| rank > 0)?;
                (unfolding.factor_shapes(rank) == shapes).then_some(rank.into())
            }
            Self::Tensor(tensor) => tensor.ranks_of(shapes),
        }
    }

    /// Parameters of all factors.
    #[must_use]
    pub fn factored_parameters(&self, ranks: &Ranks) -> usize {
        match self {
            Self::Matrix(unfolding) => unfolding.factored_parameters(ranks.largest()),
            Self::Tensor(tensor) => tensor.factored_parameters(&self.of_each_mode(ranks)),
        }
    }

    /// The largest rank, the same for every mode that has it, at which the factors are smaller than the weight; 0 if none is.
    #[must_use]
    pub fn break_even_rank(&self) -> usize {
        match self {
            Self::Matrix(unfolding) => unfolding.break_even_rank(),
            Self::Tensor(_) => {
                let most = self.max_ranks();
                let smaller = |rank: usize| {
                    let ranks = self.attainable(&most.map(|_, most| most.min(rank)));
                    self.factored_parameters(&ranks) < self.parameters()
                };
                let (mut low, mut high) = (0, most.largest());
                while low < high {
                    let middle = low + (high - low).div_ceil(2);
                    if smaller(middle) { low = middle } else { high = middle - 1 }
                }
                low
            }
        }
    }

    /// Multiply-adds of the dense layer, for each token or output position.
    #[must_use]
    pub fn multiply_adds(&self) -> usize {
        if self.layout() == Layout::Embedding { 0 } else { self.parameters() }
    }

    /// Multiply-adds of the factors, for each token or output position of a layer of this stride.
    #[must_use]
    pub fn factored_multiply_adds(&self, ranks: &Ranks, stride: [usize; 2]) -> usize {
        match self {
            Self::Matrix(unfolding) => {
                let rank = ranks.largest();
                let middle =
                    if unfolding.scheme() == Scheme::Deep { unfolding.groups() * rank * rank } else { 0 };
                rank * unfolding.multiply_adds_per_rank(stride[0]) + middle
            }
            Self::Tensor(tensor) => tensor.multiply_adds(&self.of_each_mode(ranks), stride),
        }
    }

    /// Multiply-adds of multiplying the factors out.
    #[must_use]
    pub fn reconstruction_multiply_adds(&self, ranks: &Ranks) -> u64 {
        match self {
            Self::Matrix(unfolding) => {
                let (rows, cols, r) = (unfolding.rows(), unfolding.cols(), ranks.largest());
                let middle = if unfolding.scheme() == Scheme::Deep { rows * r * r } else { 0 };
                (unfolding.groups() * (rows * cols * r + middle)) as u64
            }
            Self::Tensor(tensor) => tensor.reconstruction_multiply_adds(&self.of_each_mode(ranks)),
        }
    }

    /// An upper estimate of the bytes that finding the factors takes beyond the weight.
    #[must_use]
    pub fn working_bytes(&self, ranks: &Ranks, item_bytes: usize, options: &SvdOptions) -> u64 {
        match self {
            Self::Matrix(unfolding) => {
                let (rows, cols) = (unfolding.rows(), unfolding.cols());
                linalg::working_bytes(rows, cols, ranks.largest(), item_bytes, options.method)
            }
            // The tensor in f64 in two orders, products of factors as large as it, the Gram matrices of its modes; of
            // components also their Gram matrices, and the products of all modes but one with each other.
            Self::Tensor(tensor) => {
                let factors = tensor.factored_parameters(ranks);
                let (modes, all) = (tensor.modes(), self.parameters());
                let grams = modes.iter().map(|&n| n.min(all / n.max(1)).pow(2)).max().unwrap_or(0);
                let largest = modes.iter().copied().max().unwrap_or(1);
                let components = match tensor.scheme() {
                    Scheme::Cp => 8 * ranks.largest().pow(2) + 2 * ranks.largest() * all / largest.max(1),
                    _ => 0,
                };
                (8 * (6 * all + 4 * factors + 6 * grams + components)) as u64
            }
        }
    }

    /// What finding the factors takes, in no unit, for the order in which layers are taken.
    #[must_use]
    pub fn work(&self) -> u64 {
        match self {
            Self::Matrix(unfolding) => {
                let (rows, cols) = (unfolding.rows(), unfolding.cols());
                let small = rows.min(cols) as u64;
                unfolding.groups() as u64 * small * small * rows.max(cols) as u64
            }
            Self::Tensor(tensor) => {
                let largest = tensor.max_ranks().largest() as u64;
                let sweeps = if tensor.scheme() == Scheme::TensorTrain { 1 } else { 8 };
                sweeps * largest * self.parameters() as u64
            }
        }
    }
}

impl From<Unfolding> for Format {
    fn from(unfolding: Unfolding) -> Self {
        Self::Matrix(unfolding)
    }
}
