use candle_core::backprop::GradStore;
use candle_core::{Tensor, TensorId, Var};
use std::collections::HashMap;

/// The gradients of variables.
#[derive(Debug)]
pub struct Gradients(Found);

#[derive(Debug)]
enum Found {
    Own(HashMap<TensorId, Tensor>),
    Candle(GradStore),
}

impl Gradients {
    pub(super) fn own(found: HashMap<TensorId, Tensor>) -> Self {
        Self(Found::Own(found))
    }

    pub(super) fn candle(found: GradStore) -> Self {
        Self(Found::Candle(found))
    }

    /// The gradient of a variable, if the result depends on it.
    #[must_use]
    pub fn get(&self, var: &Var) -> Option<&Tensor> {
        match &self.0 {
            Found::Own(found) => found.get(&var.id()),
            Found::Candle(store) => store.get(var.as_tensor()),
        }
    }

    /// Replaces the gradient of a variable.
    pub fn insert(&mut self, var: &Var, gradient: Tensor) {
        match &mut self.0 {
            Found::Own(found) => {
                found.insert(var.id(), gradient);
            }
            Found::Candle(store) => {
                store.insert(var.as_tensor(), gradient);
            }
        }
    }
}
