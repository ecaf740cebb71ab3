use super::batch_norm::BatchNorm;
use super::built::{Built, LayerEntry};
use super::chain::{Chain, Execution};
use super::convolution::{Conv1d, Conv2d};
use super::embedding::Embedding;
use super::initial::{self, Start};
use super::linear::Linear;
use super::operations::Convolution;
use super::parameters::Role;
use super::recorded::{format_of, ranks_in};
use super::row_norm::RowNorm;
use super::state::{State, Stored};
use super::weight::Weight;
use crate::checkpoint::ModuleRecord;
use crate::decompose::{Format, Layout, Pairs, Scheme};
use candle_core::{DType, Device, Result, Tensor, Var};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

mod finish;
mod heads;

/// What is not as expected and is told before making a network is given up.
const MOST_PROBLEMS: usize = 1000;
/// Elements that stand in for missing ones at most, where the checkpoint has fewer.
const MOST_STOOD_IN: usize = 1 << 22;

/// Makes layers from a checkpoint's tensors, under the checkpoint's names: dense, or factored where the record says so.
///
/// What is missing or has another shape is noted, and told all at once by [`Builder::finish`].
#[derive(Clone, Debug)]
pub struct Builder<'a> {
    shared: Rc<RefCell<Shared<'a>>>,
    prefix: String,
    start: Start,
}

#[derive(Debug)]
struct Shared<'a> {
    source: Source<'a>,
    device: Device,
    built: Built,
    used: BTreeSet<String>,
    problems: Vec<String>,
    /// Elements of the tensors that problems are about.
    stood_in: usize,
    execution: Execution,
}

/// Where tensors come from.
#[derive(Clone, Copy, Debug)]
enum Source<'a> {
    Checkpoint(&'a State),
    /// Random initial values from this seed.
    Fresh(u64),
}

impl<'a> Builder<'a> {
    /// A builder over these tensors, for layers on this device.
    #[must_use]
    pub fn new(state: &'a State, device: &Device) -> Self {
        Self::over(Source::Checkpoint(state), device)
    }

    /// A builder of dense layers with random weights, as residual networks start: normal with variance `2 / fan_in`, biases
    /// zero, normalizations the identity.
    ///
    /// # Determinism
    ///
    /// A tensor depends on the seed, its name and its shape alone.
    ///
    /// # Reference
    ///
    /// He, Zhang, Ren, Sun, "Delving Deep into Rectifiers", 2015, equation 10.
    #[must_use]
    pub fn fresh(seed: u64, device: &Device) -> Self {
        Self::over(Source::Fresh(seed), device)
    }

    fn over(source: Source<'a>, device: &Device) -> Self {
        let shared = Shared {
            source,
            device: device.clone(),
            built: Built::default(),
            used: BTreeSet::new(),
            problems: Vec::new(),
            stood_in: 0,
            execution: Execution::Auto,
        };
        Self { shared: Rc::new(RefCell::new(shared)), prefix: String::new(), start: Start::Rectified }
    }

    /// The same builder, of layers whose factors are run this way.
    #[must_use]
    pub fn with_execution(self, execution: Execution) -> Self {
        self.shared.borrow_mut().execution = execution;
        self
    }

    /// The same builder, of fresh weights that are normal with this deviation, as transformers start.
    #[must_use]
    pub fn with_deviation(self, deviation: f64) -> Self {
        Self { start: Start::Normal(deviation), ..self }
    }

    /// The same builder, of fresh weights that are uniform with variance `2 gain^2 / (fan_in + fan_out)`, and embeddings that
    /// are normal with variance `1 / d`, as encoder-decoders start; what is made inside of it starts so as well.
    ///
    /// # Reference
    ///
    /// Glorot, Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010, equation 16.
    #[must_use]
    pub fn with_balanced_start(&self, gain: f64) -> Self {
        Self { start: Start::Balanced(gain), ..self.clone() }
    }

