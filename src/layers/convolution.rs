use super::chain::{Chain, Execution};
use super::geometry::Geometry;
use super::kernels;
use super::operations::{Convolution, Reshape};
use super::tape::{Node, Tape};
use super::weight::Weight;
use crate::decompose::{Format, Layout, Ranks, Scheme};
use candle_core::{Error, Module, Result, Tensor, Var, bail};

/// A two-dimensional convolution, dense or factored.
///
/// A factored one runs `1 x kw` with the stride, padding and dilation across, then `kh x 1` with those down (`spatial`);
/// or the whole kernel to fewer channels, then `1 x 1` (`channel`); or either with a square layer in the middle (`deep`).
/// Between two layers `1 x 1` runs a smaller kernel (`tucker`), or one axis of a kernel after the other in each channel for
/// itself (`cp`). The factors of a tensor train are multiplied out.
///
/// # Shapes
///
/// | | shape |
/// | --- | --- |
/// | input | `(b, c, h, w)` |
/// | weight | `(o, c / groups, kh, kw)` |
/// | output | `(b, o, h', w')` |
#[derive(Clone, Debug)]
pub struct Conv2d {
    weight: Weight,
    bias: Option<Var>,
    config: Convolution,
    execution: Execution,
}

/// One layer of a chain: which of its tensors, and the convolution that it is.
type Link<'a> = (&'a Var, Convolution);

fn check_groups(weight: &Weight, config: Convolution) -> Result<()> {
    match weight.chain().map(|chain| chain.format().groups()).filter(|&groups| groups != config.groups) {
        Some(groups) => bail!("the factors are of {groups} groups, the convolution of {}", config.groups),
        None => Ok(()),
    }
}

impl Conv2d {
    /// The layer of this weight and bias.
    ///
    /// # Errors
    ///
    /// - a factored weight in other groups than the configuration's
    pub fn new(weight: Weight, bias: Option<Var>, config: Convolution) -> Result<Self> {
        check_groups(&weight, config)?;
        Ok(Self { weight, bias, config, execution: Execution::Auto })
    }

    /// A dense layer that starts with copies of these tensors.
    ///
    /// # Errors
    ///
    /// - a device that fails
    pub fn dense(weight: &Tensor, bias: Option<&Tensor>, config: Convolution) -> Result<Self> {
        Self::new(Weight::dense(weight)?, bias.map(Var::from_tensor).transpose()?, config)
    }

    /// The layer of these ranks that is nearest to this one, with tensors of its own.
    ///
    /// # Errors
    ///
    /// - as [`Weight::factored`]
    pub fn factored(&self, scheme: Scheme, ranks: impl Into<Ranks>) -> Result<Self> {
        let dense = self.weight.collapse()?;
        let weight = Weight::factored(&dense, Layout::Conv2d, scheme, self.config.groups, ranks)?;
        let bias = self.bias.as_ref().map(|bias| Var::from_tensor(bias.as_tensor())).transpose()?;
        Ok(Self { weight, bias, ..self.clone() })
    }

    /// The dense layer that computes the same.
    ///
    /// # Errors
    ///
    /// - a device that fails
    pub fn collapse(&self) -> Result<Self> {
        let bias = self.bias.as_ref().map(|bias| Var::from_tensor(bias.as_tensor())).transpose()?;
        Ok(Self { weight: Weight::dense(&self.weight.collapse()?)?, bias, ..self.clone() })
    }

    /// The same layer, its factors run this way.
    #[must_use]
    pub fn with_execution(self, execution: Execution) -> Self {
        Self { execution, ..self }
    }

    /// The weight.
    #[must_use]
    pub fn weight(&self) -> &Weight {
        &self.weight
    }

    /// The bias.
    #[must_use]
    pub fn bias(&self) -> Option<&Var> {
        self.bias.as_ref()
    }

    /// Stride, padding, dilation and groups.
    #[must_use]
    pub fn config(&self) -> &Convolution {
        &self.config
    }

    /// Every tensor that is trained.
    #[must_use]
    pub fn vars(&self) -> Vec<Var> {
        self.weight.vars().iter().chain(&self.bias).cloned().collect()
    }

    /// Multiply-adds for an input of this shape.
    ///
    /// # Errors
    ///
    /// - an input that the kernel does not fit
    pub fn multiply_adds(&self, input: &[usize]) -> Result<u64> {
        match &self.weight {
            Weight::Dense(weight) => Ok(self.config.geometry(input, weight.dims())?.multiply_adds()),
            Weight::Factored(chain) => {
                let (sequence, product) = costs(self.config, chain, input, Geometry::multiply_adds)?;
                Ok(self.execution.of(chain.format()).cheaper(sequence, product).1)
            }
        }
    }

