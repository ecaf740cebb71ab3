use super::heads::HeadProduct;
use super::parameters::Parameters;
use super::weight::Weight;
use crate::decompose::Layout;

/// What a builder made.
#[derive(Clone, Debug, Default)]
pub struct Built {
    /// All tensors of all layers.
    pub parameters: Parameters,
    /// The layers with a weight, in the order in which they were made.
    pub layers: Vec<LayerEntry>,
    /// The products of dense weights that heads of attention compute with.
    pub products: Vec<HeadProduct>,
}

/// A layer with a weight.
#[derive(Clone, Debug)]
pub struct LayerEntry {
    /// Its name.
    pub name: String,
    /// How its weight is laid out.
    pub layout: Layout,
    /// Its weight, shared with the layer.
    pub weight: Weight,
}
