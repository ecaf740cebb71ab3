use crate::layers::Sequences;
use candle_core::{Device, Result, Tensor, bail};

/// What a decoder keeps of its tokens so far: keys and values of every layer, for some hypotheses of each source, and those of
/// the sources. All hypotheses have as many tokens.
#[derive(Clone, Debug)]
pub struct KeptTokens {
    /// By layer, keys and values of `(hypotheses, tokens, d)`; none before the first token.
    own: Vec<[Tensor; 2]>,
    /// By layer, keys and values of `(source tokens, d)`.
    sources: Vec<[Tensor; 2]>,
    source: Sequences,
    hypotheses: Vec<usize>,
    tokens: usize,
}

impl KeptTokens {
    /// Nothing yet, for one hypothesis of each source.
    pub(super) fn new(sources: Vec<[Tensor; 2]>, source: &Sequences) -> Self {
        let hypotheses = vec![1; source.count()];
        Self { own: Vec::new(), sources, source: source.clone(), hypotheses, tokens: 0 }
    }

    /// Tokens of each hypothesis that are kept.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Hypotheses of each source.
    #[must_use]
    pub fn hypotheses(&self) -> &[usize] {
        &self.hypotheses
    }

    /// The sequences of the sources that there are hypotheses of.
    pub(super) fn source(&self) -> &Sequences {
        &self.source
    }

    /// Keys and values of the sources in a layer.
    pub(super) fn source_keys(&self, layer: usize) -> [&Tensor; 2] {
        self.sources[layer].each_ref()
    }

    /// Keys and values of all tokens so far, those of one more token of each hypothesis added: `(hypotheses * tokens, d)`.
    pub(super) fn append(&mut self, layer: usize, new: [&Tensor; 2]) -> Result<[Tensor; 2]> {
        // (hypotheses, d) -> (hypotheses, 1, d)
        let mut all = [new[0].unsqueeze(1)?, new[1].unsqueeze(1)?];
        if let Some(before) = self.own.get_mut(layer) {
            for (all, before) in all.iter_mut().zip(before.iter()) {
                *all = Tensor::cat(&[before, all], 1)?;
            }
            before.clone_from(&all);
        } else {
            self.own.push(all.clone());
        }
        let [keys, values] = all;
        Ok([keys.flatten(0, 1)?, values.flatten(0, 1)?])
    }

    /// One more token is kept in all layers.
    pub(super) fn advance(&mut self) {
        self.tokens += 1;
    }

    /// Goes on with these hypotheses of each source, by number within the source; a source without any is done with.
    ///
    /// # Errors
    ///
    /// - as many lists as there are sources are expected, of hypotheses that there are; not all of them empty
    pub fn select(&mut self, chosen: &[Vec<usize>]) -> Result<()> {
        if chosen.len() != self.hypotheses.len() {
            bail!("hypotheses are chosen for {} sources of {}", chosen.len(), self.hypotheses.len());
        }
        let (mut rows, mut source_rows, mut lengths) = (Vec::new(), Vec::new(), Vec::new());
        let mut first = 0;
        for ((chosen, &count), range) in chosen.iter().zip(&self.hypotheses).zip(self.source.ranges()) {
            if let Some(beyond) = chosen.iter().find(|&&index| index >= count) {
                bail!("hypothesis {beyond} of a source that has {count}");
            }
            rows.extend(chosen.iter().map(|index| (first + index) as u32));
            first += count;
            if !chosen.is_empty() {
                lengths.push(range.len());
                source_rows.extend(range.map(|row| row as u32));
            }
        }
        if rows.is_empty() {
            bail!("no hypothesis is chosen of any source");
        }
        let device = self.sources.first().map_or(Device::Cpu, |[keys, _]| keys.device().clone());
        if rows.len() != first || rows.iter().enumerate().any(|(at, &row)| at != row as usize) {
            let rows = Tensor::new(rows, &device)?;
            take(&mut self.own, &rows)?;
        }
        if lengths.len() < self.source.count() {
            let rows = Tensor::new(source_rows, &device)?;
            take(&mut self.sources, &rows)?;
            self.source = Sequences::new(&lengths)?;
        }
        self.hypotheses = chosen.iter().map(Vec::len).filter(|&count| count > 0).collect();
        Ok(())
    }
}

/// Keeps these rows of each layer's tensors.
fn take(layers: &mut [[Tensor; 2]], rows: &Tensor) -> Result<()> {
    for tensor in layers.iter_mut().flatten() {
        *tensor = tensor.index_select(rows, 0)?;
    }
    Ok(())
}