    /// Runs the layer in a computation.
    ///
    /// # Errors
    ///
    /// - an input that the kernel does not fit
    pub fn forward_on(&self, tape: &Tape, xs: &Node) -> Result<Node> {
        let bias = self.bias.as_ref().map(|bias| tape.parameter(bias));
        let dense = |weight: &Node| {
            let inputs: Vec<&Node> = [xs, weight].into_iter().chain(&bias).collect();
            tape.apply(self.config, &inputs)
        };
        let chain = match &self.weight {
            Weight::Dense(weight) => {
                let geometry = self.config.geometry(xs.dims(), weight.dims())?;
                return tape.watched(weight, xs, Some(&geometry), || dense(&tape.parameter(weight)));
            }
            Weight::Factored(chain) => chain,
        };
        // The loops on the CPU have a way with kernels of 3 x 3 that takes a fraction of their multiply-adds.
        let effort: fn(&Geometry) -> u64 =
            if tape.prefers_loops(xs) { kernels::effort } else { Geometry::multiply_adds };
        let (sequence, product) = costs(self.config, chain, xs.dims(), effort)?;
        if self.execution.of(chain.format()).cheaper(sequence, product).0 {
            return dense(&chain.reconstruct(tape)?);
        }
        let links: Vec<Link<'_>> = chain.factors().iter().zip(configs(self.config, chain)).collect();
        let mut ys = xs.clone();
        for (index, (factor, config)) in links.iter().enumerate() {
            let weight = tape.parameter(factor);
            let last = bias.as_ref().filter(|_| index + 1 == links.len());
            let inputs: Vec<&Node> = [&ys, &weight].into_iter().chain(last).collect();
            ys = tape.apply(*config, &inputs)?;
        }
        Ok(ys)
    }
}

impl Module for Conv2d {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let tape = Tape::candle();
        Ok(self.forward_on(&tape, &tape.constant(xs))?.tensor().clone())
    }
}

/// A one-dimensional convolution, dense or factored (`channel`).
///
/// # Shapes
///
/// | | shape |
/// | --- | --- |
/// | input | `(b, c, l)` |
/// | weight | `(o, c / groups, k)` |
/// | output | `(b, o, l')` |
#[derive(Clone, Debug)]
pub struct Conv1d {
    weight: Weight,
    bias: Option<Var>,
    /// Its second axis is the layer's.
    config: Convolution,
    execution: Execution,
}

impl Conv1d {
    /// The layer of this weight and bias.
    ///
    /// # Errors
    ///
    /// - a factored weight in other groups than these
    pub fn new(
        weight: Weight,
        bias: Option<Var>,
        stride: usize,
        padding: usize,
        dilation: usize,
        groups: usize,
    ) -> Result<Self> {
        let config =
            Convolution { stride: [1, stride], padding: [0, padding], dilation: [1, dilation], groups };
        check_groups(&weight, config)?;
        Ok(Self { weight, bias, config, execution: Execution::Auto })
    }

    /// A dense layer of one group and stride that starts with copies of these tensors.
    ///
    /// # Errors
    ///
    /// - a device that fails
    pub fn dense(weight: &Tensor, bias: Option<&Tensor>) -> Result<Self> {
        Self::new(Weight::dense(weight)?, bias.map(Var::from_tensor).transpose()?, 1, 0, 1, 1)
    }

    /// The layer of these ranks that is nearest to this one, with tensors of its own.
    ///
    /// # Errors
    ///
    /// - as [`Weight::factored`]
    pub fn factored(&self, scheme: Scheme, ranks: impl Into<Ranks>) -> Result<Self> {
        let dense = self.weight.collapse()?;
        let weight = Weight::factored(&dense, Layout::Conv1d, scheme, self.config.groups, ranks)?;
        let bias = self.bias.as_ref().map(|bias| Var::from_tensor(bias.as_tensor())).transpose()?;
        Ok(Self { weight, bias, ..self.clone() })
    }

    /// The dense layer that computes the same.
    ///
    /// # Errors
    ///
    /// - a device that fails
    pub fn collapse(&self) -> Result<Self> {
        let bias = self.bias.as_ref().map(|bias| Var::from_tensor(bias.as_tensor())).transpose()?;
        Ok(Self { weight: Weight::dense(&self.weight.collapse()?)?, bias, ..self.clone() })
    }

    /// The same layer, its factors run this way.
    #[must_use]
    pub fn with_execution(self, execution: Execution) -> Self {
        Self { execution, ..self }
    }

    /// The weight.
    #[must_use]
    pub fn weight(&self) -> &Weight {
        &self.weight
    }

    /// The bias.
    #[must_use]
    pub fn bias(&self) -> Option<&Var> {
        self.bias.as_ref()
    }

    /// Stride, padding, dilation and groups; the second axis is the layer's.
    #[must_use]
    pub fn config(&self) -> &Convolution {
        &self.config
    }

    /// Every tensor that is trained.
    #[must_use]
    pub fn vars(&self) -> Vec<Var> {
        self.weight.vars().iter().chain(&self.bias).cloned().collect()
    }