    /// Whether the checkpoint has a layer of this name, dense or factored; a fresh network has none.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        let path = self.path(name);
        match self.shared.borrow().source {
            Source::Checkpoint(state) => {
                state.modules.contains_key(&path) || state.tensors.contains_key(&format!("{path}.weight"))
            }
            Source::Fresh(_) => false,
        }
    }

    /// Leaves a tensor of the checkpoint out: one that can be told from others, such as a mask.
    pub fn leave_out(&self, name: &str) {
        let path = self.path(name);
        self.shared.borrow_mut().used.insert(path);
    }

    /// The builder of what is inside a module of this name.
    #[must_use]
    pub fn pp(&self, name: impl std::fmt::Display) -> Self {
        Self { prefix: self.path(&name.to_string()), ..self.clone() }
    }

    fn path(&self, name: &str) -> String {
        match (self.prefix.as_str(), name) {
            ("", name) => name.to_owned(),
            (prefix, "") => prefix.to_owned(),
            (prefix, name) => format!("{prefix}.{name}"),
        }
    }

    /// A tensor of the layer at this builder's place.
    fn tensor(&self, name: &str, shape: &[usize], role: Role) -> Result<Var> {
        let path = self.path(name);
        let mut shared = self.shared.borrow_mut();
        let state = match shared.source {
            Source::Checkpoint(state) => state,
            Source::Fresh(seed) => {
                let tensor =
                    initial::tensor(&path, shape, role, seed, self.start)?.to_device(&shared.device)?;
                return shared.built.parameters.insert(&path, &tensor, role);
            }
        };
        let found = state.tensors.get(&path);
        let problem = match found {
            Some(Stored::Floating { tensor, .. }) if tensor.dims() == shape => None,
            Some(stored) => Some(format!("`{path}` has shape {:?}, expected {shape:?}", stored.shape())),
            None => Some(format!("missing `{path}`, shape {shape:?}")),
        };
        let tensor = match (found.and_then(Stored::tensor), problem) {
            (Some(tensor), None) => tensor.to_device(&shared.device)?,
            (_, problem) => {
                shared.problems.extend(problem);
                // Zeros stand in, to find all that is wrong; but not for a network that is beyond the checkpoint's.
                let elements = shape.iter().try_fold(1usize, |product, &axis| product.checked_mul(axis));
                shared.stood_in = shared.stood_in.saturating_add(elements.unwrap_or(usize::MAX));
                let most = MOST_STOOD_IN.max(2 * state.parameters());
                if shared.stood_in > most || shared.problems.len() > MOST_PROBLEMS {
                    candle_core::bail!("`{path}` and more is not as expected");
                }
                Tensor::zeros(shape, DType::F32, &shared.device)?
            }
        };
        shared.used.insert(path.clone());
        shared.built.parameters.insert(&path, &tensor, role)
    }

    /// The weight of the layer at this builder's place, and its bias.
    fn weight(
        &self,
        layout: Layout,
        shape: &[usize],
        groups: usize,
        bias: bool,
    ) -> Result<(Weight, Option<Var>)> {
        let out = if layout == Layout::TransposedLinear { shape[1] } else { shape[0] };
        let module = match self.shared.borrow().source {
            Source::Checkpoint(state) => state.modules.get(&self.prefix).cloned(),
            Source::Fresh(_) => None,
        };
        let (weight, bias_name) = match module.map(|module| self.chain(layout, shape, groups, &module)) {
            None => (Weight::Dense(self.tensor("weight", shape, Role::Weight)?), "bias".to_owned()),
            Some(chain) => {
                let chain = chain?;
                let name = chain.format().bias_name("");
                (Weight::Factored(chain), name)
            }
        };
        let bias = if bias { Some(self.tensor(&bias_name, &[out], Role::Bias)?) } else { None };
        let entry = LayerEntry { name: self.prefix.clone(), layout, weight: weight.clone() };
        self.shared.borrow_mut().built.layers.push(entry);
        Ok((weight, bias))
    }

    /// The chain that the record says stands for a weight.
    fn chain(&self, layout: Layout, shape: &[usize], groups: usize, module: &ModuleRecord) -> Result<Chain> {
        let name = &self.prefix;
        let note = |problem: String| self.shared.borrow_mut().problems.push(problem);
        if module.shape != shape {
            note(format!("`{name}` is recorded with shape {:?}, expected {shape:?}", module.shape));
        }
        let recorded = module.groups.unwrap_or(1);
        if recorded != groups {
            note(format!("`{name}` is recorded with {recorded} groups, expected {groups}"));
        }
        let format = match format_of(module, layout, shape, groups) {
            Ok(format) => format,
            Err(problem) => {
                let (scheme, kind) = (&module.scheme, layout.name());
                note(format!(
                    "`{name}` is recorded with scheme `{scheme}`, which a {kind} cannot have: {problem}"
                ));
                let scheme = if layout.is_convolution() { Scheme::Channel } else { Scheme::Matrix };
                Format::new(layout, scheme, shape, groups, &Pairs::default())
                    .map_err(candle_core::Error::wrap)?
            }
        };
        let ranks = match ranks_in(module, &format) {
            Ok(ranks) => ranks,
            Err(problem) => {
                note(format!("`{name}`: {problem}"));
                format.max_ranks().map(|_, _| 1)
            }
        };
        let factor = |(name, shape): (&String, &Vec<usize>)| self.tensor(name, shape, Role::Factor);
        let (names, shapes) = (format.factor_names(""), format.factor_shapes(&ranks));
        let factors = names.iter().zip(&shapes).map(factor).collect::<Result<_>>()?;
        Chain::new(format, factors)
    }

    /// A linear layer named `name`.
    ///
    /// # Errors
    ///
    /// - two layers of one name; a device that fails
    pub fn linear(&self, name: &str, in_features: usize, out_features: usize, bias: bool) -> Result<Linear> {
        let here = self.pp(name);
        let (weight, bias) = here.weight(Layout::Linear, &[out_features, in_features], 1, bias)?;
        Ok(Linear::new(weight, bias, false).with_execution(self.shared.borrow().execution))
    }

    /// A linear layer named `name` whose bias has another layer's name.
    ///
    /// # Errors
    ///
    /// - two layers of one name; a device that fails
    pub fn linear_with_bias(&self, name: &str, in_features: usize, bias: Var) -> Result<Linear> {
        let shape = [bias.elem_count(), in_features];
        let (weight, _) = self.pp(name).weight(Layout::Linear, &shape, 1, false)?;
        Ok(Linear::new(weight, Some(bias), false).with_execution(self.shared.borrow().execution))
    }

    /// A linear layer named `name`, its weight stored `(in, out)`.
    ///
    /// # Errors
    ///
    /// - two layers of one name; a device that fails
    pub fn transposed_linear(
        &self,
        name: &str,
        in_features: usize,
        out_features: usize,
        bias: bool,
    ) -> Result<Linear> {
        let here = self.pp(name);
        let shape = [in_features, out_features];
        let (weight, bias) = here.weight(Layout::TransposedLinear, &shape, 1, bias)?;
        Ok(Linear::new(weight, bias, true).with_execution(self.shared.borrow().execution))
    }

    /// An embedding named `name`.
    ///
    /// # Errors
    ///
    /// - two layers of one name; a device that fails
    pub fn embedding(&self, name: &str, vocabulary: usize, width: usize) -> Result<Embedding> {
        let mut here = self.pp(name);
        if let Start::Balanced(_) = here.start {
            here.start = Start::Normal((width as f64).sqrt().recip());
        }
        let (weight, _) = here.weight(Layout::Embedding, &[vocabulary, width], 1, false)?;
        Ok(Embedding::new(weight))
    }

    /// Layer normalization named `name`.
    ///
    /// # Errors
    ///
    /// - two layers of one name; a device that fails
    pub fn layer_norm(&self, name: &str, width: usize, epsilon: f64) -> Result<RowNorm> {
        let here = self.pp(name);
        let scale = here.tensor("weight", &[width], Role::Normalization)?;
        Ok(RowNorm::layer(scale, here.tensor("bias", &[width], Role::Normalization)?, epsilon))
    }

    /// Normalization by the root mean square named `name`.
    ///
    /// # Errors
    ///
    /// - two layers of one name; a device that fails
    pub fn rms_norm(&self, name: &str, width: usize, epsilon: f64) -> Result<RowNorm> {
        let scale = self.pp(name).tensor("weight", &[width], Role::Normalization)?;
        Ok(RowNorm::mean_square(scale, epsilon))
    }

    /// A bias of its own named `name`.
    ///
    /// # Errors
    ///
    /// - two layers of one name; a device that fails
    pub fn bias(&self, name: &str, size: usize) -> Result<Var> {
        self.tensor(name, &[size], Role::Bias)
    }

    /// A tensor of no layer named `name`.
    ///
    /// # Errors
    ///
    /// - two tensors of one name; a device that fails
    pub fn own(&self, name: &str, shape: &[usize], role: Role) -> Result<Var> {
        self.tensor(name, shape, role)
    }

    /// A two-dimensional convolution named `name`, its kernel of shape `(o, c / groups, kh, kw)`.
    ///
    /// # Errors
    ///
    /// - two layers of one name; a device that fails
    pub fn conv2d(&self, name: &str, kernel: [usize; 4], config: Convolution, bias: bool) -> Result<Conv2d> {
        let here = self.pp(name);
        let (weight, bias) = here.weight(Layout::Conv2d, &kernel, config.groups, bias)?;
        Ok(Conv2d::new(weight, bias, config)?.with_execution(self.shared.borrow().execution))
    }

    /// A one-dimensional convolution named `name`, its kernel of shape `(o, c / groups, k)`, of this configuration's second axis.
    ///
    /// # Errors
    ///
    /// - two layers of one name; a device that fails
    pub fn conv1d(&self, name: &str, kernel: [usize; 3], config: Convolution, bias: bool) -> Result<Conv1d> {
        let here = self.pp(name);
        let (weight, bias) = here.weight(Layout::Conv1d, &kernel, config.groups, bias)?;
        let Convolution { stride: [_, stride], padding: [_, padding], dilation: [_, dilation], groups } =
            config;
        let layer = Conv1d::new(weight, bias, stride, padding, dilation, groups)?;
        Ok(layer.with_execution(self.shared.borrow().execution))
    }

    /// Batch normalization named `name`, with PyTorch's names.
    ///
    /// # Errors
    ///
    /// - two layers of one name; a device that fails
    pub fn batch_norm(&self, name: &str, channels: usize) -> Result<BatchNorm> {
        const EPSILON: f64 = 1e-5;
        let here = self.pp(name);
        let tensor = |name: &str, role| here.tensor(name, &[channels], role);
        Ok(BatchNorm::new(
            tensor("weight", Role::Normalization)?,
            tensor("bias", Role::Normalization)?,
            tensor("running_mean", Role::Statistic)?,
            tensor("running_var", Role::Statistic)?,
            EPSILON,
        ))
    }
}
