use crate::layers::kernels::AttentionShape;
use crate::layers::{Operation, Sequences, View};
use candle_core::{D, DType, Device, Result, Tensor, bail};
use std::ops::Range;

/// Scaled dot-product attention of several heads, within sequences that lie behind each other.
///
/// ```text
/// y_i = sum_j softmax_j(scale q_i . k_j) v_j
/// ```
///
/// # Shapes
///
/// | | shape |
/// | --- | --- |
/// | queries | `(tokens, heads * width)` |
/// | keys | `(tokens', shared_heads * width)` |
/// | values | `(tokens', shared_heads * value_width)` |
/// | output | `(tokens, heads * value_width)` |
///
/// Heads of keys and values may be shared by as many heads of queries as go into them. Queries and keys are of one token
/// each where nothing else is said; with [`Attention::with_keys`] keys are of other tokens, as in cross attention and where
/// earlier keys were kept. Where it is causal, the last query of a sequence meets all its keys, the one before it all but
/// the last, and so on.
///
/// # Reference
///
/// Vaswani et al., "Attention Is All You Need", 2017, section 3.2; Ainslie et al., "GQA", 2023.
#[derive(Clone, Debug)]
pub struct Attention {
    queries: Sequences,
    keys: Sequences,
    heads: usize,
    shared_heads: usize,
    scale: f64,
    causal: bool,
}

impl Attention {
    /// Attention within these sequences, of so many heads, its scores multiplied by `scale`.
    #[must_use]
    pub fn new(sequences: &Sequences, heads: usize, scale: f64) -> Self {
        let (queries, keys) = (sequences.clone(), sequences.clone());
        Self { queries, keys, heads, shared_heads: heads, scale, causal: false }
    }

    /// The same, its keys and values in other sequences.
    #[must_use]
    pub fn with_keys(self, keys: &Sequences) -> Self {
        Self { keys: keys.clone(), ..self }
    }

    /// The same, its keys and values of so many heads.
    #[must_use]
    pub fn with_shared_heads(self, shared_heads: usize) -> Self {
        Self { shared_heads, ..self }
    }

    /// The same, each query meeting only the keys that are not after it.
    #[must_use]
    pub fn causal(self) -> Self {
        Self { causal: true, ..self }
    }

    fn shape(&self, inputs: [&[usize]; 3]) -> Result<AttentionShape> {
        let Self { heads, shared_heads, .. } = *self;
        if heads == 0 || shared_heads == 0 || heads % shared_heads != 0 {
            bail!("{heads} heads of queries can't share {shared_heads} heads of keys");
        }
        let (tokens, others) = (self.queries.tokens(), self.keys.tokens());
        let [&[q_rows, q], &[k_rows, k], &[v_rows, v]] = inputs else {
            bail!("attention needs queries, keys and values (tokens, d), found {inputs:?}");
        };
        let width = q / heads;
        let fits = q == width * heads && k == width * shared_heads && v % shared_heads == 0;
        if [q_rows, k_rows, v_rows] != [tokens, others, others] || !fits || width == 0 {
            bail!(
                "queries, keys and values of {inputs:?} do not fit {heads} and {shared_heads} heads of {tokens} and {others} tokens"
            );
        }
        if self.queries.count() != self.keys.count() {
            bail!("{} sequences of queries, {} of keys", self.queries.count(), self.keys.count());
        }
        let sequences: Vec<(Range<usize>, Range<usize>)> =
            self.queries.ranges().zip(self.keys.ranges()).collect();
        if let Some(index) =
            sequences.iter().position(|(queries, keys)| self.causal && queries.len() > keys.len())
        {
            bail!("sequence {index} has fewer keys than queries");
        }
        let widths = [width, v / shared_heads];
        Ok(AttentionShape {
            sequences,
            heads,
            shared: shared_heads,
            widths,
            scale: self.scale as f32,
            causal: self.causal,
        })
    }

    /// Indices of the rows of sequences padded to one length, those of padding zero, and which are real.
    fn padded(sequences: &Sequences, device: &Device) -> Result<(Tensor, Tensor)> {
        let longest = sequences.longest();
        let (mut indices, mut real) = (Vec::new(), Vec::new());
        for range in sequences.ranges() {
            let pads = longest - range.len();
            real.extend(range.clone().map(|_| 1u8).chain(std::iter::repeat_n(0, pads)));
            indices.extend(range.map(|row| row as u32).chain(std::iter::repeat_n(0, pads)));
        }
        let count = indices.len();
        Ok((
            Tensor::from_vec(indices, count, device)?,
            Tensor::from_vec(real, (sequences.count(), longest), device)?,
        ))
    }
}

