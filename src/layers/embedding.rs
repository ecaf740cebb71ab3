use super::operations::{Lookup, Product};
use super::tape::{Node, Tape};
use super::weight::Weight;
use crate::decompose::{Layout, Scheme};
use candle_core::{Module, Result, Tensor, Var};

/// An embedding, dense or factored: rows of `(vocabulary, d)`, or of `(vocabulary, r)` and then a linear layer `r -> d`.
///
/// # Shapes
///
/// | | shape |
/// | --- | --- |
/// | input, of an integer type | `(...)` |
/// | output | `(..., d)` |
#[derive(Clone, Debug)]
pub struct Embedding {
    weight: Weight,
}

impl Embedding {
    /// The layer of this weight.
    #[must_use]
    pub fn new(weight: Weight) -> Self {
        Self { weight }
    }

    /// A dense layer that starts with a copy of this table.
    ///
    /// # Errors
    ///
    /// - a device that fails
    pub fn dense(table: &Tensor) -> Result<Self> {
        Ok(Self::new(Weight::dense(table)?))
    }

    /// The layer of rank `rank` that is nearest to this one, with tensors of its own.
    ///
    /// # Errors
    ///
    /// - as [`Weight::factored`]
    pub fn factored(&self, rank: usize) -> Result<Self> {
        let dense = self.weight.collapse()?;
        Ok(Self { weight: Weight::factored(&dense, Layout::Embedding, Scheme::Matrix, 1, rank)? })
    }

    /// The dense layer that computes the same.
    ///
    /// # Errors
    ///
    /// - a device that fails
    pub fn collapse(&self) -> Result<Self> {
        Ok(Self { weight: Weight::dense(&self.weight.collapse()?)? })
    }

    /// The weight.
    #[must_use]
    pub fn weight(&self) -> &Weight {
        &self.weight
    }

    /// Every tensor that is trained.
    #[must_use]
    pub fn vars(&self) -> Vec<Var> {
        self.weight.vars().to_vec()
    }

    /// The table, and the linear layers that its rows go through.
    fn table(&self, tape: &Tape) -> Result<(Node, &[Var])> {
        Ok(match &self.weight {
            Weight::Dense(table) => (tape.parameter(table), &[][..]),
            Weight::Factored(chain) if chain.format().is_chain() => {
                (tape.parameter(&chain.factors()[0]), &chain.factors()[1..])
            }
            Weight::Factored(chain) => (chain.reconstruct(tape)?, &[][..]),
        })
    }

    /// Runs the layer in a computation. Only the rows asked for go through the linear layer.
    ///
    /// # Errors
    ///
    /// - an index beyond the vocabulary
    pub fn forward_on(&self, tape: &Tape, indices: &Tensor) -> Result<Node> {
        let (table, rest) = self.table(tape)?;
        let mut ys = tape.apply(Lookup::new(indices), &[&table])?;
        for factor in rest {
            ys = tape.apply(Product::new(false), &[&ys, &tape.parameter(factor)])?;
        }
        Ok(ys)
    }
}

impl Embedding {
    /// The scores of each row of the vocabulary for each row of the input, `(..., d) -> (..., vocabulary)`, and a bias: the
    /// head of a language model that shares this weight.
    ///
    /// # Errors
    ///
    /// - an input whose last axis is not `d`
    pub fn scores_on(&self, tape: &Tape, xs: &Node, bias: Option<&Var>) -> Result<Node> {
        self.scores_with(tape, xs, bias.map(|bias| tape.parameter(bias)).as_ref())
    }

    /// As [`Embedding::scores_on`], with a bias of shape `(vocabulary)` that is computed or constant.
    ///
    /// # Errors
    ///
    /// - an input whose last axis is not `d`
    pub fn scores_with(&self, tape: &Tape, xs: &Node, bias: Option<&Node>) -> Result<Node> {
        let (table, rest) = self.table(tape)?;
        let mut ys = xs.clone();
        for factor in rest.iter().rev() {
            ys = tape.apply(Product::new(true), &[&ys, &tape.parameter(factor)])?;
        }
        let inputs: Vec<&Node> = [&ys, &table].into_iter().chain(bias).collect();
        tape.apply(Product::new(false), &inputs)
    }
}

impl Module for Embedding {
    fn forward(&self, indices: &Tensor) -> Result<Tensor> {
        Ok(self.forward_on(&Tape::candle(), indices)?.tensor().clone())
    }
}