    /// Runs the layer in a computation.
    ///
    /// # Errors
    ///
    /// - an input that the kernel does not fit
    pub fn forward_on(&self, tape: &Tape, xs: &Node) -> Result<Node> {
        let &[b, c, l] = xs.dims() else {
            bail!("a one-dimensional convolution needs an input (b, c, l), found {:?}", xs.dims())
        };
        let flat = |node: &Node| {
            let &[o, i, k] = node.dims() else {
                bail!("expected a kernel (o, i, k), found {:?}", node.dims())
            };
            tape.apply(Reshape::new(&[o, i, 1, k]), &[node])
        };
        let bias = self.bias.as_ref().map(|bias| tape.parameter(bias));
        let mut links: Vec<(Node, Convolution)> = match &self.weight {
            Weight::Dense(weight) => vec![(flat(&tape.parameter(weight))?, self.config)],
            Weight::Factored(chain) => {
                let (sequence, product) = costs(self.config, chain, &[b, c, 1, l], Geometry::multiply_adds)?;
                if self.execution.of(chain.format()).cheaper(sequence, product).0 {
                    vec![(flat(&chain.reconstruct(tape)?)?, self.config)]
                } else {
                    let link = |(factor, config)| Ok((flat(&tape.parameter(factor))?, config));
                    chain
                        .factors()
                        .iter()
                        .zip(configs(self.config, chain))
                        .map(link)
                        .collect::<Result<_>>()?
                }
            }
        };
        let mut ys = tape.apply(Reshape::new(&[b, c, 1, l]), &[xs])?;
        let Some((last, config)) = links.pop() else {
            return Err(Error::Msg("a chain has no layers".into()));
        };
        for (weight, config) in &links {
            ys = tape.apply(*config, &[&ys, weight])?;
        }
        let inputs: Vec<&Node> = [&ys, &last].into_iter().chain(&bias).collect();
        let ys = tape.apply(config, &inputs)?;
        let &[b, o, _, l] = ys.dims() else { bail!("expected four axes, found {:?}", ys.dims()) };
        tape.apply(Reshape::new(&[b, o, l]), &[&ys])
    }
}

/// The convolutions that the factors are, one after the other; none where they are no chain.
fn configs(config: Convolution, chain: &Chain) -> Vec<Convolution> {
    match chain.format() {
        Format::Matrix(unfolding) => of_matrices(config, unfolding.base_scheme(), chain.factors().len()),
        Format::Tensor(tensor) if tensor.is_chain() => of_tensor(config, chain.scheme(), chain.factors()),
        Format::Tensor(_) => Vec::new(),
    }
}

/// What it takes to run the factors in sequence, and to multiply them out first, if a convolution takes what `effort` says.
fn costs(
    config: Convolution,
    chain: &Chain,
    input: &[usize],
    effort: fn(&Geometry) -> u64,
) -> Result<(u64, u64)> {
    let mut sequence = 0;
    let mut shape = input.to_vec();
    for (factor, config) in chain.factors().iter().zip(configs(config, chain)) {
        let geometry = config.geometry(&shape, &unflattened(factor.dims()))?;
        sequence += effort(&geometry);
        shape = geometry.output_shape().to_vec();
    }
    let dense = config.geometry(input, &unflattened(chain.format().shape()))?;
    let sequence = if chain.format().is_chain() { sequence } else { u64::MAX };
    Ok((sequence, effort(&dense) + chain.reconstruction_multiply_adds()))
}

/// Where on its way a convolution is across, and where down.
fn across_and_down(config: Convolution) -> (Convolution, Convolution) {
    let Convolution { stride, padding, dilation, groups } = config;
    let across =
        Convolution { stride: [1, stride[1]], padding: [0, padding[1]], dilation: [1, dilation[1]], groups };
    let down =
        Convolution { stride: [stride[0], 1], padding: [padding[0], 0], dilation: [dilation[0], 1], groups };
    (across, down)
}

/// The convolutions that the two or three factors of a matrix are.
fn of_matrices(config: Convolution, scheme: Scheme, count: usize) -> Vec<Convolution> {
    let pointwise = Convolution { groups: config.groups, ..Convolution::default() };
    let (first, last) = if scheme == Scheme::Spatial { across_and_down(config) } else { (config, pointwise) };
    if count == 2 { vec![first, last] } else { vec![first, pointwise, last] }
}

/// The convolutions that the factors of a kernel as a tensor are: a smaller kernel, or its axes in each channel for itself.
fn of_tensor(config: Convolution, scheme: Scheme, factors: &[Var]) -> Vec<Convolution> {
    let pointwise = Convolution::default();
    let rank = factors.first().map_or(1, |factor| factor.dims()[0]);
    let own = Convolution { groups: if scheme == Scheme::Cp { rank } else { 1 }, ..config };
    let (across, down) = across_and_down(own);
    if factors.len() == 4 {
        vec![pointwise, down, across, pointwise]
    } else {
        vec![pointwise, own, pointwise]
    }
}

/// A kernel `(o, i, k)` as one of two axes; others as they are.
fn unflattened(shape: &[usize]) -> Vec<usize> {
    match *shape {
        [o, i, k] => vec![o, i, 1, k],
        _ => shape.to_vec(),
    }
}

impl Module for Conv1d {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let tape = Tape::candle();
        Ok(self.forward_on(&tape, &tape.constant(xs))?.tensor().clone())
    }
}
