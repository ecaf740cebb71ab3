use super::pairs::paired;
use super::{DecomposeError, Layout, Pairs, Ranks, Scheme};

/// A weight seen as a tensor of several modes, and the factors that it is split in.
///
/// | layout | scheme | tensor | factors |
/// | --- | --- | --- | --- |
/// | convolution | `tucker` | `(o, i, kh, kw)`, cut over its first two modes | `(r_i, i, 1, 1)`, `(r_o, r_i, kh, kw)`, `(o, r_o, 1, 1)` |
/// | convolution | `cp` | `(o, i, kh, kw)` | `(r, i, 1, 1)`, `(r, 1, kh, 1)`, `(r, 1, 1, kw)`, `(o, r, 1, 1)` |
/// | any | `tensor-train` | `(kh kw, o_1 i_1, ..., o_d i_d)` | cores `(r_{k-1}, n_k, r_k)` |
/// | linear, embedding | `tucker` | `(o_1 i_1, ..., o_d i_d)` | core `(r_1, ..., r_d)`, factors `(n_k, r_k)` |
///
/// Of a convolution the first two are a chain of layers, the second and third of `cp` in `r` groups; a kernel of one axis has
/// one such layer. The others are multiplied out before they run. The kernel's taps are a mode of their own where there is
/// more than one; `o = o_1 ... o_d` and `i = i_1 ... i_d` are the [pairs](Tensorization::pairs).
///
/// Ranks are told in the order of the modes: `r_o, r_i` of a kernel's `tucker`, `r_1, ..., r_{d-1}` of a train.
///
/// # Reference
///
/// - Tucker of kernels: Kim et al., "Compression of Deep Convolutional Neural Networks for Fast and Low Power Mobile
///   Applications", ICLR 2016
/// - CP of kernels: Lebedev et al., "Speeding-up Convolutional Neural Networks Using Fine-tuned CP-Decomposition", ICLR 2015
/// - tensor trains of layers: Novikov et al., "Tensorizing Neural Networks", NeurIPS 2015; of kernels: Garipov et al., 2016
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensorization {
    layout: Layout,
    shape: Vec<usize>,
    /// `(out, in, kh, kw)`; a matrix has `kh = kw = 1`.
    kernel: [usize; 4],
    split: Split,
}

/// What a tensor's factors are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Split {
    /// A kernel's core and a factor for outputs and inputs each: a chain of three layers.
    TuckerKernel,
    /// A core, and a factor for each of these pairs of outputs and inputs.
    TuckerPairs(Vec<[usize; 2]>),
    /// A kernel's components: a chain of a layer for each axis.
    Components,
    /// A core for a kernel's taps, where there are several, and for each of these pairs of outputs and inputs.
    Train(Vec<[usize; 2]>),
}

impl Tensorization {
    /// Describes how a weight of this layout and shape is split.
    ///
    /// # Errors
    ///
    /// - [`DecomposeError::Scheme`] when the scheme does not apply: `cp` of matrices, either of kernels with one tap, whose
    ///   only two modes make them matrices;
    /// - [`DecomposeError::PairCount`] when the pairs are too few, or too many;
    /// - [`DecomposeError::Pairs`] when they do not make up outputs and inputs
    pub fn new(
        layout: Layout,
        scheme: Scheme,
        shape: &[usize],
        pairs: &Pairs,
    ) -> Result<Self, DecomposeError> {
        let mismatch =
            || DecomposeError::Scheme { scheme: scheme.name(), layout: layout.name(), shape: shape.to_vec() };
        let kernel = match (layout, shape) {
            (Layout::Linear | Layout::Embedding, &[rows, cols]) => [rows, cols, 1, 1],
            (Layout::TransposedLinear, &[rows, cols]) => [cols, rows, 1, 1],
            (Layout::Conv1d, &[out, inner, k]) => [out, inner, 1, k],
            (Layout::Conv2d, &[out, inner, kh, kw]) => [out, inner, kh, kw],
            _ => return Err(mismatch()),
        };
        if kernel.contains(&0) {
            return Err(mismatch());
        }
        let split = match scheme {
            Scheme::Tucker if layout.is_convolution() => Split::TuckerKernel,
            Scheme::Tucker => Split::TuckerPairs(paired(&kernel, pairs, 3)?),
            Scheme::Cp => Split::Components,
            Scheme::TensorTrain => Split::Train(paired(&kernel, pairs, 2)?),
            Scheme::Matrix | Scheme::Spatial | Scheme::Channel | Scheme::Deep => return Err(mismatch()),
        };
        let found = Self { layout, shape: shape.to_vec(), kernel, split };
        if found.is_chain() && kernel[2] * kernel[3] == 1 {
            return Err(mismatch());
        }
        Ok(found)
    }

