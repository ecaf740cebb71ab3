use super::operations::Attention;
use super::sequences::Sequences;
use super::tape::{Node, Tape};
use candle_core::{Result, Tensor, bail};

/// Keys and values of one sequence's tokens so far, by layer: later tokens attend to them without computing them again.
#[derive(Clone, Debug, Default)]
pub struct KeyValues {
    layers: Vec<[Tensor; 2]>,
}

impl KeyValues {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Tokens that are kept.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.layers.first().map_or(0, |[keys, _]| keys.dims()[0])
    }

    /// Attention of new tokens of the one sequence, `[queries, keys, values]`, to all tokens so far and to each other.
    ///
    /// # Errors
    ///
    /// - a layer before the one below it; what attention refuses
    pub fn attend(
        &mut self,
        tape: &Tape,
        layer: usize,
        attention: Attention,
        [queries, keys, values]: [&Node; 3],
    ) -> Result<Node> {
        let (mut keys, mut values) = (keys.tensor().clone(), values.tensor().clone());
        if let Some([before, values_before]) = self.layers.get(layer) {
            keys = Tensor::cat(&[before, &keys], 0)?;
            values = Tensor::cat(&[values_before, &values], 0)?;
            self.layers[layer] = [keys.clone(), values.clone()];
        } else if layer == self.layers.len() {
            self.layers.push([keys.clone(), values.clone()]);
        } else {
            bail!("layer {layer} attends before layer {}", self.layers.len());
        }
        let attention = attention.with_keys(&Sequences::new(&[keys.dims()[0]])?);
        tape.apply(attention, &[queries, &tape.constant(&keys), &tape.constant(&values)])
    }
}