impl Operation for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn compose(&self, inputs: &[Tensor]) -> Result<Tensor> {
        let shape = self.shape([inputs[0].dims(), inputs[1].dims(), inputs[2].dims()])?;
        let (device, group) = (inputs[0].device(), self.heads / self.shared_heads);
        let (b, longest, met) = (self.queries.count(), self.queries.longest(), self.keys.longest());
        let (queries, _) = Self::padded(&self.queries, device)?;
        let (keys, real) = Self::padded(&self.keys, device)?;
        // (b, heads, length, width)
        let split = |xs: &Tensor, rows: &Tensor, length: usize, heads: usize| {
            let xs = xs.contiguous()?.index_select(rows, 0)?;
            xs.reshape((b, length, heads, ()))?.transpose(1, 2)?.contiguous()
        };
        let shared = |xs: Tensor| {
            let (b, heads, length, width) = xs.dims4()?;
            let xs = xs.unsqueeze(2)?.broadcast_as((b, heads, group, length, width))?;
            xs.contiguous()?.reshape((b, heads * group, length, width))
        };
        let q = split(&inputs[0], &queries, longest, self.heads)?;
        let k = shared(split(&inputs[1], &keys, met, self.shared_heads)?)?;
        let v = shared(split(&inputs[2], &keys, met, self.shared_heads)?)?;
        let scores = (q.matmul(&k.t()?.contiguous()?)? * self.scale)?;
        let mut seen = real.unsqueeze(1)?.broadcast_as((b, longest, met))?.contiguous()?;
        if self.causal {
            let mut allowed = vec![0u8; b * longest * met];
            for (index, (queries, keys)) in shape.sequences.iter().enumerate() {
                for row in 0..longest {
                    let count = (keys.len() + row + 1).saturating_sub(queries.len()).clamp(1, met);
                    allowed[(index * longest + row) * met..][..count].fill(1);
                }
            }
            seen = (seen * Tensor::from_vec(allowed, (b, longest, met), device)?)?;
        }
        // few bits would overflow
        let scores = if scores.dtype() == DType::F64 { scores } else { scores.to_dtype(DType::F32)? };
        let hidden = Tensor::full(f32::MIN / 2.0, scores.shape(), device)?.to_dtype(scores.dtype())?;
        let seen = seen.unsqueeze(1)?.broadcast_as(scores.shape())?.contiguous()?;
        let scores = seen.where_cond(&scores, &hidden)?;
        // What is subtracted cancels, so that it needs no gradient.
        let weights = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?.detach())?.exp()?;
        let weights = weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?.to_dtype(v.dtype())?;
        let ys = weights.matmul(&v)?.transpose(1, 2)?.contiguous()?;
        let ys = ys.reshape((b * longest, ()))?;
        let rows: Vec<u32> = (self.queries.ranges().enumerate())
            .flat_map(|(index, range)| (0..range.len()).map(move |row| (index * longest + row) as u32))
            .collect();
        ys.index_select(&Tensor::new(rows, device)?, 0)
    }

    fn forward(&self, inputs: &[View<'_>]) -> Result<(Vec<f32>, Vec<usize>)> {
        let shape = self.shape([inputs[0].shape, inputs[1].shape, inputs[2].shape])?;
        let ys = shape.apply(inputs[0].data, inputs[1].data, inputs[2].data);
        Ok((ys, vec![self.queries.tokens(), self.heads * shape.widths[1]]))
    }

    fn backward(
        &self,
        inputs: &[View<'_>],
        _output: View<'_>,
        gradient: View<'_>,
        wanted: &[bool],
    ) -> Result<Vec<Option<Vec<f32>>>> {
        let shape = self.shape([inputs[0].shape, inputs[1].shape, inputs[2].shape])?;
        let found = shape.backward(inputs[0].data, inputs[1].data, inputs[2].data, gradient.data);
        Ok(wanted.iter().zip(found).map(|(wanted, found)| wanted.then_some(found)).collect())
    }

    fn multiply_adds(&self, inputs: &[&[usize]]) -> u64 {
        let &[q, _, v] = inputs else { return 0 };
        let widths = q.get(1).unwrap_or(&0) + v.get(1).unwrap_or(&0) * self.heads / self.shared_heads.max(1);
        let meetings: usize = self
            .queries
            .ranges()
            .zip(self.keys.ranges())
            .map(|(queries, keys)| {
                if self.causal {
                    queries.len() * (2 * keys.len() + 1).saturating_sub(queries.len()) / 2
                } else {
                    queries.len() * keys.len()
                }
            })
            .sum();
        (meetings * widths) as u64
    }
}