    /// The weight's layout.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The scheme.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        match self.split {
            Split::TuckerKernel | Split::TuckerPairs(_) => Scheme::Tucker,
            Split::Components => Scheme::Cp,
            Split::Train(_) => Scheme::TensorTrain,
        }
    }

    /// What the factors are.
    #[must_use]
    pub fn split(&self) -> &Split {
        &self.split
    }

    /// The dense weight's stored shape.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// How outputs and inputs are split, where they are: `[o_k, i_k]` each.
    #[must_use]
    pub fn pairs(&self) -> Option<&[[usize; 2]]> {
        match &self.split {
            Split::TuckerPairs(pairs) | Split::Train(pairs) => Some(pairs),
            Split::TuckerKernel | Split::Components => None,
        }
    }

    /// Whether the factors are a chain of layers, and not multiplied out before they run.
    #[must_use]
    pub fn is_chain(&self) -> bool {
        self.pairs().is_none()
    }

    /// The tensor's shape.
    #[must_use]
    pub fn modes(&self) -> Vec<usize> {
        let [out, inner, kh, kw] = self.kernel;
        match self.pairs() {
            Some(pairs) => {
                let taps = (kh * kw > 1).then_some(kh * kw);
                taps.into_iter().chain(pairs.iter().map(|[o, i]| o * i)).collect()
            }
            None if self.layout == Layout::Conv1d => vec![out, inner, kw],
            None => vec![out, inner, kh, kw],
        }
    }

    /// The modes that Tucker's factors belong to.
    #[must_use]
    pub(crate) fn cut(&self) -> Vec<usize> {
        if self.is_chain() { vec![0, 1] } else { (0..self.modes().len()).collect() }
    }

    /// The axes of a stored weight taken apart, and the order in which they make up the tensor, its shape being
    /// [`Tensorization::modes`].
    #[must_use]
    pub(crate) fn axes(&self) -> (Vec<usize>, Vec<usize>) {
        let Some(pairs) = self.pairs() else {
            let modes = self.modes();
            let order = (0..modes.len()).collect();
            return (modes, order);
        };
        let d = pairs.len();
        let (outs, ins) = (pairs.iter().map(|pair| pair[0]), pairs.iter().map(|pair| pair[1]));
        let [_, _, kh, kw] = self.kernel;
        let transposed = self.layout == Layout::TransposedLinear;
        let mut sizes: Vec<usize> =
            if transposed { ins.chain(outs).collect() } else { outs.chain(ins).collect() };
        let mut order = Vec::new();
        if kh * kw > 1 {
            sizes.push(kh * kw);
            order.push(2 * d);
        }
        let (out, inner) = if transposed { (d, 0) } else { (0, d) };
        order.extend((0..d).flat_map(|k| [out + k, inner + k]));
        (sizes, order)
    }

    /// The largest ranks that are of use: at these the factors can be the weight itself.
    #[must_use]
    pub fn max_ranks(&self) -> Ranks {
        let modes = self.modes();
        let all: usize = modes.iter().product();
        match self.split {
            Split::TuckerKernel | Split::TuckerPairs(_) => {
                Ranks::of(self.cut().into_iter().map(|mode| modes[mode].min(all / modes[mode])))
            }
            Split::Components => Ranks::from(all / modes.iter().copied().max().unwrap_or(1)),
            Split::Train(_) => Ranks::of((1..modes.len()).map(|cut| {
                let left: usize = modes[..cut].iter().product();
                left.min(all / left)
            })),
        }
    }

    /// These ranks, as far as all of them together can be reached: no mode's beyond its size, or beyond what the others'
    /// ranks leave of the tensor.
    #[must_use]
    pub fn attainable(&self, asked: &Ranks) -> Ranks {
        let modes = self.modes();
        let mut ranks: Vec<usize> = asked.values().to_vec();
        let most = self.max_ranks();
        for (rank, &most) in ranks.iter_mut().zip(most.values()) {
            *rank = (*rank).min(most);
        }
        match self.split {
            Split::TuckerKernel | Split::TuckerPairs(_) => {
                let whole: usize = modes.iter().skip(if self.is_chain() { 2 } else { modes.len() }).product();
                // One pass may open the way for the next: ranks only fall, so this ends.
                loop {
                    let before = ranks.clone();
                    for mode in 0..ranks.len() {
                        let others: usize =
                            ranks.iter().enumerate().filter(|(k, _)| *k != mode).map(|(_, r)| r).product();
                        ranks[mode] = ranks[mode].min(others * whole);
                    }
                    if ranks == before {
                        break;
                    }
                }
            }
            Split::Train(_) => {
                let mut left = 1;
                for (rank, size) in ranks.iter_mut().zip(&modes) {
                    *rank = (*rank).min(left * size);
                    left = *rank;
                }
                let mut right = 1;
                for (rank, size) in ranks.iter_mut().zip(&modes[1..]).rev() {
                    *rank = (*rank).min(right * size);
                    right = *rank;
                }
            }
            Split::Components => {}
        }
        Ranks::of(ranks)
    }

    /// The stored shapes of the factors.
    #[must_use]
    pub fn factor_shapes(&self, ranks: &Ranks) -> Vec<Vec<usize>> {
        let [out, inner, kh, kw] = self.kernel;
        let ranks = ranks.values();
        let rank = |at: usize| ranks.get(at).copied().unwrap_or(1);
        let modes = self.modes();
        let flat = self.layout == Layout::Conv1d;
        let kernel =
            |o: usize, i: usize, h: usize, w: usize| if flat { vec![o, i, w] } else { vec![o, i, h, w] };
        match self.split {
            Split::TuckerKernel => {
                let (r_out, r_in) = (rank(0), rank(1));
                vec![kernel(r_in, inner, 1, 1), kernel(r_out, r_in, kh, kw), kernel(out, r_out, 1, 1)]
            }
            Split::TuckerPairs(_) => {
                let core: Vec<usize> = (0..modes.len()).map(rank).collect();
                let factors = modes.iter().enumerate().map(|(k, &size)| vec![size, rank(k)]);
                std::iter::once(core).chain(factors).collect()
            }
            Split::Components => {
                let r = rank(0);
                let across = kernel(r, 1, 1, kw);
                let down = (!flat).then(|| kernel(r, 1, kh, 1));
                std::iter::once(kernel(r, inner, 1, 1))
                    .chain(down)
                    .chain([across, kernel(out, r, 1, 1)])
                    .collect()
            }
            Split::Train(_) => {
                let of = |cut: usize| if cut == 0 || cut == modes.len() { 1 } else { rank(cut - 1) };
                modes.iter().enumerate().map(|(k, &size)| vec![of(k), size, of(k + 1)]).collect()
            }
        }
    }

    /// What the factors are called in the module: `0.weight`, ..., or `core_0`, ...
    #[must_use]
    pub fn factor_names(&self) -> Vec<String> {
        let count = self.modes().len();
        match self.split {
            Split::TuckerKernel | Split::Components => {
                (0..self.factor_shapes(&self.max_ranks()).len()).map(|k| format!("{k}.weight")).collect()
            }
            Split::TuckerPairs(_) => {
                std::iter::once("core".to_owned()).chain((0..count).map(|k| format!("factor_{k}"))).collect()
            }
            Split::Train(_) => (0..count).map(|k| format!("core_{k}")).collect(),
        }
    }

    /// The ranks of factors of these shapes, if they are those of some ranks.
    #[must_use]
    pub fn ranks_of(&self, shapes: &[Vec<usize>]) -> Option<Ranks> {
        let axis = |factor: usize, axis: usize| shapes.get(factor)?.get(axis).copied();
        let ranks = match self.split {
            Split::TuckerKernel => Ranks::of([axis(1, 0)?, axis(1, 1)?]),
            Split::TuckerPairs(_) => Ranks::of(shapes.first()?.iter().copied()),
            Split::Components => Ranks::from(axis(0, 0)?),
            Split::Train(_) => {
                let cuts = 1..self.modes().len();
                Ranks::of(cuts.map(|cut| axis(cut, 0)).collect::<Option<Vec<usize>>>()?)
            }
        };
        (self.factor_shapes(&ranks) == shapes && !ranks.values().contains(&0)).then_some(ranks)
    }

    /// Parameters of all factors.
    #[must_use]
    pub fn factored_parameters(&self, ranks: &Ranks) -> usize {
        self.factor_shapes(ranks).iter().map(|shape| shape.iter().product::<usize>()).sum()
    }

    /// Multiply-adds for each token or output position of a layer of this stride; multiplying out, which is done once for a
    /// whole batch, is not counted.
    #[must_use]
    pub fn multiply_adds(&self, ranks: &Ranks, stride: [usize; 2]) -> usize {
        if !self.is_chain() {
            return if self.layout == Layout::Embedding { 0 } else { self.shape.iter().product() };
        }
        let count = |shape: &Vec<usize>| shape.iter().product::<usize>();
        let shapes = self.factor_shapes(ranks);
        // The first layer runs before anything is strided, that down a kernel's rows before its columns are.
        let [down, across] = stride.map(|stride| stride.max(1));
        let times = |index: usize| match (index, shapes.len()) {
            (0, _) => down * across,
            (1, 4) => across,
            _ => 1,
        };
        shapes.iter().enumerate().map(|(index, shape)| times(index) * count(shape)).sum()
    }

    /// Multiply-adds of multiplying the factors out.
    #[must_use]
    pub fn reconstruction_multiply_adds(&self, ranks: &Ranks) -> u64 {
        let modes = self.modes();
        let ranks = ranks.values();
        let all: usize = modes.iter().product();
        let work = match self.split {
            Split::TuckerKernel | Split::TuckerPairs(_) => {
                // Mode after mode: what is whole already, times what is still cut.
                let cut = self.cut();
                let mut size: usize = all / cut.iter().map(|&mode| modes[mode]).product::<usize>()
                    * ranks.iter().product::<usize>();
                let mut work = 0;
                for (&mode, &rank) in cut.iter().zip(ranks) {
                    work += size * modes[mode];
                    size = size / rank.max(1) * modes[mode];
                }
                work
            }
            Split::Components => (all + all / modes[0].max(1)) * ranks.first().copied().unwrap_or(1),
            Split::Train(_) => {
                let (mut left, mut work) = (modes[0], 0);
                for (&size, cut) in modes[1..].iter().zip(0..) {
                    let next = ranks.get(cut + 1).copied().unwrap_or(1);
                    work += left * ranks[cut] * size * next;
                    left *= size;
                }
                work
            }
        };
        work as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_ranks_and_names_belong_together() {
        let cases: &[(Layout, &[usize], Scheme)] = &[
            (Layout::Conv2d, &[12, 8, 3, 3], Scheme::Tucker),
            (Layout::Conv2d, &[12, 8, 3, 3], Scheme::Cp),
            (Layout::Conv2d, &[12, 8, 3, 3], Scheme::TensorTrain),
            (Layout::Conv1d, &[12, 8, 5], Scheme::Tucker),
            (Layout::Conv1d, &[12, 8, 5], Scheme::Cp),
            (Layout::Linear, &[12, 8], Scheme::Tucker),
            (Layout::TransposedLinear, &[8, 12], Scheme::TensorTrain),
            (Layout::Embedding, &[60, 8], Scheme::TensorTrain),
        ];
        for (layout, shape, scheme) in cases {
            let tensor = Tensorization::new(*layout, *scheme, shape, &Pairs::default()).unwrap();
            let ranks = tensor.max_ranks();
            let shapes = tensor.factor_shapes(&ranks);
            assert_eq!(shapes.len(), tensor.factor_names().len(), "{layout:?} {scheme}");
            assert_eq!(tensor.ranks_of(&shapes), Some(ranks), "{layout:?} {scheme}");
            let one = ranks.map(|_, _| 1);
            assert_eq!(tensor.ranks_of(&tensor.factor_shapes(&one)), Some(one));
            let elements: usize = tensor.modes().iter().product();
            assert_eq!(elements, shape.iter().product::<usize>());
            assert!(tensor.reconstruction_multiply_adds(&one) > 0);
            assert_eq!(tensor.attainable(&ranks), ranks, "{layout:?} {scheme}");
        }
        let train =
            Tensorization::new(Layout::Conv2d, Scheme::TensorTrain, &[16, 16, 3, 3], &Pairs::Count(2))
                .unwrap();
        assert_eq!(train.modes(), [9, 16, 16]);
        assert_eq!(train.attainable(&Ranks::of([1, 40])).values(), [1, 16]);
        assert_eq!(train.attainable(&Ranks::of([9, 1])).values(), [9, 1]);
        let pointwise = Tensorization::new(Layout::Conv2d, Scheme::Cp, &[4, 4, 1, 1], &Pairs::default());
        assert!(matches!(pointwise, Err(DecomposeError::Scheme { .. })));
    }
}
