use candle_core::{DType, Device, Result, Tensor, Var};
use indexmap::IndexMap;

/// What a tensor of a network is to training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// A dense layer's weight.
    Weight,
    /// A weight of a factored layer's chain.
    Factor,
    /// A layer's bias.
    Bias,
    /// Scale or shift of a normalization.
    Normalization,
    /// A running statistic: saved with the others, not trained.
    Statistic,
}

/// One named tensor of a network.
#[derive(Clone, Debug)]
pub struct Parameter {
    var: Var,
    role: Role,
}

impl Parameter {
    /// The tensor that layers share and optimizers change.
    #[must_use]
    pub fn var(&self) -> &Var {
        &self.var
    }

    /// What it is to training.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Whether gradients change it.
    #[must_use]
    pub fn is_trained(&self) -> bool {
        self.role != Role::Statistic
    }
}

/// The tensors of a network under the names that its checkpoint has, in the order in which layers asked for them.
///
/// # Examples
///
/// ```
/// use candle_core::{Device, Tensor};
/// use fnl::layers::{Parameters, Role};
///
/// let mut parameters = Parameters::new();
/// let weight = Tensor::new(&[[1f32, 2.0]], &Device::Cpu)?;
/// let var = parameters.insert("linear.weight", &weight, Role::Weight)?;
/// var.set(&weight.affine(2.0, 0.0)?)?; // every holder sees it
/// assert_eq!(parameters.get("linear.weight").unwrap().var().to_vec2::<f32>()?, [[2.0, 4.0]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Parameters {
    entries: IndexMap<String, Parameter>,
}

impl Parameters {
    /// No parameters.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a parameter that starts as a copy of this tensor.
    ///
    /// # Errors
    ///
    /// - a name that is taken
    pub fn insert(&mut self, name: &str, tensor: &Tensor, role: Role) -> Result<Var> {
        if self.entries.contains_key(name) {
            candle_core::bail!("two layers have a parameter named `{name}`");
        }
        let var = Var::from_tensor(tensor)?;
        self.entries.insert(name.to_owned(), Parameter { var: var.clone(), role });
        Ok(var)
    }

    /// The parameter of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Parameter> {
        self.entries.get(name)
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Parameter)> {
        self.entries.iter().map(|(name, parameter)| (name.as_str(), parameter))
    }

    /// Those that gradients change, in order.
    pub fn trained(&self) -> impl Iterator<Item = (&str, &Parameter)> {
        self.iter().filter(|(_, parameter)| parameter.is_trained())
    }

    /// How many tensors there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Elements of all trained tensors.
    #[must_use]
    pub fn count(&self) -> usize {
        self.trained().map(|(_, parameter)| parameter.var.elem_count()).sum()
    }

    /// Copies every tensor, on the CPU: what is kept when training goes on.
    ///
    /// # Errors
    ///
    /// - a device that fails
    pub fn snapshot(&self) -> Result<IndexMap<String, Tensor>> {
        let copy = |(name, parameter): (&String, &Parameter)| {
            let tensor = parameter.var.as_detached_tensor().to_device(&Device::Cpu)?;
            Ok((name.clone(), if parameter.var.device().is_cpu() { tensor.copy()? } else { tensor }))
        };
        self.entries.iter().map(copy).collect()
    }

    /// Sets every tensor to what a snapshot holds under its name.
    ///
    /// # Errors
    ///
    /// - a name that the snapshot lacks, or a tensor of another shape
    pub fn restore(&self, snapshot: &IndexMap<String, Tensor>) -> Result<()> {
        for (name, parameter) in &self.entries {
            let Some(tensor) = snapshot.get(name) else {
                candle_core::bail!("the saved state lacks the parameter `{name}`");
            };
            let dtype: DType = parameter.var.dtype();
            parameter.var.set(&tensor.to_device(parameter.var.device())?.to_dtype(dtype)?)?;
        }
        Ok(())
    }
}
